"""
The ledger: what is in it after crashes, beside other writers, on a full disk, and what its sums say.
"""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.narration.cost import Spent
from flows.narration.errors import LedgerUnusable
from flows.narration.ledger import FILE, KEYS, SCHEMA, Account, Entry, Ledger, Outcome, Unsettled, connect, spent_by, summed
from tests.conftest import ROOT

ACCOUNT = Account(run="r", host="h", voice="v", model="s2.1-pro")
ENTRY = Entry(script="a.txt", line=1, take="ab" * 32, attempt=1, size=10, usd=0.00015)


async def _written(folder: Path, outcomes: Sequence[Outcome | None], account: Account = ACCOUNT, entry: Entry = ENTRY) -> None:
    """
    Enter a request for each outcome, and settle those that have one.
    """
    ledger = Ledger(folder, account)
    for outcome in outcomes:
        number = await ledger.enter(entry)
        if outcome is not None:
            await ledger.settle(number, outcome, "why")
    await ledger.close()


def _rows(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with closing(connect(folder / FILE, readonly=True)) as connection:
        return connection.execute(f"SELECT {columns} FROM request ORDER BY run, number").fetchall()  # noqa: S608


async def test_an_entry_is_on_the_disk_when_entering_returns(tmp_path: Path) -> None:
    """
    Committed, for any other process to see: the request leaves only then.
    """
    ledger = Ledger(tmp_path, ACCOUNT)
    number = await ledger.enter(ENTRY)

    seen = _rows(tmp_path, "run, number, script, line, take, attempt, bytes, usd, outcome, settled")
    await ledger.close()

    assert [("r", number, "a.txt", 1, "ab" * 32, 1, 10, 0.00015, "sent", None)] == seen


def test_a_commit_survives_a_power_cut(tmp_path: Path) -> None:
    """
    SQLite fsyncs a write-ahead log with every commit at this setting, and at no lower one.
    """
    with closing(connect(tmp_path / FILE)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]

    assert ("wal", 2) == (mode, synchronous)


async def test_many_entries_at_once_are_all_there(tmp_path: Path) -> None:
    """
    They share commits, and each has a number of its own.
    """
    ledger = Ledger(tmp_path, ACCOUNT)
    numbers = await asyncio.gather(*(ledger.enter(ENTRY) for _ in range(200)))
    await asyncio.gather(*(ledger.settle(number, Outcome.TAKEN) for number in numbers))
    await ledger.close()

    assert list(range(1, 201)) == sorted(numbers)
    assert [(number, "taken") for number in range(1, 201)] == _rows(tmp_path, "number, outcome")


async def test_a_run_that_goes_on_goes_on_counting(tmp_path: Path) -> None:
    """
    A flow run that is tried again has the same id.
    """
    await _written(tmp_path, [Outcome.TAKEN, None])
    await _written(tmp_path, [Outcome.REFUSED])

    assert [(1, "taken"), (2, "sent"), (3, "refused")] == _rows(tmp_path, "number, outcome")


_WRITER = """
import asyncio, sys
from pathlib import Path
from flows.narration.ledger import Account, Entry, Ledger, Outcome

async def main(folder, run):
    ledger = Ledger(Path(folder), Account(run=run, host="h", voice="v", model="s2.1-pro"))
    for line in range(100):
        number = await ledger.enter(Entry(script="a.txt", line=line, take="k", attempt=1, size=3, usd=0.000045))
        await ledger.settle(number, Outcome.TAKEN)
    await ledger.close()

asyncio.run(main(*sys.argv[1:]))
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """
    Runs with different stores of the same folder do not exist, but a person may copy a command: nothing is lost.
    """
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), run], cwd=ROOT) for run in ("one", "two")]

    assert [0, 0] == [writer.wait(60) for writer in writers]
    assert [("one", 100), ("two", 100)] == [
        (row["run"], row["taken"]) for row in summed(tmp_path, by=["run"]) if row["bytes_billed"] == 300
    ]


_DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from flows.narration.ledger import Account, Entry, Ledger

async def main(folder):
    ledger = Ledger(Path(folder), Account(run="dead", host="h", voice="v", model="s2.1-pro"))
    await ledger.enter(Entry(script="a.txt", line=1, take="k", attempt=1, size=3, usd=0.000045))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""


def _die(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", _DYING, str(folder)], cwd=ROOT, timeout=60, check=False)


async def test_what_a_dead_process_left_is_there_and_is_settled_by_the_next(tmp_path: Path) -> None:
    """
    Killed between the request and its answer: possibly billed, until it can be told.
    """
    _die(tmp_path)
    (before,) = summed(tmp_path, by=[])

    ledger = Ledger(tmp_path, ACCOUNT)
    left = ledger.unsettled()
    ledger.close_unsettled((entry, Outcome.UNKNOWN) for entry in left)
    again = ledger.unsettled()
    await ledger.close()

    assert (1, 3, 0) == (before["unknown"], before["bytes_unknown"], before["bytes_billed"])
    assert ([Unsettled(run="dead", number=1, take="k")], []) == (left, again)
    assert [("unknown", "the run ended before it was settled")] == _rows(tmp_path, "outcome, reason")


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """
    Have the ledger refuse every insert, as SQLite does on a full disk, which cannot be had without a file system of its own.
    """
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON request BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    yield
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.execute("DROP TRIGGER full")


async def test_what_cannot_be_entered_is_an_error_of_the_system(tmp_path: Path) -> None:
    """
    It says why, names the file, and the ledger works on once there is room.
    """
    ledger = Ledger(tmp_path, ACCOUNT)
    with _full(tmp_path), pytest.raises(OSError, match="disk is full") as refused:
        await ledger.enter(ENTRY)
    number = await ledger.enter(ENTRY)
    await ledger.close()

    assert FILE == refused.value.filename
    assert [(number, "sent")] == _rows(tmp_path, "number, outcome")


async def test_text_that_cannot_be_stored_does_not_end_the_ledger(tmp_path: Path) -> None:
    """
    Half a surrogate pair is text to Python and none to SQLite: an error for who said it, and for nobody else.
    """
    ledger = Ledger(tmp_path, ACCOUNT)
    number = await ledger.enter(ENTRY)
    with pytest.raises(OSError, match="surrogates not allowed"):
        await asyncio.wait_for(ledger.settle(number, Outcome.REFUSED, "said \ud83d"), 20)
    await asyncio.wait_for(ledger.settle(number, Outcome.REFUSED, "said"), 20)
    await ledger.close()

    assert [(number, "refused")] == _rows(tmp_path, "number, outcome")


async def test_sums_tell_billed_from_possibly_billed(tmp_path: Path) -> None:
    """
    Taken and retaken were billed, refused was not, and of the others nobody knows.
    """
    await _written(tmp_path, [*Outcome])

    (sums,) = summed(tmp_path, by=[])

    assert {
        "requests": 5,
        "taken": 1,
        "retaken": 1,
        "refused": 1,
        "unknown": 2,
        "bytes_billed": 20,
        "bytes_unknown": 20,
        "usd": 0.0003,
        "usd_unknown": 0.0003,
    } == sums


async def test_sums_by_each_key_add_up_to_the_same(tmp_path: Path) -> None:
    """
    And between two days, both included.
    """
    for run, voice in (("r1", "v1"), ("r2", "v1"), ("r3", "v2")):
        await _written(tmp_path, [Outcome.TAKEN, Outcome.UNKNOWN], ACCOUNT._replace(run=run, voice=voice))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE request SET sent = '2026-01-01T23:59:59.999+00:00' WHERE run = 'r1'")
        connection.execute("UPDATE request SET sent = '2026-01-02T00:00:00.000+00:00' WHERE run != 'r1'")

    for key in KEYS:
        assert (30, 30) == tuple(
            sum(row[name] for row in summed(tmp_path, by=[key])) for name in ("bytes_billed", "bytes_unknown")
        )
    assert [("v1", 4), ("v2", 2)] == [(row["voice"], row["requests"]) for row in summed(tmp_path, by=["voice"])]
    days = [("2026-01-01", None, 6), (None, "2026-01-01", 2), ("2026-01-02", "2026-01-02", 4), ("2026-01-03", None, 0)]
    for since, until, requests in days:
        assert requests == summed(tmp_path, by=[], since=since, until=until)[0]["requests"]


def test_a_ledger_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """
    A sentence each: none there, a newer schema, something else by that name.
    """
    with pytest.raises(LedgerUnusable, match="There is no ledger at"):
        summed(tmp_path, by=[])
    with closing(connect(tmp_path / FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    for readonly in (True, False):
        with pytest.raises(LedgerUnusable, match=f"has schema {SCHEMA + 1}, and this Narrate knows {SCHEMA}"):
            connect(tmp_path / FILE, readonly=readonly)
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerUnusable, match="cannot be used: file is not a database"):
        connect(tmp_path / FILE)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(LedgerUnusable, match="unable to open"):
        connect(tmp_path / FILE)


def test_a_ledger_that_is_only_being_made_says_that_nothing_was_spent(tmp_path: Path) -> None:
    """
    Whoever made it was killed before it had a table: the next attempt at the run is not refused for that.
    """
    with closing(sqlite3.connect(tmp_path / FILE)) as empty:
        empty.execute("PRAGMA journal_mode = WAL")

    assert (tmp_path / FILE).exists()
    assert Spent() == spent_by(ACCOUNT.run, tmp_path)
