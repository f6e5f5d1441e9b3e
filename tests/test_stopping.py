"""
Runs that are stopped from outside: in Prefect, by SIGTERM, by a worker that was told to.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Narrate, Sandbox, wait_for
from tests.standing import ask

LAST_SECONDS = 5
"""How long after it was told to stop a run may still send something."""

SUSPENDED = {"pause_timeout": "2100-01-01T00:00:00Z", "pause_reschedule": True}
"""What the UI says of a run that it suspends: it is started again when it is resumed."""

STAND_SECONDS = 30
"""How long it may take until the state stands."""


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
    _set(api, run_id, type="PAUSED", name="Suspended", state_details=SUSPENDED)


def _terminate(_api: str, _run_id: str, process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("stop", "state"),
    [(_cancel, "Cancelled"), (_suspend, "Suspended"), (_terminate, "Cancelled")],
    ids=["cancel", "suspend", "sigterm"],
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
