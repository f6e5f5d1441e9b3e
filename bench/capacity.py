"""
How many requests one Prefect server answers in a second, and what each costs it: what a fleet asks most, at saturation.

The requests come from this process, a few at once without a pause, which takes a share of the cores itself; seconds of CPU that
the server took for each are told beside the rate, as other work disturbs them less.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

import httpx

from bench.ground import Ground
from bench.measure import tree_seconds

AT_ONCE = 8
SECONDS = 5.0
FULL = "bench-full"

IN_VAIN, LOOK, POLL, MIX = "a slot asked for in vain", "a look at a run", "a worker's poll", "these three in turn"

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Capacity:
    """
    What one server can: *rate* requests a second, for *cpu* seconds of its own each and *database* of PostgreSQL's.
    """

    rate: float
    cpu: float
    database: float


def measure(ground: Ground, pool: str = "narrate") -> dict[str, Capacity]:
    """
    Measure each kind alone, and all of them in turn.
    """
    return asyncio.run(_all(ground, pool))


async def _all(ground: Ground, pool: str) -> dict[str, Capacity]:
    async with httpx.AsyncClient(base_url=f"{ground.api}/", timeout=60) as client:
        limits = "v2/concurrency_limits/"
        (await client.post(limits, json={"name": FULL, "limit": 1})).raise_for_status()
        body = {"names": [FULL], "slots": 1, "mode": "concurrency", "lease_duration": 300}
        (await client.post(f"{limits}increment-with-lease", json=body)).raise_for_status()
        runs = (await client.post("flow_runs/filter", json={"limit": 1})).raise_for_status().json()
        run = f"flow_runs/{runs[0]['id']}"
        kinds: dict[str, Ask] = {
            IN_VAIN: lambda client: client.post(f"{limits}increment-with-lease", json=body),
            LOOK: lambda client: client.get(run),
            POLL: lambda client: client.post(f"work_pools/{pool}/get_scheduled_flow_runs", json={}),
        }
        turns, asks = count(), list(kinds.values())
        found = {name: await _saturated(ground, client, ask) for name, ask in kinds.items()}
        mixed = await _saturated(ground, client, lambda client: asks[next(turns) % len(asks)](client))
        (await client.delete(f"{limits}{FULL}")).raise_for_status()
        return {**found, MIX: mixed}


async def _saturated(ground: Ground, client: httpx.AsyncClient, ask: Ask) -> Capacity:
    """
    Ask without a pause for a while.
    """
    parts = [ground.parts[part][0] for part in ("prefect", "postgres")]
    before, begun = [tree_seconds(pid) for pid in parts], time.monotonic()
    asked = sum(await asyncio.gather(*(_asking(client, ask, until=begun + SECONDS) for _ in range(AT_ONCE))))
    seconds = time.monotonic() - begun
    server, database = (tree_seconds(pid) - was for pid, was in zip(parts, before, strict=True))
    return Capacity(asked / seconds, server / asked, database / asked)


async def _asking(client: httpx.AsyncClient, ask: Ask, *, until: float) -> int:
    asked = 0
    while time.monotonic() < until:
        answer = await ask(client)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.LOCKED):
            answer.raise_for_status()
        asked += 1
    return asked
