"""
A fleet as an engineer would set it up: Prefect on PostgreSQL, deployments, one limit of the account, workers as processes.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Narrate, wait_for
from tests.standing import ask

LIMIT = 5
"""Requests at once that the account may have: that of its tier."""

END_SECONDS = 400
"""A quiet machine takes a third of it."""

CRASHED_SECONDS = 180
"""Within which a run is told Crashed whose worker and process were killed: three beats of 30 s, and the server's turns."""

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

DEPLOYMENTS = """\
deployments:
  - name: narrate
    entrypoint: flows.narrate.narrate
    pull: []
    work_pool: {name: narrate}
    parameters: {}
  - name: audiobook
    entrypoint: flows.audiobook.audiobook
    pull: []
    work_pool: {name: narrate}
    parameters:
      output: {profile: podcast}
      limits: {budget: 0.4, approve_above_usd: 0.0}
  - name: library
    entrypoint: flows.library.library
    pull: []
    work_pool: {name: narrate}
    parameters: {}
"""


@dataclass
class Fleet:
    """
    A folder that is worked in, the deployments on a server at *api*, and the workers that were started.
    """

    folder: Path
    api: str
    environment: dict[str, str]
    workers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def prefect(self, *arguments: str) -> None:
        """
        Run a command of Prefect's.
        """
        self._run("prefect", *arguments)

    def _run(self, module: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr

    def deploy(self) -> None:
        """
        Put the deployments, the pool, the automation and the limit on the server.
        """
        shutil.copy(ROOT / "prefect.toml", self.folder)
        self._run("flows", "setup")
        (self.folder / "prefect.yaml").write_text(DEPLOYMENTS)
        self.prefect("--no-prompt", "deploy", "--all")
        ask("POST", f"{self.api}/v2/concurrency_limits/", json={"name": "account", "limit": LIMIT}).raise_for_status()

    def work(self, number: int, host: Mapping[str, str] | None = None, *, runs: int = 2) -> "subprocess.Popen[bytes]":
        """
        Start a worker that has so many *runs* at once, on a *host* with an environment of its own.
        """
        with (self.folder / f"worker-{number}.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", "narrate", "--limit", str(runs),
                 "--name", f"w{number}"],
                cwd=self.folder, env={**self.environment, **(host or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.workers.append(worker)
        return worker

    def logs(self) -> str:
        """
        What workers and their runs wrote.
        """
        return "".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))

    def begin(self, deployment: str, parameters: dict[str, Any]) -> str:
        """
        Begin a run of a deployment as the UI does, and return its id.
        """
        deployed = ask("GET", f"{self.api}/deployments/name/{deployment}").raise_for_status().json()
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        made = ask("POST", f"{self.api}/deployments/{deployed['id']}/create_flow_run", json=body).raise_for_status()
        return str(made.json()["id"])

    def run(self, run_id: str) -> Any:
        """
        Tell a flow run as Prefect has it.
        """
        return ask("GET", f"{self.api}/flow_runs/{run_id}").raise_for_status().json()

    def runs(self, *tags: str) -> list[dict[str, Any]]:
        """
        Tell all runs that have these tags.
        """
        ours = {"flow_runs": {"tags": {"all_": [*tags]}}} if tags else {}
        rows: list[dict[str, Any]] = ask("POST", f"{self.api}/flow_runs/filter", json=ours).raise_for_status().json()
        return rows

    def ended(self, run_id: str, *, seconds: float = END_SECONDS) -> Any:
        """
        Wait for the end of a run, and return it.
        """

        def look() -> Any | None:
            run = self.run(run_id)
            return run if run["state_type"] in FINAL else None

        return wait_for(look, what="the end of a run", seconds=seconds, every=0.5)

    def retried(self, run_id: str) -> Any:
        """
        Have a run that ended retried, as the UI does, and return it at its end.
        """
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
        body = {"state": state, "force": False}
        ask("POST", f"{self.api}/flow_runs/{run_id}/set_state", json=body).raise_for_status()
        return self.ended(run_id)

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """
        Tell what a run of ours told, once there is anything.
        """
        ours = {"filter": {"resource": {"id": [f"narrate.run.{run_id}"]}}}

        def look() -> list[dict[str, Any]] | None:
            rows: list[dict[str, Any]] = ask("POST", f"{self.api}/events/filter", json=ours).raise_for_status().json()["events"]
            return rows or None

        return wait_for(look, what="an event", seconds=60, every=0.5)

    def slots_taken(self) -> int:
        """
        How many slots of the account's limit are leased.
        """
        return int(ask("GET", f"{self.api}/v2/concurrency_limits/account").raise_for_status().json()["active_slots"])

    def forget(self) -> None:
        """
        Leave nothing on the server that workers of another test would take.
        """
        for run in self.runs():
            ask("DELETE", f"{self.api}/flow_runs/{run['id']}")
        ask("DELETE", f"{self.api}/v2/concurrency_limits/account")


@contextmanager
def ending(workers: "list[subprocess.Popen[bytes]]") -> "Iterator[list[subprocess.Popen[bytes]]]":
    """
    End *workers*, and the groups they lead, after the block.
    """
    try:
        yield workers
    finally:
        for process in workers:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in workers:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def fleet(bare_narrate: Narrate, postgres_api: str, voice_id: str) -> Iterator[Fleet]:
    """
    Deployments with Prefect on PostgreSQL, no worker yet.
    """
    del voice_id  # made first, as it empties the journal
    environment = {
        **bare_narrate.environment,
        "PREFECT_API_URL": postgres_api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    folder = bare_narrate.folder / "fleet"
    folder.mkdir()
    made = Fleet(folder, postgres_api, environment)
    made.deploy()
    with ending(made.workers):
        yield made
    made.forget()


def killed(pid: int) -> None:
    """
    Kill a process and its group at once.
    """
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
