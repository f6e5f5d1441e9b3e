"""
Claims: who is at work on what, told by objects in a storage that several hosts share.

A claim is written on condition that there is none (`If-None-Match: *`), and taken over, once it has expired, on condition that
it is still the same (`If-Match`): of any number of workers at the same moment, one succeeds. It ends by itself after the time
its holder gave; hosts' clocks may differ by `SKEW_SECONDS`. A holder that died on this very host is told by the kernel, at
once: each process holds a lock file in the cache folder while it lives.
"""

import asyncio
import json
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import platformdirs
from filelock import FileLock, Timeout

from flows.narration.storage import Place

SKEW_SECONDS = 10.0
"""How far the clocks of two hosts may be apart."""

LEASE_SECONDS = 60.0
"""How long a lease lasts that nobody renews: after a host died that held it, the next waits for so long."""

MARGIN_SECONDS = 5.0
"""How long before it expires a claim is no longer removed: the request may take a while, and be another's by then."""

LOOK_SECONDS = 1.0
"""Seconds between two looks at a claim that another holds."""

KEPT_SECONDS = 90 * 86_400.0
"""How long the lock file of a process that died is kept: longer than any claim of it lasts, and than its host may be off."""


class Owner:
    """
    A holder of claims, alive as long as its lock file in *folder* is locked: the process, or what a test takes for one.
    """

    def __init__(self, folder: Path) -> None:
        self.id = uuid4().hex
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / f"{self.id}.lock", thread_local=False)
        self._lock.acquire()
        self._sweep()

    def is_dead(self, other: str) -> bool:
        """
        Say whether *other* lived on this host and has died; false where nobody can know.
        """
        path = self._folder / f"{Path(other).name}.lock"
        if other == self.id or not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            return False
        lock.release()
        path.touch()  # filelock may have taken it away
        return True

    def end(self) -> None:
        """
        Be dead.
        """
        self._lock.release()

    def _sweep(self) -> None:
        with suppress(OSError):
            for path in self._folder.glob("*.lock"):
                if time.time() - path.stat().st_mtime > KEPT_SECONDS and self.is_dead(path.stem):
                    path.unlink(missing_ok=True)


@cache
def this_process() -> Owner:
    """
    Return the owner of all claims of this process.
    """
    return Owner(platformdirs.user_cache_path("narrate") / "owners")


@dataclass
class Claim:
    """
    A claim that is held: the object's *name* and *tag*, *until* when (seconds since 1970), and what it *says*.

    *before* is what the claim said that this one took over from.
    """

    name: str
    tag: str
    until: float
    says: Mapping[str, Any]
    before: Mapping[str, Any] | None = None
    taken: float = field(default_factory=time.time)

    @property
    def left(self) -> float:
        """
        Seconds until it expires.
        """
        return self.until - time.time()


class Claims:
    """
    Claims of *owner* in *place*; all of it waits for the storage, and belongs into a thread.
    """

    def __init__(self, place: Place, *, owner: Owner) -> None:
        self.place, self.owner = place, owner

    def take(self, name: str, *, seconds: float, says: Mapping[str, Any] | None = None) -> Claim | None:
        """
        Claim *name* for so many *seconds*; `None` where another holds it.
        """
        says = {**(says or {}), "owner": self.owner.id, "host": platform.node(), "nonce": uuid4().hex}
        for _ in range(3):
            until = time.time() + seconds
            content = _content(says, until)
            tag = self.place.create(name, content)
            if tag is not None:
                return Claim(name=name, tag=tag, until=until, says=says)
            content_there = self.place.read(name)
            if content_there is not None and not self._may_be_taken(_said(content_there), says):
                return None
            there = self.place.look(name)  # before it is read once more: what is taken over is what was read, or older
            content_there = self.place.read(name) if there else None
            if there is None or content_there is None:
                continue  # it has ended at this moment
            said = _said(content_there)
            if said.get("nonce") == says["nonce"]:  # the answer to the write got lost
                return Claim(name=name, tag=there.tag, until=until, says=says)
            if not self._has_ended(said):
                return None
            tag = self.place.swap(name, content, tag=there.tag)
            return None if tag is None else Claim(name=name, tag=tag, until=until, says=says, before=said)
        return None

    def renew(self, claim: Claim, *, seconds: float) -> bool:
        """
        Hold *claim* for so many *seconds* from now; false where another has taken it over.
        """
        until = time.time() + seconds
        content = _content(claim.says, until)
        tag = self.place.swap(claim.name, content, tag=claim.tag)
        if tag is None:
            there = self.place.look(claim.name)
            content_there = self.place.read(claim.name) if there else None
            if there is None or content_there is None or _said(content_there).get("nonce") != claim.says["nonce"]:
                return False
            tag = there.tag  # the answer to the write got lost
        claim.tag, claim.until, claim.taken = tag, until, time.time()
        return True

    def release(self, claim: Claim) -> None:
        """
        Give *claim* back; one that may have expired is left, as it may be another's by now.
        """
        if claim.left > min(MARGIN_SECONDS, 0.1 * (claim.until - claim.taken)):
            self.place.remove(claim.name)

    def is_over(self, name: str) -> bool:
        """
        Say whether nobody holds the claim *name*. One that ended by itself is taken away, so that its holder cannot renew it.
        """
        content = self.place.read(name)
        if content is None:
            return True
        claim = self.take(name, seconds=LEASE_SECONDS) if self._has_ended(_said(content)) else None
        if claim is None:
            return False
        self.release(claim)
        return True

    def _may_be_taken(self, said: Mapping[str, Any], says: Mapping[str, Any]) -> bool:
        return said.get("nonce") == says["nonce"] or self._has_ended(said)

    def _has_ended(self, said: Mapping[str, Any]) -> bool:
        until, owner = said.get("until"), said.get("owner")
        if not isinstance(until, int | float) or not isinstance(owner, str):
            return True
        return time.time() > until + SKEW_SECONDS or self.owner.is_dead(owner)


def _content(says: Mapping[str, Any], until: float) -> bytes:
    return json.dumps({**says, "until": until}, ensure_ascii=False).encode()


def _said(content: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@asynccontextmanager
async def leased(place: Place, name: str, *, waiting: Callable[[], None]) -> AsyncIterator[Callable[[], bool]]:
    """
    Be the only one on all hosts that holds *name* in *place* while the block runs; *waiting* is called where another does.

    It is renewed as long as this process lives, and ends `LEASE_SECONDS` after its host died. What is yielded says whether it
    is held still: where the storage was out of reach for longer, another may have taken it over.
    """
    claims = Claims(place, owner=this_process())
    told = False
    while (claim := await asyncio.to_thread(claims.take, name, seconds=LEASE_SECONDS)) is None:
        if not told:
            told = True
            waiting()
        await asyncio.sleep(LOOK_SECONDS)
    async with renewed(claims, claim):
        yield lambda: claims.renew(claim, seconds=LEASE_SECONDS)


@asynccontextmanager
async def renewed(claims: Claims, claim: Claim, *, lost: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
    """
    Renew *claim* while the block runs, and give it back then; *lost* is called where another has taken it over.
    """
    renewing = asyncio.create_task(_renewing(claims, claim, lost))
    try:
        yield
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        with suppress(OSError):  # it ends by itself
            await asyncio.to_thread(claims.release, claim)


async def _renewing(claims: Claims, claim: Claim, lost: Callable[[], Awaitable[None]] | None) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 4)
        with suppress(OSError):  # the next time it may be reached again
            if not await asyncio.to_thread(claims.renew, claim, seconds=LEASE_SECONDS) and lost is not None:
                await lost()
