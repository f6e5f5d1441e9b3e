"""
What a flow run leaves on itself at its end, as labels: who started it among others reads them, wherever it ran.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import httpx
from anyio import CancelScope
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from flows.narration.cost import Spent
from flows.narration.errors import ExitCode, NarrateError
from flows.narration.manifest import Totals
from flows.stopping import ending

CODE, USD, USD_AT_MOST, MINUTES = "narrate.exit", "narrate.usd", "narrate.usd_at_most", "narrate.minutes"
NOTHING = Totals()
"""What a run has made and spent that sent nothing."""

NO_MONEY = Spent()

PUT_BACK = "The studio was ended; what was recorded is kept. The next one goes on with it."
"""What a run is told that the studio ends and puts back in the queue: no person has cancelled it."""


class Ending(NamedTuple):
    """
    What a run said of itself: its exit code, the USD it paid and those it may have paid *at most*, each where it is known, and
    the minutes it made.
    """

    code: int | None
    usd: float | None
    usd_at_most: float | None
    minutes: float


def code_of(error: BaseException | None, *, stopped: bool = False) -> int:
    """
    Tell what a command would return that ends with that *error*, or was *stopped*.
    """
    if stopped:
        return int(ExitCode.INTERRUPTED)
    if error is None:
        return int(ExitCode.OK)
    return int(error.exit_code if isinstance(error, NarrateError) else ExitCode.FAULT)


async def leave(code: int, totals: Totals | None = None, *, spent: Spent = NO_MONEY) -> None:
    """
    Label this run with its exit code and, by its *totals*, with what it made and *spent*; a server that is away is no reason to
    fail.

    That a run has spent `NOTHING` is said by its first attempt only: a later one that is refused takes back nothing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    told: dict[str, int | float | str] = {CODE: code}
    if totals is not None and not (totals is NOTHING and context.flow_run.run_count > 1):
        told |= {USD: spent.usd, USD_AT_MOST: spent.at_most, MINUTES: round(totals.seconds / 60, 2)}
    with suppress(httpx.HTTPError, PrefectException):
        async with get_client() as client:
            await client.update_flow_run_labels(context.flow_run.id, told)


@asynccontextmanager
async def labelled() -> AsyncIterator[None]:
    """
    Label this run with how the block ends; from then on no look at its state stops it.
    """
    try:
        yield
        ending()
    except BaseException as error:
        ending()
        with CancelScope(shield=True):
            await leave(code_of(error, stopped=not isinstance(error, Exception)))
        raise
    await leave(code_of(None))


def was_cancelled(states: Sequence[State[Any]]) -> bool:
    """
    Tell from all *states* of a run that crashed whether a person had cancelled it.
    """
    newest = sorted(states, key=lambda state: state.timestamp, reverse=True)
    before = next((state for state in newest if not state.is_crashed()), None)
    return before is not None and (before.is_cancelling() or before.is_cancelled()) and before.message != PUT_BACK


def read(run: FlowRun) -> Ending:
    """
    Read from a run how it ended.
    """
    code, usd, at_most, minutes = (run.labels.get(name) for name in (CODE, USD, USD_AT_MOST, MINUTES))
    at_most = usd if at_most is None else at_most  # a run of an older Narrate says no more
    return Ending(
        code=int(code) if code is not None else None,
        usd=float(usd) if usd is not None else None,
        usd_at_most=float(at_most) if at_most is not None else None,
        minutes=float(minutes) if minutes is not None else 0.0,
    )
