"""
Slots for requests in flight: who has been entered in the ledger waits here, first come first served, until it may leave.
"""

import asyncio
from collections import deque


class Slots:
    """
    Counts what is *in_flight*, and lets in what waits.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def taken(self) -> bool:
        """
        Wait for a slot, which is to be given back; false where there will be none.
        """
        let_in: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(let_in)
        try:
            return await let_in
        except asyncio.CancelledError:
            if let_in.done() and not let_in.cancelled() and let_in.result():
                self.in_flight -= 1
            raise

    def given_back(self) -> None:
        """
        Have one less in flight.
        """
        self.in_flight -= 1

    def let_in(self, most: int) -> None:
        """
        Let in what waits until *most* are in flight.
        """
        while self._waiting and self.in_flight < most:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self.in_flight += 1
                waiting.set_result(True)

    def close(self) -> None:
        """
        Let nothing more in.
        """
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(False)
