"""
Slots for requests in flight: who has been entered in the ledger waits here, first come first served, until it may leave.
"""

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """
    Counts what is *in_flight*, and lets in what waits.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.on_more: Callable[[], None] = lambda: None
        self._waiting: deque[asyncio.Future[bool]] = deque()

    def of(self, most: int, *, wanted: int) -> int:
        """
        Tell how many there are of the *most* that may be in flight, where so many are *wanted* now.
        """
        return most

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
                self.given_back()
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


class LentSlots(Slots):
    """
    Slots that a run has on loan, of those that all runs of an account share: no more in flight than are *held*.

    Each is *open* for a stretch; what leaves goes by those. Then it is emptied, and is no longer held. Whoever lends them sees
    how many are *wanted*.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open = self.held = self.wanted = 0
        self._changed = asyncio.Event()

    def of(self, most: int, *, wanted: int) -> int:
        """
        Tell how many of *most* are open, and have it known how many would be of use.
        """
        if self.wanted != (useful := min(most, wanted)):
            self.wanted = useful
            self.change()
        return min(most, self.open)

    def given_back(self) -> None:
        """
        Have one less in flight, so that one slot less has to be held.
        """
        super().given_back()
        self.change()

    def lend(self) -> None:
        """
        Open one more.
        """
        self.held += 1
        self.open += 1
        self.on_more()

    async def emptied(self) -> None:
        """
        Let nothing more leave on one of them, and wait until it is not needed for what is in flight: it is no longer held.
        """
        self.open -= 1
        await self.until(lambda: self.in_flight < self.held)
        self.held -= 1
        self.change()

    async def until(self, so: Callable[[], bool]) -> None:
        """
        Wait until it is *so*.
        """
        while not so():
            await self._changed.wait()

    def change(self) -> None:
        """
        Have those that wait look again.
        """
        self._changed.set()
        self._changed = asyncio.Event()
