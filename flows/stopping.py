"""
A run stopped from outside: Cancel and Suspend in the Prefect UI, SIGTERM, Ctrl-C.

Nothing more is sent at once. What is in flight is paid for, so it is waited for and kept, up to a grace period. A run that was
suspended, by somebody or to ask a person, says so last of all.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import Pause, PrefectException
from prefect.runtime import flow_run

from flows.narration.production import Production

LOOK_SECONDS = 2.0
"""How often a run looks at its own state: Prefect tells a run that no worker started of nothing."""

GRACE_SECONDS = 20.0
"""How long requests in flight are waited for; a worker kills what has not ended after 30."""

living: "list[Stop]" = []
"""What the runs of this process are stopped by."""

_own: "ContextVar[Stop | None]" = ContextVar("own", default=None)


class Stop:
    """
    Ends a run, which is this task's, early, by way of its *production* if there is one.

    *state* is what somebody set the run to, if that is why.
    """

    def __init__(self, production: Production | None) -> None:
        self._production = production
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._dropped = False
        self.over = False
        self.state: State[Any] | None = None
        self.asked = False
        self.deaf = False

    def ask(self) -> bool:
        """
        Send nothing more and wait for what is in flight; return whether there is anything to wait for.
        """
        self.asked = True
        if self._production is not None:
            self._production.interrupt()
        if self._production is None or not self._production.sending:
            self.drop()
        elif self._timer is None:
            self._timer = self._loop.call_later(GRACE_SECONDS, self.drop)
        return self._timer is not None

    def drop(self) -> None:
        """
        Wait for nothing; once, and not for what a run that comes to its end has still to say.
        """
        if self._production is not None:
            self._production.interrupt()
        if self._task is not None and not (self._dropped or self.over):
            self._dropped = True
            self._task.cancel()

    @property
    def suspended(self) -> bool:
        """
        Tell whether somebody suspended the run.
        """
        return self.state is not None and self.state.is_paused()

    def heeds(self, state: State[Any]) -> bool:
        """
        Tell whether the run is to end for that *state*; of Cancel, a run without a production hears from its worker.
        """
        cancelled = state.is_cancelling() or state.is_cancelled()
        return state.is_paused() or (cancelled and self._production is not None)

    def close(self) -> None:
        """
        The run has ended, but for what it says of that: there is nothing to stop.
        """
        self.over = True
        if self._timer is not None:
            self._timer.cancel()


@asynccontextmanager
async def stoppable(production: Production | None = None) -> AsyncIterator[None]:
    """
    Stop the run where somebody wants it while the block runs; a run that was suspended ends as that.

    Without a production it is stopped by Suspend alone: the block is cancelled.
    """
    stop, run_id = Stop(production), flow_run.get_id()
    looker = asyncio.create_task(_look(stop, UUID(run_id))) if run_id else None
    living.append(stop)
    own = _own.set(stop)
    try:
        with _ending_as(stop), nullcontext() if production is None else _on_sigterm(stop):
            yield
    except Pause:
        # The heart has beaten since it was suspended: what it does not hear after that would be told Crashed (automation.yaml).
        emit_event("narrate.run.suspended", resource={"prefect.resource.id": f"prefect.flow-run.{run_id}"})
        raise
    finally:
        living.remove(stop)
        _own.reset(own)
        stop.close()
        if looker is not None:
            looker.cancel()


@contextmanager
def _ending_as(stop: Stop) -> Iterator[None]:
    """
    Have the block end as Prefect's `Pause` where somebody suspended the run.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not stop.suspended or task is None:
            raise
        task.uncancel()
    if stop.suspended:
        raise Pause("The run was suspended.", state=stop.state)


@contextmanager
def setting_its_own_state() -> Iterator[None]:
    """
    Let a run suspend itself in the block: nobody else did. When the block raises, that is the run's end, and nothing stops it.
    """
    for stop in living:
        stop.deaf = True
    yield
    for stop in living:
        stop.deaf = False


def ending() -> None:
    """
    Stop this run no more, as it is about to say how it ended: whoever listens is to hear that to its end.
    """
    stop = _own.get()
    if stop is not None:
        stop.close()


def suspended() -> bool:
    """
    Tell whether somebody suspended a run of this process.
    """
    return any(stop.suspended for stop in living)


async def _look(stop: Stop, run_id: UUID) -> None:
    """
    Look at the run's state until somebody set it to one that is not to go on.
    """
    async with get_client() as client:
        while stop.state is None:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(httpx.HTTPError, PrefectException):  # the server may be away for a while
                state = (await client.read_flow_run(run_id)).state
                if stop.over:
                    return
                if stop.deaf or state is None:
                    continue
                if not stop.heeds(state):
                    continue
                stop.state = state
                if not stop.asked:  # its worker was quicker
                    _told(stop, f"The run was set to {state.name}.{_until(state)}")


def _until(state: State[Any]) -> str:
    """
    Tell until when a run stays suspended, if not for ever: the Prefect UI says five minutes unless a person says more.
    """
    until = state.state_details.pause_timeout if state.is_paused() else None
    return (
        f" Resume it by {until:%Y-%m-%d %H:%M:%S} UTC, or it ends Failed; Retry goes on with it all the same." if until else ""
    )


def _told(stop: Stop, why: str) -> None:
    if stop.over:
        return
    waiting = " What is in flight is paid for and waited for." if stop.ask() else ""
    get_run_logger().warning("%s Nothing more is sent.%s", why, waiting)


@contextmanager
def _on_sigterm(stop: Stop) -> Iterator[None]:
    """
    Have SIGTERM stop the run while the block runs, in place of what Prefect does: it would drop what is in flight.
    """
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    try:
        loop.add_signal_handler(signal.SIGTERM, _told, stop, "Told to end (SIGTERM).")
    except (RuntimeError, ValueError):  # only a main thread hears signals
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
