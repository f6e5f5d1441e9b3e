"""
A zip file as a book's folder: read entry by entry, with bounds, and never written to disk.
"""

import posixpath
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from flows.narration.errors import UsageError
from flows.narration.files import legible

MOST_ENTRIES = 50_000
LARGEST_ENTRY = 64_000_000
"""Bytes that an entry may have once it is unpacked: ten times the largest novel in one file."""

LARGEST_TOTAL = 500_000_000
"""Bytes that may be unpacked of a book in all."""

HIGHEST_RATIO = 200
"""Times that an entry of more than a megabyte may be larger than it is packed: prose shrinks to a third, markup to a tenth."""

_REDO = "It looks made to fill a memory; get the book from its source again."


class Archive:
    """
    The entries of the zip file at *path*; what is odd but harmless goes to *warnings*.
    """

    def __init__(self, path: Path, warnings: list[str]) -> None:
        self.path = path
        self.warnings = warnings
        self.unpacked = 0
        try:
            self.zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise UsageError(
                f"{path} is no zip file, or a broken one: {error}.", "Get the book from its source again."
            ) from error
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check the file and its rights.") from error
        except (ValueError, NotImplementedError) as error:
            raise UsageError(f"{path} is a zip file that cannot be read: {error}.", "Get the book anew.") from error
        infos = self.zip.infolist()
        if len(infos) > MOST_ENTRIES:
            raise UsageError(f"{path} has {len(infos):,} entries, more than {MOST_ENTRIES:,}.", _REDO)
        self.infos: dict[str, zipfile.ZipInfo] = {}
        twice: set[str] = set()
        for info in infos:
            name = _name(info)
            twice |= {name} & self.infos.keys()
            self.infos[name] = info
        self.folded = {name.casefold(): name for name in self.infos}
        warnings += [f"{legible(name)} is in the book twice; the last one was read." for name in sorted(twice)]
        self.first = infos[0].filename if infos else ""

    def close(self) -> None:
        """
        Close the file.
        """
        self.zip.close()

    def find(self, name: str) -> str | None:
        """
        Return the entry called *name*, also where only its case differs.
        """
        return name if name in self.infos else self.folded.get(name.casefold())

    def read(self, name: str) -> bytes:
        """
        Unpack the entry called *name*; `KeyError` where there is none.
        """
        info = self.infos[name]
        where = f"{legible(name)} in {self.path}"
        if info.flag_bits & 1:
            raise UsageError(f"{where} is encrypted.", "Narrate reads books without a lock only.")
        limit = min(LARGEST_ENTRY, LARGEST_TOTAL - self.unpacked)
        packed = max(info.compress_size, 1)
        if info.file_size > limit or (info.file_size > 1_000_000 and info.file_size / packed > HIGHEST_RATIO):
            raise UsageError(f"{where} unpacks to {info.file_size:,} bytes from {info.compress_size:,}.", _REDO)
        try:
            with self.zip.open(info) as entry:
                data = entry.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise BrokenEntry(f"{where} cannot be unpacked: {error}.", "Get the book from its source again.") from error
        if len(data) > limit:
            raise UsageError(f"{where} unpacks to more than {limit:,} bytes.", _REDO)
        self.unpacked += len(data)
        return data

    @property
    def comment(self) -> str:
        """
        What is said of the file at its end.
        """
        return self.zip.comment.decode("utf-8", "replace")


class Packing:
    """
    A book's zip file in the making at *path*: its mimetype comes first, and is not packed. To be used in a `with` block.
    """

    def __init__(self, path: Path, *, mimetype: str, comment: str) -> None:
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.zip.comment = comment.encode()
        self.zip.writestr(_dated("mimetype"), mimetype, zipfile.ZIP_STORED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def add(self, name: str, data: bytes) -> None:
        """
        Add an entry.
        """
        self.zip.writestr(_dated(name), data, zipfile.ZIP_DEFLATED)

    def add_file(self, name: str, path: Path) -> None:
        """
        Add a file that would not get smaller, never holding all of it.
        """
        info = _dated(name)
        info.file_size = path.stat().st_size
        with path.open("rb") as file, self.zip.open(info, "w") as entry:
            shutil.copyfileobj(file, entry, 1_000_000)


def _dated(name: str) -> zipfile.ZipInfo:
    """
    Return an entry without a date of its own, so that the same book becomes the same file.
    """
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info


def _name(info: zipfile.ZipInfo) -> str:
    """
    Return an entry's name; one in UTF-8 that does not say so is read as what it is.
    """
    name = info.filename
    if not name.isascii() and not info.flag_bits & 0x800:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return name.replace("\\", "/")


class BrokenEntry(UsageError):
    """
    One entry of a book cannot be unpacked.
    """


def resolve(base: str, href: str) -> tuple[str, str]:
    """
    Return the entry and the fragment that *href* in the document *base* leads to: "" for one outside of the book.

    A path that is absolute or climbs out of the book is taken to begin at the book's root.
    """
    try:
        parts = urlsplit(href.strip().replace("\\", "/"))
    except ValueError:
        return "", ""
    if parts.scheme or parts.netloc:
        return "", ""
    fragment = unquote(parts.fragment)
    if not parts.path:
        return base, fragment
    path = unquote(parts.path)
    whole = path.lstrip("/") if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    steps: list[str] = []
    for step in whole.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in ("", "."):
            steps.append(step)
    return "/".join(steps), fragment
