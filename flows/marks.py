"""
Marks of the runs that live: a file for each run of the command line, locked as long as its process lives.

A process that is killed tells Prefect nothing, and its run would be shown as running for ever. The next command finds its mark
unlocked, and tells Prefect in its place. Runs that a worker starts have no mark: they are the worker's to look after.
"""

import contextlib
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from uuid import UUID

import httpx
from filelock import FileLock, Timeout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State, StateType, TaskRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

KEPT_SECONDS = 30 * 24 * 3600
"""How long a mark of a killed run is kept whose server or database no command asks for any more."""

TURN_SECONDS = 5
"""How long others are waited for that look at the marks, which takes them milliseconds."""

UNTOLD = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
"""States that only the run's own process would lead out of."""

GONE = "The process that ran it is gone; what was recorded is kept. Run it again to go on."


class Marks:
    """
    The marks in *folder* of the runs that *keeper*, a server or a database, keeps.
    """

    def __init__(self, folder: Path, *, keeper: str) -> None:
        self._folder = folder
        self._keeper = keeper
        self._own: FileLock | None = None
        # A mark that is made and not yet locked must not be found.
        self._turn = FileLock(folder.with_suffix(".lock"), timeout=TURN_SECONDS)

    def leave(self, run_id: UUID) -> None:
        """
        Mark a run of this process; where the folder cannot be written to, it goes without.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._turn:
                self._own = _locked(self._folder / f"{self._keeper}.{run_id}")

    def take_away(self) -> None:
        """
        Remove the mark of this process: Prefect knows how its run ended.
        """
        if self._own is not None:
            _remove(self._own)

    def settle(self) -> None:
        """
        Tell Prefect of the runs whose process is gone, beside whatever goes on; where there are none, it costs nothing.
        """
        with contextlib.suppress(OSError):
            if self._folder.is_dir() and (orphans := self._orphans()):
                threading.Thread(target=_tell, args=(orphans,), name="marks").start()

    def _orphans(self) -> dict[UUID, FileLock]:
        """
        Take over the marks that nobody holds any more.
        """
        found: dict[UUID, FileLock] = {}
        with self._turn:
            for path in self._folder.iterdir():
                keeper, _, run_id = path.name.partition(".")
                if keeper == self._keeper:
                    with contextlib.suppress(Timeout):
                        found[UUID(run_id)] = _locked(path)
                elif path.stat().st_mtime < time.time() - KEPT_SECONDS:
                    with contextlib.suppress(Timeout):
                        _remove(_locked(path))
        return found


current: ContextVar[Marks | None] = ContextVar("current", default=None)
"""Where runs of this process are marked: only those of the command line."""


def leave() -> None:
    """
    Mark the flow run this is called in, if the command line runs it.
    """
    marks, context = current.get(), FlowRunContext.get()
    if marks and context and context.flow_run:
        marks.leave(context.flow_run.id)


def take_away(state: State[object]) -> None:
    """
    Remove the mark of a run that came to *state*, if that is an end.
    """
    marks = current.get()
    if marks and state.is_final():
        marks.take_away()


def _locked(path: Path) -> FileLock:
    """
    Lock the file at *path*; `Timeout` where its process lives.
    """
    mark = FileLock(path, blocking=False, thread_local=False)
    mark.acquire()
    return mark


def _remove(mark: FileLock) -> None:
    Path(mark.lock_file).unlink(missing_ok=True)
    mark.release()


def _tell(orphans: dict[UUID, FileLock]) -> None:
    """
    Tell how each of the runs ended; one that cannot be told now is told by a later command.
    """
    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for run_id, mark in orphans.items():
            with contextlib.suppress(ObjectNotFound):
                _crash(client, run_id)
            _remove(mark)


def _crash(client: SyncPrefectClient, run_id: UUID) -> None:
    run = client.read_flow_run(run_id)
    if run.state is None or run.state.type not in UNTOLD:
        return
    for task_run in _unfinished(client, run_id):
        client.set_task_run_state(task_run.id, Crashed(message=GONE), force=True)
    client.set_flow_run_state(run_id, Crashed(message=GONE), force=True)


def _unfinished(client: SyncPrefectClient, run_id: UUID) -> list[TaskRun]:
    """
    The task runs that have not come to an end; the server tells 200 at a time.
    """
    going = [kind for kind in StateType if kind not in TERMINAL_STATES]
    found: list[TaskRun] = []
    while page := client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=going))),
        offset=len(found),
    ):
        found += page
    return found
