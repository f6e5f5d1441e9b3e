"""
Work that waits for the network, and not for ever.
"""

import asyncio
import time

from flows.narration.turns import LONGEST, Turns


async def test_what_is_ready_goes_first() -> None:
    """
    Work comes in order, and after what the event loop has to do meanwhile.
    """
    turns, done = Turns(), list[str]()

    async def work(name: str) -> None:
        """
        Wait, and be done.
        """
        await turns.mine()
        done.append(name)

    async def network() -> None:
        """
        Take a few rounds of the event loop, each with something to do.
        """
        for _ in range(5):
            time.sleep(0.002)  # noqa: ASYNC251 - a busy loop is the point
            await asyncio.sleep(0)
        done.append("network")

    await asyncio.gather(work("first"), work("second"), network())

    assert ["network", "first", "second"] == done


async def test_a_busy_loop_gets_its_work_done() -> None:
    """
    Nothing starves where the event loop is never idle.
    """
    turns, began = Turns(), time.monotonic()
    waiting = asyncio.create_task(turns.mine())
    while not waiting.done():
        time.sleep(0.002)  # noqa: ASYNC251 - a busy loop is the point
        await asyncio.sleep(0)
        assert time.monotonic() - began < 20 * LONGEST

    assert time.monotonic() - began > LONGEST


async def test_who_gives_up_keeps_nobody_waiting() -> None:
    """
    A turn that nobody waits for any more is passed over.
    """
    turns = Turns()
    first, second = (asyncio.create_task(turns.mine()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    async with asyncio.timeout(20):
        await second

    assert first.cancelled()
