"""
Write files so that a reader, a crash or a power cut never meets half of one; meet names of any kind with a sentence.
"""

import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from flows.narration.errors import UsageError


def legible(text: str) -> str:
    """
    Write what no line can hold (control characters, bytes that are not UTF-8) as escapes: a name may be made to forge a line.
    """
    strange = ("Cc", "Cs", "Zl", "Zp")
    return "".join(ascii(letter)[1:-1] if unicodedata.category(letter) in strange else letter for letter in text)


def status(path: Path) -> os.stat_result | None:
    """
    Return what is known of the file at *path*, `None` where there is none; `UsageError` where it cannot even be looked for.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{_short(path)} cannot be reached: {why}.", "Check the path.") from error


def _short(path: Path) -> str:
    """
    Name a path by its beginning and its end, as far as a person reads it.
    """
    name = legible(str(path))
    return name if len(name) <= 200 else f"{name[:140]}…{name[-59:]}"


def require_writable(folder: Path) -> None:
    """
    Make *folder* and try to write in it; `UsageError` where that is not to be, before anything is paid for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # or a null byte in its name
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{legible(str(folder))} cannot be written to: {said}.", "Choose another folder.") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    Yield a temporary path beside *path*; when the block ends well, what was written there takes its place.

    Order: the content reaches the disk, then the name, then the folder. When the block raises, nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.part")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """
    Yield a folder for work in *folder*, gone after the block.
    """
    temporary = folder / f".{uuid4().hex}.part"
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


_PART = re.compile(r"\.[0-9a-f]{32}\.part")


def sweep(folder: Path, *, unless: str) -> None:
    """
    Remove below *folder* what was being written when its process died; not in folders that hold a file named *unless*.
    """
    for top, folders, files in os.walk(folder):
        here = Path(top)
        for name in filter(_PART.fullmatch, files):
            (here / name).unlink(missing_ok=True)
        for name in filter(_PART.fullmatch, folders):
            shutil.rmtree(here / name, ignore_errors=True)
        folders[:] = [name for name in folders if not _PART.fullmatch(name) and not (here / name / unless).exists()]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """
    SHA-256 (hex) of a file's bytes.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
