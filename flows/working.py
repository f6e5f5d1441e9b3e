"""
The worker of `narrate up`: Prefect's process worker in this very process, and how it comes to its end.

Told to end once, it waits for the runs under way and takes no new ones, but for what those begin as parts of themselves. Told
again, it ends them as Cancel in the UI does, so that what is in flight is paid for and kept, and puts them back in the queue:
whichever worker comes next goes on with them. What a person has cancelled or suspended stays so.
"""

import asyncio
import os
import platform
import signal
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkerFilter,
    WorkerFilterStatus,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Crashed
from prefect.workers.process import ProcessWorker

from flows.endings import PUT_BACK
from flows.names import part_of
from flows.narration.errors import ExitCode, ServiceUnavailable

RUNS_AT_ONCE = 4
"""Each is a process of about 150 MB, and writes to the server's database, which in SQLite one does at a time: with ten on two
cores it was locked for longer than the server waits. More wait for one of them to end."""

LOOK_SECONDS = 0.2

ONE_PRESS_SECONDS = 0.5
"""Signals closer together are one: `timeout` sends it to the process and to its group."""

END_SECONDS = 60
"""How long runs may take to end: Prefect gives each 30 s, and kills it then."""

LEAVE_SECONDS = 10
"""How long the worker may take to leave; one whose server is gone asks for it again and again."""

GOING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
"""States that only a living process leads out of."""

GONE = "The studio that ran it is gone; what was recorded is kept."

CANCELLED = "It was being cancelled when the studio that ran it went; what was recorded is kept."


class _Worker(ProcessWorker):
    """
    Prefect's process worker, which leaves alone what it runs already; once it is `closing`, it takes only parts of that.
    """

    closing = False

    @classmethod
    def __dispatch_key__(cls) -> str:
        """
        Be found under a name of its own: Prefect's own worker is that of the type `process`.
        """
        return "narrate-up"

    @property
    def going(self) -> set[UUID]:
        """
        The runs whose processes live.
        """
        return {UUID(str(run)) for run in self.limiter.statistics().borrowers}

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        found = await super()._get_scheduled_flow_runs()
        # One that was suspended and is resumed before its process has ended waits: Prefect's worker would fall over it.
        found = [each for each in found if each.flow_run.id not in self.going]
        if not self.closing:
            return found
        parts = {part_of(run) for run in self.going}
        return [each for each in found if parts.intersection(each.flow_run.tags)]


class _Presses:
    """
    Counts SIGINT and SIGTERM while the block runs.
    """

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._last = -ONE_PRESS_SECONDS

    def __enter__(self) -> "_Presses":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._pressed)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _pressed(self) -> None:
        now = self._loop.time()
        self.count += now >= self._last + ONE_PRESS_SECONDS
        self._last = now


async def work(
    pool: str, *, healthcheck: bool, ready: Callable[[], None], say: Callable[[str], None], gone: Callable[[], bool]
) -> ExitCode:
    """
    Run what comes into *pool* until told to end; return whether that had to be said twice.

    Raises `ServiceUnavailable` once the server is *gone*, or the worker ends.
    """
    name = f"{_on_this_machine()}{os.getpid()}"
    worker = _Worker(work_pool_name=pool, name=name, limit=RUNS_AT_ONCE, create_pool_if_not_found=False)
    working = asyncio.create_task(worker.start(with_healthcheck=healthcheck, printer=lambda *_: None))

    async def pause() -> None:
        """
        Wait a moment; raise where there is nothing left to wait for.
        """
        await _pause(working)
        if gone():
            raise ServiceUnavailable(
                "Prefect's server is gone.", "Start `narrate up` again: it goes on with what was under way."
            )

    try:
        while not worker.is_setup:
            await pause()
        with _Presses() as presses:
            ready()
            return await _until_ended(worker, pause, presses, say)
    finally:
        working.cancel()
        await asyncio.wait([working], timeout=LEAVE_SECONDS)


async def _pause(working: "asyncio.Task[None]") -> None:
    """
    Wait a moment; raise what *working* ended with, if it did.
    """
    await asyncio.wait([working], timeout=LOOK_SECONDS)
    if working.done():
        error = working.exception()
        raise ServiceUnavailable(
            f"The worker ended ({error!r}).", "Look at the Prefect server, then start it again."
        ) from error


async def _until_ended(
    worker: _Worker, pause: Callable[[], Awaitable[None]], presses: _Presses, say: Callable[[str], None]
) -> ExitCode:
    while not presses.count:
        await pause()
    worker.closing = True
    if worker.going:
        say(f"Taking no new runs; waiting for {len(worker.going)} under way. Ctrl-C again ends them.")
    while worker.going and presses.count < 2:
        await pause()
    if not worker.going:
        return ExitCode.OK
    worker.limiter.total_tokens = 0  # Prefect takes no run that it finds no token for
    say(f"Ending {len(worker.going)}; what is in flight is paid for and waited for. The next `narrate up` goes on with them.")
    async with get_client() as client:
        there = await _there(client, worker.going)
        told = [run for run, state in there.items() if not _decided(state)]
        for run in told:
            await _set(client, run, Cancelling(message=PUT_BACK))
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while worker.going & there.keys() and presses.count < 3 and asyncio.get_running_loop().time() < deadline:
            await pause()
        await _put_back(client, told)
    return ExitCode.INTERRUPTED


def _decided(state: State[object] | None) -> bool:
    """
    Tell whether a run has come to an end of its own, or a person has told it to.
    """
    return state is not None and (
        state.is_completed() or state.is_failed() or state.is_cancelling() or state.is_cancelled() or state.is_paused()
    )


async def _put_back(client: PrefectClient, runs: Collection[UUID]) -> None:
    """
    Have those that did not come to an end of their own run again.
    """
    for run, state in (await _there(client, runs)).items():
        if state is not None and not (state.is_completed() or state.is_failed() or state.is_paused()):
            await _set(client, run, AwaitingRetry(message=PUT_BACK), force=True)


async def _there(client: PrefectClient, runs: Collection[UUID]) -> dict[UUID, State[object] | None]:
    """
    Read the states of *runs* but those that were deleted; `None` where the server does not tell.
    """
    found: dict[UUID, State[object] | None] = {}
    for run in runs:
        with suppress(ObjectNotFound):
            found[run] = await _state(client, run)
    return found


async def _state(client: PrefectClient, run_id: UUID) -> State[object] | None:
    try:
        return (await client.read_flow_run(run_id)).state
    except ObjectNotFound:
        raise
    except (PrefectException, httpx.HTTPError):
        return None


async def _set(client: PrefectClient, run_id: UUID, state: State[object], *, force: bool = False) -> None:
    with suppress(PrefectException, httpx.HTTPError):  # it has ended, or was deleted
        await client.set_flow_run_state(run_id, state, force=force)


async def take_over(pool: str) -> list[str]:
    """
    Put back the runs of *pool* that are shown as under way on a server that has only just begun, and return their names.

    Their worker and their server were killed, or the machine stopped, so that nobody could tell how they ended. One that a
    person was cancelling is cancelled.
    """
    names: list[str] = []
    async with get_client() as client:
        left: list[FlowRun] = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=GOING))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        for run in left:
            if run.state is not None and run.state.is_cancelling() and run.state.message != PUT_BACK:
                await _set(client, run.id, Cancelled(message=CANCELLED), force=True)
                continue
            await _set(client, run.id, Crashed(message=GONE), force=True)
            await _set(client, run.id, AwaitingRetry(message=GONE), force=True)
            # Prefect's server keeps events of states to itself, up to 15 minutes, whose forerunners it has not seen.
            resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
            emit_event("narrate.run.taken-up", resource=resource, payload={"message": GONE})
            names.append(run.name)
    return names


async def beside(pool: str) -> bool:
    """
    Tell whether another `narrate up` on this machine works for *pool*.
    """
    async with get_client() as client:
        try:
            workers = await client.read_workers_for_work_pool(
                pool, worker_filter=WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND:
                return False  # there is no such pool
            raise
    ours = _on_this_machine()
    return any(worker.name.startswith(ours) and _lives(worker.name.removeprefix(ours)) for worker in workers)


def _on_this_machine() -> str:
    """
    How the name begins of a studio's worker here; the number of its process follows.
    """
    return f"narrate up on {platform.node()}, "


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # another user's
        return True
    return True
