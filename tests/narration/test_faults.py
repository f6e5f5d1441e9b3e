"""
Whole runs against every fault there is: now and then, at every request, and at one sentence alone.
"""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import soundfile

from flows.narration import ledger
from flows.narration.errors import ExitCode, NarrateError
from flows.narration.ledger import Outcome
from flows.narration.limiter import Patience
from flows.narration.manifest import Manifest, SegmentsFile, segments_path
from tests.conftest import KEY, Sandbox
from tests.house import House

SCRIPTS = 4
SENTENCES = 6
SECONDS = {"long": 3.0}
"""Of every good answer: 1 where nothing is said, 3 where ten times as much must be too long for a sentence here."""

PATIENT = Patience(backoff=0.02, attempts=5, patience=60, deadline=60)
HURRIED = Patience(backoff=0.02, attempts=2, patience=0.7, deadline=60)
SLOW = {"hang": 1.5, "drip": 1.5}
"""Seconds of a deadline where one is needed; with any, a good answer may be late on a machine that has much to do."""

PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
REFUSALS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "status": 429},
    "429 with seconds": {"kind": "status", "status": 429, "retry_after": 1},
    "429 with a date": {"kind": "status", "status": 429, "retry_after": PAST},
    "500": {"kind": "status", "status": 500},
    "500 list": {"kind": "status", "status": 500, "body": "list"},
    "500 with the key": {"kind": "status", "status": 500, "body": "key"},
    "502 page": {"kind": "status", "status": 502, "body": "html"},
    "503 nothing": {"kind": "status", "status": 503, "body": "empty"},
    "504 with seconds": {"kind": "status", "status": 504, "retry_after": 1},
}
BROKEN: dict[str, dict[str, Any]] = {
    "reset": {"kind": "reset"},
    "drop": {"kind": "drop"},
    "truncate": {"kind": "truncate"},
    "truncate against its word": {"kind": "truncate", "length": True},
    "drip": {"kind": "drip", "seconds": 5},
    "hang": {"kind": "hang"},
}
UNREAD: dict[str, dict[str, Any]] = {"422 list": {"kind": "status", "status": 422, "body": "list"}}
BAD: dict[str, dict[str, Any]] = {
    kind: {"kind": kind} for kind in ("empty", "html", "json", "tiny", "flac", "silence", "short", "long", "clip")
}
OUTAGES: dict[str, dict[str, Any]] = {
    "outage of 503": {"kind": "status", "status": 503, "after": 10, "lasts": 0.7},
    "outage of resets": {"kind": "reset", "after": 10, "lasts": 0.7},
}
HARMLESS: dict[str, dict[str, Any]] = {"drip that ends": {"kind": "drip", "seconds": 0.2}}
RARE = {name: {"rate": 0.15, **fault} for name, fault in (REFUSALS | BROKEN | UNREAD | BAD | HARMLESS).items()} | OUTAGES


def sentence(script: int, number: int) -> str:
    """
    A sentence that is nowhere else, and that a search for its number finds alone.
    """
    return f"This is sentence {number} of script {script}, said once in its place."


class Books:
    """
    What a run left: the takes, the narrations, the ledger, and the journal of the service.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.asked = house.sandbox.requests("/v1/tts")
        with closing(ledger.connect(house.store.folder / ledger.FILE, readonly=True)) as connection:
            connection.row_factory = sqlite3.Row
            self.entries = connection.execute("SELECT * FROM request").fetchall()
        self.texts = [sentence(script, number) for script in range(SCRIPTS) for number in range(SENTENCES)]

    def balance(self) -> None:
        """
        Every request is in both books; none is billed that is in neither; no sentence was taken twice.
        """
        entered = Counter(sentence(int(entry["script"][6:-4]), entry["line"] // 2) for entry in self.entries)
        asked = Counter(row["text"] for row in self.asked if row["text"] is not None)
        assert asked <= entered
        assert asked == entered or {row["fault"] for row in self.asked} & SLOW.keys()
        assert Outcome.SENT not in {entry["outcome"] for entry in self.entries}
        taken = Counter(entry["take"] for entry in self.entries if entry["outcome"] == Outcome.TAKEN)
        assert {1} >= set(taken.values())
        (sums,) = ledger.summed(self.house.store.folder, by=[])
        billed = self.house.billed()
        assert sums["bytes_billed"] <= billed <= sums["bytes_billed"] + sums["bytes_unknown"]
        again = sum(entry["bytes"] for entry in self.entries if entry["outcome"] in (Outcome.RETAKEN, Outcome.UNKNOWN))
        assert billed - again <= sum(len(text) for text in self.texts)

    def complete(self, manifest: Manifest) -> None:
        """
        Every sentence stands in its place in a narration that holds sound takes of it all.
        """
        assert {"narrated", "unchanged"} >= {entry.state for entry in manifest.scripts}
        told = []
        for script in range(SCRIPTS):
            made = SegmentsFile.read(segments_path(self.house.out, f"script{script}.txt"))
            assert made is not None
            told += [segment.text for segment in made.segments]
            takes = [sum(len(block) for block in self.house.store.read(segment.take)) for segment in made.segments]
            assert {44_100, 3 * 44_100} >= set(takes)
            heard = soundfile.info(self.house.out / f"script{script}.wav")
            assert made.seconds == pytest.approx(heard.frames / heard.samplerate, abs=0.001)
        assert self.texts == told


@pytest.fixture
def house(tmp_path: Path, sandbox: Sandbox) -> House:
    """
    A few dozen short sentences in a few scripts.
    """
    sandbox.config(training="at-once", concurrency_limit=50, seconds=1.0)
    made = House(tmp_path, sandbox)
    for script in range(SCRIPTS):
        made.write(**{f"script{script}": "\n\n".join(sentence(script, number) for number in range(SENTENCES))})
    return made


def _weather(house: House, fault: dict[str, Any], patience: Patience) -> Patience:
    """
    Turn on a fault, and return *patience* with a deadline that fits it.
    """
    house.sandbox.config(faults=[fault], seconds=SECONDS.get(fault["kind"], 1.0))
    return patience.model_copy(update={"deadline": SLOW.get(fault["kind"], patience.deadline)})


def _written(house: House) -> bytes:
    return b"".join(path.read_bytes() for path in house.out.rglob("*") if path.is_file())


@pytest.mark.parametrize("fault", RARE.values(), ids=RARE)
async def test_a_fault_now_and_then_costs_no_more_than_itself(house: House, fault: dict[str, Any]) -> None:
    """
    The run ends right: every sentence is there once, and was paid once beside what the fault itself billed.
    """
    patience = _weather(house, fault, PATIENT)

    manifest, error = await house.run(patience=patience)

    books = Books(house)
    assert error is None
    assert [row for row in books.asked if row["fault"] == fault["kind"]]
    books.complete(manifest)
    books.balance()
    totals = manifest.totals
    assert (len(books.entries), len(books.entries) - len(books.texts)) == (totals.requests, totals.retries)
    assert KEY.encode() not in _written(house)


async def test_all_faults_together_cost_no_more_than_themselves(house: House) -> None:
    """
    Two of a hundred requests meet each.
    """
    house.sandbox.config(faults=[fault | {"rate": 0.02} for fault in RARE.values() if "lasts" not in fault], seed=3)

    manifest, error = await house.run(patience=PATIENT.model_copy(update={"deadline": 5}))

    books = Books(house)
    assert error is None
    assert len({row["fault"] for row in books.asked}) > 5
    books.complete(manifest)
    books.balance()


def _long(faults: dict[str, dict[str, Any]], *but: str) -> list[Any]:
    return [pytest.param(fault, id=name, marks=[] if name in but else pytest.mark.long) for name, fault in faults.items()]


@pytest.mark.parametrize(
    "fault",
    [
        *_long(REFUSALS | BROKEN, "429", "500 list", "503 nothing", "reset", "truncate"),
        *_long(UNREAD | BAD, "422 list", "silence"),
    ],
)
async def test_a_fault_at_every_request_ends_the_run_with_all_that_was_kept(house: House, fault: dict[str, Any]) -> None:
    """
    When patience is over, or every sentence had its tries; a service that is away is not hammered, and the next run goes on.
    """
    patience = _weather(house, fault | {"after": 8}, HURRIED)
    own = fault in (UNREAD | BAD).values()

    _, error = await asyncio.wait_for(house.run(patience=patience), 60)

    assert error is not None
    assert (ExitCode.SCRIPTS_FAILED if own else ExitCode.SERVICE) is error.exit_code
    first = Books(house)
    first.balance()
    kept = {row["text"] for row in first.asked if row["fault"] is None}
    assert len(first.asked) <= 8 + 6 * len(first.texts)
    if own:
        _tell_all(error, missing=[text for text in first.texts if text not in kept])
    assert KEY not in str(error)

    house.sandbox.config(faults=[])
    house.sandbox.forget()
    manifest, error = await house.run(patience=HURRIED)

    again = Books(house)
    assert error is None
    assert sorted(set(again.texts) - kept) == sorted(house.sandbox.spoken())
    again.complete(manifest)


def _tell_all(error: NarrateError, *, missing: list[str]) -> None:
    """
    Check that an error names file, line and sentence of all that is missing, in order.
    """
    lines = [line for line in str(error).splitlines() if "Missing: " in line]
    assert [f"“{text}”" for text in missing] == [line.partition("Missing: ")[2].strip() for line in lines]
    for text, line in zip(missing, lines, strict=True):
        words = text.split()
        script, number = words[6].rstrip(","), int(words[3])
        assert line.strip().startswith(f"script{script}.txt, line {2 * number + 1}: ")


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        pytest.param(UNREAD["422 list"], 2, id="422"),
        pytest.param(BAD["silence"], 2, id="silence"),
        pytest.param(BAD["html"], 2, id="html", marks=pytest.mark.long),
        pytest.param(REFUSALS["500 list"], 4, id="500"),
        pytest.param(BROKEN["reset"], 4, id="reset", marks=pytest.mark.long),
        pytest.param(BROKEN["truncate"], 4, id="truncate"),
        pytest.param(BROKEN["hang"], 4, id="hang", marks=pytest.mark.long),
        pytest.param({"kind": "status", "status": 400}, 1, id="400"),
    ],
)
async def test_one_poisonous_sentence_costs_itself_alone(house: House, fault: dict[str, Any], requests: int) -> None:
    """
    The others of its script are paid, kept and reused; the report names file, line and sentence.
    """
    poison = sentence(2, 4)
    patience = _weather(house, fault | {"match": poison}, HURRIED)

    manifest, error = await house.run(patience=patience)

    assert error is not None
    _tell_all(error, missing=[poison])
    assert {"script2.txt": "failed"} == {entry.script: entry.state for entry in manifest.scripts if entry.state != "narrated"}
    books = Books(house)
    books.balance()
    asked = Counter(row["text"] for row in books.asked)
    assert requests == asked.pop(poison)
    assert {1} == set(asked.values())

    house.sandbox.config(faults=[])
    house.sandbox.forget()
    manifest, error = await house.run(patience=PATIENT)

    assert (None, [poison]) == (error, house.sandbox.spoken())
    Books(house).complete(manifest)
