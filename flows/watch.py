"""
A watched folder: scripts land in it and settle, and a deployment narrates them.

Nothing is remembered: the first look starts a run, once the folder is at rest, which finds by itself what changed while nobody
watched, and costs nothing where nothing did.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.utilities.urls import url_for
from watchfiles import watch

from flows.narration.errors import UsageError

TAG = "watched"
"""What marks the runs that are started here."""

LOOK_SECONDS = 2.0
"""How often a run is looked at until it has ended."""

SERVER_FAULT = 500

SUFFIXES = (".txt", ".md")

Answer = TypeVar("Answer")


class Watcher:
    """
    Starts runs of a *deployment* for what lands in *folder*, one at a time, and tells *say* so.
    """

    def __init__(self, folder: Path, *, deployment: str, say: Callable[[str], None]) -> None:
        self._folder = folder.resolve()
        self._say = say
        self._narrated: dict[str, tuple[int, int]] = {}
        self._name = deployment
        self._client: SyncPrefectClient = get_client(sync_client=True)
        self._deployment()
        if not self._folder.is_dir():
            raise UsageError(f"{folder} is no folder.", "Make it, or name the one that scripts land in.")

    def watch(self, settle: float) -> None:
        """
        Start a run whenever the scripts have changed and then not for *settle* seconds; goes on until interrupted.
        """
        self._await_others()
        changed = True
        for changes in watch(self._folder, rust_timeout=int(settle * 1000), yield_on_timeout=True, watch_filter=_visible):
            if changes:
                changed = True
            elif changed:
                changed = False
                self._look()

    def _look(self) -> None:
        """
        Narrate if the scripts are not those that were narrated last.
        """
        scripts = _scripts(self._folder)
        if scripts and scripts != self._narrated:
            self._await(self._patiently(self._start))
            self._narrated = scripts

    def _deployment(self) -> DeploymentResponse:
        """
        Read the deployment as it is now: it may be deployed anew while its folder is watched.
        """
        try:
            return self._client.read_deployment_by_name(self._name)
        except (ObjectNotFound, ValueError):
            raise UsageError(f"There is no deployment “{self._name}”.", "`prefect deployment ls` lists them.") from None

    def _start(self) -> FlowRun:
        deployed = self._deployment()
        given = {**deployed.parameters.get("scripts", {}), "scripts": str(self._folder)}
        parameters = {**deployed.parameters, "scripts": given}
        run = self._client.create_flow_run_from_deployment(deployed.id, parameters=parameters, tags=[TAG])
        self._say(f"started {run.name} {url_for(run) or run.id}")
        return run

    def _await_others(self) -> None:
        """
        Wait for runs that were started here before: there is one at a time.
        """
        going = [kind for kind in StateType if kind not in TERMINAL_STATES]
        ours = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=going)), tags=FlowRunFilterTags(all_=[TAG])
        )
        deployed = DeploymentFilter(id=DeploymentFilterId(any_=[self._deployment().id]))
        for run in self._client.read_flow_runs(flow_run_filter=ours, deployment_filter=deployed):
            self._say(f"waiting for {run.name} ({run.state.name if run.state else 'no state'})")
            self._await(run)

    def _await(self, run: FlowRun) -> None:
        """
        Wait for the end of a run, and tell how it ended; one that is gone has ended.
        """
        while True:
            try:
                now = self._patiently(lambda: self._client.read_flow_run(run.id))
            except ObjectNotFound:
                return
            if now.state is not None and now.state.is_final():
                self._say(f"{now.state.name.lower() if now.state.name else 'ended'} {now.name}")
                return
            time.sleep(LOOK_SECONDS)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """
        Ask the server until it answers; that it does not is told once.
        """
        told = False
        while True:
            try:
                return ask()
            except (httpx.TransportError, PrefectHTTPStatusError) as error:
                if isinstance(error, PrefectHTTPStatusError) and error.response.status_code < SERVER_FAULT:
                    raise UsageError(f"The Prefect server refuses it: {error}.") from error
                if not told:
                    self._say(f"the Prefect server does not answer ({type(error).__name__}); waiting")
                told = True
                time.sleep(LOOK_SECONDS)


def _scripts(folder: Path) -> dict[str, tuple[int, int]]:
    """
    Tell the scripts in *folder* apart from what they were: by path, size and time.
    """
    found: dict[str, tuple[int, int]] = {}
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                try:
                    looks = (Path(top) / name).stat()
                except OSError:  # gone again
                    continue
                found[f"{top}/{name}"] = (looks.st_size, looks.st_mtime_ns)
    return found


def _visible(_change: object, path: str) -> bool:
    return not Path(path).name.startswith(".")
