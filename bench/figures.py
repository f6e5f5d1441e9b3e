"""
The figures of a fleet: what libraries over one, two and four workers took, and what the model says of these and of 1,000 books.

The model's constants are of the runs with one worker; those with more are predicted, and told beside what was measured.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench import capacity
from bench.capacity import IN_VAIN, LOOK, POLL, Capacity
from bench.fleet import Fleet, Measured, Shape
from bench.ground import BEAT, LEASES, POLLS, UPDATE, UPDATES, Count, ground
from bench.model import CEILING, Costs, Line, Plan, Predicted, enough_workers, library_looks, most_workers, predict
from flows.narration.report import counted

BOOKS, SEGMENTS = 8, 30
WORKERS = (1, 2, 4)
TIER, LEAST_TIER = 15, 5

NOVEL = Plan(
    workers=50,
    books=1000,
    segments=2938,
    limit=50,
    latency=0.6 + 0.35 * 195.6 / 15,
    cores=None,
    segment_bytes=195.6,
    poll=10.0,
)
"""
A thousand books as long as *The Adventures of Sherlock Holmes* (Standard Ebooks), which `bench/segment_size.py` cuts into so
many segments, over 50 workers; a request takes what that module says of the hosted API. Workers poll as is Prefect's default.
"""

KEPT_SECONDS = 7 * 24 * 3600
"""How long Prefect keeps events by default."""

TIERS = (5, 15, 50)

Cell = Callable[[Measured], str]


@dataclass(frozen=True)
class Found:
    """
    All that was measured: *single* and *double* with one worker, *others* with more; what one server can; what goes on where
    nothing is done, without workers (*bare*) and with two (*idle*); seconds to *estimate* a segment.
    """

    single: Measured
    double: Measured
    others: Sequence[Measured]
    capacities: Mapping[str, Capacity]
    bare: Count
    idle: Count
    estimate: float


def main(books: int = BOOKS, segments: int = SEGMENTS, workers: Sequence[int] = WORKERS) -> None:
    """
    Measure, and print all tables.
    """
    found = measure(books, segments, workers)
    print("\n\n".join([measured_table(found), model_table(found), capacity_table(found), thousand_table(found)]), flush=True)


def measure(books: int, segments: int, workers: Sequence[int]) -> Found:
    """
    Run all of it, one after the other.
    """
    _say("starting PostgreSQL, Prefect's server, the S3 server and the sandbox")
    with ground() as place:
        fleet = Fleet(place)
        bare = fleet.idle()
        with fleet.workers(1):
            _run(fleet, Shape(1, 1, 2, TIER), "to warm what is cached: ")
            idle = fleet.idle()
            single = _run(fleet, Shape(1, books, segments, TIER))
            double = _run(fleet, Shape(1, books, 2 * segments, TIER))
        others = []
        for number in workers:
            if number > 1:
                with fleet.workers(number):
                    others.append(_run(fleet, Shape(number, books, segments, TIER)))
                    if number == max(workers):
                        others.append(_run(fleet, Shape(number, books, segments, LEAST_TIER)))
        _say("how much one Prefect server can")
        return Found(single, double, others, capacity.measure(place), bare, idle, fleet.estimating_each(NOVEL.segments))


def _run(fleet: Fleet, shape: Shape, why: str = "") -> Measured:
    who = counted(shape.workers, "worker")
    _say(
        f"{why}{counted(shape.books, 'book')} of {shape.segments} segments, {who}, a limit of {shape.limit}; "
        f"it is {datetime.now(UTC):%H:%M:%S}"
    )
    measured = fleet.run(shape)
    _say(f"  {measured.wall:.0f} s, {measured.cycle:.1f} s of a worker for a book")
    return measured


def costs(found: Found) -> Costs:
    """
    Make the constants of the model, of the runs with one worker.
    """
    one, two = found.single, found.double
    books = one.shape.books

    def by_segments(of: Callable[[Measured], float]) -> Line:
        return Line.through((one.shape.segments, of(one)), (two.shape.segments, of(two)))

    def by_seconds(of: Callable[[Measured], float]) -> Line:
        return Line.through((one.cycle, of(one)), (two.cycle, of(two)))

    def resting(part: str, measured: Measured) -> float:
        return found.idle.cpu[part] / found.idle.at * measured.wall

    def cpu(measured: Measured, *parts: str) -> float:
        return sum(measured.counted.cpu[part] - resting(part, measured) for part in parts) / books

    def rows_of(event: str) -> float:
        number = sum(run.lasting[event] for run in _all(found))
        return sum(run.lasting_rows[event] for run in _all(found)) / number if number else 0.0

    asked, look, poll = (found.capacities[name] for name in (IN_VAIN, LOOK, POLL))

    def looks(run: Measured) -> float:
        return library_looks(run.shape.workers, run.cycle / run.shape.workers)

    api = by_seconds(lambda run: _api(run) / books - looks(run))
    # What a second of a run costs is too little to be told from the runs' own CPU: it is what the requests in it cost.
    second, second_database = api.each * look.cpu, api.each * look.database
    return Costs(
        cycle=by_segments(lambda run: run.cycle),
        cpu=by_segments(lambda run: cpu(run, *run.counted.cpu)),
        api=api,
        server=Line(cpu(one, "prefect") - second * one.cycle - looks(one) * look.cpu, second),
        database=Line(cpu(one, "postgres") - second_database * one.cycle - looks(one) * look.database, second_database),
        look_cpu=look.cpu,
        look_database=look.database,
        rows=(one.other_rows + two.other_rows) / (2 * books),
        storage={
            name: by_segments(lambda run, name=name: run.counted.storage[name] / books)  # type: ignore[misc]
            for name in ("PUT", "GET", "HEAD", "DELETE", "LIST")
        },
        concurrency=one.shape.concurrency,
        latency=one.shape.latency,
        head=one.head - one.estimating,
        tail=one.tail,
        estimate=Line((one.estimating + two.estimating) / (2 * books), found.estimate),
        polls=found.idle.api[POLLS] / found.idle.at / 2,
        poll_cpu=poll.cpu,
        idle=sum(found.idle.cpu.values()) / found.idle.at,
        ask_cpu=asked.cpu,
        beat_rows=rows_of(BEAT),
        update_rows=rows_of(UPDATE),
        row_bytes=sum(run.size for run in _all(found)) / sum(run.rows.total() for run in _all(found)),
    )


def _all(found: Found) -> list[Measured]:
    return [found.single, found.double, *found.others]


def _api(measured: Measured) -> int:
    """
    Count requests to Prefect's server but for those that go by other things than a book and its seconds.
    """
    return sum(number for kind, number in measured.counted.api.items() if kind not in (LEASES, POLLS, UPDATES))


def plan_of(shape: Shape) -> Plan:
    """
    Make the plan that a measured run was.
    """
    return Plan(shape.workers, shape.books, shape.segments, shape.limit, shape.latency, os.cpu_count() or 1)


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def measured_table(found: Found) -> str:
    """
    Tell what was measured, a column for each run.
    """
    runs = _all(found)
    books = found.single.shape.books

    def row(name: str, cell: Cell) -> tuple[str, list[str]]:
        return name, [cell(run) for run in runs]

    def each(name: str, of: Callable[[Measured], float], form: str = ",.1f") -> tuple[str, list[str]]:
        return row(name, lambda run: format(of(run) / books, form))

    kinds = sorted(
        {kind for run in runs for kind in run.counted.api if kind != POLLS}, key=lambda kind: -runs[0].counted.api[kind]
    )
    tables = sorted({name for run in runs for name in run.rows}, key=lambda name: -runs[0].rows[name])
    rows = [
        row("segments of a book", lambda run: f"{run.shape.segments}"),
        row("limit of the account", lambda run: f"{run.shape.limit}"),
        row("wall time (s): the library's beginning to its end", lambda run: f"{run.wall:.1f}"),
        row("… until the first book is asked for (s)", lambda run: f"{run.head:.1f}"),
        row("books an hour, all included", lambda run: f"{run.books_an_hour:.0f}"),
        row("a worker's time for a book (s)", lambda run: f"{run.cycle:.1f}"),
        row("… of it the book's own run (s)", lambda run: f"{run.run:.1f}"),
        row("… of it requests, at the least (s)", lambda run: f"{_speaking(run):.1f}"),
        row("requests to the service; refused (429)", lambda run: f"{run.requests}; {run.refused}"),
        row("most in flight", lambda run: f"{run.most_in_flight}"),
        row("account slots in use", lambda run: f"{100 * run.slots_in_use:.0f} %"),
        each(
            "requests to Prefect's server, a book (without polls)", lambda run: run.counted.api.total() - run.counted.api[POLLS]
        ),
        *(each(f"… {kind}", lambda run, kind=kind: run.counted.api[kind]) for kind in kinds),  # type: ignore[misc]
        row("polls of all workers a second", lambda run: f"{run.counted.api[POLLS] / run.counted.at:.2f}"),
        each("database rows, a book", lambda run: run.rows.total(), ",.0f"),
        *(each(f"… `{name}`", lambda run, name=name: run.rows[name]) for name in tables[:9]),  # type: ignore[misc]
        each("… of all: heartbeats (every 30 s)", lambda run: run.lasting_rows[BEAT]),
        each(
            "… of all: updates of the progress (one for each percent, every 2 s at most)", lambda run: run.lasting_rows[UPDATE]
        ),
        each("… of all: whatever a run's length", lambda run: run.other_rows),
        each("database, a book (kB)", lambda run: run.size / 1000, ",.0f"),
        each("storage operations, a book", lambda run: run.counted.storage.total(), ",.0f"),
        *(
            each(f"… {name}", lambda run, name=name: run.counted.storage[name])  # type: ignore[misc]
            for name in ("PUT", "GET", "HEAD", "DELETE", "LIST")
        ),
        each("CPU seconds, a book", lambda run: sum(run.counted.cpu.values())),
        each("… workers and the books' runs", lambda run: run.counted.cpu["workers"], ",.2f"),
        each("… the library's run and its worker", lambda run: run.counted.cpu["library"], ",.2f"),
        each("… Prefect's server", lambda run: run.counted.cpu["prefect"], ",.2f"),
        each("… PostgreSQL", lambda run: run.counted.cpu["postgres"], ",.2f"),
        each("… the stand-ins: sandbox, S3 server", lambda run: run.counted.cpu["stand-ins"], ",.2f"),
        row("cores in use", lambda run: f"{sum(run.counted.cpu.values()) / run.counted.at:.2f}"),
    ]
    shape = found.single.shape
    caption = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores for everything: {books} books, {shape.concurrency} requests at "
        f"once for each, {shape.latency:g} s and 195 bytes each; process workers with one place, the library's run on one "
        "more. Prefect's server is on Debian's PostgreSQL, its requests counted by its access log (heartbeats and events go "
        "over websockets); scripts, takes and OUT are on an S3 server. *A book* includes its share of the library's own run."
    )
    return f"{caption}\n\n{_table(['workers', *(str(run.shape.workers) for run in runs)], rows)}"


def _speaking(run: Measured) -> float:
    return run.shape.segments * run.shape.latency / run.shape.concurrency


def model_table(found: Found) -> str:
    """
    Tell what the model says of each measured run, beside what was measured.
    """
    made = costs(found)
    rows = []
    for run in _all(found):
        said = predict(made, plan_of(run.shape))
        shape = run.shape
        which = "fitted" if run in (found.single, found.double) else "predicted"
        name = f"{counted(shape.workers, 'worker')}, {shape.segments} segments, limit {shape.limit} ({which})"
        pairs = [
            (run.wall, said.seconds),
            (100 * run.slots_in_use, 100 * said.slots_in_use),
            (_api(run), said.api),
            (run.counted.api[UPDATES], said.updates),
            (run.counted.api[LEASES], said.leases),
            (run.rows.total(), said.rows),
            (run.counted.storage.total(), sum(said.storage.values())),
        ]
        rows.append((name, [f"{was:,.0f} / {is_:,.0f} = {was / is_:.2f}" if is_ else f"{was:,.0f} / 0" for was, is_ in pairs]))
    head = [
        "measured / predicted",
        "wall (s)",
        "slots in use (%)",
        "API requests",
        "… progress",
        "… leases",
        "rows",
        "storage operations",
    ]
    return (
        "The model (`bench/model.py`): a worker makes one book after the other, and queues with the others for the account's "
        "slots and for the cores. Its constants are of the two runs with one worker; what comes of more it predicts.\n\n"
        + _table(head, rows)
    )


def capacity_table(found: Found) -> str:
    """
    Tell what one server was measured to take.
    """
    rows = [
        (name, [f"{can.rate:.0f}", f"{1000 * can.cpu:.1f}", f"{1000 * can.database:.1f}"])
        for name, can in found.capacities.items()
    ]
    head = ["one Prefect server at saturation", "requests a second", "ms of its CPU each", "ms of PostgreSQL's each"]
    return _table(head, rows)


def thousand_table(found: Found) -> str:
    """
    Tell what a thousand novels take over 50 workers, by the account's limit, and what breaks first.
    """
    made = costs(found)
    plans = [Plan(**{**vars(NOVEL), "limit": limit}) for limit in TIERS]
    told = [predict(made, plan) for plan in plans]

    def row(name: str, cell: Callable[[Predicted], str]) -> tuple[str, list[str]]:
        return name, [cell(each) for each in told]

    def load(said: Predicted) -> float:
        asked = (
            said.leases / found.capacities[IN_VAIN].rate + (said.api + said.updates) / found.capacities[LOOK].rate
        ) / said.seconds
        return asked + said.polls / found.capacities[POLL].rate

    rows = [
        row("hours", lambda said: f"{said.seconds / 3600:,.0f}"),
        row("… until the first book is begun", lambda said: f"{said.head / 3600:,.1f}"),
        row("… if no slot ever idled", lambda said: f"{said.speaking / 3600:,.0f}"),
        row("account slots in use", lambda said: f"{100 * said.slots_in_use:.0f} %"),
        row("requests to the service", lambda said: f"{said.requests:,}"),
        row("USD", lambda said: f"{said.usd:,.0f}"),
        row("hours of a worker for a book", lambda said: f"{said.cycle / 3600:.2f}"),
        row("… of it its requests, five at once", lambda said: f"{said.requesting / 3600:.2f}"),
        row("… of it waiting for slots", lambda said: f"{said.waiting / 3600:.2f}"),
        row("… all else", lambda said: f"{(said.cycle - said.requesting - said.waiting) / 3600:.2f}"),
        row("requests to Prefect's server a second", lambda said: f"{said.api_a_second:.0f}"),
        row("… ÷ what one was measured to answer", lambda said: f"{load(said):.2f}"),
        row("… polls of workers", lambda said: f"{said.polls:.0f}"),
        row("… slots leased or asked for", lambda said: f"{said.leases / said.seconds:.1f}"),
        row("… updates of the progress", lambda said: f"{said.updates / said.seconds:.1f}"),
        row("… looks, logs, states", lambda said: f"{said.api / said.seconds:.1f}"),
        row("Prefect's server, of one core", lambda said: f"{100 * said.server:.0f} %"),
        row("PostgreSQL, of one core", lambda said: f"{100 * said.database:.0f} %"),
        row("database rows (millions)", lambda said: f"{said.rows / 1e6:.1f}"),
        row("… of them heartbeats", lambda said: f"{said.beats * made.beat_rows / 1e6:.1f}"),
        row("… of them updates of the progress", lambda said: f"{said.updates * made.update_rows / 1e6:.1f}"),
        row("rows at most where events are kept 7 days (millions)", lambda said: f"{_kept(made, said) / 1e6:.1f}"),
        row("database, if nothing were removed (GB)", lambda said: f"{said.row_bytes / 1e9:.1f}"),
        row("storage operations (millions)", lambda said: f"{sum(said.storage.values()) / 1e6:.1f}"),
        row("… of them listings", lambda said: f"{said.storage['LIST'] / 1e6:.1f}"),
        row("storage operations a second", lambda said: f"{said.storage_a_second:.0f}"),
        ("fewest workers that use 95 % of the slots", [f"{enough_workers(made, plan)}" for plan in plans]),
        ("most workers for one Prefect server", [_bearable(most_workers(made, plan)) for plan in plans]),
    ]
    caption = (
        f"The model for {NOVEL.books:,} books as long as *The Adventures of Sherlock Holmes* (574,638 bytes, "
        f"{NOVEL.segments:,} segments, 10.6 h each) over {NOVEL.workers} workers with cores of their own that poll every "
        f"{NOVEL.poll:.0f} s, {NOVEL.latency:.2f} s for a request (`bench/segment_size.py`). Not measured: the hosted "
        "API's latency, the network to a real S3, 50 workers, listings of millions of takes, a database after weeks, a machine "
        "of its own for Prefect's server."
    )
    return f"{caption}\n\n{_table(['limit of the account', *map(str, TIERS)], rows)}\n\n{_breaks_first(made, plans)}"


def _breaks_first(made: Costs, plans: Sequence[Plan]) -> str:
    """
    Say what breaks first, and at how many workers.
    """
    told = [
        f"with a limit of {plan.limit} the account, at {counted(enough_workers(made, plan), 'worker')} (Prefect's server at "
        f"{_bearable(most_workers(made, plan))})"
        for plan in plans
    ]
    return (
        f"What breaks first: {'; '.join(told)}. More workers than use 95 % of the account's slots make nothing faster, and "
        "each asks for slots in vain; Prefect's server breaks where it needs more than one core, all that a Python process "
        "has."
    )


def _kept(made: Costs, said: Predicted) -> float:
    """
    Count the rows that are there at the end, of events those of the last seven days.
    """
    lasting = said.beats * made.beat_rows + said.updates * made.update_rows
    return said.rows - lasting * (1 - min(1.0, KEPT_SECONDS / said.seconds))


def _bearable(number: int | None) -> str:
    return f"more than {CEILING:,}" if number is None else f"{number:,}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
