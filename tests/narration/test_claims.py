"""
Claims in a real S3 server: one holder at a time, whatever dies and whenever it does.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.narration import claims
from flows.narration.claims import Claim, Claims, Owner, leased
from tests.bucket import Bucket
from tests.standing import ROOT, wait_for


def _claims(bucket: Bucket, host: str = "a") -> Claims:
    return Claims(bucket.place(), owner=Owner(bucket.folder / host))


def test_of_many_hosts_one_holds_a_claim(bucket: Bucket) -> None:
    """
    Until it gives it back.
    """
    hosts = [_claims(bucket, f"host-{number}") for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        held = [*threads.map(lambda host: host.take("claims/x", seconds=60, says={"take": "x"}), hosts)]
    (number,) = [number for number, claim in enumerate(held) if claim is not None]
    claim = held[number]
    assert claim is not None

    hosts[number].release(claim)

    assert hosts[0].take("claims/x", seconds=60) is not None


def test_a_claim_that_expired_is_taken_over_by_one(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who takes it over is told what it said.
    """
    monkeypatch.setattr(claims, "SKEW_SECONDS", 0.0)  # the clocks of one machine agree
    dead = _claims(bucket, "dead").take("claims/x", seconds=0.2, says={"take": "x"})
    hosts = [_claims(bucket, f"host-{number}") for number in range(8)]
    assert dead is not None
    assert hosts[0].take("claims/x", seconds=60) is None
    wait_for(lambda: dead.left < 0 or None, what="the end of the claim")

    with ThreadPoolExecutor(8) as threads:
        held = [*threads.map(lambda host: host.take("claims/x", seconds=60), hosts)]

    (claim,) = [claim for claim in held if claim is not None]
    assert claim.before is not None
    assert "x" == claim.before["take"]


def test_a_claim_is_renewed_unless_it_was_lost(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who was too slow learns it before a request leaves.
    """
    monkeypatch.setattr(claims, "SKEW_SECONDS", 0.0)  # as above
    slow, other = _claims(bucket, "slow"), _claims(bucket, "other")
    claim = slow.take("claims/x", seconds=0.1)
    assert claim is not None
    assert slow.renew(claim, seconds=0.1)
    wait_for(lambda: claim.left < 0 or None, what="the end of the claim")

    assert other.take("claims/x", seconds=60) is not None
    assert not slow.renew(claim, seconds=60)
    slow.release(claim)
    assert slow.take("claims/x", seconds=60) is None


def test_an_answer_that_got_lost_is_no_other_s_claim(bucket: Bucket) -> None:
    """
    The storage wrote it, and the network lost that it did: the packages behind ask again, and are refused.
    """
    held = _claims(bucket)
    create = held.place.create

    def lost(name: str, content: bytes) -> str | None:
        """
        Write twice, and tell of the second.
        """
        create(name, content)
        return create(name, content)

    held.place.create = lost  # type: ignore[method-assign]  # as a network would

    claim = held.take("claims/x", seconds=60)

    assert claim is not None
    assert held.renew(claim, seconds=60)


HOLDS = """
import sys
from pathlib import Path
from flows.narration.claims import Claims, Owner
from flows.narration.storage import Place

owner = Owner(Path(sys.argv[2]))
assert Claims(Place(sys.argv[1]), owner=owner).take("claims/x", seconds=600, says={"take": "x"})
print("held", flush=True)
sys.stdin.read()  # until it is killed
"""


@pytest.mark.parametrize("same", [True, False], ids=["same host", "another host"])
def test_a_holder_that_is_killed(bucket: Bucket, same: bool) -> None:
    """
    On the same host it is known at once; on another the claim has to expire.
    """
    command = [sys.executable, "-c", HOLDS, bucket.place().uri, str(bucket.folder / "a")]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert "held\n" == holder.stdout.readline()
    other = _claims(bucket, "a" if same else "b")
    assert other.take("claims/x", seconds=60) is None

    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()

    claim: Claim | None = other.take("claims/x", seconds=60)
    assert same == (claim is not None)


async def test_a_lease_is_held_by_one_at_a_time(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Also for longer than it lasts unrenewed.
    """
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.8)  # renewed every 0.2 s
    monkeypatch.setattr(claims, "SKEW_SECONDS", 0.0)
    monkeypatch.setattr(claims, "LOOK_SECONDS", 0.05)
    order: list[str] = []
    held = asyncio.Event()
    inside = threading.Semaphore(1)

    async def hold(name: str) -> None:
        """
        Hold it for longer.
        """
        async with leased(bucket.place(), ".run.lock", waiting=lambda: order.append(f"{name} waits")) as still:
            assert await asyncio.to_thread(still)
            assert inside.acquire(blocking=False)
            order.append(name)
            held.set()
            await asyncio.sleep(1.5 if len(order) == 1 else 0)
            inside.release()

    first = asyncio.create_task(hold("first"))
    await held.wait()
    await asyncio.gather(first, hold("second"))

    assert ["first", "second waits", "second"] == order
    assert [] == bucket.names()


def test_lock_files_of_the_dead_do_not_pile_up(tmp_path: Path) -> None:
    """
    They are kept for longer than their claims last, and no longer.
    """
    Owner(tmp_path).end()
    old = tmp_path / "dead.lock"
    old.touch()
    os.utime(old, (0, 0))
    living = Owner(tmp_path)

    assert not old.exists()
    assert (tmp_path / f"{living.id}.lock").exists()
