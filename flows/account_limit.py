"""
One limit for all runs of an account, on whatever machine: slots leased from a Prefect global concurrency limit.

A slot is leased for a stretch of requests, never for each: asking for one takes a tenth of a second. The stretch ends before
the lease would, were it never renewed, so nothing leaves on a lease that may be lost; what is in flight at its end may come in.
Of a worker that died the slots come back when its leases run out: `LEASE_SECONDS` after they were renewed last, and up to 15
more until the server looks.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from uuid import UUID

import httpx
from anyio import CancelScope
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from flows.narration.errors import UsageError
from flows.narration.slots import LentSlots, Slots

LEASE_SECONDS = 60
"""How long a lease lasts that is not renewed: the least that Prefect grants."""

STRETCH_SECONDS = 50.0
"""How long requests are begun on a slot at most; the more slots a run has, the sooner the next comes free for others."""

LEAST_SECONDS = 10.0
"""How long on each slot of a run that has all there are while others want some; with half of them twice as long, and so on."""

SPREAD = 0.7
"""The least part of a stretch that a slot is really used, at random, so that those leased together do not end together."""

PACE_SECONDS = 0.75
"""How long a run that has no slot waits before it asks again; one that has all there are, three times as long."""

ALONE_SECONDS = 30.0
"""How long after others were seen to have slots a run lets them have each that it gives back."""

LOOK_SECONDS = 10.0
"""How often a run that seems to be alone lets others have one, were there any."""

IDLE_SECONDS = 2.0
"""How long a slot is kept that nothing is to be sent on."""

ASK_SECONDS = 10.0
"""How long the server may take to lease a slot or to say no."""

AWAY_SECONDS = 5.0
"""How long to wait before a server out of reach is asked again."""

CLOSE_SECONDS = 10.0
"""How long a run that ends waits until its slots are given back; then they come back by themselves."""


def stretch(share: float) -> float:
    """
    Tell how long requests are begun on a slot at most, in seconds, by a run that holds a *share* of all, 0 to 1, while others
    want some.
    """
    return min(STRETCH_SECONDS, LEAST_SECONDS / share) if share else STRETCH_SECONDS


async def require(name: str | None) -> None:
    """
    Raise `UsageError` where there is no limit of that name.
    """
    if name is None:
        return
    async with get_client() as client:
        try:
            await client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            raise UsageError(
                f"The Prefect server has no global concurrency limit “{name}”.",
                f"Make it, with as many requests at once as the account may have: prefect gcl create '{name}' --limit 5",
            ) from None


@asynccontextmanager
async def lent(name: str | None, *, most: int) -> AsyncIterator[Slots]:
    """
    Lend the block slots for requests, *most* at once: leased from the limit of that *name*, or as many as it wants without one.
    """
    if name is None:
        yield Slots()
        return
    slots = LentSlots()
    async with get_client() as client:
        lender = _Lender(client, name, slots, most=most)
        lending = asyncio.create_task(lender.lend())
        try:
            yield slots
        finally:
            lending.cancel()
            with CancelScope(shield=True):
                await lender.close()


class _Lender:
    """
    Keeps as many *slots* on loan as are wanted.

    Runs come to equal shares since one with many slots has each for a shorter time than one with few, and waits longer for the
    next: what is given back goes to those that have less.
    """

    def __init__(self, client: PrefectClient, name: str, slots: LentSlots, *, most: int) -> None:
        self._client, self._name, self._slots = client, name, slots
        self._holder = ConcurrencyLeaseHolder(type="flow_run", id=UUID(run)) if (run := flow_run.get_id()) else None
        self._leases: set[asyncio.Task[None]] = set()
        self._limit = most  # until the first answer tells
        self._leased = self._resting = 0
        self._others_seen = self._rested_last = self._gave_back_last = -inf
        self._trouble = ""
        self._waited_for_first = False
        self._closing = asyncio.Event()

    async def lend(self) -> None:
        """
        Lease one slot after the other, until cancelled.
        """
        while True:
            await self._slots.until(lambda: self._slots.held + self._resting < self._slots.wanted)
            granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            lease = asyncio.create_task(self._lease(granted))
            self._leases.add(lease)
            lease.add_done_callback(self._leases.discard)
            if not await granted:
                await asyncio.sleep(AWAY_SECONDS if self._trouble else self._pace)

    async def close(self) -> None:
        """
        Give all slots back.
        """
        self._closing.set()
        if self._leases:
            _, left = await asyncio.wait(self._leases, timeout=CLOSE_SECONDS)
            for lease in left:
                lease.cancel()

    @property
    def _share(self) -> float:
        """
        The share of all that there are, 0 to 1, that is held.
        """
        return min(1.0, self._slots.held / self._limit)

    @property
    def _pace(self) -> float:
        return PACE_SECONDS * (1 + 2 * self._share) * random.uniform(0.9, 1.1)

    async def _lease(self, granted: "asyncio.Future[bool]") -> None:
        """
        Have one slot for a stretch, and tell whether it was *granted*.
        """
        begun = asyncio.get_running_loop().time()
        lease = None
        try:
            lease = await self._asked()
        finally:
            if not granted.done():
                granted.set_result(lease is not None)
        if lease is None:
            return
        self._leased += 1
        self._slots.lend()
        await self._used(begun)
        await self._emptied(lease)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._client.release_concurrency_slots_with_lease(lease)
        except (httpx.HTTPError, OSError) as error:
            get_run_logger().warning("A slot of “%s” comes back by itself, in about a minute: %r", self._name, error)
        finally:
            asyncio.get_running_loop().call_later(self._turn_of_others(), self._rested)

    def _turn_of_others(self) -> float:
        """
        Tell how long others may have what was given back before it is asked for again, in seconds.
        """
        now = asyncio.get_running_loop().time()
        if self._is_alone and now < self._rested_last + LOOK_SECONDS:
            return 0.0
        self._rested_last = now
        return self._pace

    @property
    def _is_alone(self) -> bool:
        """
        Whether no others were seen for a while.
        """
        return asyncio.get_running_loop().time() > self._others_seen + ALONE_SECONDS

    async def _asked(self) -> UUID | None:
        """
        Ask for a slot once, and say, once each time, why there is none.

        Prefect's own `concurrency` would wait up to 30 s while others take what comes free, and tells nobody of a lost lease.
        """
        own = self._slots.held + self._resting
        asking = asyncio.ensure_future(
            self._client.increment_concurrency_slots_with_lease(
                names=[self._name], slots=1, mode="concurrency", lease_duration=LEASE_SECONDS, holder=self._holder
            )
        )
        try:
            answer = await asyncio.wait_for(asyncio.shield(asking), ASK_SECONDS)
            lease = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
        except (httpx.HTTPError, OSError, ValueError) as error:
            asking.add_done_callback(self._came_late)
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.LOCKED:
                self._full(own)
            else:
                self._told(f"No slot of “{self._name}” can be leased, and without one nothing is sent: {error!r}")
            return None
        if not lease.limits:
            self._told(f"The limit “{self._name}” is gone. Nothing is sent until it is there again.")
            return None
        self._limit = max(1, lease.limits[0].limit)
        self._told("")
        return lease.lease_id

    def _came_late(self, asked: "asyncio.Future[httpx.Response]") -> None:
        """
        Give back a slot that was granted after all, when nobody waited for it any more.
        """
        with suppress(asyncio.CancelledError, httpx.HTTPError, OSError, ValueError):
            lease = ConcurrencyLimitWithLeaseResponse.model_validate(asked.result().json())
            giving = asyncio.ensure_future(self._client.release_concurrency_slots_with_lease(lease.lease_id))
            giving.add_done_callback(lambda given: given.cancelled() or given.exception())

    @property
    def _stretch(self) -> float:
        """
        How long requests are begun on a slot, in seconds, as things are now: also on those leased before.
        """
        return STRETCH_SECONDS if self._is_alone else stretch(self._share)

    async def _used(self, begun: float) -> None:
        """
        Wait until the stretch that has *begun* then is over, or until the slot was of no use for a while.

        It is over for one slot after the other: all at once they would all go to whoever asks first.
        """
        loop, slots = asyncio.get_running_loop(), self._slots
        idle_since: float | None = None
        part = random.uniform(SPREAD, 1)
        while not self._closing.is_set():
            now = loop.time()
            until = min(begun + STRETCH_SECONDS, max(begun + part * self._stretch, self._gave_back_last + PACE_SECONDS))
            if now >= until:
                self._gave_back_last = now
                return
            if slots.open <= slots.wanted:
                idle_since = None
            elif idle_since is None:
                idle_since = now
            elif now - idle_since > IDLE_SECONDS:
                return
            await self._waited(min(1.0, until - now))

    async def _waited(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return

    async def _emptied(self, lease: UUID) -> None:
        """
        Wait until what left on the slot is in.
        """
        renewing = asyncio.create_task(self._renewed(lease))
        try:
            await self._slots.emptied()
        finally:
            renewing.cancel()
        self._resting += 1

    async def _renewed(self, lease: UUID) -> None:
        """
        Keep a lease on which something is still in flight.
        """
        await asyncio.sleep((LEASE_SECONDS - STRETCH_SECONDS) / 2)
        while True:
            with suppress(httpx.HTTPError, OSError):
                await self._client.renew_concurrency_lease(lease, lease_duration=LEASE_SECONDS)
            await asyncio.sleep(LEASE_SECONDS / 3)

    def _rested(self) -> None:
        self._resting -= 1
        self._slots.change()

    def _full(self, own: int) -> None:
        """
        Note that there was no slot, at a moment when this run had *own* of them, those among it that it was giving back.
        """
        self._told("")
        if own < self._limit:
            self._others_seen = asyncio.get_running_loop().time()
        if not self._leased and not self._waited_for_first:
            self._waited_for_first = True
            get_run_logger().info("Other runs have all slots of “%s”; waiting for the first.", self._name)

    def _told(self, trouble: str) -> None:
        if trouble and not self._trouble:
            get_run_logger().warning("%s", trouble)
        elif self._trouble and not trouble:
            get_run_logger().info("“%s” can be leased from again.", self._name)
        self._trouble = trouble
