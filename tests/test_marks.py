"""
What becomes of runs whose process is gone, as Prefect's API tells it.
"""

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Narrate, Sandbox, wait_for

pytestmark = pytest.mark.alone


def _scripts(folder: Path, *, count: int) -> Path:
    folder.mkdir()
    for place in range(count):
        (folder / f"{place}.txt").write_text(f"This is {folder.name} {place}.\n")
    return folder


def _mark(narrate: Narrate, *, but: Path | None = None) -> Path:
    """
    The mark of the run that goes on, once it is there.
    """
    folder = Path(narrate.environment["PREFECT_HOME"]) / "narrate-runs"
    return wait_for(lambda: next((path for path in folder.glob("*.*") if path != but), None), what="a mark", seconds=120)


class History:
    """
    The runs that the server at *api* knows.
    """

    def __init__(self, api: str) -> None:
        self._api = httpx.Client(base_url=api, timeout=30)

    def state(self, run_id: str) -> str:
        """
        The type of a flow run's state.
        """
        return str(self._api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state_type"])

    def tasks(self, run_id: str) -> list[str]:
        """
        The types of the states of its task runs.
        """
        states: list[str] = []
        while page := self._post(
            "/task_runs/filter", flow_runs={"id": {"any_": [run_id]}}, offset=len(states), sort="EXPECTED_START_TIME_ASC"
        ):
            states += [row["state_type"] for row in page]
        return states

    def run(self, state: str, *, tasks: int = 0) -> str:
        """
        Make a flow run in a state of this type, with task runs that are running.
        """
        flow = self._post("/flows/", name="of-nobody")
        run = self._post("/flow_runs/", flow_id=flow["id"], state={"type": "PENDING"})
        self._post(f"/flow_runs/{run['id']}/set_state", state={"type": state, "name": state.title()}, force=True)
        for place in range(tasks):
            task = {"flow_run_id": run["id"], "task_key": "t", "dynamic_key": str(place), "state": {"type": "RUNNING"}}
            self._post("/task_runs/", **task)
        return str(run["id"])

    def _post(self, path: str, **body: Any) -> Any:
        def answer() -> httpx.Response | None:
            answer = self._api.post(path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer  # its database was busy

        return wait_for(answer, what="an answer").raise_for_status().json()


@pytest.mark.long
def test_the_next_command_tells_of_runs_whose_process_is_gone(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str
) -> None:
    """
    A run that was killed is told Crashed with its task runs. One that lives goes on, and others are left as they are.
    """
    sandbox.config(latency=0.5)
    history = History(prefect_api)
    options = ("--voice-id", voice_id, "--concurrency", "1")
    killed = narrate.start("run", _scripts(narrate.folder / "killed", count=200), "--out", "a", *options)
    mark = _mark(narrate)
    lives = narrate.start("run", _scripts(narrate.folder / "lives", count=200), "--out", "b", *options)
    living = _mark(narrate, but=mark)
    keeper, _, run_id = mark.name.partition(".")
    wait_for(lambda: "RUNNING" in history.tasks(run_id) or None, what="a task run", seconds=120)
    killed.kill()
    killed.communicate()
    left = {state: history.run(state) for state in ("PAUSED", "SCHEDULED", "COMPLETED", "CANCELLED")}
    nobodys = "00000000-0000-4000-8000-000000000000"
    for planted in (*left.values(), nobodys):
        mark.with_name(f"{keeper}.{planted}").touch()
    other, old = mark.with_name(f"another.{run_id}"), mark.with_name(f"another.{nobodys}")
    for path in (other, old):
        path.touch()
    os.utime(old, (0, 0))

    done = narrate("run", _scripts(narrate.folder / "next", count=1), "--out", "c", *options)

    assert 0 == done.code, done.err
    assert "CRASHED" == history.state(run_id)
    assert {"CRASHED", "COMPLETED"} >= set(history.tasks(run_id)) >= {"CRASHED"}
    assert (None, "RUNNING") == (lives.poll(), history.state(living.name.partition(".")[2]))
    assert {state: state for state in left} == {state: history.state(planted) for state, planted in left.items()}
    assert {living, other} == set(mark.parent.iterdir())
    lives.send_signal(signal.SIGINT)
    _, err = lives.communicate(timeout=60)
    assert (130, "CANCELLED") == (lives.returncode, history.state(living.name.partition(".")[2])), err
    assert {other} == set(mark.parent.iterdir())


@pytest.mark.long
def test_every_task_run_of_a_killed_run_is_told(narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str) -> None:
    """
    The server tells 200 at a time.
    """
    history = History(prefect_api)
    command = ("run", _scripts(narrate.folder / "scripts", count=1), "--voice-id", voice_id, "--out", "out")
    planted = history.run("RUNNING", tasks=401)
    process = narrate.start(*command)
    keeper = _mark(narrate).name.partition(".")[0]
    process.communicate(timeout=120)
    (Path(narrate.environment["PREFECT_HOME"]) / "narrate-runs" / f"{keeper}.{planted}").touch()

    done = narrate(*command)

    assert 0 == done.code, done.err
    assert ("CRASHED", ["CRASHED"] * 401) == (history.state(planted), history.tasks(planted))


@pytest.mark.long
def test_an_automation_tells_of_runs_that_fell_silent(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str
) -> None:
    """
    On a standing server no command has to come: 90 s after its last heartbeat, a run is told Crashed.
    """
    made = narrate("setup")
    assert 0 == made.code, made.err
    history = History(prefect_api)
    sandbox.config(latency=1)
    scripts = _scripts(narrate.folder / "scripts", count=150)
    lives = narrate.start("run", scripts, "--voice-id", voice_id, "--out", "a", "--concurrency", "1")
    living = _mark(narrate)
    killed = narrate.start("run", scripts, "--voice-id", voice_id, "--out", "b", "--concurrency", "1")
    run_id = _mark(narrate, but=living).name.partition(".")[2]
    wait_for(lambda: "RUNNING" in history.tasks(run_id) or None, what="a task run", seconds=120)
    killed.kill()
    killed.communicate()

    wait_for(lambda: history.state(run_id) == "CRASHED" or None, what="the state Crashed", seconds=130)

    assert (None, "RUNNING") == (lives.poll(), history.state(living.name.partition(".")[2]))
    lives.kill()
    lives.communicate()
