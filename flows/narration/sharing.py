"""
Whose turn a take is, among all who record into one take store.

In a folder a run has the store to itself (`flows.narration.locks`), and every take is its turn. In object storage each request
is claimed before it leaves, by an object that says what the ledger says; who finds a claim waits for the take of another
instead of paying for it, and who takes over the claim of a run that died settles its entry.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from flows.narration.claims import Claim
from flows.narration.errors import NarrateError
from flows.narration.ledger import Account, Ledger, Outcome
from flows.narration.shared import CONDITIONS, SharedTakeStore
from flows.narration.takes import Take, TakeStore

Made = TypeVar("Made")

JUDGING_SECONDS = 30.0
"""How long an answer may take until it is judged and kept, after the deadline of its request."""

WAITING_SHARE = 0.1
"""Share of a request's deadline that it may wait for its slot before its claim is renewed."""

SEND_SECONDS = 30.0
"""How often the ledger of a run is sent."""


class ElsewhereClaimed(NarrateError):
    """
    Another run is at work on this very take: look again.
    """


class AlreadyThere(NarrateError):
    """
    Another run has made the *take* meanwhile.
    """

    def __init__(self, take: Take) -> None:
        super().__init__("The take is there.")
        self.args = (take,)
        self.take = take


class Alone:
    """
    A run that has the take store to itself.
    """

    async def prepare(self) -> None:
        """
        Have the ledger as earlier attempts at the run left it, before it is opened.
        """

    async def begin(self, ledger: Ledger) -> None:
        """
        Begin, with the *ledger* just opened.
        """

    async def end(self) -> None:
        """
        End, before the ledger is closed.
        """

    async def claim(self, key: str, says: Mapping[str, Any]) -> None:
        """
        Have the turn for the take *key*; raises `ElsewhereClaimed` or `AlreadyThere`.
        """

    async def renew(self, key: str, *, least: float | None = None) -> None:
        """
        Go on having it, where less than *least* seconds of it are left, or it has waited for long; raises `ElsewhereClaimed`.
        """

    async def release(self, key: str) -> None:
        """
        Let others have it.
        """

    def leave(self, key: str) -> None:
        """
        Let nobody else have it for a while.
        """


class Sharing(Alone):
    """
    A run that shares *store* with others; *deadline* is in seconds, for one request.
    """

    def __init__(self, store: SharedTakeStore, account: Account, *, deadline: float) -> None:
        self._store, self._account = store, account
        self._waits = WAITING_SHARE * deadline
        self.seconds = deadline + self._waits + JUDGING_SECONDS
        self._claims: dict[str, Claim] = {}
        self._sending: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="claim")  # they wait for the storage

    async def prepare(self) -> None:
        """
        Bring what an earlier attempt on this host sent, where its copy here is gone.
        """
        await asyncio.to_thread(self._store.bring_ledger, self._account)

    async def begin(self, ledger: Ledger) -> None:
        """
        Send what runs that died on this host did not, and send the ledger from time to time from now on.
        """
        self._ledger = ledger
        ledger.count_from(time.time_ns() // 1_000_000)  # another attempt at the run may have been on another host
        self._store.own_ledger(self._account)
        await asyncio.to_thread(self._store.place.require_conditions, CONDITIONS)
        await asyncio.to_thread(self._store.send_rest)
        self._sending = asyncio.create_task(self._send_always())

    async def end(self) -> None:
        """
        Send the ledger, and let others have what was claimed and not settled.
        """
        if self._sending is not None:
            self._sending.cancel()
            with suppress(asyncio.CancelledError):
                await self._sending
        await asyncio.to_thread(self._threads.shutdown)
        for claim in self._claims.values():
            with suppress(OSError):
                await asyncio.to_thread(self._store.claims.release, claim)
        if await self._send():
            self._store.disown_ledger(self._account)

    async def claim(self, key: str, says: Mapping[str, Any]) -> None:
        """
        Claim the take *key*, unless it is there by now; settle what a run that died had claimed.
        """
        claim, take = await self._in_thread(lambda: self._claimed(key, says))
        if claim is not None and claim.before and claim.before.get("take") == key:
            self._ledger.inherit(claim.before, Outcome.UNKNOWN if take is None else Outcome.TAKEN)
        if take is not None:
            await self.release(key)
            raise AlreadyThere(take)
        if claim is None:
            raise ElsewhereClaimed("Another run records it.")

    def _claimed(self, key: str, says: Mapping[str, Any]) -> tuple[Claim | None, Take | None]:
        """
        Claim first, and look then: what another has made meanwhile is there before its claim ends.
        """
        claim = self._store.claims.take(f"claims/{key}", seconds=self.seconds, says=says)
        if claim is not None:
            self._claims[key] = claim  # here, so that it ends with the run also where nobody waits for it any more
        return claim, self._store.find(key) or self._store.bring_one(key)

    async def renew(self, key: str, *, least: float | None = None) -> None:
        """
        Renew the claim where it has waited for long, or has less than *least* seconds left.
        """
        claim = self._claims.get(key)
        if claim is None or claim.left > (self.seconds - self._waits if least is None else least):
            return
        if not await self._in_thread(lambda: self._store.claims.renew(claim, seconds=self.seconds)):
            self._claims.pop(key, None)
            raise ElsewhereClaimed("Another run records it by now.")

    async def release(self, key: str) -> None:
        """
        Give the claim back; where that cannot be said it ends by itself.
        """
        claim = self._claims.pop(key, None)
        if claim is not None:
            with suppress(OSError):
                await self._in_thread(lambda: self._store.claims.release(claim))

    def leave(self, key: str) -> None:
        """
        Let the claim end by itself, as what it is for is paid and not there yet.
        """
        self._claims.pop(key, None)

    async def _send_always(self) -> None:
        while True:
            await asyncio.sleep(SEND_SECONDS)
            await self._send()

    async def _send(self) -> bool:
        try:
            await asyncio.to_thread(self._store.send_ledger, self._store.ledger_folder(self._account))
        except OSError:
            return False  # it is on this disk, and sent the next time
        return True

    async def _in_thread(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def sharing(store: TakeStore, account: Account, *, deadline: float) -> Alone:
    """
    Return how a run shares *store* with others.
    """
    return Sharing(store, account, deadline=deadline) if isinstance(store, SharedTakeStore) else Alone()
