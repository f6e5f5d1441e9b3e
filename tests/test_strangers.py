"""
Scripts of strangers: what their names and their words could be taken for, by a shell, a template, a terminal or a browser.
"""

import json
from pathlib import Path

import httpx
import pytest
from markdown_it import MarkdownIt

from tests.conftest import KEY, Done, Narrate, Sandbox
from tests.standing import ask

HOSTILE = [
    "-rf.txt",
    "--out=elsewhere.txt",
    "$(touch pwned).txt",
    "a;touch pwned;.txt",
    "concat:a.txt",
    "[bold]a[-bold].txt",
    "[-nope].txt",
    "b[link=http:x]y.txt",
    "{0}{scripts}%s%(name)s.txt",
    "`x`|<script>alert(1)<-script>.txt",
    "![x](javascript:alert(1)).txt",
    ":smile:.txt",
    "CON.txt",
    " blank .txt",
    "‮txt.exe.txt",
]
"""Names of scripts; a hyphen stands for the slash that no name can have."""

WORDS = 'Nobody [/bold] came {0} %s $(touch pwned) <script>alert(1)</script> | `x` "; touch pwned; ".\n'


@pytest.fixture
def voice_id(sandbox: Sandbox, clip: Path) -> str:
    """
    A trained voice whose title is as hostile.
    """
    sandbox.config(training="at-once", seconds=1)
    made = httpx.post(
        f"{sandbox.url}/model",
        data={"type": "tts", "title": "[/x] <b>|`{0}", "train_mode": "fast", "visibility": "private"},
        files={"voices": clip.read_bytes()},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    return str(made.raise_for_status().json()["_id"])


def _artifacts(api: str, run: str) -> list[str]:
    """
    All Markdown in the run's page, but for the chart of costs, in which there are days only.
    """
    mine = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    rows = ask("POST", f"{api}/artifacts/filter", json=mine).raise_for_status().json()
    shown = [row for row in rows if row["key"] != "narrate-cost"]
    return [*(row["description"] for row in shown), *(row["data"] for row in shown if row["type"] == "markdown")]


def test_names_and_words_are_only_names_and_words(narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str) -> None:
    """
    Every script is narrated under its own name, which log and page show as it is; nothing is run, read or left anywhere else.
    """
    book = narrate.folder / "{book} [bold]"
    (book / "[/red]").mkdir(parents=True)
    for name in (*HOSTILE, "[/red]/one.txt"):
        (book / name).write_text(WORDS)
    (book / "[/left].pdf").touch()

    done: Done = narrate("run", book, "--voice-id", voice_id, "--out", "out")

    assert 0 == done.code, done.err
    assert "Traceback" not in done.err
    assert "--- Logging error ---" not in done.err
    assert [] == [name for name in (*HOSTILE, "[/red]/one.txt", "[/left].pdf", "{book} [bold]") if name not in done.err]
    manifest = json.loads((narrate.folder / "out/run.json").read_text())
    assert {*HOSTILE, "[/red]/one.txt"} == {entry["script"] for entry in manifest["scripts"] if entry["state"] == "narrated"}
    assert len(HOSTILE) + 1 == len(list((narrate.folder / "out").rglob("*.mp3")))
    assert {"home", "out", book.name} >= {path.name for path in narrate.folder.iterdir()}
    pages = _artifacts(prefect_api, manifest["flow_run_id"])
    shown = "".join(MarkdownIt("commonmark").enable("table").render(page) for page in pages)
    assert 4 + 1 + len(HOSTILE) + 1 == len(pages)
    assert [] == [tag for tag in ("<script", "<img", "<a ", "<b>", "<code") if tag in shown]
