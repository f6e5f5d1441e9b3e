"""
Folders in object storage, worked on as folders here: brought first, and sent whole, object by object, as they are made.

What was brought or sent is remembered beside the copy by the tag of its object and by what the file looks like: only what is
another by now is brought or sent again. `run.json` goes last: who reads it finds there all that it names. Retakes are written
there first, and what is there is right: that of two hosts nobody's is lost.
"""

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from flows.narration.claims import LEASE_SECONDS, Claims, leased, this_process
from flows.narration.errors import StorageAway, UsageError
from flows.narration.files import replacing
from flows.narration.locks import RUN_LOCK, locked
from flows.narration.manifest import BOOK, RUN, SEGMENTS
from flows.narration.retakes import FILE as RETAKES
from flows.narration.shared import STORED, cache_folder
from flows.narration.storage import Place, is_remote
from flows.narration.takes import local_folder
from flows.narration.unchanged import FILE as UNCHANGED

AT_ONCE = 8
"""Objects on their way at once."""

LONGEST_KEY = 1024
"""Bytes that the name of an object may have, from the bucket on."""

VERSION = "?versionId="
"""What s3fs takes for the end of a name."""

COMING, SENDING = "coming", "sending"
"""Marks in the memory: what was under way when the process died. A tag alone stands for what is gone here and not yet there."""

BATCH = 32
"""Files that are marked as being sent, and sent then."""

PAUSE_SECONDS = 5.0
"""How often a folder is sent at most while it is worked on."""

RECORDS = (RUN, RETAKES, BOOK)
"""What a run leaves of itself, in OUT or in a book's folder there."""

VOICE = ".voice"
"""In OUT: references as they were sent, each named after its digest, so that any number of runs may add some."""

OWN = (".takes/", ".run.lock", UNCHANGED)
"""What names begin with that are not of the folder itself: the take store, locks, and what one host remembers."""


class Mirror:
    """
    The folder at *uri*, and the copy of it in *folder*.

    A file that changed there and here is taken from there: whoever wrote it had the folder to itself. *allowed* is asked before
    anything is sent. What is remembered stands beside the copy, or the path *beside*. The mirror *along* is brought and sent
    with this one.
    """

    def __init__(self, uri: str, folder: Path, *, beside: Path | None = None) -> None:
        self.place, self.folder = Place(uri), folder
        beside = beside or folder
        self._memory, self._lock, self._at_work = (
            beside.with_name(f"{beside.name}{suffix}") for suffix in (".json", ".lock", ".at-work.lock")
        )
        self._turn = threading.Lock()
        self._sent = 0.0
        self.along: Mirror | None = None
        self.allowed: Callable[[], bool] = lambda: True

    @asynccontextmanager
    async def to_itself(self, *, say: Callable[[str], None]) -> AsyncIterator[None]:
        """
        Be the only one on all hosts that works on the folder while the block runs; what is there is brought first.

        Raises `UsageError` where that cannot be.
        """

        def waiting() -> None:
            """
            Say so.
            """
            say(f"Another run works in {self.place.uri}; waiting until it is done.")

        async with AsyncExitStack() as held:
            try:
                self.allowed = await held.enter_async_context(leased(self.place, RUN_LOCK, waiting=waiting))
            except OSError as error:
                raise UsageError(
                    f"{self.place.uri} cannot be written to: {error.strerror or error}.", "Check it, and try again."
                ) from error
            await asyncio.to_thread(self.pull)
            await held.enter_async_context(locked(self._at_work, waiting=waiting))
            yield

    def pull(self, *, only: Collection[str] = (), to_look: bool = False) -> None:
        """
        Bring what is another there than here, and remove what is gone there. Raises `StorageAway` where that cannot be.

        With *only* nothing but files of these names is brought, from any folder in it, and nothing is removed. *to_look*: a
        copy that a run works on is left as it is.
        """
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            with self._turn, FileLock(self._lock), self._at_rest() if to_look else nullcontext(True) as at_rest:
                if at_rest:
                    self._pull(only)
        except (OSError, NotImplementedError) as error:
            raise StorageAway(
                f"{self.place.uri} cannot be brought: {getattr(error, 'strerror', None) or error}.", "Check it, and try again."
            ) from error
        if self.along and not (only or to_look):
            self.along.pull()

    @contextmanager
    def _at_rest(self) -> Iterator[bool]:
        """
        Say whether no run of this host works on the copy; if so, none does while the block runs.
        """
        lock = FileLock(self._at_work)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _pull(self, only: Collection[str]) -> None:
        known = self._read()
        there = {name: stored for name, stored in self.place.listing().items() if _is_ours(name)}
        if only:
            there = {name: stored for name, stored in there.items() if PurePosixPath(name).name in only}
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = [name for name, stored in there.items() if self._is_wanted(name, stored.tag, known.get(name))]
        if wanted:
            self._write({**known, **{name: [there[name].tag, 0, 0, COMING] for name in wanted}})
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for name, brought in zip(wanted, threads.map(self._fetch, wanted), strict=True):
                if brought:
                    known[name] = [there[name].tag, *(self._seen(name) or [])]
        for name in set(known) - set(there):
            if only and PurePosixPath(name).name not in only:
                continue
            before = known.pop(name)
            never_sent = before[0] == "" and before[3:] == [SENDING]  # as far as anybody knows
            if before[3:] == [COMING] or (self._seen(name) == before[1:3] and not never_sent):
                (self.folder / name).unlink(missing_ok=True)
        self._write(known)

    def _is_wanted(self, name: str, tag: str, before: list[object] | None) -> bool:
        now = self._seen(name)
        if before is None or before[3:] == [COMING]:
            return True
        if now is None:
            return before != [tag]  # or it was gone here, and that not yet said there
        return before[0] != tag or (PurePosixPath(name).name == RETAKES and now != before[1:])

    def _fetch(self, name: str) -> bool:
        return self.place.fetch(name, self.folder / name)

    def push(self, *, soon: bool = False) -> None:
        """
        Send what is another here than there, and remove there what is gone here; `OSError` where that cannot be.

        With *soon* nothing is done where it was done a moment ago.
        """
        if self.along and self.along.folder.is_dir():
            self.along.push(soon=soon)
        with self._turn:
            if not soon or time.monotonic() - self._sent > PAUSE_SECONDS:
                self._push(last=not soon)
                self._sent = time.monotonic()

    def _push(self, *, last: bool) -> None:
        if not self.folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the copy is gone", str(self.folder))  # no reason to remove all that is there
        self._require_allowed()
        known, here = self._read(), sorted(self._files())
        changed = [name for name in here if known.get(name, [""])[1:] != self._seen(name)]
        gone = set(known) - set(here)
        if gone:
            self._write({**known, **{name: known[name][:1] for name in gone}})
        for name in gone:  # before anything is sent that another run would take for all there is
            self.place.remove(name)
            del known[name]
        for names in _in_order(changed, last=last):
            for first in range(0, len(names), BATCH):
                self._send_batch(names[first : first + BATCH], known)
        if changed or last:
            self._write(known)

    def _send_batch(self, names: Sequence[str], known: dict[str, list[object]]) -> None:
        """
        Send a few files, marked as ours beforehand: who is killed amid that does not take what another makes of them for stale.
        """
        marks = {name: [*known.get(name, [""])[:1], *(self._seen(name) or []), SENDING] for name in names}
        self._write({**known, **marks})
        try:
            with ThreadPoolExecutor(AT_ONCE) as threads:
                for name, sent in {name: threads.submit(self._send, name) for name in names}.items():
                    known[name] = sent.result()
        finally:
            self._write(known)

    def put_if_free(self, name: str) -> bool:
        """
        Send the file *name*, unless another run works on the folder; say whether that was so. `OSError` where that cannot be.
        """
        claims = Claims(self.place, owner=this_process())
        claim = claims.take(RUN_LOCK, seconds=LEASE_SECONDS)
        if claim is None:
            return False
        try:
            with self._turn:
                self._write({**self._read(), name: self._send(name)})
        finally:
            claims.release(claim)
        return True

    def put(self, name: str, text: str) -> None:
        """
        Write a file there, and then here; `OSError` where that cannot be.
        """
        with self._turn:
            self._require_allowed()
            tag = self.place.write(name, text.encode())
            with replacing(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
            self._write({**self._read(), name: [tag, *(self._seen(name) or [])]})

    def refuse(self, names: Iterable[str]) -> None:
        """
        Raise `UsageError` for names that no object there can have.
        """
        for name in names:
            if VERSION in name or len(f"{self.place.key}/{name}".encode()) > LONGEST_KEY:
                why = f"holds {VERSION}" if VERSION in name else f"is longer than {LONGEST_KEY} bytes there"
                raise UsageError(f"{name} cannot be sent to {self.place.uri}: its name {why}.", "Rename its script.")

    def _require_allowed(self) -> None:
        if not self.allowed():
            raise PermissionError(
                errno.EPERM, f"another run works there by now; this one's is in {self.folder}", self.place.uri
            )

    def _send(self, name: str) -> list[object]:
        seen = self._seen(name) or []
        return [self.place.send(self.folder / name, name), *seen]

    def _files(self) -> Iterator[str]:
        for top, _, files in os.walk(self.folder):
            for file in files:
                name = (Path(top) / file).relative_to(self.folder).as_posix()
                if _is_ours(name):
                    yield name

    def _seen(self, name: str) -> list[object] | None:
        try:
            seen = (self.folder / name).stat()
        except OSError:
            return None
        return [seen.st_size, seen.st_mtime_ns]

    def _read(self) -> dict[str, list[object]]:
        try:
            said = json.loads(self._memory.read_bytes())
        except (OSError, ValueError):
            return {}
        return {name: seen for name, seen in said.items() if _is_ours(name)} if isinstance(said, dict) else {}

    def _write(self, known: dict[str, list[object]]) -> None:
        with replacing(self._memory) as temporary:
            temporary.write_text(json.dumps(known))


def _in_order(names: Collection[str], *, last: bool) -> Iterator[Sequence[str]]:
    """
    Part *names* into what is sent in turn: files, the records that prove them, and the *last* of a run its manifest.
    """
    manifests = [name for name in names if PurePosixPath(name).name == RUN]
    proofs = [name for name in names if PurePosixPath(name).name == BOOK or f"/{SEGMENTS}/" in f"/{name}"]
    yield [name for name in names if name not in {*manifests, *proofs}]
    yield proofs
    yield manifests if last else []


def _is_ours(name: str) -> bool:
    """
    Say whether an object is a file of the folder: no name may lead out of it, and nothing half-written counts, nor what is of
    a take store in it.
    """
    parts = name.split("/")
    if name.startswith(OWN) or STORED.search(name) or any(part in ("", ".", "..") or "\0" in part for part in parts):
        return False
    return not any(part.endswith((".part", ".lock", ".unfinished")) and part.startswith(".") for part in parts)


def folder_of(uri: str) -> Path:
    """
    Tell the folder to work in for *uri*: itself, or where its copy is.
    """
    return cache_folder(uri, "folders") if is_remote(uri) else local_folder(uri)


def mirror_of(uri: str) -> Mirror | None:
    """
    Return the mirror of the folder at *uri*, brought unless a run works on the copy; `None` where it is a folder of this
    machine.
    """
    if not is_remote(uri):
        return None
    mirror = Mirror(uri, folder_of(uri))
    mirror.place.reach()
    mirror.pull(to_look=True)
    return mirror


def bring_records(uri: str) -> None:
    """
    Have what runs into the folder at *uri* left of themselves, without the narrations.
    """
    if is_remote(uri):
        mirror = Mirror(uri, folder_of(uri))
        mirror.place.reach()
        mirror.pull(only=RECORDS, to_look=True)
