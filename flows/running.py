"""
Run the flow from the command line: Prefect's server beside it, progress on the screen, and the end as an exit code.
"""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging.handlers import PrefectConsoleHandler
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from flows.narrate import narrate
from flows.narration import report
from flows.narration.errors import ExitCode
from flows.narration.manifest import Manifest
from flows.narration.production import Production, watching

REFRESH_SECONDS = 0.5


def run(groups: Sequence[BaseModel], *, as_json: bool) -> int:
    """
    Run the flow with its five *groups* of parameters; return 0, or raise the error it ended with.
    """
    productions: list[Production] = []
    watching.set(productions.append)
    with _shown(productions):
        state = asyncio.run(_finished(groups))
    _tell(productions[-1].result if productions else {}, as_json=as_json)
    if isinstance(state.data, BaseException):
        raise state.data
    return ExitCode.OK if state.is_completed() else ExitCode.FAULT


async def _finished(groups: Sequence[BaseModel]) -> State[Any]:
    state: State[Any] = await narrate(*groups, return_state=True)
    return state


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    elif result:
        print(report.headline(Manifest.model_validate(result)))


@contextmanager
def _shown(productions: list[Production]) -> Iterator[None]:
    """
    Show bars while the block runs, if a person looks; in a pipe, the run's own log lines say it all.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    done = threading.Event()
    with Progress(*_COLUMNS, console=console, transient=True) as progress, _logging_above(console):
        looker = threading.Thread(target=_look, args=(progress, productions, done), daemon=True)
        looker.start()
        try:
            yield
        finally:
            done.set()
            looker.join()


_COLUMNS = (
    TextColumn("{task.description:>9}"),
    BarColumn(),
    TextColumn("{task.completed:.0f}/{task.total:.0f}"),
    TextColumn("{task.fields[more]}"),
    TimeRemainingColumn(),
)


def _look(progress: Progress, productions: list[Production], done: threading.Event) -> None:
    """
    Copy how far the run is to the bars, twice a second.
    """
    scripts = progress.add_task("scripts", total=None, more="")
    segments = progress.add_task("segments", total=None, more="")
    while not done.wait(REFRESH_SECONDS):
        if productions:
            now = productions[-1].progress
            progress.update(scripts, total=now.scripts, completed=now.scripts_done)
            more = f"{now.minutes:.1f} min made, {now.usd:.4f} USD"
            progress.update(segments, total=now.segments, completed=now.segments_done, more=more)


@contextmanager
def _logging_above(console: Console) -> Iterator[None]:
    """
    Have Prefect's log lines printed above the bars instead of through them.
    """
    loggers = [logging.getLogger(name) for name in ("prefect", "prefect.flow_runs", "prefect.task_runs")]
    handlers = {handler for logger in loggers for handler in logger.handlers if isinstance(handler, PrefectConsoleHandler)}
    before = {handler: handler.console for handler in handlers}
    for handler in handlers:
        handler.console = console
    try:
        yield
    finally:
        for handler, own in before.items():
            handler.console = own
