"""
Runs on a shared take store and who tidies it up, on a real S3 server: never both at once, and nobody waits for ever.
"""

import asyncio
import random

import pytest

from flows.narration import claims
from flows.narration.claims import Claim, Claims
from flows.narration.shared import SharedTakeStore
from flows.narration.tidying import RUNS, TIDYING, counted_on, tidied
from tests.bucket import Bucket
from tests.standing import wait_for


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Leases that end soon, by the one clock there is.
    """
    monkeypatch.setattr(claims, "SKEW_SECONDS", 0.0)
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.05)


def _nothing(*_: str) -> None:
    """
    Say nothing.
    """


async def test_what_a_run_costs(bucket: Bucket) -> None:
    """
    Two requests as it begins and one as it ends, besides the listing.
    """
    before = bucket.asked()
    async with counted_on(bucket.store(), waiting=_nothing):
        begun = bucket.asked() - before
    ended = bucket.asked() - before

    assert {"PUT": 1, "GET": 1, "LIST": 17} == begun
    assert {"DELETE": 1, **begun} == ended


async def test_of_many_at_the_same_moment_never_both(bucket: Bucket) -> None:
    """
    Runs are under way together; who tidies up is alone; all come to their end.
    """
    running = tidying = 0
    chance = random.Random(1)

    async def run(store: SharedTakeStore) -> None:
        """
        Be under way, now and then.
        """
        nonlocal running
        for _ in range(3):
            await asyncio.sleep(chance.uniform(0, 0.1))
            async with counted_on(store, waiting=_nothing):
                running += 1
                assert not tidying
                await asyncio.sleep(chance.uniform(0, 0.1))
                assert not tidying
                running -= 1

    async def gc(store: SharedTakeStore) -> None:
        """
        Tidy up, now and then.
        """
        nonlocal tidying
        for _ in range(3):
            await asyncio.sleep(chance.uniform(0, 0.1))
            async with tidied(store, waiting=_nothing) as still:
                tidying += 1
                assert (0, 1) == (running, tidying)
                assert await asyncio.to_thread(still)
                tidying -= 1

    async with (
        asyncio.timeout(30),
        counted_on(bucket.store("a"), waiting=_nothing),
        counted_on(bucket.store("b"), waiting=_nothing),
    ):
        pass  # together
    work = [run(bucket.store(f"host-{number}")) for number in range(4)]
    await asyncio.wait_for(asyncio.gather(*work, *(gc(bucket.store(f"tidy-{number}")) for number in range(2))), timeout=120)

    assert [] == bucket.names("takes/claims/")


async def test_who_died_is_waited_for_as_long_as_a_lease(bucket: Bucket) -> None:
    """
    A run as well as who tidied up; on the same host nobody waits.
    """
    dead, other, same = bucket.store("dead"), bucket.store("other"), bucket.store("dead")
    waited: list[str] = []

    assert dead.claims.take(TIDYING, seconds=0.5)
    async with counted_on(other, waiting=lambda: waited.append("for who tidied up")):
        pass
    assert dead.claims.take(f"{RUNS}x", seconds=0.5)
    async with tidied(other, waiting=waited.append):
        pass
    assert ["for who tidied up", "A run"] == waited

    assert dead.claims.take(f"{RUNS}x", seconds=600)
    assert dead.claims.take(TIDYING, seconds=600)
    dead.claims.owner.end()
    async with counted_on(same, waiting=lambda: waited.append("?")):
        pass
    async with tidied(same, waiting=waited.append):
        pass
    assert 2 == len(waited)


class Network:
    """
    What claims are renewed through, until it is down.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down, renew = False, Claims.renew

        def renewed(own: Claims, claim: Claim, *, seconds: float) -> bool:
            """
            Renew a claim, or do not.
            """
            if self.down:
                raise OSError("out of reach")
            return renew(own, claim, seconds=seconds)

        monkeypatch.setattr(Claims, "renew", renewed)
        monkeypatch.setattr(claims, "LEASE_SECONDS", 1.0)  # renewed every 0.25 s


async def test_a_run_that_was_cut_off_says_anew_that_it_is_there(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It believes no more what it listed, and the next gc waits for it.
    """
    network, waited = Network(monkeypatch), list[str]()
    store = bucket.store("a")
    async with counted_on(store, waiting=_nothing):
        network.down = True
        async with tidied(bucket.store("b"), waiting=waited.append):
            network.down = False
            assert ["A run"] == waited
            before = bucket.asked()
        await asyncio.to_thread(wait_for, lambda: bucket.names(f"takes/{RUNS}") or None, what="the run's claim")
        await asyncio.to_thread(wait_for, lambda: (bucket.asked() - before)["LIST"] >= 17 or None, what="a listing")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2), tidied(bucket.store("b"), waiting=_nothing):
                pass


async def test_who_tidied_up_and_was_cut_off_removes_no_more(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run that finds an expired claim takes it away, so that it cannot be renewed.
    """
    network = Network(monkeypatch)
    async with tidied(bucket.store("a"), waiting=_nothing) as still:
        assert await asyncio.to_thread(still)
        network.down = True
        async with counted_on(bucket.store("b"), waiting=_nothing):
            network.down = False
            assert not await asyncio.to_thread(still)
