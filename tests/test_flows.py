"""
What Prefect keeps of a run: names, states, retries, artifacts, parameters and logs, as its API and its commands tell them.
"""

import json
import sqlite3
import subprocess
import sys
from base64 import b64decode
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEY, Narrate, Sandbox, wait_for
from tests.standing import ask

QUICK = {"NARRATE_BACKOFF": "0.05", "NARRATE_ATTEMPTS": "2", "NARRATE_POLL_INTERVAL": "0.1"}


@dataclass(frozen=True)
class History:
    """
    One flow run, as the Prefect server at *api* tells it.
    """

    api: str
    run_id: str

    @property
    def run(self) -> Any:
        """
        The flow run itself.
        """
        return ask("GET", f"{self.api}/flow_runs/{self.run_id}").raise_for_status().json()

    def tasks(self, *, count: int) -> dict[str, Any]:
        """
        Its task runs by name, once all *count* of them have come to an end: the server writes them down a little later.
        """

        def ended() -> dict[str, Any] | None:
            rows = self._rows("task_runs/filter", {"flow_runs": {"id": {"any_": [self.run_id]}}})
            done = [row for row in rows if row["state_type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")]
            return {row["name"]: row for row in done} if len(done) >= count else None

        return wait_for(ended, what=f"{count} task runs")

    def states(self, task_run: Any) -> list[str]:
        """
        Names of the states a task run went through, in order.
        """
        answer = ask("GET", f"{self.api}/task_run_states/", params={"task_run_id": task_run["id"]})
        rows = answer.raise_for_status().json()
        return [row["name"] for row in sorted(rows, key=lambda row: str(row["timestamp"]))]

    def artifact(self, key: str) -> str:
        """
        The Markdown of its only artifact with *key*.
        """
        rows = self._rows("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [self.run_id]}, "key": {"any_": [key]}}})
        [row] = rows
        return str(row["data"])

    def artifacts(self) -> list[dict[str, Any]]:
        """
        All its artifacts.
        """
        return self._rows("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [self.run_id]}}})

    def everything(self) -> str:
        """
        All that Prefect keeps of it, as one text: the run, its parameters, task runs, artifacts and logs.
        """
        mine = {"flow_runs": {"id": {"any_": [self.run_id]}}}
        return json.dumps([self.run, self._rows("task_runs/filter", mine), self.artifacts(), self.logs()], ensure_ascii=False)

    def logs(self) -> list[dict[str, Any]]:
        """
        All lines of its log.
        """
        return self._rows("logs/filter", {"logs": {"flow_run_id": {"any_": [self.run_id]}}})

    def _rows(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = ask("POST", f"{self.api}/{path}", json=body).raise_for_status().json()
        return rows


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """
    Two scripts, one of them in a folder.
    """
    folder = tmp_path / "book"
    (folder / "part-1").mkdir(parents=True)
    (folder / "part-1/chapter-02.txt").write_text("Nobody came.\n")
    (folder / "welcome.md").write_text("# Welcome\n\nThe [lamps] are lit.\n")
    (folder / "notes.pdf").write_text("")
    return folder


def _history(narrate: Narrate, prefect_api: str) -> History:
    return History(prefect_api, json.loads((narrate.folder / "out/run.json").read_text())["flow_run_id"])


def test_a_run_is_written_down(narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path) -> None:
    """
    Runs have names a person recognises, each look at the voice is a retry, both artifacts tell their story, no key shows.
    """
    sandbox.config(training_looks=3)

    done = narrate("run", book, "--reference", clip, "--voice-title", "Ada", "--out", "out", **QUICK)

    assert 0 == done.code, done.err
    history = _history(narrate, prefect_api)
    run, tasks = history.run, history.tasks(count=5)
    assert ("narrate book as Ada", "COMPLETED") == (run["name"], run["state_type"])
    assert {"COMPLETED"} == {task["state_type"] for task in tasks.values()}
    assert {"synthesize part-1/chapter-02.txt", "synthesize welcome.md"} < set(tasks)
    _check_names(set(tasks))
    waiting = next(task for name, task in tasks.items() if name.startswith("wait-for-voice"))
    assert (3, 3) == (waiting["run_count"], len(_looks(sandbox)))
    assert 2 == sum(state == "AwaitingRetry" for state in history.states(waiting))
    _check_artifacts(history, sandbox)
    assert KEY not in history.everything() + done.out + done.err


@pytest.mark.long
def test_history_does_not_grow_with_segments(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str, tmp_path: Path
) -> None:
    """
    A script of 80 sentences leaves as many task runs, artifacts and lines of the log as one of 4.
    """
    sandbox.config(concurrency_limit=50)
    kept = []
    for count in (4, 80):
        script = tmp_path / f"{count}.txt"
        script.write_text("\n\n".join(f"This is sentence {number} of {count}." for number in range(count)))
        assert 0 == narrate("run", script, "--voice-id", voice_id, "--out", "out").code
        history = _history(narrate, prefect_api)
        rows = len(history.tasks(count=2)), len(history.artifacts()), len(history.logs())
        kept.append(rows)

    assert kept[0] == kept[1]
    assert all(kept[0])
    assert 84 == len(sandbox.spoken())


def _check_names(names: set[str]) -> None:
    """
    Hold that every task run is named after what it works on.
    """
    about = {"normalize-reference": "reference", "create-voice": "Ada", "wait-for-voice": "", "synthesize": "."}
    for name in names:
        task, _, what = name.partition(" ")
        assert task in about, name
        assert what, name
        assert about[task] in what, name
        assert not what.startswith("["), name


def _check_artifacts(history: History, sandbox: Sandbox) -> None:
    """
    Hold the report and the voice's card of a first run against what was done.
    """
    report, card = history.artifact("narrate-report"), history.artifact("narrate-voice")
    [voice] = sandbox.voices()
    columns = ("Script", "Minutes", "Segments", "Bytes paid", "Bytes reused", "USD", "Retries", "State")
    assert f"| {' | '.join(columns)} |" in report
    assert "| part-1/chapter-02.txt |" in report
    assert "100" in history.artifact("narrate-progress")
    assert "| **All** | 0.0" in history.artifact("narrate-cost")
    pictures = [row for row in history.artifacts() if row["type"] == "image"]
    drawn = [b64decode(row["data"].removeprefix("data:image/svg+xml;base64,")).decode() for row in pictures]
    titles = sorted(svg.partition("</text></svg>")[0].rpartition(">")[2].partition(":")[0] for svg in drawn)
    assert ["part-1/chapter-02.txt", "welcome.md"] == titles
    assert all(" LUFS, peak -" in row["description"] for row in pictures)
    assert 2 == report.count("| narrated |")
    assert "notes.pdf" in report
    assert "lamps" in report.partition("Changed for speaking")[2]
    assert all(part in card for part in ("Ada", voice["_id"], "trained", "dBFS", "reference.wav"))


def _looks(sandbox: Sandbox) -> list[Any]:
    return [row for row in sandbox.requests("/model/") if row["method"] == "GET"]


@pytest.mark.parametrize(
    ("knobs", "looks"),
    [
        ({"training": "at-once"}, 1),
        ({"training_looks": 2, "faults": [{"kind": "status", "status": 503, "path": "/model/", "count": 1}]}, 3),
    ],
    ids=["trained at once", "a passing 503"],
)
def test_looks_at_a_voice(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path, knobs: dict[str, Any], looks: int
) -> None:
    """
    A voice that is trained at once is looked at once; a service that stumbles is no failure of the voice.
    """
    sandbox.config(**knobs)

    done = narrate("run", book, "--reference", clip, "--out", "out", **QUICK)

    assert 0 == done.code, done.err
    tasks = _history(narrate, prefect_api).tasks(count=5)
    waiting = next(task for name, task in tasks.items() if name.startswith("wait-for-voice"))
    assert (looks, looks) == (waiting["run_count"], len(_looks(sandbox)))


def test_a_run_that_failed_is_written_down(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path
) -> None:
    """
    The flow run is Failed, its report says at the top what failed and where, and the voice's card is there, too.
    """
    sandbox.config(training="at-once", faults=[{"kind": "silence", "match": "Nobody"}])

    done = narrate("run", book, "--reference", clip, "--out", "out", **QUICK)

    assert 3 == done.code, done.err
    history = _history(narrate, prefect_api)
    tasks = history.tasks(count=5)
    assert "FAILED" == history.run["state_type"]
    assert {"synthesize part-1/chapter-02.txt": "FAILED", "synthesize welcome.md": "COMPLETED"} == {
        name: task["state_type"] for name, task in tasks.items() if name.startswith("synthesize")
    }
    report = history.artifact("narrate-report")
    assert "part-1/chapter-02.txt, line 1" in report.partition("| Script")[0]
    assert "Nobody came." in report.partition("| Script")[0]
    assert all(f"| {state} |" in report for state in ("failed", "narrated"))
    assert "reference.wav" in history.artifact("narrate-voice")
    assert KEY not in history.everything() + done.out + done.err


def test_a_voice_that_failed_is_written_down(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path
) -> None:
    """
    Both artifacts are there when nothing was narrated at all, and say why.
    """
    sandbox.config(training="failed")

    done = narrate("run", book, "--reference", clip, "--voice-title", "Ada", "--out", "out", **QUICK)

    assert 4 == done.code, done.err
    history = _history(narrate, prefect_api)
    assert "FAILED" == history.run["state_type"]
    assert "failed to train" in history.artifact("narrate-report")
    assert all(part in history.artifact("narrate-voice") for part in ("Ada", "failed"))


@pytest.mark.long
def test_history_is_kept_without_a_server(bare_narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    Where no server is configured, a plain `prefect flow-run ls` shows the run afterwards, and no task run of it is lost.
    """
    sandbox.config(training="at-once", seconds=0.5, concurrency_limit=20)
    scripts = bare_narrate.folder / "scripts"
    scripts.mkdir()
    names = [f"{place:02}.txt" for place in range(40)]
    for name in names:
        (scripts / name).write_text(f"This is script {name}.\n")

    done = bare_narrate("run", scripts, "--reference", clip, "--out", "out", "--concurrency", "20")

    assert 0 == done.code, done.err
    listed = subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "ls"],
        cwd=bare_narrate.folder,
        env={**bare_narrate.environment, "COLUMNS": "200", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "narrate scripts as reference" in listed.stdout
    assert "COMPLETED" in listed.stdout.upper()
    with closing(sqlite3.connect(bare_narrate.folder / "home/prefect.db")) as database:
        rows = database.execute("SELECT name, state_type FROM task_run").fetchall()
    assert {f"synthesize {name}": "COMPLETED" for name in names} == {
        name: state for name, state in rows if name.startswith("synthesize")
    }
    assert (43, {"COMPLETED"}) == (len(rows), {state for _, state in rows})
