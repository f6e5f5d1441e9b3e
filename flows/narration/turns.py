"""
Turns: work on the event loop that can wait for the network.
"""

import asyncio
import time
from collections import deque

IDLE = 0.0002
"""Seconds that a round of the event loop takes at most which had nothing else to do."""

LONGEST = 0.3
"""Seconds that a turn is waited for at most: a loop that is never idle gets its work done all the same."""


class Turns:
    """
    A piece of work at a time, whenever the event loop has nothing else to do, first come first served.

    The answers to all requests in flight may come at once. Without turns, everything that is made of the first of them and of
    the requests behind them would be done before the last is read and its slot is free: 20 ms for each of 50 slots, each time.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._looked = 0.0

    async def mine(self) -> None:
        """
        Wait for a turn.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            self._looked = 0.0
            loop.call_soon(self._look)
        self._waiting.append((time.monotonic(), turn))
        await turn

    def _look(self) -> None:
        """
        Let one go where the round since the last look took no time, or where one has waited long.
        """
        now = time.monotonic()
        idle, self._looked = now - self._looked < IDLE, now
        since, turn = self._waiting[0]
        if idle or now - since > LONGEST:
            self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._look)
