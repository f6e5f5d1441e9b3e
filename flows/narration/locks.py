"""
Folders that one run at a time has to itself, rid of what a dead one left there.

A lock is the kernel's: it ends with its process, however that dies. While a folder is held a mark stands in it, so that only
after a run that died the folder is walked for half-written files.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from filelock import AsyncFileLock, Timeout

from flows.narration.errors import UsageError
from flows.narration.files import sweep

RUN_LOCK = ".run.lock"
"""Lock of an output folder: one run at a time writes there."""

TAKES_LOCK = ".lock"
"""Lock of a take store: two runs that record the same at once would both pay for it."""

_UNFINISHED = ".unfinished"


class Waiting:
    """
    Tells *say* that another run is waited for, and knows afterwards whether any was: it has *been*.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.been = False

    def __call__(self, line: str) -> None:
        """
        Wait, and say so in a *line*.
        """
        self.been = True
        self._say(line)


@asynccontextmanager
async def held(folder: Path, lock: str, *, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """
    Hold *folder* by its *lock* while the block runs; *waiting* is called first where another run has it.

    Whoever takes the locks of two folders takes that of the output folder first. Raises `UsageError` where nothing can be
    locked.
    """
    async with locked(folder / lock, waiting=waiting):
        mark = folder / f"{lock}{_UNFINISHED}"
        try:
            if mark.exists():
                sweep(folder, unless=TAKES_LOCK)
            mark.touch()
        except OSError as error:
            raise UsageError(f"{folder} cannot be written to: {error.strerror or error}.", "Choose another folder.") from error
        try:
            yield
        finally:
            with suppress(OSError):
                mark.unlink()


@asynccontextmanager
async def locked(path: Path, *, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """
    Hold the lock file *path* while the block runs; *waiting* is called first where another process, or run, has it.
    """
    lock = AsyncFileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            await lock.acquire(blocking=False)
        except Timeout:
            waiting()
            await lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise UsageError(
            f"{path} cannot be locked: {getattr(error, 'strerror', None) or error}.",
            "Choose a folder on a file system that knows locks.",
        ) from error
    try:
        yield
    finally:
        await lock.release()
