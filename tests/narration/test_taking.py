"""
One request for a take against a running sandbox: entered before it leaves, kept before it is settled.
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import numpy as np
import pytest

from flows.narration.errors import NarrateError, ServiceUnavailable
from flows.narration.judge import BadTake, Heard
from flows.narration.ledger import FILE, Account, Entry, Ledger, Outcome, connect
from flows.narration.speech import Delivery, InlineReference, Speech, Voice
from flows.narration.takes import Take, TakeStore
from flows.narration.taking import NotSent, Request, Taking
from tests.conftest import KEY, ROOT, Sandbox

REQUEST = Request(key="ab" + "0" * 62, text="One sentence to be spoken.", script="a.txt", line=3, attempt=1)
ACCOUNT = Account(run="r", host="h", voice="v", model="s2.1-pro")
Opener = Callable[..., AbstractAsyncContextManager[Taking]]


async def _at_once() -> bool:
    """
    There is a slot.
    """
    return True


async def _never() -> bool:
    """
    The run was stopped.
    """
    return False


def _rows(folder: Path, columns: str = "outcome") -> list[tuple[object, ...]]:
    with closing(connect(folder / FILE, readonly=True)) as connection:
        return connection.execute(f"SELECT {columns} FROM request ORDER BY number").fetchall()  # noqa: S608


def _written(folder: Path, pattern: str) -> list[Path]:
    return [*folder.rglob(pattern)]


class _Watched(Speech):
    """
    The door to the service, which tells when it is gone through.
    """

    def __init__(self, *, base_url: str, told: Callable[[str], None]) -> None:
        super().__init__(key=KEY, base_url=base_url)
        self._told = told

    async def speak(self, text: str, *, voice: Voice | InlineReference, delivery: Delivery, deadline: float) -> bytes:
        """
        Tell, and speak.
        """
        self._told("request")
        return await super().speak(text, voice=voice, delivery=delivery, deadline=deadline)


@pytest.fixture
def taking(sandbox: Sandbox, tmp_path: Path) -> Opener:
    """
    Open what takes takes, with the reference sent along.
    """
    inline = InlineReference(audio=(ROOT / "data" / "reference.wav").read_bytes(), transcript="x")

    @asynccontextmanager
    async def opened(told: Callable[[str], None] = lambda _: None) -> AsyncIterator[Taking]:
        """
        Open it in *tmp_path*.
        """
        faults: list[NarrateError] = []
        async with (
            _Watched(base_url=sandbox.url, told=told) as speech,
            Taking(
                speech=speech,
                store=TakeStore(tmp_path),
                voice=inline,
                delivery=Delivery(),
                deadline=20,
                account=ACCOUNT,
                on_fault=faults.append,
            ) as taking,
        ):
            yield taking
        assert [] == faults

    return opened


async def test_the_order_of_what_reaches_the_disk(taking: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Entry, request, content of the take, its name, its folder, settlement: a power cut between any two loses no money.
    """
    told: list[str] = []
    fsync, rename, settle = os.fsync, os.replace, Ledger.settle

    def noted_fsync(handle: int) -> None:
        """
        Note which kind of file reaches the disk.
        """
        path = Path(f"/proc/self/fd/{handle}").readlink()
        told.append("fsync of the folder" if path.is_dir() else f"fsync of a {path.suffix} file")
        fsync(handle)

    def noted_replace(source: Path, to: Path) -> None:
        """
        Note which kind of file gets its name.
        """
        told.append(f"rename to a {Path(to).suffix} file")
        rename(source, to)

    def noted_settle(ledger: Ledger, number: int, outcome: Outcome, reason: str | None = None) -> object:
        """
        Note what a request is settled as.
        """
        told.append(f"settled as {outcome}")
        return settle(ledger, number, outcome, reason)

    def noted(what: str) -> None:
        """
        Note what the ledger shows to others at this moment.
        """
        told.append(f"{what}, entered as {_rows(tmp_path)[0][0]}")

    monkeypatch.setattr("os.fsync", noted_fsync)  # what reached a disk shows only after a power cut
    monkeypatch.setattr("os.replace", noted_replace)  # as above
    monkeypatch.setattr("flows.narration.ledger.Ledger.settle", noted_settle)  # as above

    async with taking(noted) as taker:
        take = await taker.keep(REQUEST, await taker.ask(REQUEST, leaving=_at_once))

    assert [
        "request, entered as sent",
        "fsync of a .part file",
        "rename to a .flac file",
        "fsync of the folder",
        "settled as taken",
    ] == told
    assert TakeStore(tmp_path).find(REQUEST.key) == take
    assert [("taken", "a.txt", 3, 26)] == _rows(tmp_path, "outcome, script, line, bytes")


async def test_a_request_that_may_not_leave_is_not_sent_and_not_owed(taking: Opener, sandbox: Sandbox, tmp_path: Path) -> None:
    """
    The run was stopped, or given up, while its entry was written: it is taken out again.
    """
    async with taking() as taker:
        with pytest.raises(NotSent):
            await taker.ask(REQUEST, leaving=_never)
        given_up = asyncio.create_task(taker.ask(REQUEST, leaving=_at_once))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up

    assert [] == sandbox.requests("/v1/tts")
    assert [] == _rows(tmp_path)


async def test_a_bad_take_is_billed_and_set_aside(taking: Opener, sandbox: Sandbox, tmp_path: Path) -> None:
    """
    For a person to look at: where, the error says.
    """
    sandbox.config(faults=[{"kind": "html"}])
    async with taking() as taker:
        wav = await taker.ask(REQUEST, leaving=_at_once)
        with pytest.raises(BadTake, match=r"is kept in \.refused/") as bad:
            await taker.keep(REQUEST, wav)

    place = tmp_path / str(bad.value).split(" is kept in ")[1].split()[0]
    assert wav == place.read_bytes()
    assert [("retaken",)] == _rows(tmp_path)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"kind": "status", "status": 503}, "refused"),
        ({"kind": "status", "status": 429}, "refused"),
        ({"kind": "reset"}, "unknown"),
        ({"kind": "drop"}, "unknown"),
        ({"kind": "truncate"}, "unknown"),
    ],
    ids=str,
)
async def test_no_whole_answer_is_settled_by_what_can_be_known(
    taking: Opener, sandbox: Sandbox, tmp_path: Path, fault: dict[str, object], outcome: str
) -> None:
    """
    A refusal costs nothing; of what broke off nobody knows.
    """
    sandbox.config(faults=[fault])
    async with taking() as taker:
        with pytest.raises(ServiceUnavailable):
            await taker.ask(REQUEST, leaving=_at_once)

    assert [(outcome,)] == _rows(tmp_path)


async def test_what_a_dead_run_left_is_settled_by_what_is_in_the_store(taking: Opener, tmp_path: Path) -> None:
    """
    It died between keeping a take and settling it, or before there was one.
    """
    dead = Ledger(tmp_path, ACCOUNT._replace(run="dead"))
    for key in (REQUEST.key, "cd" * 32):
        await dead.enter(Entry(script="a.txt", line=1, take=key, attempt=1, size=3, usd=0.0))
    await dead.close()
    tone = (8000 * np.sin(np.arange(44_100) / 20)).astype(np.int16)
    kept: Take = TakeStore(tmp_path).keep(REQUEST.key, Heard(samples=tone, sample_rate=44_100))

    async with taking():
        pass

    assert REQUEST.key == kept.key
    assert [("taken",), ("unknown",)] == _rows(tmp_path)


async def test_a_take_that_cannot_be_kept_is_billed_all_the_same(
    taking: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The disk is full: the error goes up, and the ledger knows that it was paid.
    """
    async with taking() as taker:
        wav = await taker.ask(REQUEST, leaving=_at_once)

        def full(*_: object) -> None:
            """
            Be a disk that is full.
            """
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.fsync", full)  # a real full disk would need a file system of its own
            with pytest.raises(OSError, match="No space"):
                await taker.keep(REQUEST, wav)

    assert [("retaken", "not kept (OSError)")] == _rows(tmp_path, "outcome, reason")
    assert not _written(tmp_path, "*.part")


async def test_a_ledger_that_is_locked_is_waited_for(taking: Opener, sandbox: Sandbox, tmp_path: Path) -> None:
    """
    Somebody looks into it with a tool that writes: the request waits, and is not lost.
    """
    async with taking() as taker:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = asyncio.create_task(taker.ask(REQUEST, leaving=_at_once))
            done, _ = await asyncio.wait([asked], timeout=0.2)
            assert (set(), []) == (done, sandbox.requests("/v1/tts"))
            other.execute("COMMIT")
            await taker.keep(REQUEST, await asked)

    assert [("taken",)] == _rows(tmp_path)
