"""
What is read of a run that ended, and what a budget counts of it.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows import endings
from flows.fleet import at_most
from flows.narration.manifest import Totals


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
