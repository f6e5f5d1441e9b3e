"""
What a library takes on so many workers: a closed queueing network, with constants that two measured runs give.

A worker is a customer that makes one book after the other. Alone, it needs `Costs.cycle` seconds for each. With others it meets
queues at the stations that all share: the account's slots, the cores or Prefect's server. How long these are is found by mean
value analysis; a station of several servers is taken as a faster one and a delay (Seidmann's approximation). No more books come
out than the busiest station lets through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flows import fleet
from flows.account_limit import PACE_SECONDS, SPREAD, STRETCH_SECONDS, stretch
from flows.narration.cost import USD_PER_BYTE
from flows.showing import EVERY_SECONDS

BEAT_SECONDS = 30.0
"""Between two heartbeats of a run, as prefect.toml says."""

LISTED = 1000
"""Objects that one request of a listing tells."""

LEAST_LISTS = 17
"""Requests of a listing of an empty take store."""

CEILING = 2000
"""Workers beyond which nobody asks."""

MANY_PARTS = 257
"""Requests of a listing of a large one that tells less than a thousand objects in each."""


@dataclass(frozen=True)
class Line:
    """
    What a book costs: *fixed*, and for *each* of something more.
    """

    fixed: float
    each: float

    @classmethod
    def through(cls, one: tuple[float, float], other: tuple[float, float]) -> "Line":
        """
        Lay it through two points (number, cost); what is measured to fall does not.
        """
        each = max(0.0, (other[1] - one[1]) / (other[0] - one[0]))
        return cls(one[1] - each * one[0], each)

    def at(self, number: float) -> float:
        """
        Tell the cost of so many.
        """
        return self.fixed + self.each * number


@dataclass(frozen=True)
class Costs:
    """
    The constants.

    Of a book, by its segments: *cycle* seconds of a worker alone, at *concurrency* requests at once of *latency* seconds each;
    *cpu* seconds of all processes together; *storage* operations by kind; seconds to *estimate* what it needs.
    Of a book, by the seconds of its cycle: requests to Prefect's server (*api*; neither leases nor polls nor updates of the
    progress, nor the library's looks at its books), seconds of CPU of that (*server*) and of PostgreSQL (*database*); a look
    is *look_cpu* and *look_database* of each. *rows* of the database for a book; each of its
    heartbeats is *beat_rows* more, each update of its progress *update_rows*. *row_bytes* of the database for a row.
    *head* and *tail*: seconds of a library before it estimates, and after its last book. *polls*: of a worker in a second,
    where it polls each second; *poll_cpu*, *ask_cpu*: seconds of CPU of the server for a poll, and for a slot asked for.
    *idle*: cores in use while nothing is done.
    """

    cycle: Line
    cpu: Line
    api: Line
    server: Line
    database: Line
    look_cpu: float
    look_database: float
    rows: float
    storage: Mapping[str, Line]
    concurrency: int
    latency: float
    head: float
    tail: float
    estimate: Line
    polls: float
    poll_cpu: float
    idle: float
    ask_cpu: float
    beat_rows: float
    update_rows: float
    row_bytes: float


@dataclass(frozen=True)
class Plan:
    """
    What is to be made, and with what: *cores* of one machine for everything, or None where each worker has its own.

    *segment_bytes* are those of the mean segment, *latency* seconds of the mean request; a worker polls every *poll* seconds.
    """

    workers: int
    books: int
    segments: int
    limit: int
    latency: float
    cores: int | None
    segment_bytes: float = 195.0
    poll: float = 1.0


@dataclass(frozen=True)
class Predicted:
    """
    What comes of a plan.

    *seconds* of the whole library, *head* of these before the first book; *speaking*: if no slot ever idled. *cycle* seconds
    of a worker for a book: *requesting* is the least for its requests, and *waiting* those in which it waits for others.
    *server*, *database*: cores that Prefect's server and PostgreSQL would need.
    """

    seconds: float
    head: float
    speaking: float
    cycle: float
    requesting: float
    waiting: float
    requests: int
    usd: float
    slots_in_use: float
    api: float
    updates: float
    leases: float
    asked_in_vain: float
    polls: float
    beats: float
    server: float
    database: float
    rows: float
    row_bytes: float
    storage: Mapping[str, float]

    @property
    def api_a_second(self) -> float:
        """
        Requests to Prefect's server in a second.
        """
        return (self.api + self.updates + self.leases) / self.seconds + self.polls

    @property
    def storage_a_second(self) -> float:
        """
        Operations of the storage in a second.
        """
        return sum(self.storage.values()) / self.seconds


def network(workers: int, *, alone: float, stations: Sequence[tuple[float, float]]) -> tuple[float, list[float]]:
    """
    Tell how many books come out in a second, where a worker *alone* needs so many seconds for one, and how long it waits for
    others at each of the *stations*.

    Each has a demand, in seconds of one of its servers for a book, and so many servers.
    """
    shares = [demand / max(1.0, servers) for demand, servers in stations]
    delay = max(0.0, alone - sum(shares))
    queues, waits, out = [0.0] * len(shares), [*shares], 0.0
    for number in range(1, workers + 1):
        waits = [share * (1 + queue) for share, queue in zip(shares, queues, strict=True)]
        out = number / (delay + sum(waits))
        queues = [out * wait for wait in waits]
    return out, [wait - share for wait, share in zip(waits, shares, strict=True)]


def predict(costs: Costs, plan: Plan) -> Predicted:
    """
    Predict how long *plan* takes, and what it asks of whom.
    """
    spoken = plan.segments * plan.latency
    at_once = min(costs.concurrency, plan.limit)
    alone = costs.cycle.at(plan.segments) + plan.segments * (plan.latency / at_once - costs.latency / costs.concurrency)
    stations = [(spoken / at_once, plan.limit / at_once)]
    if plan.cores is None:
        stations.append((costs.server.at(alone), 1.0))
    else:
        stations.append((costs.cpu.at(plan.segments), plan.cores - costs.idle))
    workers = min(plan.workers, plan.books)
    out, waits = network(workers, alone=alone, stations=stations)
    head = costs.head + plan.books * costs.estimate.at(plan.segments)
    seconds = head + plan.books / out + costs.tail
    cycle = workers / out
    sending = alone - costs.cycle.fixed + waits[0]
    senders = workers * sending / cycle
    granted = _granted(plan, at_once=at_once, senders=senders)
    vain = _in_vain(plan, at_once=at_once, senders=senders, sending=sending)
    leases = 2 * granted + vain + plan.books + 1  # each run looks at the limit once
    polls = costs.polls * (plan.workers + 1) / plan.poll
    looks = library_looks(workers, plan.books / out)
    asking = (2 * granted + vain) / seconds * costs.ask_cpu
    requests = plan.books * plan.segments
    beats = plan.books * (1 + cycle / BEAT_SECONDS) + seconds / BEAT_SECONDS
    updates = plan.books * (1 + min(plan.segments, sending / EVERY_SECONDS, 100))  # one for each percent
    rows = plan.books * costs.rows + beats * costs.beat_rows + updates * costs.update_rows
    storage = {name: plan.books * line.at(plan.segments) for name, line in costs.storage.items()}
    storage["LIST"] = storage.get("LIST", 0.0) + _more_lists(plan)
    return Predicted(
        seconds=seconds,
        head=head,
        speaking=plan.books * spoken / plan.limit,
        cycle=cycle,
        requesting=spoken / at_once,
        waiting=cycle - alone,
        requests=requests,
        usd=requests * plan.segment_bytes * USD_PER_BYTE["s2.1-pro"],
        slots_in_use=plan.books * spoken / (plan.limit * seconds),
        api=plan.books * costs.api.at(cycle) + looks,
        updates=updates,
        leases=leases,
        asked_in_vain=vain,
        polls=polls,
        beats=beats,
        server=(plan.books * costs.server.at(cycle) + looks * costs.look_cpu) / seconds + asking + polls * costs.poll_cpu,
        database=(plan.books * costs.database.at(cycle) + looks * costs.look_database) / seconds,
        rows=rows,
        row_bytes=rows * costs.row_bytes,
        storage=storage,
    )


def library_looks(workers: int, seconds: float) -> float:
    """
    Count the looks of a library at the runs of its books, of which there is one more than *workers*.
    """
    return (workers + 1) * seconds / fleet.LOOK_SECONDS


def _granted(plan: Plan, *, at_once: int, senders: float) -> float:
    """
    Count the slots that are leased: each book has as many as it wants once, and all again after every stretch.
    """
    lasts = stretch(1 / senders) if senders * at_once > plan.limit else STRETCH_SECONDS
    return plan.books * max(at_once, plan.segments * plan.latency / (lasts * (1 + SPREAD) / 2))


def _in_vain(plan: Plan, *, at_once: int, senders: float, sending: float) -> float:
    """
    Count the slots asked for while others have them all: a run that has less than it wants asks at its pace.

    It wants them while it is *sending*, for so many seconds, as so many *senders* are at any time.
    """
    wanted = senders * at_once
    return plan.books * sending / (PACE_SECONDS * (1 + 2 / senders)) if wanted > plan.limit else 0.0


def _more_lists(plan: Plan) -> float:
    """
    Count the requests, beyond those of an empty store, to list for each book in turn what those before it left there.
    """
    more = 0.0
    for book in range(plan.books):
        pages = book * plan.segments / LISTED
        more += max(LEAST_LISTS, pages if pages < LEAST_LISTS else max(pages, MANY_PARTS)) - LEAST_LISTS
    return more


def most_workers(costs: Costs, plan: Plan, *, cores: float = 1.0, ceiling: int = CEILING) -> int | None:
    """
    Find how many workers one Prefect server bears before it needs more than so many cores; None: more than *ceiling*.
    """
    low, high = 1, ceiling
    if predict(costs, replace(plan, workers=ceiling)).server <= cores:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if predict(costs, replace(plan, workers=middle)).server <= cores else (low, middle - 1)
    return low


def enough_workers(costs: Costs, plan: Plan, *, share: float = 0.95) -> int:
    """
    Find the fewest workers with which so large a *share* of the account's slots is in use that more are of little use.
    """
    number = 1
    while predict(costs, replace(plan, workers=number)).slots_in_use < share and number < plan.books:
        number += 1
    return number
