"""
Runs of other deployments, as parts of this one: begun once, found again after this run was killed, and waited for.

Each is tagged by what it makes. Whoever wants that made and finds such a run alive waits for it instead of beginning another;
one that crashed with its worker is begun again, which pays for nothing that was recorded.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import httpx
from anyio import CancelScope
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments.flow_runs import arun_deployment
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.states import Cancelling, Crashed
from prefect.utilities.urls import url_for

from flows import endings
from flows.names import part_of
from flows.narration.catalogue import Row
from flows.narration.cost import Spent
from flows.narration.errors import ExitCode, UsageError
from flows.stopping import suspended

Answer = TypeVar("Answer")

Told = Callable[[FlowRun], Awaitable[Spent | None]]
"""Tells what a run was billed that cannot say so itself, where anybody can."""

LOOK_SECONDS = 2.0
"""How often a run is looked at."""

PENDING = timedelta(minutes=5)
"""How long a worker that took a run may take to start its process."""

WAITING = timedelta(minutes=5)
"""How long a run waits for a worker until that is told."""

ENDED = "The library it is a part of was ended."

PAGE = 200
"""Runs that are listed at once."""

BEGUN_MOST = 3
"""How often a run is begun whose worker crashed with it."""


@dataclass(frozen=True)
class Job:
    """
    One *book* to be made, and the *parameters* of the run that makes it.
    """

    book: str
    parameters: dict[str, Any]
    tag: str


async def deployment_named(name: str, *, taking: Sequence[str]) -> DeploymentResponse:
    """
    Find a deployment; `UsageError` where there is none, or its flow has no parameters of the names *taking*.
    """
    async with get_client() as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            raise UsageError(
                f"The Prefect server has no deployment {name}.", "`prefect deploy --all` or `narrate up` makes it."
            ) from None
    known = (deployment.parameter_openapi_schema or {}).get("properties", {})
    lacking = [each for each in taking if each not in known]
    if lacking:
        raise UsageError(
            f"The deployment {name} takes no {' and no '.join(lacking)}, so it does not make these books.",
            "Choose one of the flow audiobook or narrate, and what is made of each accordingly.",
        )
    return deployment


def tag_of(deployment: DeploymentResponse, what: Any) -> str:
    """
    Name *what* a run of a deployment makes, for other runs to find it by.
    """
    said = json.dumps([str(deployment.id), what], sort_keys=True, ensure_ascii=False)
    return f"book-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


@asynccontextmanager
async def fleet(deployment: DeploymentResponse) -> AsyncIterator["Fleet"]:
    """
    Begin runs of a deployment in the block; where that is cancelled, so are they, unless somebody suspended this one.
    """
    async with get_client() as client:
        made = Fleet(client, deployment)
        try:
            yield made
        except asyncio.CancelledError:
            if not suspended():  # or they go on, and so does this one when it is resumed
                with CancelScope(shield=True):
                    await made.cancel()
            raise


class Fleet:
    """
    Runs of one *deployment* for this flow run.
    """

    def __init__(self, client: PrefectClient, deployment: DeploymentResponse) -> None:
        self._client, self._deployment = client, deployment
        self._own = part_of(flow_run.get_id())
        self._ours = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._own]))
        self._told_waiting: set[str] = set()

    async def living(self, job: Job) -> FlowRun | None:
        """
        Find the run that makes the *job* already, or has made it for this very flow run, which may have been begun anew.
        """
        runs = await self._begun(job)
        for run in runs:
            if run.state is not None and not run.state.is_final() and not run.state.is_cancelling():
                return run
        last = runs[0] if runs else None
        done = last is not None and self._own in last.tags and last.state is not None and last.state.is_completed()
        return last if done else None

    async def made(self, job: Job, living: FlowRun | None, *, spent: Told) -> Row:
        """
        Have the *job* done, by the run that is *living* or another, and tell how it went.

        One that is begun again may spend what is left of the budget, where *spent* tells what the one that crashed was billed.
        """
        before: list[Spent | None] = []
        try:
            run = living or await self._begin(job)
        except (PrefectException, httpx.HTTPStatusError) as error:
            return Row(job.book, code=int(ExitCode.SCRIPTS_FAILED), error=lost(error))
        if living is not None:
            get_run_logger().info("%s: the run “%s” is there already.", job.book, run.name)
        for begun in range(1, BEGUN_MOST + 1):
            run = await self._ended(job, run)
            crashed = run.state is not None and run.state.is_crashed()
            if crashed and run.start_time is not None:
                before.append(await spent(run))
                _lessen(job.parameters["limits"], before[-1])
            if not crashed or begun == BEGUN_MOST or await self.was_cancelled(run):
                break
            get_run_logger().warning(
                "%s: its run crashed (%s); it is begun again.", job.book, run.state.message if run.state is not None else ""
            )
            run = await self._begin(job)
        row = self._told(job, run)
        if crashed:  # its labels may be of an attempt before; what it was billed is among those before
            row.usd, row.usd_at_most = 0.0, 0.0
        row.usd += sum(each.usd for each in before if each)
        if None in before or row.usd_at_most is None:
            row.usd_at_most = None
        else:
            row.usd_at_most += sum(each.at_most for each in before if each)
        return row

    async def was_cancelled(self, run: FlowRun) -> bool:
        """
        Tell whether somebody had cancelled a run when it crashed.
        """
        return endings.was_cancelled(await _insisted(lambda: self._client.read_flow_run_states(run.id)))

    async def spent(self, *, besides: Iterable[FlowRun], spent: Told) -> float:
        """
        Sum the USD that runs have spent at most, or may, which this very flow run had begun before it was begun anew.

        Of one that crashed, *spent* tells what it was billed.
        """
        others = {run.id for run in besides}
        mine = {run.id: run for run in await self._mine()}
        usd = 0.0
        for run in mine.values():
            if run.id not in others:
                crashed = run.state is not None and run.state.is_crashed() and run.start_time is not None
                told = await spent(run) if crashed else None
                usd += told.at_most if told else at_most(run) or 0.0
        return usd

    async def _mine(self) -> list[FlowRun]:
        """
        Find all runs that this flow run has begun.
        """
        found: list[FlowRun] = []

        def page() -> Awaitable[list[FlowRun]]:
            """
            Ask for the next of them.
            """
            return self._client.read_flow_runs(flow_run_filter=self._ours, limit=PAGE, offset=len(found))

        while more := await _insisted(page):
            found += more
        return found

    async def _begun(self, job: Job) -> list[FlowRun]:
        ours = FlowRunFilter(tags=FlowRunFilterTags(all_=[job.tag]))
        return await _insisted(
            lambda: self._client.read_flow_runs(flow_run_filter=ours, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        )

    async def _begin(self, job: Job) -> FlowRun:
        """
        Begin a run; twice the same if the answer to the first got lost.
        """
        before = len(await self._begun(job))
        return await _insisted(
            lambda: arun_deployment(
                self._deployment.id,
                parameters=job.parameters,
                timeout=0,
                tags=["library", job.tag, self._own],
                idempotency_key=f"{self._own}-{job.tag}-{before}",
            )
        )

    async def _ended(self, job: Job, run: FlowRun) -> FlowRun:
        """
        Wait for a run's end, and bring it about where its worker died before its process was there to be missed.
        """
        since = time.monotonic()
        while run.state is None or not run.state.is_final():
            if run.state is None or not run.state.is_scheduled():
                since = time.monotonic()
            elif time.monotonic() - since >= WAITING.total_seconds():
                self._tell_waiting(job, run)
            await asyncio.sleep(LOOK_SECONDS)
            run = await _insisted(lambda run_id=run.id: self._client.read_flow_run(run_id))  # type: ignore[misc]
            state = run.state
            if state is not None and state.is_pending() and datetime.now(UTC) - state.timestamp > PENDING:
                await self._set(run.id, Crashed(message=f"Its process was not there after {PENDING}."))
        return run

    def _tell_waiting(self, job: Job, run: FlowRun) -> None:
        """
        Warn, once for each book, that no worker begins its run: it would wait for ever without a word.
        """
        if job.book not in self._told_waiting:
            self._told_waiting.add(job.book)
            pool = self._deployment.work_pool_name
            get_run_logger().warning(
                "%s: no worker has begun its run “%s” for %d minutes. Start workers%s, or give them more places (--limit): "
                "a library takes one itself, and a second library waits best until the first is done.",
                job.book,
                run.name,
                WAITING.total_seconds() // 60,
                f" of the pool {pool}" if pool else "",
            )

    @staticmethod
    def _told(job: Job, run: FlowRun) -> Row:
        code, usd, usd_at_most, minutes = endings.read(run)
        state = run.state
        name = state.name if state is not None and state.name else "unknown"
        completed = state is not None and state.is_completed()
        if state is not None and state.is_cancelled():
            code = int(ExitCode.INTERRUPTED)
        elif not completed and code in (None, int(ExitCode.OK)):
            code = int(ExitCode.SCRIPTS_FAILED)
        return Row(
            book=job.book,
            state=name.lower(),
            minutes=minutes,
            usd=usd or 0.0,
            usd_at_most=usd_at_most,
            code=int(ExitCode.OK) if completed else code,
            error="" if completed else _said(state.message if state is not None else None),
            url=url_for(run) or "",
        )

    async def cancel(self) -> None:
        """
        Cancel what was begun here and has not ended.
        """
        with suppress(httpx.HTTPError, PrefectException):  # a server that is away cannot be told anything
            newest = await self._client.read_flow_runs(flow_run_filter=self._ours, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
            for run in newest:
                if run.state is None or not run.state.is_final():
                    await self._set(run.id, Cancelling(message=ENDED))

    async def _set(self, run_id: UUID, state: State[Any]) -> None:
        with suppress(httpx.HTTPError, PrefectException):
            await self._client.set_flow_run_state(run_id, state)


async def _insisted(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """
    Ask a server until it answers: one that is away for a while is no reason to give up what is under way.
    """
    while True:
        try:
            return await ask()
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            await asyncio.sleep(LOOK_SECONDS)


def at_most(run: FlowRun) -> float | None:
    """
    Tell what a run has spent at most (USD), or may: all of its budget until it is done and says less; `None` without one.
    """
    said = None
    if run.state is not None and run.state.is_final():
        if not run.start_time:
            said = 0.0
        elif not run.state.is_crashed():  # whose labels may be of an attempt before
            said = endings.read(run).usd_at_most
    budget: float | None = run.parameters.get("limits", {}).get("budget")
    return budget if said is None else said


def _lessen(limits: dict[str, Any], spent: Spent | None) -> None:
    """
    Take what was *spent*, as far as that is known, from the budget among *limits*.
    """
    if limits.get("budget") is not None and spent is not None:
        limits["budget"] = max(0.0, limits["budget"] - spent.at_most)


def lost(error: Exception) -> str:
    """
    Tell of a run that can no longer be looked at, or cannot be begun.
    """
    gone = "it, or its deployment, is gone from the Prefect server"
    return f"Its run cannot be followed: {gone if isinstance(error, ObjectNotFound) else error}. Begin the library again."


def _said(message: str | None) -> str:
    """
    Take from a state's message what is of Prefect's making.
    """
    said = (message or "").removeprefix("Flow run encountered an exception: ")
    name, colon, rest = said.partition(": ")
    return rest if colon and name.isidentifier() else said


def rows_of(books: Iterable[str], done: Sequence[Row]) -> list[Row]:
    """
    Put a row for every book in order, also for those not begun.
    """
    by_name = {row.book: row for row in done}
    return [by_name.get(book) or Row(book) for book in books]
