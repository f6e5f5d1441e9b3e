"""
Runs that are stopped from outside: in Prefect, by SIGTERM, by a worker that was told to.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.running import ONE_PRESS_SECONDS
from flows.stopping import GRACE_SECONDS
from tests.conftest import Narrate, Sandbox, wait_for
from tests.receiver import receiving
from tests.standing import ask
from tests.test_telling import SECRET

pytestmark = pytest.mark.alone

LAST_SECONDS = 5
"""How long after it was told to stop a run may still send something."""

STAND_SECONDS = 30
"""How long it may take until the state stands."""


def suspended(seconds: int = 300) -> dict[str, Any]:
    """
    Say what the Prefect UI says of a run that it suspends, for five minutes unless a person says more.
    """
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    details = {"pause_timeout": until, "pause_reschedule": True, "deferred": False, "untrackable_result": False}
    return {"type": "PAUSED", "name": "Suspended", "state_details": details}


@pytest.fixture
def long_script(tmp_path: Path) -> Path:
    """
    A script that takes a minute and a half to record.
    """
    script = tmp_path / "long.txt"
    script.write_text("\n\n".join(f"This is paragraph {number}." for number in range(90)))
    return script


def _run_id(api: str, script: Path) -> str:
    """
    Id of the newest run that narrates *script*.
    """
    rows = ask("POST", f"{api}/flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 20}).raise_for_status().json()
    return next(str(row["id"]) for row in rows if row["parameters"]["scripts"]["scripts"] == str(script))


def _state(api: str, run_id: str) -> str:
    return str(ask("GET", f"{api}/flow_runs/{run_id}").raise_for_status().json()["state"]["name"])


def _set(api: str, run_id: str, **state: Any) -> None:
    ask("POST", f"{api}/flow_runs/{run_id}/set_state", json={"state": state, "force": True}).raise_for_status()


def _cancel(api: str, run_id: str, _process: "subprocess.Popen[str]") -> None:
    _set(api, run_id, type="CANCELLING", name="Cancelling")


def _suspend(api: str, run_id: str, _process: "subprocess.Popen[str]") -> None:
    _set(api, run_id, **suspended())


def _terminate(_api: str, _run_id: str, process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)


def assert_no_beat_after_its_last_event(api: str, run_id: str) -> None:
    """
    Wait for what a suspended run says last of all; after a beat of its heart it would be told Crashed (automation.yaml).
    """
    about = {"filter": {"resource": {"id": [f"prefect.flow-run.{run_id}"]}, "order": "ASC"}}

    def told() -> list[str] | None:
        """
        Look whether the server has written down how it ended.
        """
        rows = ask("POST", f"{api}/events/filter", json=about).raise_for_status().json()["events"]
        names = [row["event"] for row in rows]
        return names if "narrate.run.suspended" in names else None

    names = wait_for(told, what="its last event", seconds=60)
    assert "prefect.flow-run.heartbeat" in names
    last = names.index("narrate.run.suspended")
    assert names.index("prefect.flow-run.Suspended") < last
    assert "prefect.flow-run.heartbeat" not in names[last:]


@pytest.mark.parametrize(
    ("stop", "state"),
    [
        pytest.param(_cancel, "Cancelled", id="cancel"),
        pytest.param(_suspend, "Suspended", id="suspend", marks=pytest.mark.long),
        pytest.param(_terminate, "Cancelled", id="sigterm", marks=pytest.mark.long),
    ],
)
def test_a_run_that_is_stopped_sends_nothing_more_and_keeps_what_it_has(
    narrate: Narrate,
    sandbox: Sandbox,
    prefect_api: str,
    voice_id: str,
    long_script: Path,
    stop: Callable[[str, str, "subprocess.Popen[str]"], None],
    state: str,
) -> None:
    """
    The state that was asked for stands, the command ends with 130, and what was in flight is paid for and kept.
    """
    sandbox.config(latency=1.0)
    process = narrate.start("run", long_script, "--voice-id", voice_id, "--out", "out", "--concurrency", "2")
    wait_for(lambda: sandbox.spoken() or None, what="a first take", seconds=60)
    run_id = _run_id(prefect_api, long_script)

    stopped = time.monotonic()
    stop(prefect_api, run_id, process)
    _, err = process.communicate(timeout=STAND_SECONDS)

    assert (130, state) == (process.returncode, _state(prefect_api, run_id)), err
    assert time.monotonic() - stopped < STAND_SECONDS
    assert "Traceback" not in err
    sent = sandbox.requests("/v1/tts")
    assert max(row["started"] for row in sent) < stopped + LAST_SECONDS
    manifest = json.loads((narrate.folder / "out/run.json").read_text())
    assert "cancelled" == manifest["state"]
    assert sum(row["bytes"] for row in sent) == manifest["totals"]["bytes_billed"]
    assert len(sent) == len(list((narrate.folder / "out/.takes").rglob("*.flac")))
    if state == "Suspended":  # after the last beat of its heart, or it would be told Crashed (automation.yaml)
        assert "or it ends Failed; Retry goes on with it" in err
        assert_no_beat_after_its_last_event(prefect_api, run_id)


def test_a_voice_in_training_is_not_waited_for_after_cancel(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, clip: Path, long_script: Path
) -> None:
    """
    Nothing is in flight, so there is nothing to wait for.
    """
    sandbox.config(training="never")
    process = narrate.start("run", long_script, "--reference", clip, "--out", "out")
    wait_for(lambda: sandbox.requests("/model/") or None, what="a look at the voice", seconds=60)
    run_id = _run_id(prefect_api, long_script)

    _cancel(prefect_api, run_id, process)
    _, err = process.communicate(timeout=STAND_SECONDS)

    assert (130, "Cancelled") == (process.returncode, _state(prefect_api, run_id)), err
    assert [] == sandbox.requests("/v1/tts")


@pytest.mark.long
@pytest.mark.parametrize("in_flight", [False, True], ids=["training", "in flight"])
def test_a_run_that_is_stopped_says_so_to_its_end(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, clip: Path, voice_id: str, long_script: Path, in_flight: bool
) -> None:
    """
    It hears of Cancel from its worker and from the server, and who listens is slow: neither that nor the end of the grace
    period breaks off what it has still to say, or it would be told Crashed, and begun again by who begins crashed runs again.
    """
    sandbox.config(training="at-once" if in_flight else "never", latency=GRACE_SECONDS - 6)
    choice = ("--voice-id", voice_id) if in_flight else ("--reference", clip)
    with receiving() as receiver:
        receiver.hangs = 9.0 if in_flight else 4.0
        told = {"NARRATE_WEBHOOK_URL": receiver.url, "NARRATE_WEBHOOK_SECRET": SECRET}
        process = narrate.start("run", long_script, *choice, "--out", "out", "--concurrency", "1", **told)
        begun = "/v1/tts" if in_flight else "/model/"
        wait_for(lambda: sandbox.requests(begun) or None, what="what is to be stopped", seconds=60)
        run_id = _run_id(prefect_api, long_script)
        _cancel(prefect_api, run_id, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=2 * STAND_SECONDS)

        assert (130, "Cancelled") == (process.returncode, _state(prefect_api, run_id)), err
        assert "narrate.run.cancelled" in [each["type"] for each in receiver.told]
    states = ask("GET", f"{prefect_api}/flow_run_states/", params={"flow_run_id": run_id}).raise_for_status().json()
    assert "CRASHED" not in [state["type"] for state in states]
    assert (1 if in_flight else 0) == len(sandbox.spoken())


@pytest.mark.long
@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_ctrl_c_does_not_break_off_what_is_said_of_the_end(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str, long_script: Path, end: str
) -> None:
    """
    Who listens is slow. One that comes when all is done changes nothing, and a second one that comes late ends as the first.
    """
    if end == "completed":
        long_script.write_text("The only sentence.")
    sandbox.config(latency=0.5)
    with receiving() as receiver:
        receiver.hangs = 4.0
        told = {"NARRATE_WEBHOOK_URL": receiver.url, "NARRATE_WEBHOOK_SECRET": SECRET}
        process = narrate.start("run", long_script, "--voice-id", voice_id, "--out", "out", **told)
        wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=60)
        run_id = _run_id(prefect_api, long_script)
        if end == "cancelled":
            process.send_signal(signal.SIGINT)
        wait_for(lambda: f"narrate.run.{end}" in str(receiver.received) or None, what="the end that is told", seconds=60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=STAND_SECONDS)

    assert "Left at once" not in err
    assert (0 if end == "completed" else 130, end.title()) == (process.returncode, _state(prefect_api, run_id)), err
    assert "The run comes to its end" in err
    assert "Traceback" not in err


@pytest.mark.long
def test_ctrl_c_twice_at_the_end_leaves_at_once(narrate: Narrate, sandbox: Sandbox, voice_id: str, long_script: Path) -> None:
    """
    As a kill would, with a sentence: all is narrated and kept, and the next run sends nothing.
    """
    long_script.write_text("The only sentence.")
    with receiving() as receiver:
        receiver.hangs = 9.0
        told = {"NARRATE_WEBHOOK_URL": receiver.url, "NARRATE_WEBHOOK_SECRET": SECRET}
        process = narrate.start("run", long_script, "--voice-id", voice_id, "--out", "out", **told)
        wait_for(lambda: "narrate.run.completed" in str(receiver.received) or None, what="the end that is told", seconds=60)
        presses = 0

        def pressed() -> bool | None:
            """
            Press, unless it has ended.
            """
            nonlocal presses
            if process.poll() is not None:
                return True
            process.send_signal(signal.SIGINT)
            presses += 1
            return None

        wait_for(pressed, what="its end", every=2 * ONE_PRESS_SECONDS)  # closer together they are one
        _, err = process.communicate(timeout=STAND_SECONDS)

    assert 2 == presses, err
    assert 130 == process.returncode, err
    assert "Left at once" in err
    assert "Traceback" not in err
    again = narrate("run", long_script, "--voice-id", voice_id, "--out", "out", "--json")
    assert (0, 1, 1) == (again.code, again.json["totals"]["unchanged"], len(sandbox.spoken())), again.err
