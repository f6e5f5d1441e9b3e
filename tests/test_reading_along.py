"""
What goes with the audio, and sentences recorded anew, through the front door.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import webvtt

from flows.narration import ffmpeg
from tests.bookmaking import Epub, page
from tests.conftest import KEY, Narrate, Sandbox

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
    waves = [json.loads(found)["wave"] for found in re.findall(r'id="data-\d+">(.*?)</script>', shown)]
    assert [True, True] == [max(wave["peaks"]) > 5 and len(wave["peaks"]) == len(wave["loud"]) for wave in waves]
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


def test_a_place_that_is_none_is_refused(narrate: Narrate, sandbox: Sandbox, out: Path) -> None:
    """
    Exit 2 says what there is, and nothing is sent; so it is with a folder that is no longer where it was made.
    """
    sandbox.forget()
    places = {"a.txt:99": "4 sentences", "c.txt:1": "a.txt", "a.txt": "no place", "a.txt:0": "no place"}

    refused = {at: narrate("retake", "out", "--at", at) for at in places}

    assert dict.fromkeys(places, 2) == {at: done.code for at, done in refused.items()}
    assert [] == [done.err for at, done in refused.items() if places[at] not in done.err]
    assert not (out / "retakes.json").exists()
    shutil.move(out, out.with_name("moved"))
    done = narrate("retake", "moved", "--at", "a.txt:1")
    assert 2 == done.code
    assert "moved" in done.err
    assert [] == sandbox.requests()


@pytest.mark.long
def test_a_retake_goes_by_what_was_made_and_not_by_what_was_refused(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    A run of another model that the budget does not cover leaves nothing that a retake would pay for.
    """
    sandbox.config(training="at-once")
    (narrate.folder / "small.md").write_text("# A Small Book\n\n## One\n\nThe first sentence.\n\n## Two\n\nThe second one.")
    command: list[str | Path] = ["book", "small.md", "--reference", clip, "--out", "out"]
    made = narrate(*command)
    assert 0 == made.code, made.err
    [folder] = {path.parent for path in (narrate.folder / "out").glob("*/book.json")}
    refused = narrate(*command, "--model", "s2-pro", "--budget", "0")
    sandbox.forget()

    done = narrate("retake", folder, "--at", "1:1")

    assert (6, 0) == (refused.code, done.code), (refused.err, done.err)
    assert 1 == len(sandbox.spoken())


@pytest.mark.long
def test_a_retake_after_a_run_that_was_refused(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    A folder's narrations are there though the last run, which the budget did not cover, wrote down none.
    """
    sandbox.config(training="at-once")
    (narrate.folder / "scripts").mkdir()
    for name in ("apples", "pears"):
        (narrate.folder / "scripts" / f"{name}.txt").write_text(f"The first sentence is about {name}. The second one.")
    command: list[str | Path] = ["run", "scripts", "--reference", clip, "--out", "out", "--json"]
    made = narrate(*command)
    assert 0 == made.code, made.err
    refused = narrate(*command, "--model", "s2-pro", "--budget", "0")
    sandbox.forget()

    done = narrate("retake", "out", "--at", "2:2")

    assert (6, 0) == (refused.code, done.code), (refused.err, done.err)
    assert ["The first sentence is about pears. The second one."] == sandbox.spoken()
    with (narrate.folder / "scripts/apples.txt").open("a") as script:
        script.write("\n\nA third one.")
    refused = narrate(*command, "--budget", "0")

    again = [narrate("retake", "out", "--at", at) for at in ("2:1", "apples.txt:3")]

    assert (6, [0, 0]) == (refused.code, [each.code for each in again]), (refused.err, again)
    asked = json.loads((narrate.folder / "out/retakes.json").read_text())["retakes"]
    assert [("pears.txt", 2), ("apples.txt", 1)] == [(one["script"], one["number"]) for one in asked]


@pytest.mark.long
def test_a_retake_asks_for_what_is_more_than_its_sentence(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    Nobody is asked for the sentence; for a script that was changed meanwhile somebody is, as in the run.
    """
    sandbox.config(training="at-once")
    (narrate.folder / "scripts").mkdir()
    script = narrate.folder / "scripts" / "a.txt"
    script.write_text("The first sentence.\n\nThe second one.")
    made = narrate("run", "scripts", "--reference", clip, "--out", "out", "--approve-above-usd", "0.001")
    assert 0 == made.code, made.err

    alone = narrate("retake", "out", "--at", "a.txt:1")
    script.write_text(f"The first sentence.\n\nThe second one. {'And a third. ' * 99}")
    shutil.copytree(narrate.folder / "out", narrate.folder / "kept")
    sandbox.forget()
    refused = narrate("retake", "out", "--at", "a.txt:1")

    assert (0, 6) == (alone.code, refused.code), (alone.err, refused.err)
    assert "--yes" in refused.err
    assert [] == sandbox.spoken()
    shutil.rmtree(narrate.folder / "out")
    (narrate.folder / "kept").rename(narrate.folder / "out")
    assert 0 == narrate("retake", "out", "--at", "a.txt:1", "--yes").code
    assert 0 < len(sandbox.spoken())


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


TIMED = "/v1/tts/stream/with-timestamp"


def _alignment(sandbox: Sandbox, text: str, **parameters: Any) -> list[tuple[str, float, float]]:
    """
    What the service tells of the words of *text*, asked for once more: its quick voice says the same each time.
    """
    answer = httpx.post(
        f"{sandbox.url}{TIMED}",
        json={"text": text, "format": "pcm", "chunk_length": 300, **parameters},
        headers={"authorization": f"Bearer {KEY}"},
    ).raise_for_status()
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    last = {event["chunk_seq"]: event for event in events}
    return [
        (word["text"], event["chunk_audio_offset_sec"] + word["start"], event["chunk_audio_offset_sec"] + word["end"])
        for event in last.values()
        for word in event["alignment"]["segments"]
    ]


@pytest.mark.long
def test_words_are_timed_where_that_is_asked_for(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    Every take comes with its words; cues begin with them, the page has them, and a later run that does not ask pays nothing.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    script = narrate.folder / "scripts/a.txt"
    script.parent.mkdir()
    script.write_text("Good morning. It is early, isn’t it? Come in.\n\nThe lamps are lit.")
    command = ("run", "scripts", "--reference", clip, "--out", "out")

    done = narrate(*command, "--timing", "word")

    assert 0 == done.code, done.err
    assert {TIMED} == {row["path"] for row in sandbox.requests("/v1/tts")}
    segments = json.loads((narrate.folder / "out/.segments/a.json").read_text())["segments"]
    for one in segments:
        told = _alignment(sandbox, one["text"])
        assert [one["text"].index(word[:3]) for word in one["text"].split()] == [at for at, _, _ in one["words"]]
        for (_, start, end), (_, first, last) in zip(one["words"], told, strict=True):
            assert abs(start - one["start"] - first) < 0.08
            assert abs(end - one["start"] - last) < 0.08
    cues = webvtt.WebVTT.read(str(narrate.folder / "out/a.vtt")).captions
    begins = [one["words"][0][1] for one in segments]
    assert abs(cues[0].start_in_seconds - int(begins[0])) <= 1
    assert ["Good morning.", "It is early, isn’t it?", "Come in.", "The lamps are lit."] == _cues(narrate.folder / "out/a.vtt")
    sandbox.forget()
    assert 0 == narrate(*command).code
    assert 0 == narrate(*command, "--timing", "word").code
    assert [] == sandbox.spoken()


def test_a_word_that_was_swallowed_is_recorded_anew(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    The answer sounds well and lacks its last words: only the alignment shows it. It is taken again, and both are paid for.
    """
    fault = {"kind": "swallow", "count": 1, "match": "nobody had thought"}
    sandbox.config(training="at-once", concurrency_limit=50, faults=[fault])
    script = narrate.folder / "scripts/a.txt"
    script.parent.mkdir()
    text = "The lamp in the office had burned since four in the morning, and nobody had thought to put it out again."
    script.write_text(text)

    done = narrate("run", "scripts", "--reference", clip, "--out", "out", "--timing", "word", "--json", NARRATE_BACKOFF="0.05")

    assert 0 == done.code, done.err
    assert [text, text] == sandbox.spoken()
    assert 1 == done.json["totals"]["retries"]


@pytest.mark.long
def test_words_hold_through_mastering_and_binding(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    In each chapter's file and in the M4B, words are heard within 80 ms of the times that came with the takes.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    chapters = {
        f"c{number}.xhtml": page(f"<h1>Part {number}</h1><p>Here it goes on, and on. Is it over?</p>") for number in (1, 2)
    }
    Epub(pages=chapters, nav=[("Part 1", "c1.xhtml"), ("Part 2", "c2.xhtml")]).write(narrate.folder / "small.epub")
    done = narrate("book", "small.epub", "--reference", clip, "--out", "out", "--timing", "word", "--takes", "takes")
    assert 0 == done.code, done.err
    folder = narrate.folder / "out/Ada Author - A Small Book"
    heard = {path.name: _levels(path) for path in (*folder.glob("*.mp3"), *folder.glob("*.m4b"))}

    written = _book(folder)

    places = [place for chapter in written["chapters"] for place in chapter["segments"]]
    assert 6 == len(places)
    for place in places:
        told = _alignment(sandbox, place["text"])
        take = _levels(narrate.folder / "takes" / place["take"][:2] / f"{place['take']}.flac")
        for name, shift in ((place["file"], 0.0), ("A Small Book.m4b", place["m4b_start"] - place["start"])):
            begins = _found_in(heard[name], take, near=place["start"] + shift)
            assert len(told) == len(place["words"])
            for (_, start, end), (_, first, last) in zip(place["words"], told, strict=True):
                assert abs(start + shift - begins - first) < 0.08, (name, place["text"])
                assert abs(end + shift - begins - last) < 0.08, (name, place["text"])


def _levels(path: Path) -> npt.NDArray[np.float64]:
    """
    How loud (RMS) each hundredth of a second of *path* is.
    """
    wave = path.with_suffix(".decoded.wav")
    ffmpeg.decode(path, wave, sample_rate=16_000, channels=1)
    samples, _ = soundfile.read(wave)
    wave.unlink()
    rows = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    found: npt.NDArray[np.float64] = np.sqrt((rows**2).mean(axis=1))
    return found


def _found_in(levels: npt.NDArray[np.float64], take: npt.NDArray[np.float64], *, near: float) -> float:
    """
    The seconds at which what sounds like *take* begins, within half a second of where it should.
    """
    places = range(max(0, round(near * 100) - 50), min(len(levels) - len(take), round(near * 100) + 50) + 1)
    windows = [levels[at : at + len(take)] for at in places]
    likeness = [float(np.dot(window, take) / (np.linalg.norm(window) + 1e-9)) for window in windows]
    return places[int(np.argmax(likeness))] / 100


def _book(folder: Path) -> Any:
    return json.loads((folder / "book.json").read_text())


@pytest.mark.parametrize("name", ["index.html", "a.vtt", "part/b.srt"])
def test_what_is_somebody_else_s_is_not_overwritten(narrate: Narrate, sandbox: Sandbox, clip: Path, name: str) -> None:
    """
    A page or captions that were not made here, where ours would stand: exit 2 before anything is sent.
    """
    for script, text in TEXTS.items():
        path = narrate.folder / "scripts" / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    theirs = narrate.folder / "out" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nMine.\n")

    done = narrate("run", "scripts", "--reference", clip, "--out", "out")

    assert 2 == done.code
    assert name in done.err
    assert [] == sandbox.requests()
    assert "Mine." in theirs.read_text()
