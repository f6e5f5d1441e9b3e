"""
Runs that ask a person first: suspended by Prefect, answered by its API as the UI does, and never from the command line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import soundfile
from prefect.client.schemas.objects import FlowRunInput

from flows.approval import said
from tests.conftest import Narrate, Sandbox, wait_for
from tests.deployed import Deployed, deployed, events
from tests.standing import ask
from tests.test_stopping import assert_no_beat_after_its_last_event

pytestmark = pytest.mark.alone

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
def office(narrate: Narrate, sandbox: Sandbox, clip: Path) -> Iterator[Deployed]:
    """
    A deployment with a worker, and two scripts to narrate.
    """
    sandbox.config(training="at-once")
    with deployed(narrate, name="approval", clip=clip) as made:
        made.write(one="The lamps are lit.", two="Nobody came.")
        yield made


YES, NO = {"go_on": "yes"}, {"go_on": "no"}


@pytest.mark.parametrize(
    ("kept", "amount", "counts"),
    [
        ({}, 500, (0, None)),
        ({"500-0-schema": {}}, 500, (1, None)),
        ({"500-0-schema": {}, "500-0-response": YES}, 500, (1, "yes")),
        ({"500-0-schema": {}, "500-0-response": YES}, 300, (1, "yes")),
        ({"500-0-schema": {}, "500-0-response": YES}, 501, (1, None)),
        ({"500-0-schema": {}, "500-0-response": NO}, 500, (1, "no")),
        ({"500-0-schema": {}, "500-0-response": NO}, 400, (1, None)),
        ({"500-0-response": YES, "600-1-schema": {}, "600-1-response": NO}, 600, (2, "no")),
        ({"500-0-response": YES, "600-1-schema": {}, "600-1-response": NO}, 400, (2, "yes")),
    ],
)
def test_an_answer_counts_for_what_was_asked(kept: dict[str, Any], amount: int, counts: tuple[int, str | None]) -> None:
    """
    A yes holds for less, a no for more; what nobody answered is asked anew.
    """
    inputs = [
        FlowRunInput(flow_run_id=uuid4(), key=f"suspended-cost-{key}", value=json.dumps(value)) for key, value in kept.items()
    ]

    turn, answer = said(inputs, "cost", amount=amount)

    assert counts == (turn, answer and answer.go_on)


def test_a_command_never_waits(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    Above the threshold it ends with 6 and names --yes, with which it goes on; nothing was sent before.
    """
    (narrate.folder / "one.txt").write_text("The lamps are lit.")
    command = ["run", "one.txt", "--voice-id", voice_id, "--out", "out", "--approve-above-usd", "0.0001"]

    refused, sent = narrate(*command), sandbox.spoken()
    agreed = narrate(*command, "--yes")

    assert (6, []) == (refused.code, sent), refused.err
    assert "--yes" in refused.err
    assert "0.0003 USD" in refused.err
    assert 0 == agreed.code, agreed.err
    assert ["The lamps are lit."] == sandbox.spoken()


@pytest.mark.long
def test_a_person_says_yes_once(office: Deployed, sandbox: Sandbox, prefect_api: str) -> None:
    """
    The run waits with its estimate and sends nothing; with a yes it goes on, and when it is run again it asks and pays no more.
    """
    run_id = office.start(limits={"approve_above_usd": 0.0001})
    question = office.suspended(run_id)
    assert [] == sandbox.spoken()
    assert "30 bytes to send" in question["asked"]
    assert_no_beat_after_its_last_event(prefect_api, run_id)

    nothing_said = office.answer(run_id, remark="hm")
    office.answer(run_id, go_on="yes", remark="Cheap enough.", name="Ada")

    assert "REJECT" == nothing_said["status"]
    assert "COMPLETED" == office.ended(run_id)["state_type"], office.log.read_text()
    assert {"The lamps are lit.", "Nobody came."} == set(sandbox.spoken())
    assert 1 == len(sandbox.voices())
    before = office.run(run_id)["run_count"]
    again = {"type": "SCHEDULED", "name": "AwaitingRetry"}
    ask("POST", f"{prefect_api}/flow_runs/{run_id}/set_state", json={"state": again, "force": True}).raise_for_status()
    wait_for(lambda: office.run(run_id)["run_count"] > before or None, what="the retry", seconds=180)
    assert "COMPLETED" == office.ended(run_id)["state_type"], office.log.read_text()
    assert 2 == len(sandbox.spoken())
    [wanted] = events(prefect_api, run_id, name="narrate.approval.wanted")
    assert 0.00045 == wanted["payload"]["usd"]
    assert "Ada said yes: “Cheap enough.”" in office.log.read_text()


@pytest.mark.long
def test_a_person_says_no(office: Deployed, sandbox: Sandbox, prefect_api: str) -> None:
    """
    The run ends Cancelled with who said so and why, in its state, its report and its manifest; nothing was sent.
    """
    run_id = office.start(limits={"approve_above_usd": 0.0})
    office.suspended(run_id)

    office.answer(run_id, go_on="no", remark="Too dear.", name="Ada")

    run = office.ended(run_id)
    assert "CANCELLED" == run["state_type"], office.log.read_text()
    assert "Ada said no: “Too dear.”" in run["state"]["message"]
    assert "Too dear." in (office.folder / "out/run.json").read_text()
    assert [] == sandbox.spoken()
    assert ["narrate.run.suspended", "narrate.run.cancelled"] == [
        event["event"] for event in events(prefect_api, run_id, name="narrate.run.", count=2)
    ]


@pytest.mark.long
def test_a_reference_that_draws_warnings_is_shown(
    narrate: Narrate, office: Deployed, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """
    With ask_on_warnings no voice is made before a person said yes; without it, and from the command line, they are only told.
    """
    sound, rate = soundfile.read(clip)
    short = tmp_path / "short.wav"
    soundfile.write(short, sound[: 7 * rate], rate)
    voice = {"reference": [str(short)], "voice_title": "Ada"}

    run_id = office.start(voice=voice, limits={"ask_on_warnings": True})
    question = office.suspended(run_id)
    voices = sandbox.voices()
    office.answer(run_id, go_on="yes")
    told = narrate("run", office.folder / "scripts", "--reference", short, "--out", "other", "--ask-on-warnings")

    assert [] == voices
    assert "s of speech" in question["asked"]
    assert "COMPLETED" == office.ended(run_id)["state_type"], office.log.read_text()
    assert 0 == told.code, told.err
    assert "s of speech" in told.err


@pytest.mark.long
def test_nobody_answers(narrate: Narrate, office: Deployed, sandbox: Sandbox, prefect_api: str) -> None:
    """
    After its time the run is Failed, and with the automations installed it says what to do: Retry asks again.
    """
    assert 0 == narrate("alerts", "install").code
    run_id = office.start(limits={"approve_above_usd": 0.0})
    office.suspended(run_id)
    state = office.run(run_id)["state"]
    late = {"type": "PAUSED", "name": "Suspended", "state_details": {**state["state_details"], "pause_timeout": PAST}}
    assert_no_beat_after_its_last_event(prefect_api, run_id)

    ask("POST", f"{prefect_api}/flow_runs/{run_id}/set_state", json={"state": late, "force": True}).raise_for_status()

    def told() -> str | None:
        message = office.run(run_id)["state"]["message"]
        return message if message and "Nobody resumed it in time" in message else None

    try:
        wait_for(told, what="the sentence", seconds=180)
        assert "FAILED" == office.run(run_id)["state_type"]
        again = {"type": "SCHEDULED", "name": "AwaitingRetry"}
        ask("POST", f"{prefect_api}/flow_runs/{run_id}/set_state", json={"state": again, "force": True}).raise_for_status()
        office.suspended(run_id, but=state["state_details"]["run_input_keyset"]["schema"])
        assert [] == sandbox.spoken()
    finally:
        narrate("alerts", "remove")
