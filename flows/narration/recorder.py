"""
Segments wanted, takes had: one limiter for all scripts in flight, retried and judged.

What waits, and what goes first, is in `flows.narration.window`; a single request in `flows.narration.taking`. A request that
failed in passing gives its slot back and comes again later.
"""

import asyncio
import random
from collections.abc import Sequence

from flows.narration import cost
from flows.narration.claims import LOOK_SECONDS
from flows.narration.cost import Tally
from flows.narration.errors import (
    Interrupted,
    KeyRefused,
    MoneyError,
    NarrateError,
    RateLimited,
    RequestUnread,
    ServiceUnavailable,
    StorageFailed,
    TakeFailed,
    UsageError,
    VoiceNotFound,
    storing,
)
from flows.narration.judge import BadTake
from flows.narration.ledger import Account
from flows.narration.limiter import STORM, Limiter, Odds, Patience, Weather
from flows.narration.sharing import AlreadyThere, ElsewhereClaimed
from flows.narration.slots import Slots
from flows.narration.speech import Delivery, InlineReference, Speech, Voice
from flows.narration.takes import Take, TakeStore
from flows.narration.taking import NotSent, Request, Taking
from flows.narration.window import Want, Wanted, Window, fail, had

MOST_UNJUDGED = 24_000_000
"""Bytes of answers (270 s of sound) that wait to be judged and kept, above which nothing is sent, though slots are free."""

AHEAD = 4
"""One request for so many slots is entered in the ledger before its slot is free: the disk is not waited for then."""

WINDOW = 4
"""Segments open at once, as a multiple of the concurrency."""


class Recorder:
    """
    Takes for all scripts of a run, spoken through *speech* and kept in *store*; used as `async with` in one event loop.

    *budget* (UTF-8 bytes; `None` is no limit) is never crossed: bytes billed, perhaps billed and in flight all count. Every
    request is in the ledger for *account* before it leaves.
    """

    def __init__(
        self,
        *,
        speech: Speech,
        store: TakeStore,
        voice: Voice | InlineReference,
        delivery: Delivery,
        patience: Patience,
        account: Account,
        budget: int | None = None,
        slots: Slots | None = None,
    ) -> None:
        self._speech, self._store, self._delivery = speech, store, delivery
        self._patience, self._budget = patience, budget
        self._taking = Taking(
            speech=speech,
            store=store,
            voice=voice,
            delivery=delivery,
            deadline=patience.deadline,
            account=account,
            on_fault=self.stop,
        )
        self.tally = Tally()
        self.limiter = Limiter(patience.concurrency)
        self.weather = Weather(patience=patience.patience, backoff=patience.backoff)
        self._odds_of_bad, self._odds_of_broken = Odds(), Odds()
        self._bad: set[str] = set()
        self.stopped: NarrateError | None = None
        self.segments_done = self.segments_failed = 0
        self.seconds_done = 0.0
        self._wants: dict[str, Want] = {}
        self._width = WINDOW * patience.concurrency
        self._window = Window(self._width)
        self._announced = self._begun = self._bytes_begun = 0
        self._room = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()
        self._slots = slots or Slots()
        self._slots.on_more = self._pump
        self._sleeping: dict[Want, asyncio.TimerHandle] = {}
        self._unjudged = self._answers = 0

    async def __aenter__(self) -> "Recorder":
        await self._taking.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for timer in self._sleeping.values():
            timer.cancel()
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        await self._taking.__aexit__()

    async def admit(self, segments: int) -> bool:
        """
        Wait until a script of *segments* segments may begin, while what is begun fills the window; false when all is stopped.
        """
        while self.stopped is None and self._announced + len(self._window) >= self._width:
            self._room.clear()
            await self._room.wait()
        self._announced += segments
        return self.stopped is None

    async def record(self, wanted: Sequence[Wanted], *, script: str, tally: Tally) -> list[Take | NarrateError]:
        """
        Have a take for each segment of a *script* that was admitted, in its order; an error in the place of each that failed.

        What this call causes is added to *tally* as it happens: a segment that another script asked for first is that script's.
        """
        with storing():
            await self._store.bring(key for key, *_ in wanted)
        own: list[Want] = []
        futures: list[asyncio.Future[Take]] = []
        for key, text, line in wanted:
            want = self._wants.get(key)
            if want is None:
                taken: asyncio.Future[Take] = asyncio.get_running_loop().create_future()
                want = Want(key=key, text=text, script=script, line=line, taken=taken, charged=tally)
                self._wants[key] = want
                own.append(want)
                want.taken.add_done_callback(self._note)
            futures.append(want.taken)
        self._announced -= len(wanted)
        self._window.extend(own)
        self._pump()
        results = await asyncio.gather(*map(asyncio.shield, futures), return_exceptions=True)
        return [had(result) for result in results]

    def _note(self, taken: "asyncio.Future[Take]") -> None:
        error = None if taken.cancelled() else taken.exception()
        if taken.cancelled() or (error is not None and error is self.stopped):
            return  # not done, and no failure of its own
        self.segments_done += 1
        if error is not None:
            self.segments_failed += 1
        else:
            self.seconds_done += taken.result().seconds

    def discard(self, key: str) -> None:
        """
        Forget a take that turned out to be damaged, so that it is recorded anew when it is wanted next.
        """
        self._store.discard(key)
        self._wants.pop(key, None)

    def _pump(self) -> None:
        """
        Fill the window from the line, and the free slots from the window.
        """
        self._window.fill(self._is_there)
        if self.stopped is not None:
            self._fail_all(self.stopped)
            self._slots.close()
        most = 0 if self.limiter.pause else self.weather.slots(self.limiter.capacity)
        slots = self._slots.of(most, wanted=self._begun + len(self._window))
        # No more answers wait than there are slots: a kill -9 loses what waits, as it does what is in flight.
        self._slots.let_in(min(slots, 2 * slots - self._answers))
        ahead = max(1, slots // AHEAD) if slots else 0
        while self._window and self._begun < slots + ahead and self._unjudged < MOST_UNJUDGED:
            if not self._affords(self._window.longest):
                break
            self._send(self._window.pop())
        self._room.set()

    def _is_there(self, want: Want) -> bool:
        take = self._store.find(want.key)
        if take is not None:
            want.taken.set_result(take)
        return take is not None

    def _affords(self, want: Want) -> bool:
        """
        Say whether the budget covers one more request, and stop the run if it does not.
        """
        if self._budget is None:
            return True
        spent = self.tally.bytes_billed + self.tally.bytes_unknown + self._bytes_begun
        if spent + want.size <= self._budget:
            return True
        if not self._begun:
            may = max(0.0, cost.usd(self._budget, model=self._delivery.model))
            self.stop(
                MoneyError(
                    f"The {may:.4f} USD that this run may spend do not cover the rest.",
                    "Raise --budget and run again: what was recorded is kept.",
                )
            )
        return False

    def _send(self, want: Want) -> None:
        self._begun += 1
        self._bytes_begun += want.size
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
        request = want.request()
        try:
            take = await self._kept(request, await self._asked(want, request))
        except AlreadyThere as found:
            want.taken.set_result(found.take)
        except ElsewhereClaimed:
            want.requests -= 1
            self._again(want, after=LOOK_SECONDS)
        except NotSent:
            want.taken.set_exception(self.stopped or Interrupted.by_a_person())
        except RateLimited as limit:
            self.limiter.refused(self._slots.in_flight, retry_after=limit.retry_after)
            self.weather.refused()
            self._in_passing(want, limit)
        except ServiceUnavailable as error:
            self.weather.failed(want.key, away=error.away)
            self._in_passing(want, error)
        except BadTake as error:
            self._retake(want, error)
        except RequestUnread as error:
            want.broken += 1
            self._again_or_never(want, error, tried=want.broken, most=self._patience.attempts)
        except (KeyRefused, MoneyError, VoiceNotFound, UsageError) as error:
            self.stop(error)
            want.taken.set_exception(error)
        except OSError as error:
            # What cannot be kept, or entered, must not be paid for: a full disk stops the run, not just this segment.
            self.stop(StorageFailed.by(error))
            want.taken.set_exception(StorageFailed.by(error))
        except NarrateError as error:
            want.taken.set_exception(error)
        else:
            self._odds_of_bad.well += 1
            self._odds_of_broken.well += 1
            self._charge(want, Tally(bytes_recorded=want.size))
            want.taken.set_result(take)

    async def _asked(self, want: Want, request: Request) -> bytes:
        """
        Send one request and count what it cost: all of it when an answer came, perhaps all when nobody can know.
        """
        left = False

        async def leaving() -> bool:
            nonlocal left
            asyncio.get_running_loop().call_soon(self._pump)  # there may be a slot
            left = await self._leaving(want)
            return left

        try:
            wav = await self._taking.ask(request, leaving=leaving)
        except asyncio.CancelledError:
            self._charge(want, Tally(bytes_unknown=want.size if left else 0))
            raise
        except ServiceUnavailable as error:
            if error.billed is None:
                self._charge(want, Tally(bytes_unknown=want.size))
            raise
        finally:
            if left:
                self._slots.given_back()
            self._begun -= 1
            self._bytes_begun -= want.size
            self.limiter.told(self._speech.concurrency_limit)
        self._charge(want, Tally(bytes_billed=want.size))
        self._unjudged += len(wav)
        self._answers += 1
        self.limiter.answered()
        self.weather.clear()
        self._pump()  # the slot is free while the answer is judged
        return wav

    async def _kept(self, request: Request, wav: bytes) -> Take:
        """
        Have an answer judged and kept.
        """
        try:
            return await self._taking.keep(request, wav)
        finally:
            self._unjudged -= len(wav)
            self._answers -= 1
            self._pump()

    async def _leaving(self, want: Want) -> bool:
        """
        Wait until a request that was entered may leave; false when the run was stopped meanwhile.
        """
        slot = await self._slots.taken()
        if slot and self.stopped is not None:
            self._slots.given_back()
            slot = False
        if slot:
            self._charge(want, Tally(requests=1, retries=1 if want.requests > 1 else 0))
        return slot

    def _retake(self, want: Want, error: BadTake) -> None:
        """
        Decide on an answer that is no sound take: a few more for this segment, none at all where no segment gets a sound one.
        """
        want.bad += 1
        self._odds_of_bad.wrong += 1
        most = self._odds_of_bad.tries(self._patience.attempts, own=want.bad)
        self._bad.add(want.key)
        if (
            not self._odds_of_bad.well
            and len(self._bad) >= STORM
            and self._odds_of_bad.wrong >= STORM * self._patience.attempts
        ):
            self.stop(ServiceUnavailable(f"Of {self._odds_of_bad.wrong} answers not one is a sound take. {error.fact}"))
        self._again_or_never(want, error, tried=want.bad, most=most)

    def _in_passing(self, want: Want, error: ServiceUnavailable) -> None:
        """
        Decide on a failure that may not be the segment's fault: come again, in the dark for as long as patience lasts.
        """
        # A segment that has a number of tries of its own ends by itself: it must not end the others, or be told as the service.
        nobodys = error.away or self.weather.dark or isinstance(error, RateLimited)
        if nobodys and self.weather.hopeless:
            self.stop(error)
        if self.weather.dark or self.limiter.pause:
            pause = max(self.weather.pause, self.limiter.pause)
            asyncio.get_running_loop().call_later(pause + 0.001, self._pump)
        if nobodys:
            self._again(want, after=error.retry_after)
        else:
            want.broken += 1
            self._odds_of_broken.wrong += 1
            most = self._odds_of_broken.tries(2 * self._patience.attempts, own=want.broken)
            self._again_or_never(want, error, tried=want.broken, most=most)

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
        self._window.enter(want)
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
        fail(self._window.clear(), error)
        fail(self._sleeping, error)
        self._slots.close()
        self._sleeping.clear()
        self._room.set()

    def _charge(self, want: Want, what: Tally) -> None:
        want.charged.add(what)
        self.tally.add(what)
