"""
Segments that wait to be recorded: in reading order, but for a window of them that is open, from which the longest goes first.

So no slot idles, early scripts finish early and the tail is short.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flows.narration import cost
from flows.narration.cost import Tally
from flows.narration.errors import NarrateError
from flows.narration.takes import Take
from flows.narration.taking import Request


class Wanted(NamedTuple):
    """
    A segment of a script: the key of its take, its text, and the *line* it begins on.
    """

    key: str
    text: str
    line: int = 0


@dataclass(eq=False)
class Want:
    """
    One distinct segment to be had: its take's key and its text, its place among those recorded, and how it goes.

    *charged* is the tally of the *script* that asked for it first; *bad* counts its bad takes, which are paid for, and
    *broken* its requests that failed in passing.
    """

    key: str
    text: str
    script: str
    line: int
    taken: "asyncio.Future[Take]"
    charged: Tally
    requests: int = 0
    bad: int = 0
    broken: int = 0
    place: int = 0

    @property
    def size(self) -> int:
        """
        Bytes that one request for it is billed for.
        """
        return cost.billed_bytes(self.text)

    def request(self) -> Request:
        """
        Describe its next request.
        """
        self.requests += 1
        return Request(key=self.key, text=self.text, script=self.script, line=self.line, attempt=self.requests)


class Window:
    """
    What waits: a line in reading order, and the window of *width* segments at its head.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._line: deque[Want] = deque()
        self._open: list[tuple[int, int, Want]] = []
        self._places: list[int] = []
        self._waiting: set[int] = set()
        self._opened = 0

    def __bool__(self) -> bool:
        return bool(self._open)

    def __len__(self) -> int:
        """
        Count all that wait.
        """
        return len(self._line) + len(self._open)

    @property
    def longest(self) -> Want:
        """
        The next to go.
        """
        return self._open[0][-1]

    def pop(self) -> Want:
        """
        Take the longest out.
        """
        want = heapq.heappop(self._open)[-1]
        self._waiting.discard(want.place)
        return want

    def extend(self, wants: Iterable[Want]) -> None:
        """
        Let *wants* wait at the end of the line.
        """
        self._line.extend(wants)

    def enter(self, want: Want) -> None:
        """
        Let a segment back into the window, at the place it had.
        """
        heapq.heappush(self._open, (-want.size, want.place, want))
        heapq.heappush(self._places, want.place)
        self._waiting.add(want.place)

    def fill(self, is_there: Callable[[Want], bool]) -> None:
        """
        Open what the width allows, passing over what *is_there* already.
        """
        while self._line and self._opened < self._oldest + self._width:
            want = self._line.popleft()
            if not is_there(want):
                want.place = self._opened
                self._opened += 1
                self.enter(want)

    @property
    def _oldest(self) -> int:
        """
        Place of the oldest segment not sent yet: the window begins there, so that short ones are not left behind for ever.
        """
        while self._places and self._places[0] not in self._waiting:
            heapq.heappop(self._places)
        return self._places[0] if self._places else self._opened

    def clear(self) -> Iterator[Want]:
        """
        Give up all that wait.
        """
        yield from (want for *_, want in self._open)
        yield from self._line
        self._open.clear()
        self._places.clear()
        self._waiting.clear()
        self._line.clear()


def fail(wants: Iterable[Want], error: NarrateError) -> None:
    """
    Give up *wants* for one *error*.
    """
    for want in wants:
        if not want.taken.done():
            want.taken.set_exception(error)


def had(result: Take | BaseException) -> Take | NarrateError:
    """
    Let an error of ours stand in a take's place; anything else is a fault of the program.
    """
    if isinstance(result, Take | NarrateError):
        return result
    raise result
