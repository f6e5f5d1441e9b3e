"""
What may go: takes that no manifest needs, voices that none names. And what is not as it was kept.

Whatever in a file of an output folder looks like the key of a take is taken for one that is needed, also in a file that is
damaged or of another schema: to keep too much costs a little disk, to remove too much is paid for again.
"""

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.narration.errors import ScriptsFailed, UsageError
from flows.narration.manifest import BOOK, RUN
from flows.narration.shared import SharedTakeStore
from flows.narration.speech import Voice
from flows.narration.storage import Place, is_remote, several
from flows.narration.takes import TIMED, Kept, TakeStore, local_folder
from flows.narration.voice import TAG

AT_ONCE = 8
"""Takes, or records, read at once: a take of 270 s is 10 MB."""

UNDER_ONE_LOOK = 256
"""Takes that are removed, at most, before it is asked again whether the store is still had to oneself."""

_KEY = re.compile(rf"(?<![0-9a-f])[0-9a-f]{{64}}(?:{TIMED})?(?![0-9a-f])".encode())


def records(outs: Iterable[str | Path], *, but: TakeStore | None = None) -> Iterator[bytes]:
    """
    Read all that is written down in the output folders *outs*, paths or URIs, the store *but* excepted.

    Raises `UsageError` for a folder without any manifest: it is hardly the one that was meant, and nothing would be needed.
    """
    for out in map(str, outs):
        manifests = 0
        for name, content in _records_there(out, but) if is_remote(out) else _records_here(local_folder(out), but):
            manifests += name in (RUN, BOOK)
            yield content
        if not manifests:
            raise UsageError(
                f"{out} holds neither {RUN} nor {BOOK}, so nothing in the store would be needed.",
                "Name the output folders that were narrated with it, all of them.",
            )


def _records_here(out: Path, but: TakeStore | None) -> Iterator[tuple[str, bytes]]:
    store = but.folder.resolve() if but else None
    for top, folders, files in os.walk(out, onerror=_refuse):
        here = Path(top)
        folders[:] = [name for name in folders if (here / name).resolve() != store]
        for name in files:
            if name.endswith(".json"):
                try:
                    content = (here / name).read_bytes()
                except OSError as error:
                    _refuse(error)
                    raise
                yield name, content


def _records_there(out: str, but: TakeStore | None) -> Iterator[tuple[str, bytes]]:
    """
    Read what is written down in object storage: the takes of a store at its top are not even listed.
    """
    place = Place(out)
    place.reach()
    above = f"{place.uri}/"
    store = f"{but.where}/".removeprefix(above) if but and but.where.startswith(above) else None

    def names() -> Iterator[str]:
        """
        Name what is read.
        """
        for top in place.top():
            if top != store:
                below: Iterable[str] = place.listing(top) if top.endswith("/") else [top]
                yield from (name for name in below if name.endswith(".json") and not (store and name.startswith(store)))

    def read(name: str) -> tuple[str, bytes]:
        """
        Read one.
        """
        content = place.read(name)
        if content is None:
            raise FileNotFoundError(errno.ENOENT, "it was removed a moment ago", f"{above}{name}")
        return name.rpartition("/")[2], content

    try:
        yield from several(read, names(), at_once=AT_ONCE)
    except OSError as error:
        _refuse(error, where=out)


def _refuse(error: OSError, *, where: str = "") -> None:
    """
    What cannot be read may name takes and voices that are needed.
    """
    raise UsageError(
        f"{error.filename or where} cannot be read: {error.strerror or error}.",
        "Without it, it is not known what is needed.",
    ) from error


def needed(outs: Iterable[str | Path], *, store: TakeStore) -> set[str]:
    """
    Keys of all takes that the output folders *outs* need.
    """
    return {key.decode() for content in records(outs, but=store) for key in _KEY.findall(content)}


def superfluous(
    takes: Sequence[Kept], need: set[str], *, older_than: float | None, keep_bytes: int | None, now: float | None = None
) -> list[Kept]:
    """
    Choose the *takes* that may go, the oldest first: none that is in *need*; those recorded more than *older_than* seconds ago,
    and as many more as it takes for all that is left to have no more than *keep_bytes*.
    """
    now = time.time() if now is None else now
    left = sum(take.size for take in takes)
    going = []
    for take in sorted(takes, key=lambda take: take.recorded):
        old = older_than is not None and now - take.recorded > older_than
        many = keep_bytes is not None and left > keep_bytes
        if take.key not in need and (old or many):
            going.append(take)
            left -= take.size
    return going


def verified(store: TakeStore) -> Iterator[tuple[str, str | None]]:
    """
    Read every take, and say of each what is wrong with it: it does not decode, is not what was kept, or lacks its words.
    """
    yield from several(lambda take: (take.key, store.fault(take.key)), store.kept(), at_once=AT_ONCE)


def remove(going: Sequence[Kept], *, store: TakeStore, held: Callable[[], bool]) -> None:
    """
    Remove takes as long as *held* says that the store is had to oneself; `ScriptsFailed` where it is no more.
    """
    for begin in range(0, len(going), UNDER_ONE_LOOK):
        if not held():
            raise ScriptsFailed(
                f"{store.where} was out of reach for so long that runs went on: {begin} of {len(going)} takes were removed.",
                "Run it again.",
            )
        store.remove(take.key for take in going[begin : begin + UNDER_ONE_LOOK])


def remove_copies(store: SharedTakeStore, *, older_than: float | None, keep_bytes: int | None) -> list[Kept]:
    """
    Remove copies of takes in this host's cache by the same measure, and return them: they are brought again when needed.
    """
    going = superfluous([*store.copies()], set(), older_than=older_than, keep_bytes=keep_bytes)
    for copy in going:
        store.remove_copy(copy.key)
    return going


def orphans(voices: Sequence[Voice], outs: Iterable[str | Path], *, older_than: float, now: float | None = None) -> list[Voice]:
    """
    Choose the *voices* of ours that no file in *outs* names, made more than *older_than* seconds ago.

    A younger one may be of a run that is under way and has written nothing yet.
    """
    ours = {voice.id: voice for voice in voices if TAG in voice.tags}
    if not ours:
        return []
    ids = re.compile(b"|".join(re.escape(voice.encode()) for voice in ours))
    named = {found.decode() for content in records(outs) for found in ids.findall(content)}
    limit = (time.time() if now is None else now) - older_than
    return [voice for voice in ours.values() if voice.id not in named and _made(voice) < limit]


def _made(voice: Voice) -> float:
    """
    Tell when a voice was made; one that says nothing sound counts as made just now.
    """
    try:
        told = datetime.fromisoformat(voice.created_at)
    except ValueError:
        return time.time()
    return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
