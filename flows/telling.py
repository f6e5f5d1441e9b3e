"""
Telling people and machines what became of a run: custom events of Prefect's, and the same to a webhook, signed.

| event | when |
|---|---|
| `narrate.narration.ready` | a script is narrated |
| `narrate.run.completed`, `.failed`, `.cancelled` | a run has come to that end |
| `narrate.budget.near` | a run has spent 80 % of its budget |
| `narrate.approval.wanted` | a run waits for a person's yes or no |

Each is about the resource `narrate.run.<flow run id>` and says in its payload a `message` for people and facts for machines:
no secrets, and lists and texts no longer than can be useful. `flows/alerts.yaml` makes messages of them. A webhook that is away
is insisted upon for what a person or a machine must not miss, the ends and the question; of the rest it is told once. Prefect
itself tells of a run whose process is gone (`prefect.flow-run.Crashed`) or that is cancelled while it waits
(`prefect.flow-run.Cancelled`), as nobody is left here to do so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from anyio import CancelScope
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.utilities.urls import url_for

from flows import webhook
from flows.narration import catalogue
from flows.narration.catalogue import Row
from flows.narration.errors import Interrupted, NarrateError
from flows.narration.manifest import Manifest, ScriptEntry, VoiceEntry
from flows.narration.production import Production
from flows.narration.report import headline

NEAR = 0.8
"""Share of the budget at which it is near its end."""

LOOK_SECONDS = 2.0
"""How often what was spent is looked at."""

MOST_LISTED = 50
"""Scripts listed in a payload; all of them are in run.json."""

MOST_TEXT = 1000
"""Letters of a text in a payload."""

KINDS = ("narration.ready", "run.completed", "run.failed", "run.cancelled", "budget.near", "approval.wanted")
"""All there is to tell, each named `narrate.` and this."""


async def narration_ready(production: Production, entry: ScriptEntry) -> None:
    """
    Tell that a script is narrated.
    """
    message = f"{entry.script} is narrated: {entry.seconds / 60:.1f} minutes, {entry.usd:.4f} USD."
    await _tell("narration.ready", message, out=str(production.order.out), narration=_narration(entry))


async def run_ended(production: Production, manifest: Manifest) -> None:
    """
    Tell how a run ended, by its manifest.
    """
    new = [_narration(entry) for entry in manifest.scripts if entry.state == "narrated"]
    failed = [{"script": entry.script, "error": entry.error} for entry in manifest.scripts if entry.state == "failed"]
    said = headline(manifest.totals)
    await _tell(
        f"run.{manifest.state}",
        f"{manifest.error} {said}" if manifest.error else said,
        labels={"narrate.new": "yes" if new else "no"},
        insisting=manifest.state != "cancelled",
        out=str(production.order.out),
        voice=manifest.voice.model_dump() if manifest.voice else None,
        totals=manifest.totals.model_dump(),
        narrated=new,
        failed=failed,
    )


@asynccontextmanager
async def of_a_voice() -> AsyncIterator[list[VoiceEntry]]:
    """
    Tell how a run ends that makes nothing but a voice, which the block puts into the list; one that is suspended has not ended.
    """
    cast: list[VoiceEntry] = []
    nothing = {"narrate.new": "no"}
    try:
        yield cast
    except Pause:
        raise
    except BaseException as error:
        with CancelScope(shield=True):
            if isinstance(error, Interrupted) or not isinstance(error, Exception):
                said = str(error) if isinstance(error, Interrupted) else "The run was cancelled."
                await _tell("run.cancelled", said, labels=nothing)
            else:
                await run_failed(error)
        raise
    for voice in cast:
        said = f"The voice “{voice.title}” is ready."
        await _tell("run.completed", said, labels=nothing, insisting=True, voice=voice.model_dump())


async def run_failed(error: Exception) -> None:
    """
    Tell that a run failed that has narrated nothing.
    """
    await _tell("run.failed", str(error) or type(error).__name__, labels={"narrate.new": "no"}, insisting=True)


async def library_ended(state: str, rows: Sequence[Row], *, error: str = "") -> None:
    """
    Tell how a library ended, by what became of its books.
    """
    said = catalogue.headline(rows)
    new = any(row.usd for row in rows)
    books = [{"book": row.book, "state": row.state, "usd": row.usd, "minutes": row.minutes, "error": row.error} for row in rows]
    await _tell(
        f"run.{state}",
        f"{error} {said}".strip() if rows else error,
        labels={"narrate.new": "yes" if new else "no"},
        insisting=state != "cancelled",
        books=books,
    )


async def approval_wanted(what: str, question: str, **facts: Any) -> None:
    """
    Tell that a run waits for a person's yes or no to *what*.
    """
    await _tell("approval.wanted", f"It waits for a yes or no to {what}.", insisting=True, question=question, **facts)


@asynccontextmanager
async def telling_of_budget(production: Production) -> AsyncIterator[None]:
    """
    Tell once, while the block runs or at its end, that the budget is nearly spent.
    """
    budget, told = production.order.budget_usd, False

    async def look() -> None:
        """
        Tell it if it is so.
        """
        nonlocal told
        usd = production.spent_of_budget if production.sending else 0.0
        if budget and usd >= NEAR * budget and not told:
            told = True
            message = f"{usd:.4f} USD of the budget of {budget:.4f} USD are spent ({usd / budget:.0%})."
            await _tell("budget.near", message, usd=usd, budget_usd=budget)

    async def watch() -> None:
        """
        Look again and again.
        """
        while not told:
            await asyncio.sleep(LOOK_SECONDS)
            await look()

    watcher = asyncio.create_task(watch()) if budget else None
    try:
        yield
    finally:
        if watcher is not None:
            watcher.cancel()
            await look()


async def _tell(
    kind: str, message: str, *, labels: dict[str, str] | None = None, insisting: bool = False, **facts: Any
) -> None:
    """
    Emit an event, and tell the webhook the same under the same id; one that stays away is waited for if *insisting*.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return
    told = {"message": message, "run": {"id": str(run.id), "name": run.name, "url": url_for(run)}, **facts}
    payload, message_id = _bounded(told), uuid4()
    resource = {"prefect.resource.id": f"narrate.run.{run.id}", "prefect.resource.name": run.name, **(labels or {})}
    emit_event(f"narrate.{kind}", resource=resource, payload=payload, id=message_id)
    await webhook.tell(f"narrate.{kind}", payload, message_id=str(message_id), run_id=run.id, insisting=insisting)


def in_sentences() -> None:
    """
    Keep tracebacks out of a run's log where an error of ours says it all; those of the program's own faults stay.
    """
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if _without_traceback not in logger.filters:
            logger.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], NarrateError):
        record.exc_info = None
    return True


def _narration(entry: ScriptEntry) -> dict[str, Any]:
    names = ("script", "audio", "seconds", "segments", "bytes_billed", "bytes_reused", "usd")
    return {name: getattr(entry, name) for name in names}


def _bounded(value: Any) -> Any:
    """
    Cut what is long: texts in their middle, lists at their end.
    """
    if isinstance(value, str) and len(value) > MOST_TEXT:
        return f"{value[: MOST_TEXT // 2]}…{value[-MOST_TEXT // 2 :]}"
    if isinstance(value, list):
        return [_bounded(each) for each in value[:MOST_LISTED]]
    if isinstance(value, dict):
        return {name: _bounded(each) for name, each in value.items()}
    return value
