"""
A library of books over one, two and four workers: real ones, each with a host's caches of its own, and what they ask of whom.

Every worker has one place, and the library's own run has a worker of its own. Books, takes and narrations are on the S3 server;
slots come from one limit of the account. Each run makes books of its own, with a take store that is empty.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from bench import measure
from bench.ground import Count, Ground
from bench.measure import Failed
from tests.fleet import FINAL, ending
from tests.standing import ask, wait_for

END_SECONDS = 900
START_SECONDS = 120
IDLE_SECONDS = 10.0
ACCOUNT = "account"

DEPLOYMENTS = """\
deployments:
  - name: narrate
    entrypoint: flows.narrate.narrate
    pull: []
    work_pool: {name: narrate}
    parameters: {}
  - name: library
    entrypoint: flows.library.library
    pull: []
    work_pool: {name: library}
    parameters: {}
"""

WORDS = "the lamp of every harbour is lit by somebody who climbs the stairs in the evening and carries oil, while "


@dataclass(frozen=True)
class Shape:
    """
    A run: so many *workers*, *books* and *segments* in each; *concurrency* requests at once a book, *limit* for all of them,
    *latency* seconds for each.
    """

    workers: int
    books: int
    segments: int
    limit: int
    concurrency: int = 5
    latency: float = 1.0


@dataclass(frozen=True)
class Measured:
    """
    What a run took.

    *wall*: seconds of the library's run from when it was asked for. *head* of these went before the first book was asked
    for, in *estimating* seconds of which the need of each was estimated; *tail* came after the last one's end. *run*: seconds
    of a book's own run, the mean of all. *slot_seconds*: of all requests together. *lasting*: events that come as long as runs
    last, and the rows of these.
    """

    shape: Shape
    wall: float
    head: float
    tail: float
    run: float
    requests: int
    refused: int
    most_in_flight: int
    slot_seconds: float
    estimating: float
    counted: Count
    rows: Counter[str]
    size: int
    lasting: Counter[str]
    lasting_rows: Counter[str]

    @property
    def cycle(self) -> float:
        """
        Seconds that a worker needed for a book, from one to the next.
        """
        return (self.wall - self.head - self.tail) * self.shape.workers / self.shape.books

    @property
    def other_rows(self) -> int:
        """
        Rows but for those that come as long as runs last.
        """
        return self.rows.total() - self.lasting_rows.total()

    @property
    def books_an_hour(self) -> float:
        """
        Books made in an hour, the library's own beginning and end included.
        """
        return 3600 * self.shape.books / self.wall

    @property
    def slots_in_use(self) -> float:
        """
        Share of the account's slots on which a request was in flight.
        """
        return self.slot_seconds / (self.shape.limit * self.wall)


class Fleet:
    """
    Deployments on the *ground*, and libraries that are run there.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground, self._runs = ground, count(1)
        self._voice = ground.voice()
        folder = ground.folder / "deploying"
        folder.mkdir()
        (folder / "prefect.yaml").write_text(DEPLOYMENTS)
        for command in (
            ("flows", "setup"),
            ("prefect", "work-pool", "create", "library", "--type", "process"),
            ("prefect", "--no-prompt", "deploy", "--all"),
        ):
            self._do(folder, *command)
        self._limit(1)

    def _do(self, folder: Path, *command: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=self._ground.host("deploying"), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _limit(self, limit: int) -> None:
        body = {"name": ACCOUNT, "limit": limit}
        if not ask("PATCH", f"{self._ground.api}/v2/concurrency_limits/{ACCOUNT}", json={"limit": limit}).is_success:
            ask("POST", f"{self._ground.api}/v2/concurrency_limits/", json=body).raise_for_status()

    def idle(self) -> Count:
        """
        Count what goes on while nothing is done.
        """
        before = self._ground.count()
        time.sleep(IDLE_SECONDS)
        return self._ground.count().since(before)

    @contextmanager
    def workers(self, number: int) -> Iterator[None]:
        """
        Have so many workers for books in the block, and one for the library.
        """
        with _started(self._ground, [("library", "library"), *((f"w{place}", "narrate") for place in range(number))]) as pids:
            self._ground.parts["library"], self._ground.parts["workers"] = pids[:1], pids[1:]
            yield
        del self._ground.parts["library"], self._ground.parts["workers"]

    def run(self, shape: Shape) -> Measured:
        """
        Have a library made by workers that are there, and measure.
        """
        number = next(self._runs)
        ground = self._ground
        books = [self._write(number, book, shape.segments) for book in range(shape.books)]
        ground.terms(limit=shape.limit, latency=shape.latency)
        self._limit(shape.limit)
        rows, before = ground.rows(), ground.count()
        run = self._ended(self._begin(number, books, shape))
        counted = ground.count().since(before)
        if run["state_type"] != "COMPLETED":
            raise Failed(f"The library ended {run['state']}: {self._logs()}")
        after = ground.rows()
        spoken = ground.journal()
        made = [row for row in spoken if row["status"] == 200]
        if len(made) != shape.books * shape.segments:
            raise Failed(f"{len(made)} segments were spoken instead of {shape.books * shape.segments}")
        parts = self._parts(run["id"])
        begun, ended = _time(run["created"]), _time(run["end_time"])
        lasted = [_time(part["end_time"]) - _time(part["start_time"]) for part in parts]
        return Measured(
            shape=shape,
            wall=ended - begun,
            head=min(_time(part["created"]) for part in parts) - begun,
            tail=ended - max(_time(part["end_time"]) for part in parts),
            run=sum(lasted) / len(lasted),
            requests=len(spoken),
            refused=sum(row["status"] == 429 for row in spoken),
            most_in_flight=_most_at_once(made),
            slot_seconds=sum(row["finished"] - row["started"] for row in made),
            estimating=self._estimating(run["id"]),
            counted=counted,
            rows=after.tables - rows.tables,
            size=after.size - rows.size,
            lasting=after.lasting - rows.lasting,
            lasting_rows=after.lasting_rows - rows.lasting_rows,
        )

    def estimating_each(self, segments: int) -> float:
        """
        Tell the seconds of CPU for each segment more that is estimated: of a book of so many, above one of a single segment.
        """
        spent = []
        for number in (1, segments):
            script, log = self._ground.folder / f"estimated-{number}.txt", self._ground.folder / "estimate.log"
            script.write_text(_paragraphs(0, 0, number))
            command = [sys.executable, "-m", "flows", "estimate", str(script), "--json"]
            spent.append(measure.run(command, cwd=self._ground.folder, env=self._ground.host("deploying"), log=log).cpu)
        return max(0.0, spent[1] - spent[0]) / (segments - 1)

    def _write(self, number: int, book: int, segments: int) -> str:
        """
        Write a book.
        """
        self._ground.put(f"books-{number}/book-{book}/chapter.txt", _paragraphs(number, book, segments))
        return f"s3://bench/books-{number}/book-{book}"

    def _begin(self, number: int, books: list[str], shape: Shape) -> str:
        api = self._ground.api
        deployed = ask("GET", f"{api}/deployments/name/library/library").raise_for_status().json()
        parameters = {
            "books": {"books": books, "kind": "narrate", "at_once": shape.workers + 1},
            "voice": {"voice_id": self._voice},
            "output": {"out": f"s3://bench/out-{number}", "takes": f"s3://bench/takes-{number}"},
            "limits": {"concurrency": shape.concurrency, "account_limit": ACCOUNT, "budget": 10.0},
        }
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        made = ask("POST", f"{api}/deployments/{deployed['id']}/create_flow_run", json=body).raise_for_status()
        return str(made.json()["id"])

    def _ended(self, run_id: str) -> Any:
        def look() -> Any | None:
            run = ask("GET", f"{self._ground.api}/flow_runs/{run_id}?bench").raise_for_status().json()
            return run if run["state_type"] in FINAL else None

        return wait_for(look, what="the library's end", seconds=END_SECONDS, every=1.0)

    def _parts(self, run_id: str) -> list[dict[str, Any]]:
        ours = {"flow_runs": {"tags": {"all_": [f"part-of-{run_id}"]}}}
        rows: list[dict[str, Any]] = ask("POST", f"{self._ground.api}/flow_runs/filter", json=ours).raise_for_status().json()
        return rows

    def _estimating(self, run_id: str) -> float:
        """
        Tell the seconds between the line that says what all books need and the one before it.
        """
        ours = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
        rows = ask("POST", f"{self._ground.api}/logs/filter", json=ours).raise_for_status().json()
        told = next(place for place, row in enumerate(rows) if row["message"].startswith("About "))
        return _time(rows[told]["timestamp"]) - _time(rows[told - 1]["timestamp"])

    def _logs(self) -> str:
        return "".join(path.read_text()[-3000:] for path in sorted(self._ground.folder.glob("worker-*.log")))


def _paragraphs(number: int, book: int, segments: int) -> str:
    """
    Write paragraphs that are each as long as the mean segment of a novel, 195 bytes, and never the same.
    """
    told = f"In book {book:03} of library {number:03}, paragraph"
    return "\n\n".join(f"{told} {place:05}, {WORDS * 2}"[:194] + "." for place in range(segments))


@contextmanager
def _started(ground: Ground, names: list[tuple[str, str]]) -> Iterator[list[int]]:
    processes: list[subprocess.Popen[bytes]] = []
    with ending(processes):
        for name, pool in names:
            with (ground.folder / f"worker-{name}.log").open("wb") as log:
                command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--limit", "1", "--name", name]
                processes.append(
                    subprocess.Popen(
                        command, cwd=ground.folder / "deploying", env=ground.host(name), stdin=subprocess.DEVNULL,
                        stdout=log, stderr=log, start_new_session=True,
                    )
                )  # fmt: skip
        wait_for(lambda: _online(ground, names) or None, what="the workers", seconds=START_SECONDS, every=0.5)
        yield [process.pid for process in processes]


def _online(ground: Ground, names: list[tuple[str, str]]) -> bool:
    there = {
        row["name"]
        for pool in {pool for _, pool in names}
        for row in ask("POST", f"{ground.api}/work_pools/{pool}/workers/filter", json={}).raise_for_status().json()
        if row["status"] == "ONLINE"
    }
    return {name for name, _ in names} <= there


def _time(said: str) -> float:
    return datetime.fromisoformat(said).timestamp()


def _most_at_once(rows: list[dict[str, Any]]) -> int:
    """
    Tell how many requests were in flight at most, of those that were served.
    """
    changes = sorted([(row["started"], 1) for row in rows] + [(row["finished"], -1) for row in rows])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
