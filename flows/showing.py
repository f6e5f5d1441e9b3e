"""
What people look at in the Prefect UI while a run goes on and when it is done, beside the report: artifacts.

A run never fails for what it shows: what cannot be shown is a warning.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from anyio import CancelScope
from prefect import get_run_logger
from prefect.artifacts import (
    acreate_image_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    aupdate_progress_artifact,
)
from prefect.utilities.urls import url_for

from flows.narration import deliverables as files
from flows.narration import report
from flows.narration.audiobook import BookProduction
from flows.narration.deliverables import BookFile
from flows.narration.edition import BookOrder
from flows.narration.errors import NarrateError
from flows.narration.ledger import last_runs, summed
from flows.narration.production import Production
from flows.narration.progress import Progress

EVERY_SECONDS = 2.0
"""Between two looks at the progress. Each percent is an update at most: a request to Prefect's server, of 25 to 60 ms, and an
event in its database of about 10 rows."""

DAYS = 14
"""Days that the chart of costs shows."""

RUNS = 12
"""Runs that the other shows, so that what stands beneath each can be read."""


@asynccontextmanager
async def progress(production: Production) -> AsyncIterator[None]:
    """
    Show how far the run is while the block runs, and where it ended.
    """
    shown = await _shown(
        acreate_progress_artifact(progress=0.0, key="narrate-progress", description=report.progress_line(production.progress))
    )
    if not isinstance(shown, UUID):
        yield
        return
    done = asyncio.Event()
    looking = asyncio.create_task(_keep_up(production, shown, done))
    try:
        yield
    finally:
        done.set()
        with CancelScope(shield=True):
            await asyncio.wait([looking])
            await _shown(_update(production, shown))


async def _keep_up(production: Production, artifact: UUID, done: asyncio.Event) -> None:
    """
    Show the progress until all is *done*; an update under way comes to its end, or it could arrive after the last one.
    """
    before = None
    while not done.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), EVERY_SECONDS)
        if (now := int(_percent(production.progress))) != before:
            before = now
            await _shown(_update(production, artifact))


async def _update(production: Production, artifact: UUID) -> None:
    now = production.progress
    await aupdate_progress_artifact(artifact, progress=_percent(now), description=report.progress_line(now))


def _percent(now: Progress) -> float:
    return min(100.0 * now.segments_done / now.segments, 100.0) if now.segments else 100.0


async def narration(production: Production, script: str, *, target: float | None = None) -> None:
    """
    Show a narration that was just made: its waveform, and its loudness over it beside the *target* (LUFS) it has.
    """
    contour = production.contour(script)
    picture = base64.b64encode(contour.svg(title=script, target=target).encode()).decode()
    await _shown(
        acreate_image_artifact(
            image_url=f"data:image/svg+xml;base64,{picture}",
            key=_key("narration", script),
            description=f"{report.linked(script, _address(production, script))}: {contour.told}",
        )
    )


async def outline(order: BookOrder) -> None:
    """
    Show what is spoken of a book, and what is left out.
    """
    shown, told = order.outline()
    await _shown(acreate_markdown_artifact(shown, key="narrate-outline", description=told))


async def deliverables(production: BookProduction, written: BookFile) -> None:
    """
    Show the finished files of a book, and what was measured on them.
    """
    table = files.deliverables_table(written, production.order.out, production.order.links)
    levels = files.levels_table(written.files, production.order.profile)
    await _shown(acreate_markdown_artifact(table, key="narrate-deliverables", description=f"The audiobook “{written.title}”"))
    await _shown(acreate_markdown_artifact(levels, key="narrate-levels", description="Levels of the finished files"))


async def costs(production: Production) -> None:
    """
    Show what was paid day by day and run by run for what is in this run's take store, this run's requests among it.
    """

    def told() -> str:
        """
        Read the ledgers, and tell it.
        """
        folder = production.order.store.ledgers()
        days = [(str(day["day"]), float(day["usd"])) for day in summed(folder, by=["day"])]
        runs = [(began, _page(run), usd) for run, began, usd in last_runs(folder, most=RUNS)]
        return report.costs(days[-DAYS:], runs)

    try:
        shown = await asyncio.to_thread(told)
    except (NarrateError, OSError):
        return  # nothing was ever sent
    await _shown(acreate_markdown_artifact(shown, key="narrate-cost", description="What was paid, day by day and run by run"))


def _page(run: str) -> str | None:
    """
    Tell the address of a run's page, where there is a UI.
    """
    with suppress(ValueError):  # it is of another time, and no id of Prefect's
        return url_for("flow-run", obj_id=UUID(run))
    return None


def _address(production: Production, script: str) -> str | None:
    order, made = production.order, production.entries[script].audio
    return order.links.to(order.out / made) if order.links and made else None


def _key(kind: str, name: str) -> str:
    """
    Name an artifact after a file: lower case, digits and dashes is all that Prefect takes.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", Path(name).with_suffix("").as_posix().lower()).strip("-")[:60]
    return "-".join(part for part in ("narrate", kind, readable, sha256(name.encode()).hexdigest()[:8]) if part)


async def _shown(showing: Awaitable[UUID | None]) -> UUID | None:
    try:
        return await showing
    except Exception as error:
        get_run_logger().warning("Something cannot be shown in the Prefect UI: %s.", type(error).__name__)
        return None
