"""
A deployment of the flow `narrate` with a process worker of its own, and what people do to its runs by Prefect's API.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Narrate, wait_for
from tests.standing import ask

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

DEPLOYMENT = """\
deployments:
  - name: {name}
    entrypoint: flows.narrate.narrate
    pull: []
    work_pool: {{name: {name}}}
    parameters:
      scripts: {{scripts: {folder}/scripts}}
      voice: {{reference: [{clip}], voice_title: Ada}}
      output: {{out: {folder}/out}}
"""

START_SECONDS = 60
END_SECONDS = 90


@dataclass(frozen=True)
class Deployed:
    """
    The deployment narrate/*name*, whose scripts and OUT are in *folder*, and the file its worker logs to.
    """

    api: str
    name: str
    folder: Path
    log: Path

    def write(self, **texts: str) -> None:
        """
        Write scripts.
        """
        (self.folder / "scripts").mkdir(exist_ok=True)
        for name, text in texts.items():
            (self.folder / f"scripts/{name}.txt").write_text(text)

    def start(self, **parameters: Any) -> str:
        """
        Start a run as the UI does, with groups of *parameters* besides the deployment's, and return its id.
        """
        deployed = ask("GET", f"{self.api}/deployments/name/narrate/{self.name}").raise_for_status().json()
        body = {"parameters": {**deployed["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
        made = ask("POST", f"{self.api}/deployments/{deployed['id']}/create_flow_run", json=body).raise_for_status()
        return str(made.json()["id"])

    @property
    def id(self) -> str:
        """
        The deployment's id.
        """
        return str(ask("GET", f"{self.api}/deployments/name/narrate/{self.name}").raise_for_status().json()["id"])

    def run(self, run_id: str) -> Any:
        """
        Tell a flow run as Prefect has it.
        """
        return ask("GET", f"{self.api}/flow_runs/{run_id}").raise_for_status().json()

    def suspended(self, run_id: str, *, but: str = "") -> Any:
        """
        Wait until a run is suspended, for another question than *but*, and its process has ended; return its question.
        """

        def look() -> Any | None:
            run = self.run(run_id)
            assert run["state_type"] not in FINAL, (run["state"], self.log.read_text())
            keys = run["state"]["state_details"].get("run_input_keyset") if run["state"]["name"] == "Suspended" else None
            return keys if keys and keys["schema"] != but else None

        keys = wait_for(look, what="a run that asks", seconds=END_SECONDS)
        question = ask("GET", f"{self.api}/flow_runs/{run_id}/input/{keys['description']}").raise_for_status().json()
        return {"asked": question, "schema": keys["schema"]}

    def answer(self, run_id: str, **answer: str) -> Any:
        """
        Resume a run with an answer, as the UI does.
        """
        resumed = ask("POST", f"{self.api}/flow_runs/{run_id}/resume", json={"run_input": answer})
        return resumed.raise_for_status().json()

    def ended(self, run_id: str) -> Any:
        """
        Wait for the end of a run, and return it.
        """

        def look() -> Any | None:
            run = self.run(run_id)
            return run if run["state_type"] in FINAL else None

        return wait_for(look, what="the end of a run", seconds=END_SECONDS)


@contextmanager
def deployed(narrate: Narrate, *, name: str, clip: Path) -> Iterator[Deployed]:
    """
    Deploy the flow in the folder and the environment of *narrate*, and have a worker run it while the block runs.
    """
    folder, environment = narrate.folder, {**narrate.environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    (folder / "prefect.yaml").write_text(DEPLOYMENT.format(name=name, folder=folder, clip=clip))
    prefect = [sys.executable, "-m", "prefect"]
    for command in (["work-pool", "create", name, "--type", "process", "--overwrite"], ["--no-prompt", "deploy", "--all"]):
        done = subprocess.run(
            [*prefect, *command],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
    log = folder / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", name],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Deployed(environment["PREFECT_API_URL"], name, folder, log)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def logged(api: str, run_id: str) -> list[str]:
    """
    The lines that a flow run has logged, its tasks' among them, once it said how it ended.
    """
    ours = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200}

    def look() -> list[str] | None:
        found = [str(row["message"]) for row in ask("POST", f"{api}/logs/filter", json=ours).raise_for_status().json()]
        return found if any("Finished in state" in line for line in found) else None

    return wait_for(look, what="a run's log", seconds=60)


def events(api: str, run_id: str, *, name: str, count: int = 1) -> list[dict[str, Any]]:
    """
    The events that begin with *name* of a flow run, once there are *count*: the server writes them down later.
    """
    ours = {"filter": {"event": {"prefix": [name]}, "any_resource": {"id": [f"prefect.flow-run.{run_id}"]}, "order": "ASC"}}

    def look() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = ask("POST", f"{api}/events/filter", json=ours).raise_for_status().json()["events"]
        return found if len(found) >= count else None

    return wait_for(look, what=f"{count} events {name}…", seconds=90)
