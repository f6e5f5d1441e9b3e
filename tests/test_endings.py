"""
What is read of a run that ended, and what a budget counts of it.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import endings
from flows.fleet import Fleet, at_most
from flows.narration.manifest import Totals
from tests.standing import ask


def _run(state: StateType, *, begun: bool = True, budget: float | None = 0.5, **labels: Any) -> FlowRun:
    return FlowRun(
        flow_id=uuid4(),
        state=State(type=state),
        start_time=datetime.now(UTC) if begun else None,
        parameters={"limits": {} if budget is None else {"budget": budget}},
        labels={f"narrate.{name}": value for name, value in labels.items()},
    )


@pytest.mark.parametrize(
    ("run", "usd"),
    [
        (_run(StateType.COMPLETED, usd=0.2, usd_at_most=0.3), 0.3),
        (_run(StateType.FAILED, usd=0.2), 0.2),
        (_run(StateType.CRASHED), 0.5),
        (_run(StateType.CRASHED, usd=0.2, usd_at_most=0.2), 0.5),  # which an attempt before said
        (_run(StateType.CANCELLED, begun=False), 0.0),
        (_run(StateType.RUNNING, usd=0.2, usd_at_most=0.2), 0.5),
        (_run(StateType.CANCELLING), 0.5),
        (_run(StateType.SCHEDULED, begun=False), 0.5),
        (_run(StateType.RUNNING, budget=None), None),
    ],
)
def test_a_run_counts_with_what_it_may_have_spent(run: FlowRun, usd: float | None) -> None:
    """
    What it says once it is done; all of its budget until then, or where it could not say; nothing where it never began.
    """
    assert usd == at_most(run)


def test_what_may_have_been_billed_is_no_cost_and_counts_for_the_budget() -> None:
    """
    People are told what was billed for sure.
    """
    totals = Totals(bytes_billed=10_000, bytes_unknown=5_000, usd=0.15)

    ended = endings.read(
        _run(StateType.COMPLETED, exit=0, usd=0.15, usd_at_most=totals.usd_at_most(model="s2.1-pro"), minutes=2.5)
    )

    assert (0, 0.15, 0.225, 2.5) == ended


@pytest.mark.parametrize(
    ("states", "cancelled"),
    [
        (("RUNNING", "CRASHED"), False),
        (("RUNNING", "CANCELLING", "CRASHED"), True),
        (("RUNNING", "CANCELLING", "CANCELLED", "CRASHED"), True),
        (("RUNNING", "CANCELLING", "CANCELLED", "SCHEDULED", "RUNNING", "CRASHED"), False),
        (("RUNNING", "CANCELLING", "SCHEDULED", "PENDING", "CRASHED"), False),
        (("RUNNING", "PUT_BACK", "CRASHED"), False),
    ],
)
async def test_a_crash_of_what_somebody_had_cancelled_is_known(
    prefect_api: str, states: tuple[str, ...], cancelled: bool
) -> None:
    """
    By the states that a run has been in, since it was begun last.
    """
    flow = ask("POST", f"{prefect_api}/flows/", json={"name": "book"}).raise_for_status().json()
    made = ask("POST", f"{prefect_api}/flow_runs/", json={"flow_id": flow["id"]}).raise_for_status().json()
    for state in states:
        put_back = {"type": "CANCELLING", "message": endings.PUT_BACK}
        body = {"state": put_back if state == "PUT_BACK" else {"type": state}, "force": True}
        ask("POST", f"{prefect_api}/flow_runs/{made['id']}/set_state", json=body).raise_for_status()

    with temporary_settings({PREFECT_API_URL: prefect_api}):
        async with get_client() as client:
            runs = Fleet(client, DeploymentResponse(flow_id=UUID(flow["id"]), name="d", labels={}))
            run = await client.read_flow_run(made["id"])
            assert cancelled == await runs.was_cancelled(run)
