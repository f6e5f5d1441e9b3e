"""
The take store in object storage, shared by any number of hosts, with a copy of what this host has met in its cache folder.

A take is written there whole, its words before it, and is read from the copy, which checks it. What is there is told by one
listing for a run, in parts at once (17 requests; one for each thousand takes of a large store), not by a look for each segment.
"""

import asyncio
import io
import platform
import re
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
import platformdirs

from flows.narration import ledger
from flows.narration.alignment import Word
from flows.narration.claims import Claims, Owner, this_process
from flows.narration.cost import Spent
from flows.narration.judge import Heard
from flows.narration.ledger import Account, Outcome
from flows.narration.storage import Place, is_remote, several
from flows.narration.takes import Kept, Take, TakeDamaged, TakeStore, fault_in, is_timed, local_folder, words_in

CONDITIONS = "claims/.conditions"
"""Object that conditional writes are tried on."""

LEDGERS = "ledger"
"""Folder of the ledgers of all runs, a file each."""

OWNER = "owner"
"""File beside a ledger that names the process which writes it."""

UNSENT = ".unsent"
"""Folder in the cache for marks of takes that the storage may not have yet."""

AT_ONCE = 16
"""Requests to the storage at once, for what is listed or brought."""

MANY = 100
"""Objects in a 256th of the store, above which it is listed in 256 parts: so many of them fit into memory at once."""

WRITING_SECONDS = 3600.0
"""How long a take may take from its mark to the disk."""

_DIGITS = "0123456789abcdef"
STORED = re.compile(
    r"(?:^|/)(?:[0-9a-f]{2}/[0-9a-f]{64}(?:-words)?\.(?:flac|json)|claims/(?:[0-9a-f]{64}|\..+)|ledger/[^/]+\.sqlite)$"
)
"""What an object of a take store is called, wherever that is."""

_TAKE = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64}(?:-words)?)\.flac")


def cache_folder(uri: str, kind: str) -> Path:
    """
    Tell where this host keeps its copy of what is at *uri*: in a folder of the same name, which may be that of an album.
    """
    whole = uri.rstrip("/")
    return platformdirs.user_cache_path("narrate") / kind / sha256(whole.encode()).hexdigest()[:16] / whole.rsplit("/", 1)[-1]


def open_store(uri: str) -> TakeStore:
    """
    Open the take store at *uri*: a folder, or a place in object storage; `StorageAway` where that cannot be reached.
    """
    if not is_remote(uri):
        return TakeStore(local_folder(uri))
    place = Place(uri)
    place.reach()
    return SharedTakeStore(place, cache_folder(uri, "takes"))


class SharedTakeStore(TakeStore):
    """
    Takes in *place*, and copies of some in the local *folder*. Each run has a ledger file of its own, written there first.
    """

    def __init__(self, place: Place, folder: Path, *, owner: Owner | None = None) -> None:
        super().__init__(folder)
        self.place = place
        self.claims = Claims(place, owner=owner or this_process())
        self._listed: np.ndarray | None = None

    @property
    def where(self) -> str:
        """
        Where it is, as a person calls it.
        """
        return self.place.uri

    @property
    def is_there(self) -> bool:
        """
        Say whether there is anything at all.
        """
        return next(self.place.top(), None) is not None

    def look(self) -> None:
        """
        List what is there now.
        """
        self._listed = np.sort(np.concatenate([*several(self._part, self._parts(), at_once=AT_ONCE)]))

    def _parts(self) -> Sequence[str]:
        """
        Tell by what names begin with: 16 parts, or 256 where there is so much that as many requests are needed anyway.
        """
        many = len(self.place.listing("00")) > MANY
        return [a + b for a in _DIGITS for b in _DIGITS] if many else [*_DIGITS]

    def _part(self, prefix: str) -> np.ndarray:
        keys = filter(None, map(_TAKE.fullmatch, self.place.listing(prefix)))
        return np.array([_short(found[1]) for found in keys], dtype=np.uint64)

    def covers(self, key: str) -> bool:
        """
        Say whether the take is here or there, without bringing it.
        """
        return self.find(key) is not None or self._is_listed(key)

    def holds(self, key: str) -> bool:
        """
        Say, without opening it, whether there is a take by that name.
        """
        return super().holds(key) or self._is_listed(key)

    def _is_listed(self, key: str) -> bool:
        if self._listed is None:
            self.look()
        listed = self._listed
        if listed is None or not len(listed):
            return False
        place = int(np.searchsorted(listed, _short(key)))
        return place < len(listed) and int(listed[place]) == int(_short(key))

    async def bring(self, keys: Iterable[str]) -> None:
        """
        Have copies of those of *keys* that are there.
        """
        wanted = [key for key in dict.fromkeys(keys) if self.find(key) is None and self._is_listed(key)]
        if wanted:
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bring") as threads:
                await asyncio.gather(*(loop.run_in_executor(threads, self.bring_one, key) for key in wanted))

    def bring_one(self, key: str) -> Take | None:
        """
        Have a copy of the take *key*, listed or not; `None` where it is not there.
        """
        there = not is_timed(key) or self.place.fetch(_words_name(key), self._path(key).with_suffix(".json"))
        return self.find(key) if there and self.place.fetch(_name(key), self._path(key)) else None

    def keep(self, key: str, heard: Heard, *, words: Sequence[Word] | None = None) -> Take:
        """
        Store what was heard, here and then there. If it cannot be sent it is kept all the same, and sent by the next run.
        """
        mark = self.folder / UNSENT / key
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        take = super().keep(key, heard, words=words)
        self._send(key)
        mark.unlink(missing_ok=True)
        return take

    def _send(self, key: str) -> None:
        if is_timed(key):
            self.place.write(_words_name(key), self._path(key).with_suffix(".json").read_bytes())
        self.place.write(_name(key), self._path(key).read_bytes())

    def send_rest(self) -> int:
        """
        Send what runs that died on this host kept and did not send, takes and ledgers; return how many takes.
        """
        sent = 0
        for mark in [*(self.folder / UNSENT).glob("*")]:
            there = self.find(mark.name) is not None
            if there:
                self._send(mark.name)
                sent += 1
            with suppress(FileNotFoundError):  # another run may be about to write it, or have sent it
                if there or time.time() - mark.stat().st_mtime > WRITING_SECONDS:
                    mark.unlink()
        for owner in [*(self.folder / LEDGERS).glob(f"*/{OWNER}")]:
            with suppress(FileNotFoundError):  # another run has sent it meanwhile
                if self.claims.owner.is_dead(owner.read_text()):
                    ledger.settle_left(owner.parent / ledger.FILE, self._became)
                    self.send_ledger(owner.parent)
                    owner.unlink()
        return sent

    def _became(self, key: str) -> Outcome:
        return Outcome.TAKEN if self.covers(key) else Outcome.UNKNOWN

    def discard(self, key: str) -> None:
        """
        Remove a copy that turned out to be damaged; where what is there is damaged as well, that, too.
        """
        super().discard(key)
        there = self.place.look(_name(key))
        if there is not None and self.bring_one(key) is not None:
            with suppress(TakeDamaged):
                for _ in self.read(key):
                    pass
                return
            super().discard(key)
            now = self.place.look(_name(key))
            if now is not None and now.tag != there.tag:
                return  # another host has recorded it anew meanwhile
        self.place.remove(_name(key))
        self._listed = None if self._listed is None else self._listed[self._listed != _short(key)]

    def kept(self) -> Iterator[Kept]:
        """
        List the takes that are there.
        """
        for part in several(self.place.listing, self._parts(), at_once=AT_ONCE):
            for name, stored in part.items():
                if found := _TAKE.fullmatch(name):
                    words = part.get(_words_name(found[1])) if is_timed(found[1]) else None
                    yield Kept(key=found[1], size=stored.size + (words.size if words else 0), recorded=stored.written)

    def fault(self, key: str) -> str | None:
        """
        Read what is there, never a copy, and say what is wrong. With one that was removed a moment ago nothing is.
        """
        flac = self.place.read(_name(key))
        if flac is None:
            return None
        words = self.place.read(_words_name(key)) if is_timed(key) else None
        return fault_in(key, io.BytesIO(flac), None if words is None else words_in(words))

    def remove(self, keys: Iterable[str]) -> None:
        """
        Remove takes that nothing needs, there and here.
        """
        for _ in several(self._remove, keys, at_once=AT_ONCE):
            pass

    def _remove(self, key: str) -> None:
        self.place.remove(_name(key))
        if is_timed(key):
            self.place.remove(_words_name(key))
        self.remove_copy(key)

    def copies(self) -> Iterator[Kept]:
        """
        List the copies here, and when each was made or brought; none that the storage may not have.
        """
        return (copy for copy in super().kept() if not self._is_unsent(copy.key))

    def remove_copy(self, key: str) -> None:
        """
        Remove the copy here of a take; not one that the storage may not have.
        """
        if not self._is_unsent(key):
            super().discard(key)

    def _is_unsent(self, key: str) -> bool:
        return (self.folder / UNSENT / key).exists()

    def set_aside(self, key: str, answer: bytes) -> str:
        """
        Keep an answer that is no sound take in the cache folder of this host; return where.
        """
        return str(self.folder / super().set_aside(key, answer))

    def ledger_folder(self, account: Account) -> Path:
        """
        Tell where the ledger of one run is written.
        """
        return self._ledger_folder(account.run)

    def _ledger_folder(self, run: str) -> Path:
        return self.folder / LEDGERS / f"{_host()}-{run}"

    def spent_by(self, run: str) -> Spent:
        """
        Sum what a run was billed in all its attempts, on whatever host each was, as far as their ledgers were sent.
        """
        own = self._ledger_folder(run)
        here = (own / ledger.FILE).is_file()
        names = [name for name in self.place.listing(f"{LEDGERS}/") if name.endswith(f"-{run}.sqlite")]
        elsewhere = [name for name in names if not (here and Path(name).stem == own.name)]
        if not elsewhere:
            return ledger.spent_by(run, own)
        with TemporaryDirectory() as folder:
            files = [path for name in elsewhere if self.place.fetch(name, path := Path(folder) / f"{Path(name).stem}-.sqlite")]
            if here:
                files.append(Path(folder) / f"{own.name}-.sqlite")
                _copy(own / ledger.FILE, files[-1])
            merged = Path(folder) / "merged"
            merged.mkdir()
            ledger.merge(files, merged)
            return ledger.spent_by(run, merged)

    def own_ledger(self, account: Account) -> None:
        """
        Have the ledger of a run say whose it is, so that it is settled and sent if this process dies.
        """
        (self.ledger_folder(account) / OWNER).write_text(self.claims.owner.id)

    def bring_ledger(self, account: Account) -> None:
        """
        Have here what an earlier attempt at a run wrote on this host: without its copy, what was sent would be written over.
        """
        folder = self.ledger_folder(account)
        if not (folder / ledger.FILE).is_file():
            self.place.fetch(f"{LEDGERS}/{folder.name}.sqlite", folder / ledger.FILE)

    def disown_ledger(self, account: Account) -> None:
        """
        Have nobody else send it: it is there as it is.
        """
        (self.ledger_folder(account) / OWNER).unlink(missing_ok=True)

    def send_ledger(self, folder: Path) -> None:
        """
        Send the ledger of the run that writes it in *folder*, as it is now.
        """
        copy = folder / f".{uuid4().hex}.part"
        try:
            _copy(folder / ledger.FILE, copy)
            self.place.write(f"{LEDGERS}/{folder.name}.sqlite", copy.read_bytes())
        finally:
            copy.unlink(missing_ok=True)

    def ledgers(self) -> Path:
        """
        Bring the ledgers of all runs on all hosts, and return the folder of one that says what all of them do.
        """
        brought, target = self.folder / "ledgers", self.folder / "merged" / self.claims.owner.id
        files = []
        for name, there in self.place.listing(f"{LEDGERS}/").items():
            path = brought / f"{Path(name).stem}-{there.tag}.sqlite"
            if path.exists() or self.place.fetch(name, path):
                files.append(path)
        for old in set(brought.glob("*.sqlite")) - set(files):
            old.unlink(missing_ok=True)
        for old in [*target.parent.glob("*")]:  # of commands that have ended
            if old == target or self.claims.owner.is_dead(old.name):
                shutil.rmtree(old, ignore_errors=True)
        if files:
            target.mkdir(parents=True)
            ledger.merge(files, target)
        return target


def _copy(ledger_file: Path, target: Path) -> None:
    """
    Copy a ledger that may be written at this moment.
    """
    try:
        with closing(sqlite3.connect(ledger_file)) as written, closing(sqlite3.connect(target)) as copy:
            written.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise OSError(None, f"the ledger says: {error}", str(ledger_file)) from error


def _name(key: str) -> str:
    return f"{key[:2]}/{key}.flac"


def _words_name(key: str) -> str:
    return f"{key[:2]}/{key}.json"


def _short(key: str) -> np.uint64:
    """
    Shorten a key to 8 bytes, so that a million of them are 8 MB: the last bit says whether it has the times of its words.
    """
    return np.uint64(int(key[:16], 16) & ~1 | is_timed(key))


def _host() -> str:
    return re.sub(r"[^\w.-]+", "-", platform.node()) or "host"
