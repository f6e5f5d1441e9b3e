"""
Segments wanted, takes had: one limiter for all scripts in flight, longest first, retried and judged.

What is wanted waits in reading order; a window of it is open, from which the longest goes first, so that no slot idles, early
scripts finish early and the tail is short. A request that failed in passing gives its slot back and comes again later.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flows.narration import cost
from flows.narration.cost import Tally
from flows.narration.errors import (
    KeyRefused,
    MoneyError,
    NarrateError,
    RateLimited,
    ServiceUnavailable,
    StorageFailed,
    TakeFailed,
    UsageError,
    VoiceNotFound,
)
from flows.narration.judge import BadTake, judge
from flows.narration.limiter import Limiter, Patience, Weather
from flows.narration.speech import Delivery, InlineReference, Speech, Voice
from flows.narration.takes import Take, TakeStore

UNJUDGED = 4
"""Answers that may wait to be judged: each is held whole, 88 kB a second, and their slots are free already."""

WINDOW = 4
"""Segments open at once, as a multiple of the concurrency."""


@dataclass(eq=False)
class Want:
    """
    One distinct segment to be had: its take's key and its text, its place among those recorded, and how it goes.

    *charged* is the tally of the script that asked for it first; *bad* counts its bad takes, which are paid for, and *broken*
    its requests that failed in passing.
    """

    key: str
    text: str
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


class Recorder:
    """
    Takes for all scripts of a run, spoken through *speech* and kept in *store*; used as `async with` in one event loop.

    *budget* (UTF-8 bytes; `None` is no limit) is never crossed: bytes billed, perhaps billed and in flight all count.
    """

    def __init__(
        self,
        *,
        speech: Speech,
        store: TakeStore,
        voice: Voice | InlineReference,
        delivery: Delivery,
        patience: Patience,
        budget: int | None = None,
    ) -> None:
        self._speech, self._store, self._voice, self._delivery = speech, store, voice, delivery
        self._patience, self._budget = patience, budget
        self.tally = Tally()
        self.limiter = Limiter(patience.concurrency)
        self.weather = Weather(patience=patience.patience, backoff=patience.backoff)
        self.stopped: NarrateError | None = None
        self.segments_done = 0
        self.seconds_done = 0.0
        self._wants: dict[str, Want] = {}
        self._line: deque[Want] = deque()
        self._window: list[tuple[int, int, Want]] = []
        self._opened = 0
        self._announced = 0
        self._room = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._sleeping: dict[Want, asyncio.TimerHandle] = {}
        self._bytes_in_flight = 0
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="judge")

    async def __aenter__(self) -> "Recorder":
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._sleeping.values():
            timer.cancel()
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._threads.shutdown(wait=True)

    async def admit(self, segments: int) -> bool:
        """
        Wait until a script of *segments* segments may begin, while what is begun fills the window; false when all is stopped.
        """
        while self.stopped is None and self._ahead >= self._width:
            self._room.clear()
            await self._room.wait()
        self._announced += segments
        return self.stopped is None

    async def record(self, wanted: Sequence[tuple[str, str]], *, tally: Tally) -> list[Take | NarrateError]:
        """
        Have a take for each (key, text) of a script that was admitted, in its order; an error in the place of each that failed.

        What this call causes is added to *tally* as it happens: a segment that another script asked for first is that script's.
        """
        own: list[Want] = []
        futures: list[asyncio.Future[Take]] = []
        for key, text in wanted:
            want = self._wants.get(key)
            if want is None:
                want = Want(key=key, text=text, taken=asyncio.get_running_loop().create_future(), charged=tally)
                self._wants[key] = want
                own.append(want)
                want.taken.add_done_callback(self._note)
            futures.append(want.taken)
        self._announced -= len(wanted)
        self._line.extend(own)
        self._pump()
        results = await asyncio.gather(*map(asyncio.shield, futures), return_exceptions=True)
        return [_take_or_error(result) for result in results]

    def _note(self, taken: "asyncio.Future[Take]") -> None:
        self.segments_done += 1
        if not taken.cancelled() and taken.exception() is None:
            self.seconds_done += taken.result().seconds

    def discard(self, key: str) -> None:
        """
        Forget a take that turned out to be damaged, so that it is recorded anew when it is wanted next.
        """
        self._store.discard(key)
        self._wants.pop(key, None)

    @property
    def _width(self) -> int:
        return WINDOW * self._patience.concurrency

    @property
    def _oldest(self) -> int:
        """
        Place of the oldest segment not sent yet: the window begins there, so that short ones are not left behind for ever.
        """
        return min((want.place for *_, want in self._window), default=self._opened)

    @property
    def _ahead(self) -> int:
        return self._announced + len(self._line) + len(self._window)

    def _pump(self) -> None:
        """
        Fill the window from the line, and the free slots from the window.
        """
        while self._line and self._opened < self._oldest + self._width:
            self._open(self._line.popleft())
        if self.stopped is not None:
            self._fail_all(self.stopped)
        slots = 0 if self.limiter.pause else self.weather.slots(self.limiter.capacity)
        while self._window and self._in_flight < slots and len(self._requests) < slots + UNJUDGED:
            want = self._window[0][-1]
            if not self._affords(want):
                break
            heapq.heappop(self._window)
            self._send(want)
        self._room.set()

    def _open(self, want: Want) -> None:
        take = self._store.find(want.key)
        if take is not None:
            want.taken.set_result(take)
        else:
            want.place = self._opened
            self._opened += 1
            self._enter(want)

    def _enter(self, want: Want) -> None:
        heapq.heappush(self._window, (-want.size, want.place, want))

    def _affords(self, want: Want) -> bool:
        """
        Say whether the budget covers one more request, and stop the run if it does not.
        """
        if self._budget is None:
            return True
        spent = self.tally.bytes_billed + self.tally.bytes_unknown + self._bytes_in_flight
        if spent + want.size <= self._budget:
            return True
        if not self._in_flight:
            model = self._delivery.model
            self.stop(
                MoneyError(
                    f"The budget of {cost.usd(self._budget, model=model):.4f} USD does not cover what is left.",
                    "Raise --budget and run again: what was recorded is kept.",
                )
            )
        return False

    def _send(self, want: Want) -> None:
        self._in_flight += 1
        self._bytes_in_flight += want.size
        self._charge(want, Tally(requests=1, retries=1 if want.requests else 0))
        want.requests += 1
        request = asyncio.create_task(self._attempt(want))
        self._requests.add(request)
        request.add_done_callback(lambda done: self._settle(want, done))

    def _settle(self, want: Want, done: "asyncio.Task[None]") -> None:
        self._requests.discard(done)
        if not done.cancelled() and (fault := done.exception()) is not None and not want.taken.done():
            want.taken.set_exception(fault)
        self._pump()

    async def _attempt(self, want: Want) -> None:
        """
        Ask once, and decide what the answer means.
        """
        try:
            wav = await self._asked(want)
            take = await asyncio.get_running_loop().run_in_executor(self._threads, self._judged, want, wav)
            self._charge(want, Tally(bytes_recorded=want.size))
            want.taken.set_result(take)
        except RateLimited as limit:
            self.limiter.refused(self._in_flight, retry_after=limit.retry_after)
            self.weather.refused()
            self._in_passing(want, limit)
        except ServiceUnavailable as error:
            self.weather.failed(want.key, away=error.away)
            self._in_passing(want, error)
        except BadTake as error:
            want.bad += 1
            self._again_or_never(want, error, tried=want.bad, most=self._patience.attempts)
        except (KeyRefused, MoneyError, VoiceNotFound, UsageError) as error:
            self.stop(error)
            want.taken.set_exception(error)
        except OSError as error:
            # What cannot be kept must not be paid for: a full disk stops the run, not just this segment.
            self.stop(StorageFailed.by(error))
            want.taken.set_exception(StorageFailed.by(error))
        except NarrateError as error:
            want.taken.set_exception(error)

    async def _asked(self, want: Want) -> bytes:
        """
        Send one request, and enter what it cost: all of it when an answer came, perhaps all when nobody can know.
        """
        cost_of = {False: Tally(), None: Tally(bytes_unknown=want.size)}
        try:
            wav = await self._speech.speak(
                want.text, voice=self._voice, delivery=self._delivery, deadline=self._patience.deadline
            )
        except asyncio.CancelledError:
            self._charge(want, cost_of[None])
            raise
        except ServiceUnavailable as error:
            self._charge(want, cost_of[error.billed])
            raise
        finally:
            self._in_flight -= 1
            self._bytes_in_flight -= want.size
            self.limiter.told(self._speech.concurrency_limit)
        self._charge(want, Tally(bytes_billed=want.size))
        self.limiter.answered()
        self.weather.clear()
        self._pump()  # the slot is free while the answer is judged
        return wav

    def _judged(self, want: Want, wav: bytes) -> Take:
        return self._store.keep(want.key, judge(wav, text=want.text, speed=self._delivery.speed))

    def _in_passing(self, want: Want, error: ServiceUnavailable) -> None:
        """
        Decide on a failure that may not be the segment's fault: come again, in the dark for as long as patience lasts.
        """
        if self.weather.hopeless:
            self.stop(error)
        if self.weather.dark or self.limiter.pause:
            pause = max(self.weather.pause, self.limiter.pause)
            asyncio.get_running_loop().call_later(pause + 0.001, self._pump)
        if error.away or self.weather.dark or isinstance(error, RateLimited):
            self._again(want, after=error.retry_after)
        else:
            want.broken += 1
            self._again_or_never(want, error, tried=want.broken, most=2 * self._patience.attempts)

    def _again_or_never(self, want: Want, error: NarrateError, *, tried: int, most: int) -> None:
        """
        Give this segment another try, or give it up when it had *most*.
        """
        if tried >= most and self.stopped is None:
            want.taken.set_exception(TakeFailed(f"No sound take after {tried} attempts: {error.fact}"))
        else:
            self._again(want, after=None)

    def _again(self, want: Want, *, after: float | None) -> None:
        """
        Put the segment back into the window after a while, its slot free for others until then.
        """
        if self.stopped is not None:
            want.taken.set_exception(self.stopped)
            return
        wait = self.weather.delay(want.requests) if after is None else min(after, self._patience.patience) + random.random()
        self._sleeping[want] = asyncio.get_running_loop().call_later(wait, self._back, want)

    def _back(self, want: Want) -> None:
        del self._sleeping[want]
        self._enter(want)
        self._pump()

    def stop(self, error: NarrateError) -> None:
        """
        Send nothing more; what is in flight may still come back and is kept.
        """
        if self.stopped is None:
            self.stopped = error
        self._fail_all(error)

    def _fail_all(self, error: NarrateError) -> None:
        for timer in self._sleeping.values():
            timer.cancel()
        _fail((want for *_, want in self._window), error)
        _fail(self._line, error)
        _fail(self._sleeping, error)
        self._window.clear()
        self._line.clear()
        self._sleeping.clear()
        self._room.set()

    def _charge(self, want: Want, what: Tally) -> None:
        want.charged.add(what)
        self.tally.add(what)


def _fail(wants: Iterable[Want], error: NarrateError) -> None:
    for want in wants:
        if not want.taken.done():
            want.taken.set_exception(error)


def _take_or_error(result: Take | BaseException) -> Take | NarrateError:
    """
    Let an error of ours stand in a take's place; anything else is a fault of the program.
    """
    if isinstance(result, Take | NarrateError):
        return result
    raise result
