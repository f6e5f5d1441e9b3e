"""
Folders that one run at a time has to itself: whoever else wants them waits, and what a dead one left is removed.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.narration.errors import UsageError
from flows.narration.locks import RUN_LOCK, TAKES_LOCK, held

HOLDER = """
import asyncio, sys
from pathlib import Path
from flows.narration.files import replacing, scratch
from flows.narration.locks import RUN_LOCK, held

async def hold(folder):
    async with held(folder, RUN_LOCK, waiting=lambda: None):
        with replacing(folder / "part-1" / "one.mp3") as half, scratch(folder) as work:
            half.write_bytes(b"half")
            (work / "more").touch()
            print("held", flush=True)
            sys.stdin.read()

asyncio.run(hold(Path(sys.argv[1])))
"""


def _nothing() -> None:
    """
    For runs that need not wait.
    """


async def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    """
    In the same process as well: a served flow runs beside another.
    """
    order: list[str] = []

    async def run(name: str) -> None:
        """
        Hold the folder for a while.
        """
        async with held(tmp_path, RUN_LOCK, waiting=lambda: order.append(f"{name} waits")):
            order.append(f"{name} begins")
            await asyncio.sleep(0.2)
            order.append(f"{name} ends")

    await asyncio.gather(run("a"), run("b"))

    first, second = ("a", "b") if order[0] == "a begins" else ("b", "a")
    assert [f"{first} begins", f"{second} waits", f"{first} ends", f"{second} begins", f"{second} ends"] == order


async def test_a_run_that_waits_can_be_given_up(tmp_path: Path) -> None:
    """
    And the lock is free afterwards.
    """
    waits = asyncio.Event()

    async def wait() -> None:
        """
        Want what another has.
        """
        async with held(tmp_path, RUN_LOCK, waiting=waits.set):
            pytest.fail("it is held")

    async with held(tmp_path, RUN_LOCK, waiting=_nothing):
        waiter = asyncio.create_task(wait())
        await waits.wait()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    async with held(tmp_path, RUN_LOCK, waiting=lambda: pytest.fail("nobody holds it")):
        pass


def _half_written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*.part"))


async def test_a_killed_run_holds_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """
    The next removes what was being written; a take store in the folder is somebody else's to look after.
    """
    store = tmp_path / ".takes"
    store.mkdir()
    (store / TAKES_LOCK).touch()
    theirs = store / f".{32 * 'a'}.part"
    theirs.touch()
    kept = tmp_path / "chapter.part"
    kept.touch()
    with subprocess.Popen(  # noqa: ASYNC220  # it is read from once, and ends when it is killed
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        waits = asyncio.Event()

        async def take() -> list[str]:
            """
            Take over, and list what is left.
            """
            async with held(tmp_path, RUN_LOCK, waiting=waits.set):
                return _half_written(tmp_path)

        taker = asyncio.create_task(take())
        await waits.wait()
        assert 3 == len(_half_written(tmp_path))
        os.kill(holder.pid, signal.SIGKILL)
        left = await taker

    assert [theirs.name] == left
    assert kept.exists()


async def test_a_folder_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    """
    A sentence, and nothing was sent.
    """
    (tmp_path / RUN_LOCK).mkdir()

    with pytest.raises(UsageError, match="cannot be locked"):
        async with held(tmp_path, RUN_LOCK, waiting=_nothing):
            pass
