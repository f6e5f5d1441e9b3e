"""
A watched folder, or place in object storage: scripts land in it and settle, and a deployment narrates them.

Nothing is remembered: the first look starts a run, once the folder is at rest, which finds by itself what changed while nobody
watched, and costs nothing where nothing did. One that ended without narrating for a reason that may pass, and cannot pay twice,
is tried again after a while.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

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

from flows import endings
from flows.narration.errors import ExitCode, UsageError
from flows.narration.storage import Place, is_remote
from flows.narration.takes import local_folder

TAG = "watched"
"""What marks the runs that are started here."""

LOOK_SECONDS = 2.0
"""How often a run is looked at until it has ended."""

AGAIN_SECONDS = 30.0
"""How long after such an end it is tried again; twice as long after each further one."""

AGAIN_MOST = 3600.0
"""How long at most."""

PASSING = {ExitCode.USAGE, ExitCode.VOICE_TIMEOUT, ExitCode.KEY, ExitCode.SERVICE}
"""
Exit codes of runs that are tried again: nobody may need to mend anything, or has paid for nothing until somebody did. After the
others another run might pay again for what is as bad, spend another budget, or ask a person again who said no.
"""

COLLISION = "Deployment concurrency limit reached."
"""What Prefect says of a run that it cancels since another of its deployment is under way."""

SERVER_FAULT = 500

SUFFIXES = (".txt", ".md")

Answer = TypeVar("Answer")

Scripts = dict[str, tuple[int, int | str]]


class Watcher:
    """
    Starts runs of a *deployment* for what lands in *folder* (a path or a URI), one at a time, and tells *say* so.
    """

    def __init__(self, folder: str, *, deployment: str, say: Callable[[str], None]) -> None:
        self._place = Place(folder) if is_remote(folder) else None
        self._folder = Path() if self._place else local_folder(folder).absolute()  # a link is followed at each look
        self._told = folder if self._place else str(self._folder)
        self._say = say
        self._settled: Scripts = {}
        self._tried: Scripts = {}
        self._tries = 0
        self._again = 0.0
        self._name = deployment
        self._client: SyncPrefectClient = get_client(sync_client=True)
        self._deployment()
        if self._place:
            self._place.reach()
        elif not self._folder.is_dir():
            raise UsageError(f"{folder} is no folder.", "Make it, or name the one that scripts land in.")

    def watch(self, settle: float) -> None:
        """
        Start a run whenever the scripts have changed and then not for *settle* seconds; goes on until interrupted.
        """
        self._await_others()
        if self._place:
            self._watch_place(self._place, settle)
        before: Scripts | None = None
        gone = False
        for changes in watch(self._folder, rust_timeout=int(settle * 1000), yield_on_timeout=True, watch_filter=_visible):
            # The system tells nothing of a folder that took the place of this one, nor of what another host writes.
            now = _scripts(self._folder)
            if not changes and now == before:
                self._look()
            before = now
            if gone != (gone := not self._folder.is_dir()):
                self._say(f"{self._folder} is {'not there any more; waiting for it' if gone else 'there again'}")

    def _watch_place(self, place: Place, settle: float) -> NoReturn:
        """
        Do the same where nobody tells of changes: list it again and again.
        """
        before: Scripts | None = None
        while True:
            now = self._patiently(lambda: _scripts_there(place))
            if now == before:
                self._look()
            before = now
            time.sleep(settle)

    def _look(self) -> None:
        """
        Narrate if the scripts are not those that were narrated, or given up, last.
        """
        place = self._place
        scripts = self._patiently(lambda: _scripts_there(place)) if place else _scripts(self._folder)
        if scripts == self._tried and self._tries and not self._due:
            return
        if not scripts or scripts == self._settled:
            self._tries = 0
        else:
            self._settle(scripts, self._await(self._patiently(self._start)))

    @property
    def _due(self) -> bool:
        """
        Whether what could not be narrated is to be tried again by now.
        """
        return self._tries > 0 and time.monotonic() >= self._again

    def _settle(self, scripts: Scripts, run: FlowRun | None) -> None:
        """
        Remember *scripts* after a *run* over them, or when to try it again.
        """
        if run is None or not passes(run) or self._was_cancelled(run):
            if run is not None and run.state is not None and not run.state.is_completed():
                self._say("what it did not narrate waits until a script changes, or a person retries the run")
            self._settled, self._tries = scripts, 0
            return
        self._tries = self._tries + 1 if scripts == self._tried else 1
        seconds = min(AGAIN_SECONDS * 2 ** (self._tries - 1), AGAIN_MOST)
        self._tried, self._again = scripts, time.monotonic() + seconds
        self._say(f"it is tried again in {seconds:.0f} s, and at once when a script changes")

    def _was_cancelled(self, run: FlowRun) -> bool:
        """
        Tell whether a run crashed that somebody had cancelled.
        """
        crashed = run.state is not None and run.state.is_crashed()
        return crashed and endings.was_cancelled(self._patiently(lambda: self._client.read_flow_run_states(run.id)))

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
        given = {**deployed.parameters.get("scripts", {}), "scripts": self._told}
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

    def _await(self, run: FlowRun) -> FlowRun | None:
        """
        Wait for the end of a run, tell how it ended, and return it; one that is gone has ended.
        """
        while True:
            try:
                now = self._patiently(lambda: self._client.read_flow_run(run.id))
            except ObjectNotFound:
                return None
            if now.state is not None and now.state.is_final():
                self._say(f"{now.state.name.lower() if now.state.name else 'ended'} {now.name}")
                return now
            time.sleep(LOOK_SECONDS)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """
        Ask a server until it answers; that it does not is told once.
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
            except OSError as error:
                if not told:
                    self._say(f"the storage does not answer ({error.strerror or error}); waiting")
                told = True
            time.sleep(LOOK_SECONDS)


def passes(run: FlowRun) -> bool:
    """
    Tell whether a *run* has ended without narrating for a reason that may pass, so that another may do better for nothing.
    """
    state = run.state
    if state is None or state.is_completed():
        return False
    if state.is_failed():
        return endings.read(run)[0] in PASSING
    return state.is_crashed() or state.message == COLLISION


def _scripts_there(place: Place) -> Scripts:
    """
    Tell the scripts in *place* apart from what they were: by name, size and tag.
    """
    parts = {name: stored for name, stored in place.listing().items() if name.lower().endswith(SUFFIXES)}
    return {name: (stored.size, stored.tag) for name, stored in parts.items() if "/." not in f"/{name}"}


def _scripts(folder: Path) -> Scripts:
    """
    Tell the scripts in *folder* apart from what they were: by path, size and time.
    """
    found: Scripts = {}
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
