"""
One request for a take: entered in the ledger, sent, judged, kept in the take store, settled.

What is retried, when and how often is decided upstairs, in `flows.narration.recorder`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, TypeVar

from flows.narration import alignment, cost
from flows.narration.errors import NarrateError, ServiceUnavailable, StorageFailed, storing
from flows.narration.judge import BadTake, judge
from flows.narration.ledger import Account, Entry, Ledger, Outcome
from flows.narration.sharing import JUDGING_SECONDS, ElsewhereClaimed, sharing
from flows.narration.speech import Delivery, InlineReference, Speech, Voice
from flows.narration.takes import Take, TakeStore, is_timed
from flows.narration.turns import Turns

Made = TypeVar("Made")


class NotSent(NarrateError):
    """
    The run was stopped before the request left.
    """


@dataclass(frozen=True)
class Request:
    """
    The *attempt*th request (1 is the first) for the take *key* of *text*, which stands on a *line* of a *script*.
    """

    key: str
    text: str
    script: str
    line: int
    attempt: int

    @property
    def size(self) -> int:
        """
        UTF-8 bytes that it is billed for.
        """
        return cost.billed_bytes(self.text)


class Taking:
    """
    Requests for takes through *speech* into *store*, in the ledger for *account*; used as `async with` in one event loop.

    *deadline* is in seconds, for a request in all. *on_fault* is told what kept the ledger from being written. The run has the
    ledger to itself, so that what it holds unsettled is of runs that are dead: it is settled when this is opened.
    """

    def __init__(
        self,
        *,
        speech: Speech,
        store: TakeStore,
        voice: Voice | InlineReference,
        delivery: Delivery,
        deadline: float,
        account: Account,
        on_fault: Callable[[NarrateError], None],
    ) -> None:
        self._speech, self._store, self._voice, self._delivery = speech, store, voice, delivery
        self._deadline, self._account, self._on_fault = deadline, account, on_fault
        self._numbers: dict[Request, int] = {}
        self._turns = Turns()
        self._sharing = sharing(store, account, deadline=deadline)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="judge")  # they wait for the disk most of the time

    async def __aenter__(self) -> Self:
        folder = self._store.ledger_folder(self._account)
        folder.mkdir(parents=True, exist_ok=True)
        with storing():
            await self._sharing.prepare()
        self._ledger = Ledger(folder, self._account)
        left = self._ledger.unsettled()
        if left:
            self._ledger.close_unsettled((entry, self._became(entry.take)) for entry in left)
        with storing():
            await self._sharing.begin(self._ledger)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True)
        await self._ledger.close()
        await self._sharing.end()

    def _became(self, take: str) -> Outcome:
        """
        Tell what became of a request that a dead run left unsettled: its take was kept, or nobody knows.
        """
        return Outcome.TAKEN if self._store.covers(take) else Outcome.UNKNOWN

    async def ask(self, request: Request, *, leaving: Callable[[], Awaitable[bool]]) -> bytes:
        """
        Enter *request*, send it if *leaving* then says so, and return the answer; settle it where there is none.
        """
        await self._turns.mine()
        entry, number = self._entry(request), self._ledger.number()
        await self._sharing.claim(request.key, self._ledger.said(number, entry))
        try:
            return await self._asked(request, entry, number, leaving=leaving)
        except BaseException:
            await self._sharing.release(request.key)
            raise

    async def _asked(self, request: Request, entry: Entry, number: int, *, leaving: Callable[[], Awaitable[bool]]) -> bytes:
        await self._ledger.enter(entry, number=number)
        leaves = False
        try:
            leaves = await leaving()
            if leaves:
                leaves = False
                await self._sharing.renew(request.key)
                leaves = True
        finally:
            if not leaves:
                self._ledger.withdraw(number).add_done_callback(self._written)
        if not leaves:
            raise NotSent("The run was stopped.")
        self._numbers[request] = number
        try:
            speak = self._speech.speak_timed if is_timed(request.key) else self._speech.speak
            return await speak(request.text, voice=self._voice, delivery=self._delivery, deadline=self._deadline)
        except asyncio.CancelledError:
            self._settle(request, Outcome.UNKNOWN, "given up by the run")
            raise
        except ServiceUnavailable as error:
            self._settle(request, Outcome.REFUSED if error.billed is False else Outcome.UNKNOWN, error.fact)
            raise
        except NarrateError as error:
            self._settle(request, Outcome.REFUSED, error.fact)
            raise

    async def keep(self, request: Request, answer: bytes) -> Take:
        """
        Judge the answer to *request* and keep it; `BadTake` where it is no sound take. It is billed, whatever comes of it.
        """
        with suppress(ElsewhereClaimed, OSError):  # it is paid for, and kept whatever others do
            await self._sharing.renew(request.key, least=JUDGING_SECONDS)
        try:
            take = await self._kept(request, answer)
        except OSError:
            self._sharing.leave(request.key)
            raise
        except BaseException:
            await self._sharing.release(request.key)
            raise
        await self._sharing.release(request.key)
        return take

    async def _kept(self, request: Request, answer: bytes) -> Take:
        try:
            await self._turns.mine()
            take = await self._in_thread(lambda: self._judged(request, answer))
        except BadTake as error:
            self._settle(request, Outcome.RETAKEN, error.fact)
            aside = await self._in_thread(lambda: self._store.set_aside(request.key, alignment.sound_of(answer)))
            raise BadTake(f"{error.fact} The answer is kept in {aside} in the take store.") from error
        except BaseException as error:
            self._settle(request, Outcome.RETAKEN, f"not kept ({type(error).__name__})")
            raise
        self._settle(request, Outcome.TAKEN)
        return take

    def _judged(self, request: Request, answer: bytes) -> Take:
        speed = self._delivery.speed
        if not is_timed(request.key):
            return self._store.keep(request.key, judge(answer, text=request.text, speed=speed))
        wav, told = alignment.unpack(answer)
        heard = judge(wav, text=request.text, speed=speed)
        words = alignment.located(request.text, told, seconds=heard.seconds)
        return self._store.keep(request.key, heard, words=words)

    async def _in_thread(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _entry(self, request: Request) -> Entry:
        return Entry(
            script=request.script,
            line=request.line,
            take=request.key,
            attempt=request.attempt,
            size=request.size,
            usd=cost.usd(request.size, model=self._delivery.model),
        )

    def _settle(self, request: Request, outcome: Outcome, reason: str | None = None) -> None:
        number = self._numbers.pop(request, None)
        if number is not None:
            self._ledger.settle(number, outcome, reason).add_done_callback(self._written)

    def _written(self, done: "asyncio.Future[None]") -> None:
        fault = done.exception()
        if isinstance(fault, OSError):
            self._on_fault(StorageFailed.by(fault))
