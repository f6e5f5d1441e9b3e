"""
A run that asks a person before it spends: suspended by Prefect with a question, resumed with a yes or a no and a remark.

While it waits no process of it lives; with the answer the worker begins the flow anew. All that was done before is found again
where it always is (the voice by the digest of its reference, takes in their store), so Prefect has no results to keep for it.
It keeps the answer with the run, under the key of the question: who retries or resumes the run is not asked again.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Literal
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRunInput
from prefect.context import FlowRunContext
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from flows import telling
from flows.narration.errors import Declined, MoneyError
from flows.narration.plan import Estimate
from flows.stopping import setting_its_own_state

ANSWER_SECONDS = 24 * 3600
"""How long a person may take; then the run is Failed, and `flows/alerts.yaml` says what to do."""

MOST_INPUTS = 200
"""Inputs of a run that are looked at, which is as many as Prefect tells at once."""

_KEY = re.compile(r"suspended-(?P<topic>[a-z0-9-]+)-(?P<amount>\d+)-(?P<turn>\d+)-(?P<kind>schema|response)")


class Answer(RunInput):
    """
    What a person says to a run that asks: the fields of the form in the Prefect UI.
    """

    go_on: Literal["yes", "no"] = Field(
        title="Go on?", description="yes: it goes on from here. no: it ends, and nothing is narrated."
    )
    remark: str = Field(default="", max_length=500, title="Remark", description="Why; it stands in the run's log.")
    name: str = Field(default="", max_length=100, title="Your name", description="Who says so, for the record.")

    @property
    def told(self) -> str:
        """
        Who said it and what was remarked, in a few words.
        """
        who = " ".join(self.name.split()) or "A person"
        remark = " ".join(self.remark.split())
        return f"{who} said {self.go_on}" + (f": “{remark}”" if remark else "")


async def approve_cost(need: Estimate, *, above_usd: float | None) -> None:
    """
    Have a person approve what the run *needs*, if that is above *above_usd*; a yes holds for all that costs no more.

    Raises `Declined` where they say no, and `MoneyError` where nobody can be asked: a run of the command line never waits.
    """
    if above_usd is None or need.usd <= above_usd:
        return
    what = f"about {need.usd:.4f} USD for {need.hours:.2f} hours"
    if not _may_wait():
        raise MoneyError(
            f"This run needs {what}, more than the {above_usd:.4f} USD of --approve-above-usd.",
            "No text was sent. Add --yes to go on.",
        )
    question = (
        f"**It needs {what}**: {need.bytes - (need.bytes_covered or 0)} bytes to send, {need.bytes_covered or 0} recorded "
        f"already. Above {above_usd:.4f} USD a person is asked. No text is sent until you answer."
    )
    await _ask("cost", what, question, amount=ceil(need.usd * 1e6), usd=need.usd, above_usd=above_usd, hours=need.hours)


async def approve_reference(warnings: Sequence[str], *, ask: bool) -> None:
    """
    Have a person approve a reference that draws *warnings*, if they want to be asked and can be; no voice is made before.

    Raises `Declined` where they say no.
    """
    if not (ask and warnings and _may_wait()):
        return
    digest = hashlib.sha256("\n".join(warnings).encode()).hexdigest()[:12]
    listed = "\n".join(f"* {warning}" for warning in warnings)
    question = f"**The recordings draw warnings:**\n\n{listed}\n\nA better recording makes a better voice. Go on with this one?"
    await _ask(f"reference-{digest}", "a reference that draws warnings", question, warnings=list(warnings))


def _may_wait() -> bool:
    """
    Tell whether a worker would begin this run anew: it does so for runs of a deployment that are no part of another.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return run is not None and run.deployment_id is not None and run.parent_task_run_id is None


async def _ask(topic: str, what: str, question: str, *, amount: int = 0, **told: object) -> None:
    """
    Return if a person said yes to *topic* and *amount*; raise `Declined` if they said no; ask them if they said nothing yet.
    """
    turn, answer = said(await _kept(topic), topic, amount=amount)
    if answer is None:
        get_run_logger().warning("It waits for a person's yes or no to %s. Resume it in the Prefect UI.", what)
        await telling.approval_wanted(what, question, answer_hours=ANSWER_SECONDS // 3600, **told)
        with setting_its_own_state():
            answer = await asuspend_flow_run(
                wait_for_input=Answer.with_initial_data(description=question),
                timeout=ANSWER_SECONDS,
                key=f"{topic}-{amount}-{turn}",
            )
    get_run_logger().info("%s, to %s.", answer.told, what)
    if answer.go_on == "no":
        raise Declined(f"{answer.told}, to {what}.", "No text was sent. Start a new run to be asked again.")


def said(kept: Iterable[FlowRunInput], topic: str, *, amount: int) -> tuple[int, Answer | None]:
    """
    Return how often a run asked, and what was said if it counts: a yes to as much or more, a no that was said last.
    """
    asked, answers = 0, []
    for found in kept:
        key = _KEY.fullmatch(found.key)
        if key and key["topic"] == topic:
            asked = max(asked, int(key["turn"]) + 1)
            if key["kind"] == "response":
                answers.append((int(key["turn"]), int(key["amount"]), Answer(**found.decoded_value)))
    answers.sort(key=lambda each: each[0])
    yes = next((answer for _, most, answer in answers if answer.go_on == "yes" and amount <= most), None)
    no = next((answer for _, least, answer in answers[-1:] if answer.go_on == "no" and amount >= least), None)
    return asked, yes or no


async def _kept(topic: str) -> list[FlowRunInput]:
    """
    Read the questions to *topic* that this run asked, and the answers.
    """
    async with get_client() as client:
        run_id = UUID(flow_run.get_id())
        return await client.filter_flow_run_input(
            run_id, key_prefix=f"suspended-{topic}-", limit=MOST_INPUTS, exclude_keys=set()
        )
