"""
A run stopped from outside: Cancel and Suspend in the Prefect UI, SIGTERM, Ctrl-C.

Nothing more is sent at once. What is in flight is paid for, so it is waited for and kept, up to a grace period.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause, PrefectException
from prefect.runtime import flow_run

from flows.narration.production import Production

LOOK_SECONDS = 2.0
"""How often a run looks at its own state: Prefect tells a run that no worker started of nothing."""

GRACE_SECONDS = 20.0
"""How long requests in flight are waited for; a worker kills what has not ended after 30."""

living: "list[Stop]" = []
"""What the runs of this process are stopped by."""


class Stop:
    """
    Ends the run of *production*, which is this task's, early; *state* is what somebody set the run to, if that is why.
    """

    def __init__(self, production: Production) -> None:
        self._production = production
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.state: State[Any] | None = None
        self.deaf = False

    def ask(self) -> bool:
        """
        Send nothing more and wait for what is in flight; return whether there is anything to wait for.
        """
        self._production.interrupt()
        if not self._production.sending:
            self.drop()
        elif self._timer is None:
            self._timer = self._loop.call_later(GRACE_SECONDS, self.drop)
        return self._timer is not None

    def drop(self) -> None:
        """
        Wait for nothing.
        """
        self._production.interrupt()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """
        The run has ended: there is nothing to stop.
        """
        if self._timer is not None:
            self._timer.cancel()


@asynccontextmanager
async def stoppable(production: Production) -> AsyncIterator[None]:
    """
    Stop the run where somebody wants it while the block runs; a run that was suspended ends as that.
    """
    stop, run_id = Stop(production), flow_run.get_id()
    looker = asyncio.create_task(_look(stop, UUID(run_id))) if run_id else None
    living.append(stop)
    try:
        with _on_sigterm(lambda: _told(stop, "Told to end (SIGTERM).")):
            yield
    finally:
        living.remove(stop)
        stop.close()
        if looker is not None:
            looker.cancel()
    if stop.state is not None and stop.state.is_paused():
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


def suspended() -> bool:
    """
    Tell whether somebody suspended a run of this process.
    """
    return any(stop.state is not None and stop.state.is_paused() for stop in living)


async def _look(stop: Stop, run_id: UUID) -> None:
    """
    Look at the run's state until somebody set it to one that is not to go on.
    """
    async with get_client() as client:
        while stop.state is None:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(httpx.HTTPError, PrefectException):  # the server may be away for a while
                state = (await client.read_flow_run(run_id)).state
                if stop.deaf or state is None:
                    continue
                if state.is_cancelling() or state.is_cancelled() or state.is_paused():
                    stop.state = state
                    _told(stop, f"The run was set to {state.name}.")


def _told(stop: Stop, why: str) -> None:
    waiting = " What is in flight is paid for and waited for." if stop.ask() else ""
    get_run_logger().warning("%s Nothing more is sent.%s", why, waiting)


@contextmanager
def _on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """
    Have SIGTERM do that while the block runs, in place of what Prefect does: it would drop what is in flight.
    """
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    try:
        loop.add_signal_handler(signal.SIGTERM, act)
    except (RuntimeError, ValueError):  # only a main thread hears signals
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
