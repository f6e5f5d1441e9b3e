"""
Runs that count on a take store which several hosts share, and who tidies it up: never both at once.

A run lists the store once and believes the list. So each says by a claim of its own that it is under way, and looks then for
the claim of one who tidies up; who tidies up claims that first, and waits then for every run that is under way. Of a run and
a gc that begin at the same moment at least one sees the other, and it is the run that steps back: neither waits for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from uuid import uuid4

from flows.narration import claims
from flows.narration.claims import Claim, Claims, leased, renewed
from flows.narration.errors import storing
from flows.narration.shared import SharedTakeStore

RUNS = "claims/.runs/"
"""What the claims of runs begin with: two requests for a run as it begins, four a minute, and one as it ends."""

TIDYING = "claims/.tidying"
"""Claim of the one who tidies up."""


@asynccontextmanager
async def counted_on(store: SharedTakeStore, *, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """
    Be a run that believes what is listed in *store*: nothing is tidied up while the block runs.

    *waiting* is called first where somebody is at it. A run that was cut off for longer than its lease lists anew.
    """
    with storing():
        claim = await _begun(store.claims, waiting=waiting)

    async def lost() -> None:
        """
        Say anew that the run is under way, and what was listed is believed no more.
        """
        again = await asyncio.to_thread(_taken, store.claims, claim.name)
        if again is not None:
            claim.tag, claim.until, claim.says = again.tag, again.until, again.says
        await asyncio.to_thread(store.look)

    async with renewed(store.claims, claim, lost=lost):
        with storing():
            await asyncio.to_thread(store.look)
        yield


async def _begun(own: Claims, *, waiting: Callable[[], None]) -> Claim:
    """
    Claim to be under way, at a moment when nobody tidies up.
    """
    name, say_so = f"{RUNS}{uuid4().hex}", cache(waiting)  # once
    while True:
        claim = await asyncio.to_thread(_taken, own, name)
        try:
            if claim is not None and await asyncio.to_thread(own.is_over, TIDYING):
                return claim
        except BaseException:
            await _given_back(own, claim)
            raise
        await _given_back(own, claim)
        await _over(own, TIDYING, waiting=say_so)


async def _over(own: Claims, name: str, *, waiting: Callable[[], None]) -> None:
    """
    Wait until nobody holds the claim *name*; *waiting* is called at each look that finds it held.
    """
    while not await asyncio.to_thread(own.is_over, name):
        waiting()
        await asyncio.sleep(claims.LOOK_SECONDS)


def _taken(own: Claims, name: str) -> Claim | None:
    return own.take(name, seconds=claims.LEASE_SECONDS)


async def _given_back(own: Claims, claim: Claim | None) -> None:
    if claim is not None:
        with suppress(OSError):  # it ends by itself
            await asyncio.to_thread(own.release, claim)


@asynccontextmanager
async def tidied(store: SharedTakeStore, *, waiting: Callable[[str], None]) -> AsyncIterator[Callable[[], bool]]:
    """
    Be the one who tidies up *store*, at a time when no run is under way on any host. *waiting* is told for whom, once for each.

    What is yielded says whether that is so still: where this host was cut off for longer than its lease, runs went on.
    """
    async with leased(store.place, TIDYING, waiting=lambda: waiting("Another gc")) as held:
        say_so = cache(lambda: waiting("A run"))  # once
        for name in await asyncio.to_thread(store.place.listing, RUNS):
            await _over(store.claims, name, waiting=say_so)
        yield held
