"""
The worker of `narrate up`: Prefect's process worker in this very process, and how it comes to its end.

Told to end once, it takes no new runs and waits for those under way. Told again, it ends those as Cancel in the UI does, so
that what is in flight is paid for and kept, and puts them back in the queue: whichever worker comes next goes on with them.
"""

import asyncio
import os
import platform
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.states import AwaitingRetry, Cancelling, Crashed
from prefect.workers.process import ProcessWorker

from flows.narration.errors import ExitCode, ServiceUnavailable

RUNS_AT_ONCE = 10
"""Each is a process of about 150 MB; more wait for one of them to end."""

LOOK_SECONDS = 0.2

ONE_PRESS_SECONDS = 0.5
"""Signals closer together are one: `timeout` sends it to the process and to its group."""

END_SECONDS = 60
"""How long runs may take to end: Prefect gives each 30 s, and kills it then."""

GOING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
"""States that only a living process leads out of."""

ENDED = "The studio was ended; what was recorded is kept. The next one goes on with it."

GONE = "The studio that ran it is gone; what was recorded is kept."


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


async def work(pool: str, *, healthcheck: bool, ready: Callable[[], None], say: Callable[[str], None]) -> ExitCode:
    """
    Run what comes into *pool* until told to end; return whether that had to be said twice.
    """
    name = f"narrate up on {platform.node()}, {os.getpid()}"
    worker = ProcessWorker(work_pool_name=pool, name=name, limit=RUNS_AT_ONCE, create_pool_if_not_found=False)
    working = asyncio.create_task(worker.start(with_healthcheck=healthcheck, printer=lambda *_: None))
    try:
        while not worker.is_setup:
            await _pause(working)
        with _Presses() as presses:
            ready()
            return await _until_ended(worker, working, presses, say)
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


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
    worker: ProcessWorker, working: "asyncio.Task[None]", presses: _Presses, say: Callable[[str], None]
) -> ExitCode:
    limiter = worker.limiter
    while not presses.count:
        await _pause(working)
    limiter.total_tokens = 0  # Prefect takes no run that it finds no token for
    if limiter.borrowed_tokens:
        say(f"Taking no new runs; waiting for {limiter.borrowed_tokens} under way. Ctrl-C again ends them.")
    while limiter.borrowed_tokens and presses.count < 2:
        await _pause(working)
    if not limiter.borrowed_tokens:
        return ExitCode.OK
    runs = [UUID(str(run)) for run in limiter.statistics().borrowers]
    say(f"Ending {len(runs)}; what is in flight is paid for and waited for. The next `narrate up` goes on with them.")
    async with get_client() as client:
        for run in runs:
            await _set(client, run, Cancelling(message=ENDED))
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while limiter.borrowed_tokens and presses.count < 3 and asyncio.get_running_loop().time() < deadline:
            await _pause(working)
        await _put_back(client, runs)
    return ExitCode.INTERRUPTED


async def _put_back(client: PrefectClient, runs: Collection[UUID]) -> None:
    """
    Have those that did not come to an end of their own run again.
    """
    for run_id in runs:
        state = (await client.read_flow_run(run_id)).state
        if state is not None and not (state.is_completed() or state.is_failed() or state.is_paused()):
            await _set(client, run_id, AwaitingRetry(message=ENDED), force=True)


async def _set(client: PrefectClient, run_id: UUID, state: State[object], *, force: bool = False) -> None:
    with suppress(PrefectException, httpx.HTTPError):  # it has ended, or was deleted
        await client.set_flow_run_state(run_id, state, force=force)


async def take_over(pool: str) -> list[str]:
    """
    Put back the runs of *pool* that are shown as under way on a server that has only just begun, and return their names.

    Their worker and their server were killed, or the machine stopped, so that nobody could tell how they ended.
    """
    async with get_client() as client:
        left: list[FlowRun] = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=GOING))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        for run in left:
            await _set(client, run.id, Crashed(message=GONE), force=True)
            await _set(client, run.id, AwaitingRetry(message=GONE), force=True)
    return [run.name for run in left]
