"""
A library: many books over several workers, with Prefect on PostgreSQL, one limit of the account and one report.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.narration.cost import USD_PER_BYTE, Spent
from flows.narration.ledger import spent_by
from tests.bucket import Bucket
from tests.conftest import Sandbox, wait_for
from tests.fleet import CRASHED_SECONDS, END_SECONDS, FINAL, LIMIT, Fleet, ending, killed
from tests.standing import ask
from tests.test_stopping import suspended

pytestmark = pytest.mark.alone

BOOKS, SENTENCES, WORKERS = 20, 6, 3

MADE = 3
"""Books that are made before the kill."""


@dataclass(frozen=True)
class Library:
    """
    Books in a folder, made by a *fleet*.
    """

    fleet: Fleet

    @property
    def folder(self) -> Path:
        """
        Where books and narrations are.
        """
        return self.fleet.folder

    def write(self, count: int) -> None:
        """
        Write so many small books, in which no sentence comes twice.
        """
        for book in range(1, count + 1):
            chapter = self.folder / f"books/book-{book}/chapter.txt"
            chapter.parent.mkdir(parents=True)
            chapter.write_text("\n\n".join(_sentences(book)))

    def start(self, voice_id: str, books: dict[str, Any] | None = None, *, out: str | None = None, **limits: Any) -> str:
        """
        Begin a library run as the UI does, of all books as narrations or of others, and return its id.
        """
        return self.fleet.begin("library/library", {
            "books": books or {"books": [str(self.folder / "books")], "kind": "narrate", "at_once": 4},
            "voice": {"voice_id": voice_id},
            "output": {"out": out or str(self.folder / "out"), "served_at": "https://audio.example.org/b"},
            "limits": {"concurrency": 2, "account_limit": "account", **limits},
        })  # fmt: skip

    def runs(self) -> list[dict[str, Any]]:
        """
        Tell the runs of all books.
        """
        return self.fleet.runs("library")

    def manifests(self) -> list[dict[str, Any]]:
        """
        Read what there is of manifests.
        """
        found = []
        for path in (self.folder / "out").glob("*/run.json"):
            with suppress(ValueError):
                found.append(json.loads(path.read_text()))
        return found

    def reports(self, run_id: str) -> list[str]:
        """
        Read the reports of a library run, the newest first: unasked, the server sorts them by their random ids.
        """
        mine = {"key": {"any_": ["narrate-library"]}, "flow_run_id": {"any_": [run_id]}}
        ours = {"artifacts": mine, "sort": "CREATED_DESC"}
        rows = ask("POST", f"{self.fleet.api}/artifacts/filter", json=ours).raise_for_status().json()
        return [row["data"] for row in rows]


@pytest.fixture
def library(fleet: Fleet) -> Library:
    """
    Books, and workers that wait for runs.
    """
    made = Library(fleet)
    made.write(BOOKS)
    for number in range(WORKERS):
        fleet.work(number)
    return made


def _billed(sandbox: Sandbox) -> float:
    """
    Sum what the sandbox billed, in USD.
    """
    return sum(float(row["cost_usd"]) for row in sandbox.requests("/v1/tts") if row["billed"])


def _usd(*books: int) -> float:
    """
    Price every sentence of these books, once.
    """
    return sum(len(text.encode()) for book in books for text in _sentences(book)) * USD_PER_BYTE["s2.1-pro"]


def _sentences(book: int) -> list[str]:
    return [f"This is sentence {number} of book {book}, and it is said once." for number in range(SENTENCES)]


@pytest.mark.long
def test_a_library_killed_in_the_middle_pays_nothing_twice(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    A worker and the library's run are killed at one moment; begun again it waits for runs that live, and every book is made.

    Only what was in flight on the killed worker may be paid for again; never more than the limit in flight; one report.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=0.5)
    first = library.start(voice_id, budget=1.0)

    def begun_well() -> Any | None:
        """
        Look whether some books are made, and the library is under way.
        """
        run = fleet.run(first)
        assert run["state_type"] not in FINAL, (run["state"], fleet.logs())
        return run if len(library.manifests()) >= MADE else None

    under_way = wait_for(begun_well, what="some books", seconds=END_SECONDS, every=0.2)
    worker = fleet.workers[0]
    killed(worker.pid)
    killed(int(under_way["infrastructure_pid"]))
    died = time.monotonic()
    second = library.start(voice_id, budget=1.0)
    ended = fleet.ended(second)

    assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
    manifests = library.manifests()
    assert BOOKS == len(manifests)
    assert {"completed"} == {manifest["state"] for manifest in manifests}
    rows = sandbox.requests("/v1/tts")
    said = Counter(row["text"] for row in rows if row["status"] == 200)
    assert {text for book in range(1, BOOKS + 1) for text in _sentences(book)} == set(said)
    again = sum(count - 1 for count in said.values())
    begun = Counter(re.findall(r"books/(book-\d+)", str([run["parameters"] for run in library.runs()])))
    print(f"the second run took {time.monotonic() - died:.0f} s; said again: {again}; runs: {sum(begun.values())}")
    assert again <= LIMIT
    assert max(row["in_flight"] for row in rows) <= LIMIT
    assert {200} == {row["status"] for row in rows if row["status"] is not None}
    [report] = library.reports(second)
    assert f"{BOOKS} books: {BOOKS} done" in report
    assert BOOKS == report.count("| completed |")
    crashed = fleet.ended(first, seconds=CRASHED_SECONDS)
    print(f"the first is {crashed['state_type']} {time.monotonic() - died:.0f} s after the kill at the latest")
    assert "CRASHED" == crashed["state_type"]
    assert [] == library.reports(first)


@pytest.mark.long
def test_a_book_begun_again_has_what_is_left_of_its_share(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    A run's process dies: what the run was billed is taken from the next one's budget, and is in the report.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=1.5)
    names = [str(library.folder / f"books/book-{number}") for number in (1, 2, 3)]
    first = library.start(voice_id, {"books": names, "kind": "narrate", "at_once": 3}, budget=1.0)

    def spending() -> dict[str, Any] | None:
        """
        Look for a book's run under way that has paid for something.
        """
        runs = [run for run in library.runs() if run["state_type"] == "RUNNING"]
        return next((run for run in runs if _spent(library, run).usd), None)

    dying = wait_for(spending, what="a book's run that spends", seconds=END_SECONDS, every=0.2)
    os.kill(int(fleet.run(dying["id"])["infrastructure_pid"]), signal.SIGKILL)
    ended = fleet.ended(first)

    assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
    book = dying["parameters"]["scripts"]["scripts"]
    runs = [run for run in library.runs() if run["parameters"]["scripts"]["scripts"] == book]
    assert ["CRASHED", "COMPLETED"] == [run["state_type"] for run in sorted(runs, key=lambda run: run["expected_start_time"])]
    [again] = [run for run in runs if run["id"] != dying["id"]]
    budgets = [run["parameters"]["limits"]["budget"] for run in (dying, again)]
    assert _spent(library, dying).at_most == pytest.approx(budgets[0] - budgets[1])
    paid = sum(_spent(library, run).usd for run in library.runs())
    assert f"{paid:.4f} USD" in library.reports(first)[0].splitlines()[0]


@pytest.mark.long
def test_a_library_that_crashed_counts_what_its_books_were_billed(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    It and a book's run are killed; retried, it takes from its budget what the ledger says, not all that the run might spend.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=1.5)
    names = [str(library.folder / f"books/book-{number}") for number in (1, 2)]
    run = library.start(voice_id, {"books": names, "kind": "narrate", "at_once": 1}, budget=1.0)

    def spending() -> dict[str, Any] | None:
        """
        Look whether the first book's run has paid for something.
        """
        return next((each for each in library.runs() if _spent(library, each).usd), None)

    dying = wait_for(spending, what="a book's run that spends", seconds=END_SECONDS, every=0.2)
    os.kill(int(fleet.run(run)["infrastructure_pid"]), signal.SIGKILL)
    os.kill(int(fleet.run(dying["id"])["infrastructure_pid"]), signal.SIGKILL)
    assert ["CRASHED"] * 2 == [fleet.ended(each)["state_type"] for each in (run, dying["id"])]
    sandbox.config(latency=0.1)
    ended = fleet.retried(run)
    if ended["state_type"] == "CRASHED":  # its worker tells so some seconds after its runner: a retry in between is lost
        ended = fleet.retried(run)

    assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
    others = [each for each in library.runs() if each["id"] != dying["id"]]
    assert names == sorted(each["parameters"]["scripts"]["scripts"] for each in others)
    budgets = [
        each["parameters"]["limits"]["budget"] for each in others if each["parameters"]["scripts"]["scripts"] == names[1]
    ]
    before = sum(
        _spent(library, each).at_most for each in library.runs() if each["parameters"]["scripts"]["scripts"] == names[0]
    )
    assert budgets == [pytest.approx(1.0 - before)]
    counted = Counter(row["text"] for row in sandbox.requests("/v1/tts") if row["status"] == 200)
    assert {text for number in (1, 2) for text in _sentences(number)} == set(counted)
    assert counted.total() - len(counted) <= 2  # in flight when its run was killed


IMPATIENT = """
import asyncio
import sys
from datetime import timedelta
from flows import fleet
from flows.knobs import LibraryChoice, LibraryOutput, VoiceChoice
from flows.library import library

fleet.WAITING = timedelta(seconds=3)
asyncio.run(library(
    books=LibraryChoice(books=sys.argv[2:], kind="narrate"),
    voice=VoiceChoice(voice_id=sys.argv[1]),
    output=LibraryOutput(out=sys.argv[2] + "-out"),
))
"""
"""A library as its deployment runs it, which waits for 3 s instead of 5 minutes until it tells that it waits."""


@pytest.mark.long
def test_a_library_that_no_worker_serves_says_so_and_goes_on(fleet: Fleet, sandbox: Sandbox, voice_id: str) -> None:
    """
    Once for each book it is said what is missing; as soon as there is a worker, all are made.
    """
    library = Library(fleet)
    library.write(2)
    told = fleet.folder / "told"
    with told.open("w") as output, ending([]) as begun:
        begun.append(subprocess.Popen(
            [sys.executable, "-c", IMPATIENT, voice_id,
             *(str(library.folder / f"books/book-{number}") for number in (1, 2))],
            cwd=fleet.folder, env=fleet.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        ))  # fmt: skip

        def waits(book: str) -> list[str]:
            return [line for line in told.read_text().splitlines() if f"{book}: no worker has begun its run" in line]

        wait_for(lambda: (waits("book-1") and waits("book-2")) or None, what="a warning", seconds=END_SECONDS)
        assert [] == sandbox.spoken()
        fleet.work(0)
        assert 0 == begun[0].wait(timeout=END_SECONDS), told.read_text()

    (first,), (second,) = waits("book-1"), waits("book-2")
    assert "of the pool narrate" in first
    assert "(--limit)" in second
    assert sorted(text for number in (1, 2) for text in _sentences(number)) == sorted(sandbox.spoken())
    assert "2 books: 2 done" in told.read_text()


@pytest.mark.long
def test_a_library_whose_storage_is_away_begins_nothing(fleet: Fleet, bucket: Bucket, sandbox: Sandbox, voice_id: str) -> None:
    """
    Nobody can say what is recorded already, so nobody can say what it costs: a sentence, and no book is begun.
    """
    library = Library(fleet)
    library.write(2)
    fleet.work(0, {**bucket.host("a"), "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    ended = fleet.ended(library.start(voice_id, out=f"{bucket.uri}/out", budget=1.0))

    assert ("FAILED", 2) == (ended["state_type"], ended["labels"]["narrate.exit"])
    assert "cannot be reached" in ended["state"]["message"]
    assert [] == sandbox.requests("/v1/tts") + library.runs()


def _spent(library: Library, run: dict[str, Any]) -> Spent:
    """
    Read in the ledger of a book what a run of it was billed.
    """
    takes = library.folder / "out" / Path(run["parameters"]["scripts"]["scripts"]).name / ".takes"
    return spent_by(run["id"], takes)


@pytest.mark.long
def test_a_library_tells_what_failed_and_never_spends_more_than_its_budget(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    What does not fit, a deployment or a budget, is refused before any book is begun; a book that cannot be read fails, and the
    others are made.
    """
    books = {"books": [str(library.folder / "books")], "deployment": "narrate/narrate"}  # to be audiobooks
    refused = fleet.ended(library.start(voice_id, books))
    assert (2, []) == (refused["labels"]["narrate.exit"], library.runs())
    assert "takes no book, so it does not make these books" in refused["state"]["message"]

    refused = fleet.ended(library.start(voice_id, budget=0.0001))

    assert "FAILED" == refused["state_type"]
    assert "No book was begun" in refused["state"]["message"]
    assert 6 == refused["labels"]["narrate.exit"]
    assert [] == sandbox.requests("/v1/tts") + library.runs()
    for number in range(4, BOOKS + 1):
        (library.folder / f"books/book-{number}/chapter.txt").unlink()
        (library.folder / f"books/book-{number}").rmdir()
    (library.folder / "books/book-2/chapter.txt").write_bytes(b"\xff\xfe\xff")

    budget = _usd(1, 3)
    partly = fleet.ended(library.start(voice_id, budget=budget))

    assert "FAILED" == partly["state_type"]
    assert "1 of 3 books failed" in partly["state"]["message"]
    assert 2 == partly["labels"]["narrate.exit"]
    assert 2 * SENTENCES == len(sandbox.spoken())
    budgets = [run["parameters"]["limits"]["budget"] for run in library.runs()]
    assert sum(budgets) <= budget + 1e-6
    assert _billed(sandbox) == pytest.approx(budget)


@pytest.mark.long
def test_a_library_that_is_retried_spends_no_more_than_its_budget(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    What books cost that it has made counts before the one that failed is given anything; what is left of it is enough.
    """
    books = {"books": [str(library.folder / f"books/book-{book}") for book in (1, 2, 3)], "kind": "narrate", "at_once": 3}
    broken = library.folder / "books/book-1/chapter.txt"
    broken.write_bytes(b"\xff\xfe\xff")
    budget = _usd(2, 3) + _usd(1) * 2 / 3
    run = library.start(voice_id, books, budget=budget)
    assert "FAILED" == fleet.ended(run)["state_type"]
    assert _billed(sandbox) == pytest.approx(_usd(2, 3))

    broken.write_text("\n\n".join(_sentences(1)))
    refused = fleet.retried(run)

    assert "FAILED" == refused["state_type"]
    assert "No more books were begun" in refused["state"]["message"]
    assert 6 == refused["labels"]["narrate.exit"]
    assert _billed(sandbox) <= budget
    broken.write_text("\n\n".join(_sentences(1)[: SENTENCES * 2 // 3]))
    again = fleet.retried(run)
    assert "COMPLETED" == again["state_type"], (again["state"], fleet.logs())
    assert _billed(sandbox) == pytest.approx(budget)
    assert "3 books: 3 done" in library.reports(run)[0]


@pytest.mark.long
def test_a_library_of_audiobooks_goes_by_their_deployment(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    Each is bound in its own folder, by the level profile that the deployment says; they share a take store.
    """
    books = [str(library.folder / f"books/book-{number}") for number in (1, 2)]

    ended = fleet.ended(library.start(voice_id, {"books": books, "at_once": 2}, budget=1.0))

    assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
    written = [json.loads(path.read_text()) for path in (library.folder / "out").glob("*/book.json")]
    assert {"podcast"} == {book["profile"]["name"] for book in written}
    assert {0.4} == {run["parameters"]["limits"]["budget"] for run in library.runs()}  # of its deployment: less than its share
    assert ["book-1.m4b", "book-2.m4b"] == sorted(path.name for path in (library.folder / "out").glob("*/*.m4b"))
    assert 2 * SENTENCES <= len(sandbox.spoken()) == len(set(sandbox.spoken()))


@pytest.mark.long
def test_a_library_that_is_cancelled_ends_its_books_too(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    Those under way are Cancelled, and no other is begun; begun again, the library pays nothing twice.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=2.0)
    names = [str(library.folder / f"books/book-{number}") for number in range(1, 6)]
    books = {"books": names, "kind": "narrate", "at_once": 2}
    first = library.start(voice_id, books, budget=1.0)
    wait_for(lambda: len(sandbox.spoken()) > 1 or None, what="work on books", seconds=END_SECONDS)

    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
    ask("POST", f"{fleet.api}/flow_runs/{first}/set_state", json=cancelling).raise_for_status()
    ended = fleet.ended(first)

    assert "CANCELLED" == ended["state_type"], (ended["state"], fleet.logs())
    wait_for(lambda: all(run["state_type"] in FINAL for run in library.runs()) or None, what="the ends of books", seconds=120)
    states = Counter(run["state_type"] for run in library.runs())
    print(f"the books' runs: {dict(states)}")
    assert states["CANCELLED"]
    assert {"CANCELLED", "COMPLETED"} >= set(states)
    assert states.total() < len(names)
    sandbox.config(latency=0.1)
    again = fleet.ended(library.start(voice_id, books, budget=1.0))
    assert "COMPLETED" == again["state_type"], (again["state"], fleet.logs())
    counted = Counter(row["text"] for row in sandbox.requests("/v1/tts") if row["billed"])
    assert {text: 1 for number in range(1, 6) for text in _sentences(number)} == counted


@pytest.mark.long
def test_a_library_that_is_suspended_begins_no_other_book(
    fleet: Fleet, library: Library, sandbox: Sandbox, voice_id: str
) -> None:
    """
    The one under way goes on to its end; resumed, the library makes the others, and nothing is paid twice.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=1.5)
    names = [str(library.folder / f"books/book-{number}") for number in (1, 2, 3)]
    run = library.start(voice_id, {"books": names, "kind": "narrate", "at_once": 1}, budget=1.0)
    wait_for(lambda: sandbox.spoken() or None, what="work on a book", seconds=END_SECONDS)

    ask("POST", f"{fleet.api}/flow_runs/{run}/set_state", json={"state": suspended(), "force": False}).raise_for_status()

    said = {"filter": {"resource": {"id": [f"prefect.flow-run.{run}"]}, "event": {"name": ["narrate.run.suspended"]}}}
    wait_for(
        lambda: ask("POST", f"{fleet.api}/events/filter", json=said).raise_for_status().json()["total"] or None,
        what="its last word", seconds=60,
    )  # fmt: skip
    [book] = library.runs()
    assert "COMPLETED" == fleet.ended(str(book["id"]))["state_type"], fleet.logs()
    sandbox.config(latency=0.1)
    assert ("PAUSED", 1, SENTENCES) == (fleet.run(run)["state_type"], len(library.runs()), len(sandbox.spoken()))
    ask("POST", f"{fleet.api}/flow_runs/{run}/resume").raise_for_status()
    ended = fleet.ended(run)
    assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
    assert 3 == len(library.runs())
    assert sorted(text for number in (1, 2, 3) for text in _sentences(number)) == sorted(sandbox.spoken())


@pytest.mark.long
def test_a_library_in_object_storage(fleet: Fleet, bucket: Bucket, sandbox: Sandbox, voice_id: str) -> None:
    """
    Books, narrations and takes are in a bucket; made on two hosts, and made again for nothing.
    """
    for number, host in enumerate("ab"):
        fleet.work(number, bucket.host(host))
    for book in (1, 2, 3):
        bucket.put(f"books/book-{book}/chapter.txt", "\n\n".join(_sentences(book)))
    library = Library(fleet)

    def made() -> Any:
        """
        Have all books made.
        """
        books = {"books": [f"{bucket.uri}/books"], "kind": "narrate", "at_once": 3}
        ended = fleet.ended(library.start(voice_id, books, out=f"{bucket.uri}/out", budget=1.0))
        assert "COMPLETED" == ended["state_type"], (ended["state"], fleet.logs())
        return ended

    made()
    spoken = sandbox.spoken()
    again = made()

    assert sorted(text for book in (1, 2, 3) for text in _sentences(book)) == sorted(spoken)
    assert spoken == sandbox.spoken()
    assert ["book-1", "book-2", "book-3"] == [
        name.split("/")[1] for name in bucket.names("out/") if name.endswith("/chapter.mp3") and "/." not in name
    ]
    assert "3 books: 3 done" in library.reports(str(again["id"]))[0]
    served = {run["parameters"]["output"]["served_at"] for run in library.runs()}
    assert {f"https://audio.example.org/b/book-{book}" for book in (1, 2, 3)} == served
    told = fleet.events(str(again["id"]))
    assert ["narrate.run.completed"] == [event["event"] for event in told]
    assert ["book-1", "book-2", "book-3"] == [book["book"] for book in told[0]["payload"]["books"]]


def test_the_deployment_that_the_file_names_is_a_library() -> None:
    """
    The one of prefect.yaml has the parameters that the flow takes.
    """
    deployments = yaml.safe_load((Path(__file__).parents[1] / "prefect.yaml").read_text())["deployments"]
    [library] = [each for each in deployments if each["name"] == "library"]

    assert "flows.library.library" == library["entrypoint"]
    assert {"books", "voice", "output"} == set(library["parameters"])
