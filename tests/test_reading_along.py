"""
What goes with the audio, and sentences recorded anew, through the front door.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import webvtt

from tests.bookmaking import Epub, page
from tests.conftest import Narrate, Sandbox

TEXTS = {"a.txt": "Good morning. It is early.\n\nGood morning. It is early.", "part/b.md": "# The End\n\nNobody came."}
SENTENCES = {"a": ["Good morning.", "It is early."] * 2, "part/b": ["The End", "Nobody came."]}


@pytest.fixture
def out(narrate: Narrate, sandbox: Sandbox, clip: Path) -> Path:
    """
    Two scripts narrated.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    for name, text in TEXTS.items():
        path = narrate.folder / "scripts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = narrate("run", "scripts", "--reference", clip, "--out", "out")
    assert 0 == done.code, done.err
    return narrate.folder / "out"


def _looks(folder: Path) -> dict[str, int]:
    shown = (path for path in folder.rglob("*") if path.is_file() and not any(part[0] == "." for part in path.parts[-2:]))
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in shown if path.name != "run.json"}


def _cues(path: Path) -> list[str]:
    return [" ".join(cue.text.split()) for cue in webvtt.WebVTT.read(str(path)).captions]


def test_captions_and_a_page_stand_beside_narrations(narrate: Narrate, out: Path, clip: Path) -> None:
    """
    Each sentence is in one cue, in order; the page holds them all; nothing is touched by a run that has nothing to do.
    """
    for name, sentences in SENTENCES.items():
        assert sentences == _cues(out / f"{name}.vtt")
        assert (out / f"{name}.srt").is_file()
    shown = (out / "index.html").read_text()
    assert all(sentence in shown for sentences in SENTENCES.values() for sentence in sentences)
    before = _looks(out)

    assert 0 == narrate("run", "scripts", "--reference", clip, "--out", "out").code
    assert before == _looks(out)


def test_a_retake_sends_one_segment_and_stays(narrate: Narrate, sandbox: Sandbox, out: Path, clip: Path) -> None:
    """
    The sentence's segment is sent once more, its script is made again, the other is not; a later run keeps it so.
    """
    before = _looks(out)
    sandbox.forget()

    done = narrate("retake", "out", "--at", "a.txt:4", "--json")

    assert 0 == done.code, done.err
    assert ["Good morning. It is early."] == sandbox.spoken()
    assert {"narrated": 1, "unchanged": 1} == {name: done.json["totals"][name] for name in ("narrated", "unchanged")}
    touched = {name for name, look in _looks(out).items() if before.get(name) != look}
    assert "a.mp3" in touched
    assert not {name for name in touched if name.startswith("part/")}
    [kept] = json.loads((out / "retakes.json").read_text())["retakes"]
    assert (1, 1) == (kept["nth"], kept["number"])
    sandbox.forget()
    assert 0 == narrate("run", "scripts", "--reference", clip, "--out", "out").code
    assert [] == sandbox.spoken()
    assert 0 == narrate("retake", "out", "--at", "1:1").code
    assert ["Good morning. It is early."] == sandbox.spoken()


@pytest.mark.parametrize(
    ("at", "told"), [("a.txt:99", "4 sentences"), ("c.txt:1", "a.txt"), ("a.txt", "no place"), ("a.txt:0", "no place")]
)
def test_a_place_that_is_none_is_refused(narrate: Narrate, sandbox: Sandbox, out: Path, at: str, told: str) -> None:
    """
    Exit 2 says what there is, and nothing is sent.
    """
    sandbox.forget()

    done = narrate("retake", "out", "--at", at)

    assert 2 == done.code
    assert told in done.err
    assert [] == sandbox.requests()
    assert not (out / "retakes.json").exists()


def test_what_has_moved_is_not_recorded_elsewhere(narrate: Narrate, sandbox: Sandbox, out: Path) -> None:
    """
    A folder that is no longer where it was made would be made there again: exit 2.
    """
    shutil.move(out, out.with_name("moved"))
    sandbox.forget()

    done = narrate("retake", "moved", "--at", "a.txt:1")

    assert 2 == done.code
    assert "moved" in done.err
    assert [] == sandbox.requests()


@pytest.mark.long
def test_a_book_is_followed_and_its_times_move_with_a_retake(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    Captions, the book to read along and the page stand in its folder; a retake encodes one chapter, and later times move.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    chapters = {f"c{number}.xhtml": page(f"<h1>Part {number}</h1><p>Here it goes on. And on.</p>") for number in (1, 2, 3)}
    nav = [(f"Part {number}", f"c{number}.xhtml") for number in (1, 2, 3)]
    Epub(pages=chapters, nav=nav).write(narrate.folder / "small.epub")
    assert 0 == narrate("book", "small.epub", "--reference", clip, "--out", "out").code
    folder = narrate.folder / "out/Ada Author - A Small Book"
    assert (folder / "A Small Book (read along).epub").is_file()
    assert (folder / "index.html").is_file()
    before, written = _looks(folder), _book(folder)
    assert ["Part 2", "Here it goes on.", "And on."] == _cues(folder / "02 - Part 2.vtt")
    assert 12 == len(_cues(folder / "A Small Book.vtt"))

    done = narrate("retake", folder, "--at", "2:2")

    assert 0 == done.code, done.err
    touched = {name for name, look in _looks(folder).items() if before.get(name) != look and name.endswith(".mp3")}
    assert touched <= {"02 - Part 2.mp3"}
    chapters["c2.xhtml"] = page("<h1>Part 2</h1><p>Here it goes on for quite a while longer than before. And on.</p>")
    Epub(pages=chapters, nav=nav).write(narrate.folder / "small.epub")
    assert 0 == narrate("book", "small.epub", "--reference", clip, "--out", "out").code
    now = _book(folder)["chapters"][3]["segments"][0]["m4b_start"]
    assert now > written["chapters"][3]["segments"][0]["m4b_start"] + 0.5
    cues = webvtt.WebVTT.read(str(folder / "A Small Book.vtt")).captions
    hours, minutes, seconds = next(cue.start for cue in cues if cue.text == "Part 3").split(":")
    assert abs(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - now) < 0.15


def _book(folder: Path) -> Any:
    return json.loads((folder / "book.json").read_text())
