"""
What is left of a run at whatever end: the manifest, captions and the page, the report, and word to whoever listens.
"""

import asyncio
from collections import UserDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

from anyio import CancelScope
from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled

from flows import endings, remote, showing, telling
from flows.narration import budget, companions, report
from flows.narration.audiobook import BookProduction
from flows.narration.cost import Spent
from flows.narration.errors import Declined, ExitCode, Interrupted, StorageFailed, UsageError, storing
from flows.narration.manifest import Manifest, Totals
from flows.narration.production import Production
from flows.stopping import ending, suspended

WAITING = "It waits for a person's yes or no: Resume, in the Prefect UI, asks for it."


@asynccontextmanager
async def reported(production: Production) -> AsyncIterator[None]:
    """
    Write the manifest and the report at whatever end the block comes to.
    """
    try:
        yield
        ending()
    except UsageError as error:
        ending()
        await endings.leave(endings.code_of(error), None if production.sending else endings.NOTHING)
        await telling.run_failed(error)
        raise
    except BaseException as error:
        ending()
        stopped = isinstance(error, Interrupted) or not isinstance(error, Exception)
        if isinstance(error, Declined):
            production.interrupted, production.why = True, str(error)
        with CancelScope(shield=True), suppress(StorageFailed):  # which is logged; how the run ended counts for more
            said = WAITING if isinstance(error, Pause) else production.why if stopped else str(error)
            code = endings.code_of(error, stopped=stopped)
            await _report(production, state="cancelled" if stopped else "failed", error=said, code=code, ended=not waits(error))
        if not (stopped and production.interrupted):
            raise
        if task := asyncio.current_task():
            task.uncancel()
    else:
        try:
            await _report(production, state="completed")
        except StorageFailed as error:  # who listens is told of no success before all of it is where it belongs
            await endings.leave(endings.code_of(error))
            await telling.run_failed(error)
            raise


def waits(error: BaseException) -> bool:
    """
    Tell whether a run that comes to an *error* is not at its end, but suspended.
    """
    return isinstance(error, Pause) or suspended()


def outcome(production: Production) -> Mapping[str, Any] | State[Any]:
    """
    What a flow run ends with: its manifest, or the state Cancelled where a person stopped it.

    No plain dict: Prefect would look for futures in all of it, which for 1,000 scripts takes longer than reading them.
    """
    if production.result["state"] == "cancelled":
        return Cancelled(message=production.why or str(Interrupted.by_a_person()))
    return UserDict(production.result)


async def _report(
    production: Production,
    *,
    state: Literal["completed", "failed", "cancelled"],
    error: str | None = None,
    code: int = 0,
    ended: bool = True,
) -> None:
    try:
        manifest = production.finish(state=state, error=error)
    except StorageFailed as failed:
        get_run_logger().error("The manifest is that of an earlier run. %s", failed)
        raise
    finally:
        if ended:
            totals = Totals.model_validate(production.result["totals"])
            await endings.leave(code, totals, spent=_spent(production, totals))
    if state != "cancelled" and not isinstance(production, BookProduction):
        try:
            await _accompany(production, manifest)
        except StorageFailed as fault:
            if state == "completed":
                raise
            get_run_logger().warning("Captions and the page are those of before. %s", fault)
    told = report.headline(manifest.totals)
    get_run_logger().info("%s", told)
    shown = report.run_report(manifest, out=production.order.out, links=production.order.links)
    await acreate_markdown_artifact(shown, key="narrate-report", description=told)
    if production.sending:
        await showing.costs(production)
    if state == "completed":
        await remote.send_all(production.order)
    if ended:
        await telling.run_ended(production, manifest)


def _spent(production: Production, totals: Totals) -> Spent:
    """
    Tell what all attempts at this run were billed, of which this one has these *totals*.
    """
    order = production.order
    here = Spent(totals.usd, totals.usd_at_most(model=order.delivery.model))
    return budget.spent(here, budget_usd=order.budget_usd, run_id=production.run_id, store=order.store)


async def never_begun(production: Production) -> None:
    """
    Tell that a run was cancelled while it waited for another: nothing was sent, and what is in OUT is the other's.
    """
    manifest = production.finish(state="cancelled", error="It was cancelled while it waited for another run.", written=False)
    await endings.leave(int(ExitCode.INTERRUPTED), endings.NOTHING)
    await telling.run_ended(production, manifest)


async def _accompany(production: Production, manifest: Manifest) -> None:
    """
    Make captions and the page to listen of a folder's narrations.
    """
    made = [entry.script for entry in manifest.scripts if entry.state == "narrated"]
    order = production.order
    with storing():
        await asyncio.to_thread(companions.of_scripts, order.out, manifest, made=made, language=order.language)
