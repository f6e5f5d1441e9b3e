"""
Run the flow from the command line: Prefect's server beside it, progress on the screen, and the end as an exit code.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, Pause
from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows import marks, stopping
from flows.audiobook import audiobook
from flows.knobs import BookGroups, Groups
from flows.narrate import narrate
from flows.narration import report
from flows.narration.budget import DIGITS
from flows.narration.ending import ENDS
from flows.narration.errors import ExitCode, Interrupted, NarrateError
from flows.narration.manifest import Totals
from flows.narration.production import Production, watching

REFRESH_SECONDS = 0.5

ONE_PRESS_SECONDS = 0.5
"""Signals closer together are one: `timeout` sends it to the process and to its group."""


def run(groups: Groups, *, as_json: bool) -> int:
    """
    Run the flow with its *groups* of parameters; return 0, or raise the error it ended with.
    """
    result, error = _run(groups)
    _tell(result, as_json=as_json)
    if isinstance(error, BaseException):
        raise error
    return ExitCode.OK


def run_books(books: Sequence[BookGroups], *, as_json: bool) -> int:
    """
    Run the flow for one book after the other within one budget; return 0, or raise the worst error of all.

    A book that failed leaves the others; what ends a run (key, money, service, Ctrl-C) ends them all.
    """
    results: list[dict[str, Any]] = []
    errors: list[BaseException] = []
    spent = 0.0
    for groups in books:
        if groups.limits.budget is not None and spent:
            left = groups.limits.model_copy(update={"budget": max(0.0, round(groups.limits.budget - spent, DIGITS))})
            groups = replace(groups, limits=left)
        result, error = _run(groups)
        if result:
            results.append(result)
            spent += Totals.model_validate(result["totals"]).usd_at_most(model=groups.speech.model)
        if not as_json:
            _tell(result, as_json=False)
        if isinstance(error, BaseException):
            errors.append(error)
            if not isinstance(error, NarrateError) or error.exit_code in ENDS:
                break
            if len(books) > 1:
                print(f"{groups.book.book}: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps(results if len(books) > 1 else next(iter(results), {}), ensure_ascii=False))
    if errors:
        raise errors[-1]
    return ExitCode.OK


def _run(groups: Groups | BookGroups) -> tuple[dict[str, Any], Any]:
    """
    Run a flow; return its manifest, and the error it ended with.
    """
    productions: list[Production] = []
    watching.set(productions.append)
    with _shown(productions):
        error = asyncio.run(_finished(groups))
    return productions[-1].result if productions else {}, error


async def _finished(groups: Groups | BookGroups) -> Any:
    """
    Run the flow to its end, and return the error it ended with or its manifest.

    The first Ctrl-C stops sending and waits for what is in flight; the second waits for nothing.
    """
    loop, run, first, last = asyncio.get_running_loop(), asyncio.current_task(), 0.0, 0.0

    def interrupted() -> None:
        nonlocal first, last
        stops = stopping.living
        if stops and all(stop.over for stop in stops):
            if last and loop.time() > last + ONE_PRESS_SECONDS:
                print("Left at once. What is not said or sent yet is made good by the next run.", file=sys.stderr, flush=True)
                os._exit(ExitCode.INTERRUPTED)
            print("The run comes to its end, and says so. Ctrl-C again leaves at once.", file=sys.stderr)
            last = loop.time()
        elif stops and first and loop.time() > first + ONE_PRESS_SECONDS:
            for stop in stops:
                stop.drop()
        elif stops and not first:
            first = loop.time()
            if [stop for stop in stops if stop.ask()]:
                print("Stopping. What is in flight is paid for and waited for; Ctrl-C again drops it.", file=sys.stderr)
        elif run is not None and not stops:
            run.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        flow: Any = audiobook if isinstance(groups, BookGroups) else narrate
        state: State[Any] = await flow(**vars(groups), return_state=True)
    except (Abort, Pause):  # Prefect knows already how it ended
        return Interrupted.by_a_person()
    marks.take_away(state)
    return Interrupted.by_a_person() if state.is_cancelled() else await state.aresult(raise_on_failure=False)


def _tell(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    elif result:
        print(report.headline(Totals.model_validate(result["totals"])))


@contextmanager
def _shown(productions: list[Production]) -> Iterator[None]:
    """
    Show bars while the block runs, if a person looks; in a pipe, the run's own log lines say it all.
    """
    console = Console(stderr=True, markup=False, emoji=False)  # names of files are no markup
    if not console.is_terminal:
        with _logging_to(Console(stderr=True, highlighter=None, soft_wrap=True, markup=False, emoji=False)):
            yield
        return
    done = threading.Event()
    with Progress(*_COLUMNS, console=console, transient=True) as progress, _logging_to(console):
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
    MofNCompleteColumn(),
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
            progress.update(scripts, total=now.scripts, completed=now.scripts_done + now.scripts_failed)
            more = f"{now.minutes:.1f} min made, {now.usd:.4f} USD"
            progress.update(segments, total=now.segments, completed=now.segments_done, more=more)


@contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    """
    Have Prefect's log lines printed by *console*, so that they stand above the bars, and only one for each script.
    """
    setup_logging()
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, PrefectConsoleHandler)]
    before = {handler: handler.console for handler in handlers}
    for handler in handlers:
        handler.console = console
        handler.addFilter(_worth_a_line)
    try:
        yield
    finally:
        for handler, own in before.items():
            handler.console = own
            handler.removeFilter(_worth_a_line)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """
    Keep from the screen what says nothing more, and say waiting for a voice as what it is.
    """
    if record.name != "prefect.task_runs":
        return True
    said = record.getMessage()
    if "not trained yet" in said and "Retry" in said:
        record.msg, record.args = said.removeprefix("Task run failed with exception: "), ()
    return said != "Finished in state Completed()" and str(Interrupted.by_a_person()) not in said
