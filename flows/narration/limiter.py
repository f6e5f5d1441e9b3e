"""
How many requests may be in flight, how hard to try, and how long to wait after a failure.
"""

import math
import random
import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

CALM_SECONDS = 60.0
"""A limit that was run into is not tried again for this long, so that a steady run sees no refusals."""

MOST_RETRY_AFTER = 120.0
"""Seconds that a `Retry-After` is obeyed for at most."""

LONGEST_WAIT = 30.0
"""Seconds of the longest pause between attempts."""

STORM = 5
"""Failures in a row, with no success between them, after which the service counts as out of reach."""

ONE_IN_A_MILLION = 1e-6
"""Chance at which a segment may be given up although the service is to blame."""

ENOUGH_ODDS = 10
"""Answers to others before anything is said about the service by them."""

WORST_ODDS = 0.8
"""Share of wrong answers above which trying on is no use."""

MOST_TRIES = 6
"""Most tries, as a multiple of those that a segment has in good weather."""


class Patience(BaseModel):
    """
    How hard to try, and how many requests at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(
        title="Requests at once",
        default=5,
        ge=1,
        le=100,
        description="Requests in flight at once at most. Fish Audio allows an account 5, 15 from 100 USD and 50 from 1,000 USD "
        "paid in all; a lower limit told by the service is followed.",
    )
    attempts: int = Field(
        title="Attempts at a segment",
        default=5,
        ge=1,
        le=20,
        description="Bad takes of one segment before it is given up; twice as many requests for it may break or fail with 500. "
        "Where other segments meet the same as often, it is the service, and a segment has more.",
    )
    deadline: float = Field(
        title="Deadline of a request (seconds)",
        default=180.0,
        gt=0,
        description="Seconds one request for a take may last in all; a long segment takes about 30.",
    )
    patience: float = Field(
        title="Patience with an outage (seconds)",
        default=900.0,
        ge=0,
        description="Seconds a service out of reach is waited for before the run is given up.",
    )
    backoff: float = Field(
        title="Wait before a retry (seconds)",
        default=1.0,
        ge=0,
        le=60,
        description="Seconds before the second attempt; doubled with each, up to 30, with jitter.",
    )


class Limiter:
    """
    Requests in flight: starts at *concurrency*, follows a lower limit told by the service, halves when refused, creeps back.
    """

    def __init__(self, concurrency: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._concurrency = concurrency
        self._clock = clock
        self._told = concurrency
        self._ran_into: float = concurrency + 1
        self._capacity = float(concurrency)
        self._refused_at = -CALM_SECONDS
        self._not_before = 0.0

    @property
    def capacity(self) -> int:
        """
        Requests that may be in flight now; at least 1.
        """
        return max(1, min(int(self._capacity), self._told))

    def told(self, limit: int | None) -> None:
        """
        Learn the *limit* that the service tells, where it does.
        """
        if limit is not None:
            self._told = min(limit, self._concurrency)

    def answered(self) -> None:
        """
        Learn that there is room.
        """
        if self._clock() - self._refused_at > CALM_SECONDS:
            self._ran_into = self._concurrency + 1
        ceiling = min(self._concurrency, self._ran_into - 1)
        self._capacity = max(1.0, min(ceiling, self._capacity + 1 / self.capacity))

    def refused(self, in_flight: int, *, retry_after: float | None = None) -> None:
        """
        Learn from a 429 while *in_flight* others were under way: halve, once for all that were refused together.

        There is room for no more than those others now, or each refusal would make way for the next.
        """
        now = self._clock()
        if now - self._refused_at > 1:
            self._capacity = max(1.0, self.capacity / 2)
            self._refused_at = now
        self._capacity = max(1.0, min(self._capacity, in_flight))
        self._ran_into = max(2, min(self._ran_into, in_flight + 1))
        if retry_after is not None:
            self._not_before = max(self._not_before, now + min(retry_after, MOST_RETRY_AFTER))

    @property
    def pause(self) -> float:
        """
        Seconds that the service asked everybody to wait.
        """
        return max(0.0, self._not_before - self._clock())


class Weather:
    """
    Whether the service is there: after `STORM` failures in a row it is dark, and one request at a time feels for it.

    Failures of one segment alone make no darkness unless the service itself is *away*: the segment may be the cause.
    """

    def __init__(self, *, patience: float, backoff: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._backoff = backoff
        self._clock = clock
        self.clear()

    @property
    def dark(self) -> bool:
        """
        Whether the service counts as out of reach.
        """
        return self._failures >= STORM and (self._away or len(self._who) >= STORM)

    @property
    def hopeless(self) -> bool:
        """
        Whether nothing has succeeded for longer than patience lasts.
        """
        return self._since is not None and self._clock() - self._since > self._patience

    def slots(self, capacity: int) -> int:
        """
        Requests to have in flight of *capacity*: in the dark a single one, and none until the pause is over.
        """
        if not self.dark:
            return capacity
        return 1 if self._clock() >= self._not_before else 0

    @property
    def pause(self) -> float:
        """
        Seconds until the next request may feel for a dark service.
        """
        return max(0.0, self._not_before - self._clock()) if self.dark else 0.0

    def clear(self) -> None:
        """
        Learn that the service answered.
        """
        self._failures = 0
        self._who: set[str] = set()
        self._away = False
        self._since: float | None = None
        self._not_before = 0.0

    def refused(self) -> None:
        """
        Learn that the service is there but refused.
        """
        self._since = self._since if self._since is not None else self._clock()

    def failed(self, who: str, *, away: bool) -> None:
        """
        Learn that the request of *who* failed, and whether it is the service itself that is away.
        """
        self.refused()
        self._failures += 1
        self._who.add(who)
        self._away |= away
        self._not_before = self._clock() + self.delay(self._failures - STORM + 1)

    def delay(self, attempt: int) -> float:
        """
        Seconds to wait after the *attempt*th attempt (1 is the first): doubled each time, jittered by half.
        """
        return float(min(LONGEST_WAIT, self._backoff * 2 ** max(0, min(attempt - 1, 10))) * random.uniform(0.5, 1.0))


class Odds:
    """
    How often something goes wrong whoever asks, so that a segment's own fault can be told from the service's.
    """

    def __init__(self) -> None:
        self.well = 0
        self.wrong = 0

    def tries(self, least: int, *, own: int) -> int:
        """
        How many tries a segment has that went wrong *own* times: *least*, and more where it went wrong for others as well.

        At the odds of the others, one segment in a million would be given up. Where next to nothing goes well, more tries
        would only cost more.
        """
        others = self.well + self.wrong - own
        share = max(0, self.wrong - own) / others if others else 0.0
        if others < ENOUGH_ODDS or not 0 < share <= WORST_ODDS:
            return least
        return min(max(least, math.ceil(math.log(ONE_IN_A_MILLION) / math.log(share))), MOST_TRIES * least)
