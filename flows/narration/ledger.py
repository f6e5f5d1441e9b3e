"""
What each request cost: entered before it is sent, settled after.

The ledger is a SQLite database beside the take store: it survives crashes, takes concurrent writers, and any tool reads it.
An entry reaches the disk before its request may leave; entries that come together share one commit. Whatever was sent and
never settled (the machine died) counts as unknown, and so as possibly billed.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from flows.narration.cost import Spent
from flows.narration.errors import LedgerUnusable

FILE = "ledger.sqlite"
"""Name of the ledger in a take store's folder."""

SCHEMA = 1
"""The database's `user_version`."""

LEFT = "the run ended before it was settled"
"""Why a request was settled by another than the run that sent it."""

BUSY_SECONDS = 30.0
"""How long another process's commit is waited for."""

_TABLE = """
CREATE TABLE IF NOT EXISTS request (
    run TEXT NOT NULL, number INTEGER NOT NULL, sent TEXT NOT NULL, settled TEXT,
    host TEXT NOT NULL, voice TEXT NOT NULL, model TEXT NOT NULL, script TEXT NOT NULL, line INTEGER NOT NULL,
    take TEXT NOT NULL, attempt INTEGER NOT NULL, bytes INTEGER NOT NULL, usd REAL NOT NULL,
    outcome TEXT NOT NULL, reason TEXT,
    PRIMARY KEY (run, number)
) WITHOUT ROWID
"""
_ENTER = "INSERT INTO request VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'sent', NULL)"
_SAID = ("run", "number", "sent", "host", "voice", "model", "script", "line", "take", "attempt", "bytes", "usd")
_INHERIT = (
    f"INSERT OR IGNORE INTO request ({', '.join(_SAID)}, settled, outcome, reason) "  # noqa: S608  # none of it is a user's
    f"VALUES ({', '.join('?' * (len(_SAID) + 3))})"
)
_WITHDRAW = "DELETE FROM request WHERE run = ? AND number = ?"
_SETTLE = "UPDATE request SET settled = ?, outcome = ?, reason = ? WHERE run = ? AND number = ?"


class Outcome(StrEnum):
    """
    What became of a request.

    `sent`: not known yet. `taken`: a sound take, billed. `retaken`: an answer that is no sound take, billed. `refused`: the
    service said no before it worked, not billed. `unknown`: no whole answer, possibly billed.
    """

    SENT = "sent"
    TAKEN = "taken"
    RETAKEN = "retaken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


BILLED = (Outcome.TAKEN, Outcome.RETAKEN)
POSSIBLY_BILLED = (Outcome.SENT, Outcome.UNKNOWN)


@dataclass(frozen=True)
class Entry:
    """
    A request for the *attempt*th take (1 is the first) of a segment: *size* in UTF-8 bytes, *usd* what that costs.
    """

    script: str
    line: int
    take: str
    attempt: int
    size: int
    usd: float


class Account(NamedTuple):
    """
    Whom entries of a run belong to.
    """

    run: str
    host: str
    voice: str
    model: str


class Unsettled(NamedTuple):
    """
    An entry of which nothing more is known than that it was about to be sent.
    """

    run: str
    number: int
    take: str


class _Statement(NamedTuple):
    sql: str
    values: Sequence[Any]
    done: "asyncio.Future[None]"


class Ledger:
    """
    The ledger in *folder*, written for *account* by one thread, for one event loop.

    Raises `LedgerUnusable` when opened, and `OSError` for what cannot be written later (a full disk).
    """

    def __init__(self, folder: Path, account: Account) -> None:
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._path = folder / FILE
        self._connection = connect(self._path)
        said = self._connection.execute("SELECT coalesce(max(number), 0) FROM request WHERE run = ?", (account.run,))
        self._last = int(said.fetchone()[0])
        self._statements: queue.SimpleQueue[_Statement | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    async def close(self) -> None:
        """
        Write what was said so far, and end.
        """
        self._statements.put(None)
        await self._loop.run_in_executor(None, self._writer.join)
        self._connection.close()

    def count_from(self, number: int) -> None:
        """
        Let the requests to come have higher numbers than *number*.
        """
        self._last = max(self._last, number)

    def number(self) -> int:
        """
        Return the number of the next request.
        """
        self._last += 1
        return self._last

    async def enter(self, entry: Entry, *, number: int | None = None) -> int:
        """
        Write down a request about to be sent; when this returns it is on the disk. Return its number.
        """
        number = self.number() if number is None else number
        run, host, voice, model = self._account
        values = (run, number, _now(), host, voice, model, *_values(entry))
        try:
            await self._put(_ENTER, values)
        except asyncio.CancelledError:
            self.withdraw(number)
            raise
        return number

    def withdraw(self, number: int) -> "asyncio.Future[None]":
        """
        Take out a request that never left.
        """
        return self._put(_WITHDRAW, (self._account.run, number))

    def settle(self, number: int, outcome: Outcome, reason: str | None = None) -> "asyncio.Future[None]":
        """
        Write down what became of a request; the future tells when it is on the disk, or what kept it from it.
        """
        return self._put(_SETTLE, (_now(), outcome.value, reason, self._account.run, number))

    def inherit(self, said: Mapping[str, Any], outcome: Outcome) -> "asyncio.Future[None]":
        """
        Write down what became of another run's request, of which it *said* all that it entered.
        """
        return self._put(_INHERIT, (*(said.get(name) for name in _SAID), _now(), outcome.value, LEFT))

    def said(self, number: int, entry: Entry) -> dict[str, Any]:
        """
        Tell all that is entered for the request *number*, for `inherit`.
        """
        run, host, voice, model = self._account
        return dict(zip(_SAID, (run, number, _now(), host, voice, model, *_values(entry)), strict=True))

    def _put(self, sql: str, values: Sequence[Any]) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = self._loop.create_future()
        self._statements.put(_Statement(sql, values, done))
        return done

    def _write(self) -> None:
        """
        Commit whatever has come, together, until told to end.
        """
        ended = False
        while not ended:
            batch = [self._statements.get()]
            with suppress(queue.Empty):
                while True:
                    batch.append(self._statements.get_nowait())
            ended = None in batch
            statements = [statement for statement in batch if statement is not None]
            fault: OSError | None = None
            try:
                with self._connection:
                    for sql, values, _ in statements:
                        self._connection.execute(sql, values)
            except (sqlite3.Error, ValueError) as error:
                # ValueError: text that cannot be stored. Without this thread, everybody would wait for ever.
                fault = OSError(None, f"the ledger says: {error}", FILE)
            with suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_tell, [statement.done for statement in statements], fault)

    def unsettled(self) -> list[Unsettled]:
        """
        List what was left unsettled, before anything of this run is entered (an earlier attempt at it may have died as well).

        Only for a run that has the take store to itself: others are settling theirs.
        """
        rows = self._connection.execute("SELECT run, number, take FROM request WHERE outcome = 'sent'")
        return [Unsettled(*row) for row in rows]

    def close_unsettled(self, outcomes: Iterable[tuple[Unsettled, Outcome]]) -> None:
        """
        Settle what earlier runs left, as far as it can be told now.
        """
        rows = [(_now(), outcome.value, LEFT, entry.run, entry.number) for entry, outcome in outcomes]
        try:
            with self._connection:
                self._connection.executemany(_SETTLE, rows)
        except sqlite3.Error as error:
            raise LedgerUnusable.by(str(self._path), str(error)) from error


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """
    Open the ledger at *path*, made where there is none; `LedgerUnusable` tells what is wrong with one that is there.
    """
    try:
        target = f"{path.absolute().as_uri()}?mode=ro" if readonly else str(path)
        connection = sqlite3.connect(target, timeout=BUSY_SECONDS, check_same_thread=False, uri=readonly)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            connection.close()
            raise LedgerUnusable.newer(str(path), version=version, ours=SCHEMA)
        if not readonly:
            # One fsync for each commit, which a power cut cannot undo; readers and writers do not wait for each other.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
    except sqlite3.Error as error:
        raise LedgerUnusable.by(str(path), str(error)) from error
    return connection


def settle_left(path: Path, became: Callable[[str], Outcome]) -> None:
    """
    Settle what a run that died left unsettled in the ledger at *path*, by what *became* of each take.
    """
    try:
        with closing(connect(path)) as connection, connection:
            left = connection.execute("SELECT run, number, take FROM request WHERE outcome = 'sent'").fetchall()
            rows = [(_now(), became(take).value, LEFT, run, number) for run, number, take in left]
            connection.executemany(_SETTLE, rows)
    except sqlite3.Error as error:
        raise LedgerUnusable.by(str(path), str(error)) from error


_RANKS = (
    "settled IS NULL",
    f"settled IS NOT NULL AND run = ? AND reason IS '{LEFT}'",
    "settled IS NOT NULL AND run != ?",
    f"settled IS NOT NULL AND run = ? AND reason IS NOT '{LEFT}'",
)


def merge(files: Iterable[Path], folder: Path) -> None:
    """
    Make the ledger in *folder* of those in *files*, each written by one run: what a run says of its own counts for more than
    what another settled for it as it took over, that more than what was found after its death (the take may be there because it
    was paid for again), and that more than a request left unsettled.
    """
    files = [*files]
    with closing(connect(folder / FILE)) as target, target:
        for rank in _RANKS:
            for path in files:
                try:
                    with closing(connect(path, readonly=True)) as source:
                        own = source.execute("SELECT run FROM request WHERE instr(?, '-' || run || '-') LIMIT 1", (path.stem,))
                        found = own.fetchone()
                        run = [found[0] if found else ""] * rank.count("?")
                        rows = source.execute(f"SELECT * FROM request WHERE {rank}", run)  # noqa: S608  # one of the four
                        target.executemany(f"INSERT OR REPLACE INTO request VALUES ({', '.join('?' * 15)})", rows)  # noqa: S608
                except sqlite3.Error as error:
                    raise LedgerUnusable.by(str(path), str(error)) from error


def _tell(waiting: Iterable["asyncio.Future[None]"], fault: OSError | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if fault is None:
            done.set_result(None)
        else:
            done.set_exception(fault)


def _values(entry: Entry) -> tuple[str, int, str, int, int, float]:
    return entry.script, entry.line, entry.take, entry.attempt, entry.size, entry.usd


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


KEYS = {"day": "substr(sent, 1, 10)", "voice": "voice", "script": "script", "model": "model", "run": "run", "host": "host"}
"""What sums can be told by, as SQL; a day is one of UTC."""

_BILLED = ", ".join(f"'{outcome}'" for outcome in BILLED)
_UNKNOWN = ", ".join(f"'{outcome}'" for outcome in POSSIBLY_BILLED)
_SUMS = {
    "requests": "count(*)",
    "taken": "sum(outcome = 'taken')",
    "retaken": "sum(outcome = 'retaken')",
    "refused": "sum(outcome = 'refused')",
    "unknown": f"sum(outcome IN ({_UNKNOWN}))",
    "bytes_billed": f"sum(iif(outcome IN ({_BILLED}), bytes, 0))",
    "bytes_unknown": f"sum(iif(outcome IN ({_UNKNOWN}), bytes, 0))",
    "usd": f"round(sum(iif(outcome IN ({_BILLED}), usd, 0.0)), 6)",
    "usd_unknown": f"round(sum(iif(outcome IN ({_UNKNOWN}), usd, 0.0)), 6)",
}


def last_runs(folder: Path, *, most: int) -> list[tuple[str, str, float]]:
    """
    List the newest *most* runs that sent anything, the oldest first: flow run id, when (UTC, ISO 8601), and USD paid.
    """
    path = folder / FILE
    if not path.is_file():
        raise LedgerUnusable.missing(str(path))
    query = f"SELECT run, min(sent) AS began, {_SUMS['usd']} FROM request GROUP BY run ORDER BY began DESC LIMIT ?"  # noqa: S608  # none of it is a user's
    with closing(connect(path, readonly=True)) as connection:
        try:
            return connection.execute(query, (most,)).fetchall()[::-1]
        except sqlite3.Error as error:
            raise LedgerUnusable.by(str(path), str(error)) from error


def spent_by(run: str, folder: Path) -> Spent:
    """
    Sum what a run was billed, by the ledger in *folder*; nothing where that says nothing of it.
    """
    if not (folder / FILE).is_file():
        return Spent()
    sums = f"SELECT {_SUMS['usd']}, {_SUMS['usd_unknown']} FROM request WHERE run = ?"  # noqa: S608  # none of it is a user's
    with closing(connect(folder / FILE, readonly=True)) as connection:
        try:
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return Spent()  # it is being made, or who made it was killed at once
            usd, unknown = connection.execute(sums, (run,)).fetchone()
        except sqlite3.Error as error:
            raise LedgerUnusable.by(str(folder / FILE), str(error)) from error
    return Spent(usd or 0.0, (usd or 0.0) + (unknown or 0.0))


def summed(folder: Path, *, by: Sequence[str], since: str | None = None, until: str | None = None) -> list[dict[str, Any]]:
    """
    Sum the ledger in *folder* by some of `KEYS`, between two days (UTC, ISO 8601, both included); money in USD.
    """
    path = folder / FILE
    if not path.is_file():
        raise LedgerUnusable.missing(str(path))
    keys = [f"{KEYS[key]} AS {key}" for key in by]
    columns = [*keys, *(f"{sql} AS {name}" for name, sql in _SUMS.items())]
    places = ", ".join(str(place + 1) for place in range(len(keys)))
    grouped = f"GROUP BY {places} ORDER BY {places}" if keys else ""
    days = f"{KEYS['day']} BETWEEN ? AND ?"
    with closing(connect(path, readonly=True)) as connection:
        try:
            rows = connection.execute(
                f"SELECT {', '.join(columns)} FROM request WHERE {days} {grouped}",  # noqa: S608  # none of it is a user's
                (since or "0000", until or "9999"),
            ).fetchall()
        except sqlite3.Error as error:
            raise LedgerUnusable.by(str(path), str(error)) from error
    names = [*by, *_SUMS]
    return [{name: value or 0 if name in _SUMS else value for name, value in zip(names, row, strict=True)} for row in rows]
