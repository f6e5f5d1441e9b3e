"""
One run over a folder of scripts: from what is planned, through takes, to narrations and the manifest.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal
from uuid import uuid4

from flows.narration import budget, cost, entries, ours
from flows.narration.assemble import Sound, assemble
from flows.narration.contour import Contour, ContourFile, contour_path
from flows.narration.cost import Tally
from flows.narration.ending import located
from flows.narration.errors import Interrupted, NarrateError, StorageFailed, TakeFailed, UsageError, storing
from flows.narration.ledger import Account
from flows.narration.manifest import (
    RUN,
    Manifest,
    ScriptEntry,
    Totals,
    VoiceEntry,
    segments_name,
    segments_path,
)
from flows.narration.order import Order
from flows.narration.plan import Estimate, Planned, as_made, estimate, making, planned
from flows.narration.progress import Progress
from flows.narration.recorder import Recorder
from flows.narration.retakes import Retakes
from flows.narration.slots import Slots
from flows.narration.speech import InlineReference, Speech, Voice
from flows.narration.takes import TakeDamaged, key_by, voice_key
from flows.narration.unchanged import Made, Memory, look
from flows.narration.window import Wanted

watching: ContextVar["Callable[[Production], None] | None"] = ContextVar("watching", default=None)
"""Who is handed each run that begins, to show its progress."""

ENCODERS = ThreadPoolExecutor(2, thread_name_prefix="assemble")
"""Narrations assembled at once: encoding is done by ffmpeg, at low priority, two processes of it at most."""


class Production:
    """
    A run in progress. Entries exist for every script from the start, so that a manifest can be written at any end.

    *remember* leaves in OUT what was asked for, once nothing speaks against it any more. *ask_again* makes the order anew, of
    what there is to read by then.
    """

    def __init__(
        self,
        order: Order,
        *,
        run_id: str | None = None,
        remember: Callable[[], None] = lambda: None,
        ask_again: Callable[[], Order] | None = None,
    ) -> None:
        self.order, self.remember, self._ask_again = order, remember, ask_again
        self.run_id = run_id
        self.started = _now()
        self.voice: VoiceEntry | None = None
        self.entries = entries.to_make(order.survey.readings)
        self.result: dict[str, Any] = {}
        self.interrupted = False
        self._expected_usd = 0.0
        self.why: str | None = None
        self._plans: dict[str, Planned] = {}
        self._made: dict[str, Made] = {}
        self._contours: dict[str, Contour] = {}
        self._making: str | None = None
        self._tallies: dict[str, Tally] = {}
        self._anew: Counter[str] = Counter()
        self._before: dict[str, Counter[str]] = {}
        self._recorder: Recorder | None = None
        watcher = watching.get()
        if watcher is not None:
            watcher(self)

    def begin_alone(self, *, waited: bool) -> None:
        """
        Go by what there is now that no other run works in OUT: retakes that were asked for meanwhile and, after this one
        *waited*, whatever it reads. Raises `UsageError` where that does not go into this OUT.
        """
        if waited and self._ask_again is not None:
            read = self._ask_again()
            if read.out != self.order.out:
                raise UsageError(
                    f"What was to go to {self.order.out} was changed while this run waited, and goes to {read.out} by now.",
                    "Run it once more.",
                )
            # Places are those that this run has to itself.
            self.order = replace(read, store=self.order.store, mirror=self.order.mirror)
            self.entries = entries.to_make(read.survey.readings)
        self.order = replace(self.order, retakes=Retakes.of(self.order.out))

    @property
    def progress(self) -> Progress:
        """
        How far the run is.
        """
        recorder = self._recorder
        waiting = [self._plans[name].reading for name in self._plans if self._plans[name].made is None]
        usd = cost.usd(recorder.tally.bytes_billed, model=self.order.delivery.model) if recorder else 0.0
        return Progress(
            scripts=len(waiting),
            scripts_done=sum(self.entries[reading.script.name].state == "narrated" for reading in waiting),
            scripts_failed=sum(self.entries[reading.script.name].state == "failed" for reading in waiting),
            segments=sum(reading.count for reading in waiting),
            segments_done=recorder.segments_done if recorder else 0,
            segments_failed=recorder.segments_failed if recorder else 0,
            minutes=recorder.seconds_done / 60 if recorder else 0.0,
            usd=usd,
            usd_expected=max(usd, self._expected_usd),
        )

    def plan(self, *, voice: Voice | InlineReference, entry: VoiceEntry, host: str) -> list[str]:
        """
        Name every take now that the voice is known, and return the scripts that have to be made, in order.
        """
        self.voice = entry
        self._host = host
        self._key_of = key_by(voice_key(voice), delivery=self.order.delivery, host=host, store=self.order.store)
        survey, sound = self.order.survey, self.order.sound
        retakes, artist = self.order.retakes, entry.title
        self._making = making(survey.root, sound=sound, artist=artist, key_of=self._key_of, retakes=retakes)
        plans = planned(survey, out=self.order.out, sound=sound, artist=artist, key_of=self._key_of, retakes=retakes)
        self._plans = {plan.reading.script.name: plan for plan in plans if plan.reading.count}
        for name, plan in self._plans.items():
            if plan.made is not None:
                self._made[name] = plan.made
                self.entries[name] = entries.unchanged(plan.reading, plan.made)
        return [name for name, plan in self._plans.items() if plan.made is None]

    async def bring(self) -> None:
        """
        Have the takes that are needed besides those of the scripts that have to be made: none.
        """

    def estimate(self) -> Estimate:
        """
        Say what is still to be sent for this order, by the takes there are.
        """
        delivery = self.order.delivery
        left = replace(self.order.survey, readings=tuple(plan.reading for plan in self._plans.values() if plan.made is None))
        need = estimate(
            left,
            model=delivery.model,
            speed=delivery.speed,
            store=self.order.store,
            key_of=self._key_of,
            retakes=self.order.retakes,
        )
        self._expected_usd = need.usd
        return need

    def check_money(self, need: Estimate, *, credit_usd: float | None) -> None:
        """
        Raise `MoneyError` before anything is sent if the budget, or the *credit_usd* that is known, does not cover the *need*.
        """
        budget.refuse_short(need.usd, budget_usd=self.order.budget_usd, left_usd=self._budget_left, credit_usd=credit_usd)

    @cached_property
    def _budget_left(self) -> float | None:
        return budget.left(self.order.budget_usd, run_id=self.run_id, store=self.order.store)

    @property
    def spent_of_budget(self) -> float:
        """
        USD of the budget that are spent or may be, by earlier attempts among it; 0 without a budget.
        """
        tally, model = self._opened.tally, self.order.delivery.model
        before = (self.order.budget_usd or 0.0) - (self._budget_left or 0.0)
        return before + cost.usd(tally.bytes_billed + tally.bytes_unknown, model=model)

    def recorder(self, *, speech: Speech, voice: Voice | InlineReference, slots: Slots | None = None) -> Recorder:
        """
        Open the recorder that all scripts of this run share, with *slots* of its own unless it is handed others.
        """
        order = self.order
        self._recorder = Recorder(
            speech=speech,
            store=order.store,
            voice=voice,
            delivery=order.delivery,
            patience=order.patience,
            account=Account(
                # A run that Prefect knows nothing of is a run all the same.
                run=self.run_id or uuid4().hex,
                host=self._host,
                voice=voice_key(voice),
                model=order.delivery.model,
            ),
            budget=budget.in_bytes(self._budget_left, model=order.delivery.model),
            slots=slots,
        )
        return self._recorder

    @property
    def sending(self) -> bool:
        """
        Whether requests for takes may have been sent.
        """
        return self._recorder is not None

    def interrupt(self) -> None:
        """
        Send nothing more; what is in flight is paid for, and is waited for and kept.
        """
        self.interrupted = True
        if self._recorder is not None:
            self._recorder.stop(Interrupted.by_a_person())

    async def admit(self, name: str) -> bool:
        """
        Wait until it is the turn of the script named *name*; false when nothing more is to begin.
        """
        return await self._opened.admit(len(self._plans[name].pieces))

    @property
    def stopped(self) -> NarrateError | None:
        """
        Why nothing more is sent, where that is so.
        """
        return self._opened.stopped

    @property
    def _opened(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("the recorder is not open")
        return self._recorder

    async def narrate(self, name: str) -> ScriptEntry:
        """
        Record what the script named *name* lacks and assemble it; raise what went wrong, with its entry saying so.
        """
        await self.record(name)
        return await self.finish_script(name)

    async def record(self, name: str) -> None:
        """
        Have every take of the script named *name*; raise what went wrong, with its entry saying so.
        """
        with self._telling(name):
            self._before[name] = self._anew.copy()
            await self._record(self._plans[name], self._tallies.setdefault(name, Tally()))

    async def finish_script(self, name: str) -> ScriptEntry:
        """
        Make of its takes what the script named *name* is to become, recording anew what is damaged.
        """
        plan, tally = self._plans[name], self._tallies.setdefault(name, Tally())
        with self._telling(name):
            while True:
                try:
                    made = await asyncio.get_running_loop().run_in_executor(ENCODERS, self._assemble, plan)
                    break
                except TakeDamaged as damaged:
                    with storing():
                        await self._discard(damaged, plan, anew=self._before[name])
                except OSError as error:
                    raise StorageFailed.by(error) from error
                self._before[name] = self._anew.copy()
                await self._record(plan, tally)
        self._made[name] = made
        self.entries[name] = entries.narrated(self.entries[name], plan, made, tally=tally, model=self.order.delivery.model)
        return self.entries[name]

    @contextmanager
    def _telling(self, name: str) -> Iterator[None]:
        """
        Have the entry of the script named *name* say what goes wrong with it in the block.
        """
        try:
            yield
        except NarrateError as error:
            tally, model = self._tallies.setdefault(name, Tally()), self.order.delivery.model
            self.entries[name] = entries.failed(self.entries[name], error, tally=tally, model=model)
            raise

    def contour(self, name: str) -> Contour:
        """
        Hand over how loud the narration is that was just made of the script named *name*; it is not kept.
        """
        return self._contours.pop(name)

    async def _record(self, plan: Planned, tally: Tally) -> None:
        """
        Have every take of a script, and add to *tally* what it took; one error names every segment that failed.
        """
        segments = plan.reading.segments
        outcomes = await self._opened.record(
            [
                Wanted(key=piece.take, text=segment.text, line=segment.line)
                for piece, segment in zip(plan.pieces, segments, strict=True)
            ],
            script=plan.reading.script.name,
            tally=tally,
        )
        failed = [
            (segment, error) for segment, error in zip(segments, outcomes, strict=True) if isinstance(error, NarrateError)
        ]
        if failed:
            raise located(failed, script=plan.reading.script.name)

    async def _discard(self, damaged: TakeDamaged, plan: Planned, *, anew: Counter[str]) -> None:
        """
        Forget a damaged take, so that the next round records it anew: once, as a disk that fails would be paid for for ever.

        *anew* is how often each take was discarded before this round: a script that shares it may have been faster.
        """
        key, script = damaged.key, plan.reading.script.name
        if self._anew[key] == anew[key]:
            pairs = zip(plan.pieces, plan.reading.segments, strict=True)
            line = next(segment.line for piece, segment in pairs if piece.take == key)
            if self._anew[key]:
                raise TakeFailed(f"{script}, line {line}: {damaged.fact} It was recorded anew just now.", "Look at the disk.")
            self._anew[key] += 1
            self._opened.discard(key)
            self.entries[script].notes.append(f"line {line}: recorded anew, as the take in the store was damaged")
        await self._opened.admit(len(plan.pieces))

    def _assemble(self, plan: Planned) -> Made:
        out, script = self.order.out, plan.reading.script
        target = out / script.audio
        made = assemble(plan.pieces, store=self.order.store, sound=self.order.sound, tags=plan.tags, target=target)
        self._contours[script.name] = made.contour
        ContourFile(narration=plan.narration, contour=made.contour).write(contour_path(out, script.name))
        ours.take_away_captions(target)  # those of before; the next are made of what is written down now
        audio = look(out, script.audio)
        written = entries.segments_file(plan, made, size=target.stat().st_size)
        written.write(segments_path(out, script.name))
        return as_made(plan.reading, written, audio=audio, record=look(out, segments_name(script.name)))

    def finish(
        self, *, state: Literal["completed", "failed", "cancelled"], error: str | None = None, written: bool = True
    ) -> Manifest:
        """
        Write `run.json` and return it; `StorageFailed` where it cannot be written, with `result` there all the same.

        It is not *written* by a run that had to leave OUT to another.
        """
        for name, tally in self._tallies.items():
            spent = entries.spent(tally, model=self.order.delivery.model)
            self.entries[name] = self.entries[name].model_copy(update=spent)
        rows = list(self.entries.values())
        manifest = Manifest(
            flow_run_id=self.run_id,
            started=self.started,
            finished=_now(),
            state=state,
            error=error,
            voice=self.voice,
            speech={**self.order.delivery.model_dump(), **self.order.sound.model_dump(include=set(Sound.model_fields))},
            left_out=[{"name": left.name, "reason": left.reason} for left in self.order.survey.left_out],
            totals=Totals.of(rows),
            scripts=rows,
        )
        self.result = manifest.model_dump(mode="json")
        if not written:
            return manifest
        try:
            manifest.write(self.order.out / RUN)
            self._remember()
        except OSError as error:
            raise StorageFailed.by(error) from error
        return manifest

    def _remember(self) -> None:
        """
        Leave what is known of the narrations to the next run, once it is known what they would be made from.
        """
        before = self.order.survey.memory
        if self._making is not None:
            # In reading order, which the next run goes by, whichever was made first.
            made = {name: self._made[name] for name in self.entries if name in self._made}
            memory = Memory(cutting=before.cutting, making=self._making, made=made)
            if memory != before:
                memory.write(self.order.out)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
