"""
What is read from object storage, as files here: a copy, made what is there before each reading.

Nothing is ever changed in a copy, so that whatever is another here than there is brought anew, also after a reading that was
broken off. What is there and cannot be a file here is told: left out in silence it would be words that nobody hears.
"""

import errno
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from filelock import FileLock

from flows.narration.errors import NarrateError, UsageError, reaching
from flows.narration.files import replacing
from flows.narration.shared import cache_folder
from flows.narration.storage import Place, Stored, folder_above, is_bucket, is_remote, name_within, within
from flows.narration.suffixes import CHAPTERS, WHOLE
from flows.narration.takes import local_folder

AT_ONCE = 8
"""Objects on their way at once."""

LONGEST_NAME = 255
"""Bytes that a file's name may have."""

SHOWN = 5
"""Names that are told at most where many are meant."""

PLAN = "book.toml"
"""The plan of a book that no other lies beside."""

TRANSCRIPT = "reference.txt"
"""What is said in a recording beside it."""

MEMORY, LOCK = ".brought.json", ".brought.lock"
"""Beside a copy: what tag and what looks each of its files had when it was brought, and whose turn it is."""


class _Here(NamedTuple):
    """
    Objects that are files here, and names of empty *folders* and *files* that stand for what nobody reads.
    """

    objects: Mapping[str, Stored]
    folders: Collection[str]
    files: Collection[str]


def brought(uri: str, *, apart: Collection[str] = ()) -> Path:
    """
    Return the path to read for *uri*: itself, or a copy of the file or folder there, brought up to date.

    Of what is hidden, and of what lies at the URIs *apart* in a folder, no more than the names are brought. Raises `UsageError`
    where nothing is there or something cannot be a file here, `StorageAway` where nobody can tell.
    """
    if not is_remote(uri):
        return local_folder(uri)
    target = copy_of(uri)
    with reaching(uri), _turn(target):
        place = Place(uri)
        place.reach()
        if uri.endswith("/") or is_bucket(uri) or (above := Place(folder_above(uri))).look(target.name) is None:
            _bring_folder(place, target, [inside for each in apart if (inside := name_within(each, uri))])
        else:
            _bring_file(above, target)
    return target


def copy_of(uri: str) -> Path:
    """
    Tell where the copy of *uri* is, brought or not, in a folder of the same name as there; the path itself where it is one.
    """
    if not is_remote(uri):
        return local_folder(uri)
    copy = cache_folder(uri, "brought")
    return copy.parent / folder_above(uri).rpartition("/")[2] / copy.name


@contextmanager
def told_of(uri: str, copy: Path | None = None) -> Iterator[None]:
    """
    Have what is refused in the block name what is at *uri* by that, and not by its *copy*, of which nobody knows.
    """
    try:
        yield
    except NarrateError as error:
        if is_remote(uri):
            copy = copy or copy_of(uri)
            error.fact = error.fact.replace(str(copy), uri.rstrip("/")).replace(str(copy.parent), folder_above(uri))
            error.args = (error.fact, error.next_step)
        raise


def bring_beside(uri: str, name: str) -> None:
    """
    Have the file *name*, which the plan of the book at *uri* names, beside the copy of that: a folder has all of it already.
    """
    target = copy_of(uri)
    if is_remote(uri) and not target.is_dir() and _is_file(name, ()):
        with reaching(uri), _turn(target):
            _bring(Place(folder_above(uri)), target.parent, [name])


def books_beside(uri: str) -> list[str]:
    """
    Name the other books in the folder of the book at *uri*, a path or a URI.
    """
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    if is_remote(uri):
        with reaching(uri):
            return _books_beside(Place(folder_above(uri)), name)
    path = local_folder(uri)
    return [other.name for other in path.parent.glob("*") if other.suffix.lower() in WHOLE and other.name != path.name]


def _books_beside(place: Place, name: str) -> list[str]:
    return [other for other in place.top() if other.lower().endswith(WHOLE) and other != name]


def put_beside(uri: str, name: str, text: str) -> str | None:
    """
    Write the file *name* in the folder of scripts at *uri*, or beside the file there; return where, `None` where there is one.
    """
    folder = uri if copy_of(uri).is_dir() else folder_above(uri) if is_remote(uri) else str(local_folder(uri).parent)
    if is_remote(uri):
        with reaching(uri):
            return None if Place(folder).create(name, text.encode()) is None else within(folder, name)
    path = local_folder(folder) / name
    if path.exists():
        return None
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return str(path)


@contextmanager
def _turn(target: Path) -> Iterator[None]:
    """
    Be the only process of this host that changes the copy *target*.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(LOCK)):
            yield
    except NotImplementedError as error:
        raise OSError(errno.ENOTSUP, str(error), str(target)) from error


def _bring_file(place: Place, target: Path) -> None:
    """
    Have a file, and what belongs to it. A plan for one book only is none of those that lie beside each other.
    """
    own = target.with_suffix(".toml").name
    names = dict.fromkeys((target.name, TRANSCRIPT, PLAN, own))
    if target.name.lower().endswith(WHOLE + CHAPTERS) and own != PLAN and _books_beside(place, target.name):
        del names[PLAN]
        target.with_name(PLAN).unlink(missing_ok=True)
    _bring(place, target.parent, names)


def _bring(place: Place, folder: Path, names: Iterable[str]) -> None:
    """
    Have copies of single objects in *folder*, as they are now, or none where there is none.
    """
    known = _remembered(folder / MEMORY)
    for name in names:
        there = place.look(name)
        path = folder / name
        if path.is_dir() and there is not None:
            shutil.rmtree(path)
        elif path.is_file() and there is None:
            path.unlink()
        if there is not None and known.get(name) != [there.tag, *_seen(folder / name)]:
            if not place.fetch(name, folder / name):
                raise UsageError(f"{within(place.uri, name)} cannot be brought under its name.", "Rename it.")
            known[name] = [there.tag, *_seen(folder / name)]
            _remember(folder / MEMORY, known)


def _bring_folder(place: Place, folder: Path, apart: Collection[str]) -> None:
    """
    Make *folder* what is there.
    """
    listed = _without_marks(place.listing())
    if not listed:
        raise UsageError(f"{place.uri} is not there, or nothing is in it.", "Check the URI.")
    _refuse(place, [name for name in listed if not _is_file(name, listed)])
    here, memory = _here(listed, apart), folder.with_name(MEMORY)
    if folder.is_file():
        folder.unlink()
    known = {name: said for name, said in _remembered(memory).items() if name in here.objects}
    _clear(folder, here)
    wanted = [name for name, stored in here.objects.items() if known.get(name) != [stored.tag, *_seen(folder / name)]]
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            fetched = threads.map(lambda name: place.fetch(name, folder / name), wanted)
            for name, is_there in zip(wanted, fetched, strict=True):
                if is_there:
                    known[name] = [here.objects[name].tag, *_seen(folder / name)]
                elif name in place.listing(name):
                    _refuse(place, [name])
    finally:
        _remember(memory, known)


def _without_marks(listed: Mapping[str, Stored]) -> Mapping[str, Stored]:
    """
    Leave out empty objects by which some programs mark a folder.
    """
    folders = {str(above) for name in listed for above in PurePosixPath(name).parents}
    return {name: stored for name, stored in listed.items() if stored.size or name not in folders}


def _is_file(name: str, listed: Collection[str]) -> bool:
    """
    Say whether an object can be a file here: no name may lead out of the folder, nor be that of a folder with others in it.
    """
    parts = name.split("/")
    fits = all(part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) <= LONGEST_NAME for part in parts)
    return fits and not any("/".join(parts[:depth]) in listed for depth in range(1, len(parts)))


def _refuse(place: Place, names: Collection[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:SHOWN]) + (" …" if len(names) > SHOWN else "")
        raise UsageError(
            f"{place.uri} holds what cannot be a file here by its name: {shown}.", "Rename it there, or keep it elsewhere."
        )


def _here(listed: Mapping[str, Stored], apart: Collection[str]) -> _Here:
    """
    Part what is read from what only its name is known of.
    """
    objects: dict[str, Stored] = {}
    folders: set[str] = set(apart)
    files: set[str] = set()
    for name, stored in listed.items():
        parts = name.split("/")
        hidden = next((depth for depth, part in enumerate(parts, 1) if part.startswith(".")), 0)
        if any(name == each or name.startswith(f"{each}/") for each in apart):
            continue
        if not hidden:
            objects[name] = stored
        else:
            (files if hidden == len(parts) else folders).add("/".join(parts[:hidden]))
    return _Here(objects, folders, files)


def _clear(folder: Path, here: _Here) -> None:
    """
    Remove what is not there, and make what stands for the rest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for top, folders, files in os.walk(folder, topdown=False):
        inside = Path(top).relative_to(folder)
        for name in files:
            if (inside / name).as_posix() not in here.objects and (inside / name).as_posix() not in here.files:
                (Path(top) / name).unlink(missing_ok=True)
        for name in folders:
            with suppress(OSError):  # something is in it
                (Path(top) / name).rmdir()
    for name in here.folders:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in here.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _seen(path: Path) -> list[int]:
    try:
        seen = path.stat()
    except OSError:
        return []
    return [seen.st_size, seen.st_mtime_ns]


def _remember(memory: Path, known: Mapping[str, list[object]]) -> None:
    with replacing(memory) as temporary:
        temporary.write_text(json.dumps(known))


def _remembered(memory: Path) -> dict[str, list[object]]:
    try:
        said = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
