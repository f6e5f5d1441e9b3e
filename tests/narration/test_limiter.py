"""
The limiter and the weather, on a clock of their own.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.narration.limiter import CALM_SECONDS, MOST_TRIES, STORM, Limiter, Odds, Weather


class Clock:
    """
    Time that passes when told to.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """
        Seconds.
        """
        return self.now


def test_a_lower_limit_told_by_the_service_is_followed() -> None:
    """
    Twelve were asked for, the account may have five.
    """
    limiter = Limiter(12)

    limiter.told(5)

    assert 5 == limiter.capacity


def test_a_higher_limit_told_by_the_service_is_no_invitation() -> None:
    """
    Who asks for three shares the account with others.
    """
    limiter = Limiter(3)

    limiter.told(50)

    assert 3 == limiter.capacity


def test_a_refusal_halves_once_for_all_requests_in_flight() -> None:
    """
    Seven refusals of one moment are one lesson, and there is room for those that were not refused.
    """
    limiter = Limiter(12, clock=Clock())

    limiter.refused(11)
    assert 6 == limiter.capacity
    for in_flight in range(10, 4, -1):
        limiter.refused(in_flight)

    assert 5 == limiter.capacity


def test_a_retry_after_is_for_everybody() -> None:
    """
    While the service asked to wait, nothing is sent for any segment.
    """
    clock = Clock()
    limiter = Limiter(12, clock=clock)

    limiter.refused(5, retry_after=4.0)

    assert 4.0 == limiter.pause
    clock.now += 4
    assert 0.0 == limiter.pause


def test_it_settles_under_a_limit_it_ran_into_and_tries_again_after_a_calm() -> None:
    """
    A steady run sees no refusals; a limit that was raised is found in time.
    """
    clock = Clock()
    limiter = Limiter(12, clock=clock)
    seen = []
    for _ in range(2000):
        clock.now += 0.02
        if limiter.capacity > 5:
            limiter.refused(5)
        else:
            limiter.answered()
        seen.append(limiter.capacity)

    assert 5 == max(seen[-500:])
    clock.now += CALM_SECONDS + 1
    for _ in range(20):
        limiter.answered()
    assert limiter.capacity > 5


def test_capacity_never_falls_below_one() -> None:
    """
    A run that sends nothing never ends.
    """
    clock = Clock()
    limiter = Limiter(1, clock=clock)
    for _ in range(5):
        clock.now += 2
        limiter.refused(0)

    assert 1 == limiter.capacity


def test_failures_of_many_segments_make_darkness_and_one_success_ends_it() -> None:
    """
    A dead service is felt for by one request at a time.
    """
    clock = Clock()
    weather = Weather(patience=60, backoff=1, clock=clock)
    for number in range(STORM):
        weather.failed(f"segment-{number}", away=False)
    assert (True, 0) == (weather.dark, weather.slots(20))
    clock.now += weather.pause
    assert 1 == weather.slots(20)

    weather.clear()

    assert (False, 20) == (weather.dark, weather.slots(20))


def test_failures_of_one_segment_alone_make_no_darkness() -> None:
    """
    The segment may be the cause: it is given up, and the others go on.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())
    for _ in range(10 * STORM):
        weather.failed("poison", away=False)

    assert not weather.dark


def test_a_service_that_is_away_is_dark_for_whoever_asks() -> None:
    """
    No connection is nobody's fault, also when a single segment is left.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())
    for _ in range(STORM):
        weather.failed("last", away=True)

    assert weather.dark


def test_patience_counts_from_the_first_failure_after_a_success() -> None:
    """
    Minutes of silence end a run, a bad minute now and then does not.
    """
    clock = Clock()
    weather = Weather(patience=60, backoff=1, clock=clock)
    weather.failed("a", away=True)
    clock.now += 59
    assert not weather.hopeless
    weather.clear()
    weather.failed("a", away=True)
    clock.now += 59
    assert not weather.hopeless

    clock.now += 2

    assert weather.hopeless


def test_delays_double_and_stay_bounded() -> None:
    """
    Half of each delay is jitter, so that segments do not come back in step.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())

    delays = [weather.delay(attempt) for attempt in (1, 2, 3, 4, 5, 6, 50)]

    for delay, full in zip(delays, (1, 2, 4, 8, 16, 30, 30), strict=True):
        assert full / 2 <= delay <= full


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    asked=st.integers(1, 30),
    limit=st.integers(1, 30),
    told=st.booleans(),
    seconds=st.floats(0.05, 3),
    storms=st.lists(st.tuples(st.integers(0, 150), st.one_of(st.none(), st.floats(0, 200))), max_size=4),
)
def test_never_more_in_flight_than_asked_for_and_never_stuck(
    asked: int, limit: int, told: bool, seconds: float, storms: list[tuple[int, float | None]]
) -> None:
    """
    Whatever the account's limit and whenever it says 429: all is answered, none waits for ever, and at last it flows again.

    A model of an account that refuses what is above its *limit*, and now and then one request for no reason (*storms*: at
    which request, with which Retry-After); each answer takes *seconds*.
    """
    clock = Clock()
    limiter = Limiter(asked, clock=clock)
    refusals, flying, waiting, sent = dict(storms), 0, 150, 0
    for _ in range(2000):
        slots = 0 if limiter.pause else limiter.capacity
        assert 1 <= limiter.capacity <= asked
        while waiting and flying < slots:
            sent += 1
            flying += 1
            waiting -= 1
            if flying > limit or sent in refusals:
                flying -= 1
                waiting += 1
                limiter.refused(flying, retry_after=refusals.pop(sent, None))
                break
        else:
            clock.now += max(seconds / max(1, flying), limiter.pause if not flying else 0)
            if flying:
                flying -= 1
                limiter.answered()
                limiter.told(limit if told else None)
            if not waiting and not flying:
                break
    assert (0, 0) == (waiting, flying)

    clock.now += CALM_SECONDS + 1
    for _ in range(asked * asked + asked):
        limiter.answered()
    assert (min(asked, limit) if told else asked) == limiter.capacity


@settings(max_examples=100, derandomize=True, deadline=None)
@given(well=st.integers(0, 300), wrong=st.integers(0, 300), own=st.integers(1, 20), least=st.integers(1, 20))
def test_a_segment_has_its_tries_and_never_endless_ones(well: int, wrong: int, own: int, least: int) -> None:
    """
    At least what it has in good weather, at most a multiple of it; more the more often others meet the same.
    """
    odds = Odds()
    odds.well, odds.wrong = well, wrong + own

    tries = odds.tries(least, own=own)

    assert least <= tries <= MOST_TRIES * least
    if not wrong:
        assert least == tries


@pytest.mark.parametrize(
    ("well", "others", "tries"),
    [
        (0, 0, 5),
        (9, 0, 5),
        (100, 0, 5),
        (95, 5, 5),
        (90, 10, 6),
        (70, 30, 12),
        (50, 50, 20),
        (30, 70, 30),
        (10, 90, 5),
        (0, 99, 5),
    ],
)
def test_tries_follow_the_odds_of_the_others(well: int, others: int, tries: int) -> None:
    """
    One in a million is given up by mistake; where next to nothing goes well, trying on would only cost.
    """
    odds = Odds()
    odds.well, odds.wrong = well, others + 3

    assert tries == odds.tries(5, own=3)
