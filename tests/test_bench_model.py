"""
The model of a fleet: what it says of numbers that can be reckoned by hand.
"""

from collections import Counter
from dataclasses import replace

import pytest

from bench import figures
from bench.capacity import IN_VAIN, LOOK, MIX, POLL, Capacity
from bench.figures import Found
from bench.fleet import Measured, Shape
from bench.ground import BEAT, LEASES, POLLS, REST, UPDATE, UPDATES, Count, kind
from bench.model import Costs, Line, Plan, enough_workers, most_workers, network, predict

COSTS = Costs(
    cycle=Line(10.0, 1.2),
    cpu=Line(4.0, 0.1),
    api=Line(40.0, 1.0),
    server=Line(1.0, 0.01),
    database=Line(0.2, 0.0),
    look_cpu=0.02,
    look_database=0.005,
    rows=300.0,
    storage={"PUT": Line(5.0, 2.0), "LIST": Line(34.0, 0.0)},
    concurrency=5,
    latency=1.0,
    head=6.0,
    tail=2.0,
    estimate=Line(0.5, 0.05),
    polls=1.0,
    poll_cpu=0.01,
    idle=0.1,
    ask_cpu=0.01,
    beat_rows=8.0,
    update_rows=10.0,
    row_bytes=1000.0,
)

PLAN = Plan(workers=1, books=3, segments=10, limit=5, latency=2.0, cores=None, segment_bytes=100.0)


def test_a_line_goes_through_what_was_measured() -> None:
    """
    Of 14 for 10 and 20 for 20 it is 8 and 0.6 each; what falls by chance does not fall.
    """
    assert Line(8.0, 0.6) == Line.through((10, 14.0), (20, 20.0))
    assert Line(14.0, 0.0) == Line.through((10, 14.0), (20, 13.0))


def test_workers_queue_for_what_they_share() -> None:
    """
    Ten seconds a book, four of them at a station: alone nobody waits; the second waits 0.4 × 4 s; no more than the station's.
    """
    for workers, servers, out, waited in ((1, 1, 1 / 10, 0), (2, 1, 2 / (6 + 4 * 1.4), 1.6), (2, 2, 2 / (8 + 2 * 1.2), 0.4)):
        found, waits = network(workers, alone=10, stations=[(4, servers)])
        assert [found, *waits] == pytest.approx([out, waited])
    assert network(200, alone=10, stations=[(4, 1)])[0] == pytest.approx(1 / 4, rel=0.01)
    assert network(200, alone=10, stations=[(4, 1), (5, 1)])[0] <= 1 / 5


def test_one_worker_makes_one_book_after_the_other() -> None:
    """
    Requests of 2 s instead of 1 s add 10 × 1 ÷ 5 s to the 22 s of a book; three of them, and the library's head and tail.
    """
    said = predict(COSTS, PLAN)

    assert (said.cycle, said.requesting, said.waiting) == pytest.approx((24.0, 4.0, 0.0))
    assert said.head == pytest.approx(6 + 3 * 1.0)
    assert said.seconds == pytest.approx(9 + 72 + 2)
    assert said.speaking == pytest.approx(3 * 10 * 2 / 5)
    assert said.slots_in_use == pytest.approx(60 / (5 * 83))
    assert said.requests == 30
    assert said.usd == pytest.approx(30 * 100 * 15e-6)
    assert said.api == pytest.approx(3 * (40 + 24) + 2 * 72 / 2)
    assert (said.leases, said.asked_in_vain) == (2 * 3 * 5 + 3 + 1, 0)
    assert said.polls == 2
    assert said.updates == pytest.approx(3 * (1 + 14 / 2))
    assert said.api_a_second == pytest.approx((192 + 72 + 24 + 34) / 83 + 2)
    assert said.server == pytest.approx((3 * 1.24 + 72 * 0.02 + 30 * 0.01) / 83 + 2 * 0.01)
    assert said.database == pytest.approx((3 * 0.2 + 72 * 0.005) / 83)
    assert said.rows == pytest.approx(3 * 300 + (3 * 54 / 30 + 83 / 30) * 8 + 24 * 10)
    assert said.storage == {"PUT": 75, "LIST": 102}


def test_more_than_the_account_bears_ask_in_vain() -> None:
    """
    Fifty runs of 2,938 requests at five slots are as fast as the slots, and each asks every 0.75 s and a bit.
    """
    said = predict(COSTS, Plan(workers=50, books=1000, segments=2938, limit=5, latency=5.0, cores=None, poll=10.0))

    assert said.seconds == pytest.approx(1000 * 2938 * 5 / 5, rel=0.1)
    assert 0.9 < said.slots_in_use <= 1
    assert said.polls == pytest.approx(5.1)
    assert said.asked_in_vain / said.seconds == pytest.approx(50 / 0.75, rel=0.1)
    pages = sum(max(0, book * 2.938 - 17, (257 - 17) * (book * 2.938 >= 17)) for book in range(1000))
    assert said.storage["LIST"] == pytest.approx(34_000 + pages)


def test_what_breaks_first_has_a_number() -> None:
    """
    With one worker more the server needs more than its core; slots are used up by as many runs as the account has turns for.
    """
    plan = Plan(workers=50, books=1000, segments=2938, limit=15, latency=5.0, cores=None, poll=10.0)
    cheap = replace(COSTS, ask_cpu=0.0, poll_cpu=0.0, look_cpu=0.0, server=Line(0.0, 0.0), estimate=Line(0.0, 0.0))

    most = most_workers(COSTS, plan)

    assert most is not None
    assert predict(COSTS, replace(plan, workers=most)).server <= 1 < predict(COSTS, replace(plan, workers=most + 1)).server
    assert most_workers(cheap, plan) is None
    assert 3 <= enough_workers(cheap, plan) < 10


@pytest.mark.parametrize(
    ("request_line", "counted"),
    [
        ("POST /api/v2/concurrency_limits/increment-with-lease", LEASES),
        ("POST /api/work_pools/narrate/get_scheduled_flow_runs", POLLS),
        ("GET /api/flow_runs/0b5e1c4e-7d5f-4a63-9d55-0a6a1f3f2d11", "looks at a run"),
        ("POST /api/flow_runs/0b5e1c4e-7d5f-4a63-9d55-0a6a1f3f2d11/set_state", "runs and their states"),
        ("POST /api/work_pools/narrate/workers/filter", REST),
    ],
)
def test_requests_to_prefects_server_are_told_apart(request_line: str, counted: str) -> None:
    """
    By method and path.
    """
    assert counted == kind(request_line)


def _measured(workers: int, segments: int, wall: float) -> Measured:
    """
    Four books: of 8 s and 0.5 s a segment, 300 rows and three that last, 44 requests and one a second besides the library's
    looks, 5 PUT and 2 a segment.
    """
    seconds = (wall - 12) / 4
    looks = (workers + 1) * 4 * seconds / 2
    api = Counter({"logs": round(4 * 44 + 4 * seconds * workers + looks), LEASES: 45, POLLS: 60, UPDATES: 12})
    cpu = {"workers": 4 * (3 + 0.1 * segments), "library": 4.0, "prefect": 4 * 2.0, "postgres": 1.0, "stand-ins": 1.0}
    rows = Counter({"events": 1200 + 30, "event_resources": 6 * 5})
    return Measured(
        shape=Shape(workers, 4, segments, 15),
        wall=wall,
        head=10.0,
        tail=2.0,
        run=seconds - 4,
        requests=4 * segments,
        refused=0,
        most_in_flight=5,
        slot_seconds=4.0 * segments,
        estimating=2.0,
        counted=Count(wall, api, Counter(PUT=4 * (5 + 2 * segments), LIST=176), cpu),
        rows=rows,
        size=1_260_000,
        lasting=Counter({BEAT: 4, UPDATE: 2}),
        lasting_rows=Counter({BEAT: 40, UPDATE: 20}),
    )


def test_constants_come_of_the_runs_with_one_worker_and_the_rest_is_predicted() -> None:
    """
    What was measured by such numbers gives them back, and the tables tell what was measured over what is predicted.
    """
    single, double = _measured(1, 20, 12 + 4 * 18), _measured(1, 40, 12 + 4 * 28)
    capacities = {name: Capacity(50.0, 0.01, 0.002) for name in (IN_VAIN, LOOK, POLL, MIX)}
    nothing = Count(10.0, Counter({POLLS: 20}), Counter(), dict.fromkeys(single.counted.cpu, 0.0))
    found = Found(single, double, [_measured(2, 20, 12 + 4 * 10)], capacities, nothing, nothing, 0.001)

    made = figures.costs(found)

    assert (made.cycle.fixed, made.cycle.each) == pytest.approx((8.0, 0.5))
    assert (made.api.fixed, made.api.each) == pytest.approx((44.0, 1.0))
    assert (made.rows, made.beat_rows, made.update_rows) == (300, 10, 10)
    assert made.storage["PUT"] == Line(5.0, 2.0)
    assert (made.head, made.tail, made.estimate) == (8.0, 2.0, Line(0.5, 0.001))
    assert made.server.at(18) + 18 * made.look_cpu == pytest.approx(2.0)
    assert made.polls == 1
    assert "| 1 worker, 20 segments, limit 15 (fitted) | 84 / 84 = 1.00 |" in figures.model_table(found)
    assert "| 2 workers, 20 segments, limit 15 (predicted) | 52 / " in figures.model_table(found)
    assert "| storage operations, a book | 89 | 129 | 89 |" in figures.measured_table(found)
    assert "| … of all: whatever a run's length | 300.0 | 300.0 | 300.0 |" in figures.measured_table(found)
    assert "| requests to the service | 2,938,000 | 2,938,000 | 2,938,000 |" in figures.thousand_table(found)
    assert "What breaks first: with a limit of 5 the account, at" in figures.thousand_table(found)
