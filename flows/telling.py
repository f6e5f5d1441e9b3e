"""
Telling people and machines what became of a run: custom events of Prefect's, and the same to a webhook, signed.

| event | when |
|---|---|
| `narrate.narration.ready` | a script is narrated |
| `narrate.run.completed`, `.failed`, `.cancelled` | a run has come to that end |
| `narrate.budget.near` | a run has spent 80 % of its budget |
| `narrate.approval.wanted` | a run waits for a person's yes or no |

Each is about the resource `narrate.run.<flow run id>` and says in its payload a `message` for people and facts for machines:
no secrets, and lists and texts no longer than can be useful. `flows/alerts.yaml` makes messages of them. Prefect itself tells
of a run whose process is gone (`prefect.flow-run.Crashed`), as nobody is left here to do so.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.utilities.urls import url_for

from flows import webhook
from flows.narration.manifest import Manifest, ScriptEntry
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


async def run_refused(error: Exception) -> None:
    """
    Tell that a run failed before it began anything.
    """
    await _tell("run.failed", str(error), labels={"narrate.new": "no"})


async def approval_wanted(what: str, question: str, **facts: Any) -> None:
    """
    Tell that a run waits for a person's yes or no to *what*.
    """
    await _tell("approval.wanted", f"It waits for a yes or no to {what}.", question=question, **facts)


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
        usd = production.progress.usd
        if budget and usd >= NEAR * budget and not told:
            told = True
            message = f"{usd:.4f} USD of the budget of {budget:.4f} USD are spent ({usd / budget:.0%})."
            await _tell("budget.near", message, insisting=not production.interrupted, usd=usd, budget_usd=budget)

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


async def _tell(kind: str, message: str, *, labels: dict[str, str] | None = None, insisting: bool = True, **facts: Any) -> None:
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
