"""
Stages that flows share: begin, cast the voice, record all, and report at whatever end.

They order the tasks of `flows.tasks`; what is done in each is downstairs, in `flows.narration`.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.runtime import flow_run

from flows import endings, marks, orders, remote, showing, telling
from flows.account_limit import lent, require
from flows.approval import approve_cost, approve_reference
from flows.knobs import BookGroups, Groups, VoiceChoice
from flows.narration import report
from flows.narration.audiobook import BookProduction
from flows.narration.edition import BookOrder
from flows.narration.ending import worst
from flows.narration.errors import (
    NarrateError,
    RequestUnread,
    VoiceFailed,
    storing,
)
from flows.narration.limiter import Patience
from flows.narration.locks import RUN_LOCK, Waiting, held
from flows.narration.manifest import ScriptEntry, VoiceEntry
from flows.narration.order import Order
from flows.narration.production import Production
from flows.narration.reference import Reference
from flows.narration.speech import InlineReference, Speech, Voice
from flows.narration.takes import voice_key
from flows.reporting import never_begun, reported
from flows.settings import Account
from flows.stopping import stoppable, suspended
from flows.tasks import (
    bind,
    create_voice,
    master_chapter,
    normalize_reference,
    open_speech,
    read_along,
    synthesize,
    synthesize_chapter,
    wait_for_voice,
)
from flows.telling import telling_of_budget

AnyProduction = TypeVar("AnyProduction", bound=Production)

CREATE_SECONDS = 5.0
"""Seconds between attempts to create a voice, so that the account can show one whose answer got lost."""


async def cast_voice(
    choice: VoiceChoice,
    *,
    account: Account,
    folder: Path,
    patience: Patience,
    ask_on_warnings: bool = False,
    shared: str | None = None,
) -> tuple[Voice | InlineReference, VoiceEntry]:
    """
    Have the voice a run asked for, ready to speak: normalize, create and wait, as far as each is needed.

    Hosts that share the take store at the URI *shared* make one voice of one reference.
    """
    if choice.voice_id:
        voice = await _waited(choice.voice_id, choice.voice_title or choice.voice_id, choice, account=account)
        entry = VoiceEntry(id=voice.id, title=voice.title, attached=True)
        await _show_voice(entry, state=voice.state, reference=None)
        return voice, entry
    title = choice.voice_title or Path(choice.reference[0]).stem
    reference = normalize_reference(choice.reference, choice.transcript, folder)
    await approve_reference(reference.warnings, ask=ask_on_warnings)
    if choice.instant:
        return await _inline(reference, title=title)
    create = create_voice.with_options(
        retries=math.ceil(patience.patience / CREATE_SECONDS), retry_delay_seconds=CREATE_SECONDS
    )
    try:
        created, attached = await create(account, reference, title, shared)
    except RequestUnread as error:
        raise VoiceFailed(error.fact, "Look at the recording in .voice, or record anew.") from error
    entry = VoiceEntry(id=created.id, title=created.title, reference=reference.digest, attached=attached)
    try:
        voice = await _waited(created.id, title, choice, account=account)
    except NarrateError as error:
        await _show_voice(entry, state=error.fact, reference=reference)
        raise
    await _show_voice(entry, state=voice.state, reference=reference)
    return voice, entry


async def _waited(voice_id: str, title: str, choice: VoiceChoice, *, account: Account) -> Voice:
    """
    Look at the voice at once, then every interval, until it is trained or its time is up.
    """
    interval = min(choice.poll_interval, max(choice.training_timeout, 0.1))
    looks = wait_for_voice.with_options(retries=math.ceil(choice.training_timeout / interval) + 1, retry_delay_seconds=interval)
    deadline = asyncio.get_running_loop().time() + choice.training_timeout
    return await looks(account, voice_id, title, deadline, choice.training_timeout)


async def _inline(reference: Reference, *, title: str) -> tuple[InlineReference, VoiceEntry]:
    inline = InlineReference(audio=reference.wav.read_bytes(), transcript=reference.transcript or "")
    entry = VoiceEntry(id=voice_key(inline), title=title, reference=reference.digest)
    await _show_voice(entry, state="sent with each request", reference=reference)
    return inline, entry


async def _show_voice(entry: VoiceEntry, *, state: str, reference: Reference | None) -> None:
    card = report.voice_card(entry, state=state, reference=reference)
    await acreate_markdown_artifact(card, key="narrate-voice", description=report.voice_line(entry))


async def begin(groups: Groups) -> Production:
    """
    Read the scripts and refuse what a person must mend first; nothing is sent.
    """
    order = await _ordered(groups)
    get_run_logger().info("%s to narrate into %s.", report.counted(len(order.survey.readings), "script"), order.out)
    _tell_left_out(order)
    again = partial(orders.order_again, groups)
    return Production(order, run_id=_run_id(), remember=partial(orders.remember, groups, order), ask_again=again)


async def begin_book(groups: BookGroups) -> BookProduction:
    """
    Read the book and refuse what a person must mend first; nothing is sent.
    """
    order = await _ordered(groups)
    if not isinstance(order, BookOrder):
        raise TypeError("an order of a book is one")
    _, told = order.outline()
    get_run_logger().info("“%s”: %s, into %s.", order.book.title, told, order.out)
    for warning in order.book.warnings:
        get_run_logger().warning("%s", warning)
    _tell_left_out(order)
    await showing.outline(order)
    again = partial(orders.order_again, groups)
    return BookProduction(order, run_id=_run_id(), remember=partial(orders.remember, groups, order), ask_again=again)


async def _ordered(groups: Groups | BookGroups) -> Order:
    marks.leave()
    telling.in_sentences()
    try:
        order = orders.order(groups)
        await require(order.account_limit)
    except Exception as error:
        await endings.leave(endings.code_of(error), endings.NOTHING)
        await telling.run_failed(error)
        raise
    return order


def _tell_left_out(order: Order) -> None:
    for left in order.survey.left_out:
        get_run_logger().info("Left out %s: %s.", left.name, left.reason.removesuffix("."))


def _run_id() -> str | None:
    run_id = flow_run.get_id()
    return str(run_id) if run_id else None


@asynccontextmanager
async def in_production(production: Production) -> AsyncIterator[bool]:
    """
    Have the output folder to itself while the block runs, stop where somebody wants it, and report at whatever end.

    Yields whether it is begun: a run that was cancelled while it waited for another is not.
    """
    order = production.order
    async with stoppable(production), AsyncExitStack() as had:
        try:
            waited = await had.enter_async_context(remote.mirrored(order, say=get_run_logger().info))
            waited |= await had.enter_async_context(alone(order.out))
        except NarrateError as error:
            await endings.leave(endings.code_of(error), endings.NOTHING)
            await telling.run_failed(error)
            raise
        except asyncio.CancelledError:
            if not production.interrupted or suspended():
                raise
            if task := asyncio.current_task():
                task.uncancel()
            await never_begun(production)
            yield False
            return
        async with reported(production):
            await asyncio.to_thread(production.begin_alone, waited=waited)
            if waited:
                there = report.counted(len(production.order.survey.readings), "script")
                get_run_logger().info("After the wait %s to narrate, as read by now.", there)
            yield True


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[bool]:
    """
    Have *folder* to itself; where another run has it, say so and wait. Yields whether it did.
    """
    waiting = Waiting(get_run_logger().info)
    async with held(folder, RUN_LOCK, waiting=partial(waiting, f"Another run works in {folder}; waiting until it is done.")):
        yield waiting.been


async def _afford(production: Production, speech: Speech) -> None:
    """
    Say what is to be sent and what it costs, and refuse what budget or credit do not cover, before the first of it is sent.
    """
    need = production.estimate()
    covered = need.bytes_covered or 0
    if covered == need.bytes:
        get_run_logger().info("All %d bytes are recorded already; nothing is sent.", need.bytes)
        return
    credit = await _credit(speech)
    get_run_logger().info(
        "%d bytes to send, %d recorded already: about %.4f USD for %.2f hours. The wallet holds %s.",
        need.bytes - covered,
        covered,
        need.usd,
        need.hours,
        "an unknown credit" if credit is None else f"{credit:.4f} USD",
    )
    production.check_money(need, credit_usd=credit)
    await approve_cost(need, above_usd=production.order.approve_above_usd)


async def _credit(speech: Speech) -> float | None:
    """
    Read the account's credit in USD; a wallet that cannot be read is a warning.
    """
    try:
        return float(await speech.credit())
    except NarrateError as error:
        get_run_logger().warning("The wallet cannot be read, so only --budget guards the spending. %s", error.fact)
        return None


async def _narrated(name: str, production: Production) -> ScriptEntry:
    entry = await synthesize(name, production)
    await remote.send(production.order)
    await telling.narration_ready(production, entry)
    return entry


async def record_and_master(name: str, production: BookProduction) -> ScriptEntry:
    """
    Record a chapter and master it, a task run each: the next chapters are recorded meanwhile.
    """
    await synthesize_chapter(name, production)
    entry = await master_chapter(name, production)
    await remote.send(production.order)
    await telling.narration_ready(production, entry)
    return entry


async def bind_book(production: BookProduction) -> None:
    """
    Bind what was mastered, once all of it is, and make what goes with it.
    """
    title = production.order.book.title
    await read_along(title, production, await bind(title, production))


async def record_all(
    production: AnyProduction,
    voice: Voice | InlineReference,
    entry: VoiceEntry,
    *,
    account: Account,
    each: Callable[[str, AnyProduction], Awaitable[ScriptEntry]] = _narrated,
) -> None:
    """
    Make *each* script that is not there yet: begun in reading order, all sharing one recorder.
    """
    async with open_speech(account) as speech, remote.takes_of(production.order, say=get_run_logger().info):
        names = production.plan(voice=voice, entry=entry, host=speech.host)
        with storing():
            await production.bring()
        if names:
            await _afford(production, speech)
        production.remember()
        if not names:
            get_run_logger().info("Every narration is there already; nothing is sent.")
            return
        async with (
            lent(production.order.account_limit, most=production.order.patience.concurrency) as slots,
            telling_of_budget(production),
            production.recorder(speech=speech, voice=voice, slots=slots),
            showing.progress(production),
        ):
            runs: list[asyncio.Future[ScriptEntry]] = []
            try:
                for name in names:
                    if not await production.admit(name):
                        break
                    runs.append(asyncio.ensure_future(each(name, production)))
                ends = await asyncio.gather(*runs, return_exceptions=True)
            finally:
                for run in runs:
                    run.cancel()
    faults = [end for end in (*ends, production.stopped) if isinstance(end, BaseException)]
    error = worst(faults, entries=list(production.entries.values()))
    if error is not None:
        raise error
