"""
The command line through its front door: exit codes, files on disk, what was sent, what was paid.
"""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from tests.conftest import COMMAND_SECONDS, KEY, Done, Narrate, Sandbox, wait_for
from tests.standing import ask

QUICK = {"NARRATE_BACKOFF": "0.05", "NARRATE_ATTEMPTS": "2", "NARRATE_POLL_INTERVAL": "0.1"}
"""Knobs that make a run which meets trouble come to its end soon."""

BOOK = {
    "welcome.txt": "Welcome, friend. Sit down!\n\nThe lamps are lit.\n",
    "part-1/chapter-2.md": "# The Second\n\nHe *waited* long.\n\nThe lamps are lit.\n",
    "part-1/chapter-10.md": "# The Tenth\n\nNobody came [sic] again.\n",
}
WORDS = {
    "welcome.txt": "Welcome, friend. Sit down! The lamps are lit.",
    "part-1/chapter-2.md": "The Second He waited long. The lamps are lit.",
    "part-1/chapter-10.md": "The Tenth Nobody came (sic) again.",
}
"""What a reader of `BOOK` says, in order."""

RUN_KEYS = {"schema", "flow_run_id", "started", "finished", "state", "voice", "speech", "totals", "scripts"}
TOTALS_KEYS = {
    *("scripts", "narrated", "unchanged", "empty", "failed", "pending", "segments", "seconds", "requests"),
    *("bytes_billed", "bytes_unknown", "bytes_reused", "usd", "retries"),
}
SCRIPT_KEYS = {
    *("script", "digest", "audio", "seconds", "speech_seconds", "pause_seconds", "segments"),
    *("bytes_billed", "bytes_reused", "usd", "retries", "state", "error"),
}


def _listen(stream: IO[str] | None, lines: list[str]) -> None:
    assert stream is not None
    for line in stream:
        lines.append(line)  # noqa: PERF402 (each as it comes)


def _write(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """
    A folder of scripts, nested, of which two paragraphs are equal.
    """
    return _write(tmp_path / "book", BOOK)


def _manifest(out: Path) -> Any:
    return json.loads((out / "run.json").read_text())


def _states(out: Path) -> dict[str, str]:
    return {entry["script"]: entry["state"] for entry in _manifest(out)["scripts"]}


def _segments(out: Path, script: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / ".segments" / script).with_suffix(".json").read_text())["segments"]
    return found


def _said(out: Path, script: str) -> str:
    """
    What a narration says, by its segments, as words with one space between.
    """
    return " ".join(" ".join(segment["text"] for segment in _segments(out, script)).split())


def _audio(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*.mp3")}


def _billed(sandbox: Sandbox) -> int:
    return sum(row["bytes"] for row in sandbox.requests("/v1/tts") if row["billed"])


def _refused(done: Done, code: int, *told: str) -> None:
    """
    Hold that a command ended with *code*, on standard error only, in sentences that have each of *told*.
    """
    assert code == done.code, done.err
    assert "Traceback" not in done.err
    assert [] == [part for part in told if part not in done.err], done.err
    assert KEY not in done.err


def test_a_folder_is_narrated(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path) -> None:
    """
    Narrations mirror the scripts, each word is heard once in order, each byte is paid for once, and run.json says so.
    """
    sandbox.config(training="at-once")

    done = narrate("run", book, "--reference", clip, "--out", "out", "--voice-title", "Ada", "--json")

    out = narrate.folder / "out"
    manifest = done.json
    assert 0 == done.code, done.err
    assert _manifest(out) == manifest
    assert set() == RUN_KEYS - set(manifest)
    assert {"welcome.mp3", "part-1/chapter-2.mp3", "part-1/chapter-10.mp3"} == _audio(out)
    assert WORDS == {name: _said(out, name) for name in BOOK}
    segments = [segment["text"] for name in BOOK for segment in _segments(out, name)]
    assert sorted(set(segments)) == sorted(sandbox.spoken())
    assert len(segments) - 1 == len(sandbox.spoken())
    [voice] = sandbox.voices()
    assert {"id": voice["_id"], "title": "Ada", "attached": False} == {
        name: manifest["voice"][name] for name in ("id", "title", "attached")
    }
    assert f"narrate-ref-{manifest['voice']['reference'][:16]}" in voice["tags"]
    assert "private" == voice["visibility"]
    assert "completed" == manifest["state"]
    _check_sums(manifest, billed=_billed(sandbox), segments=len(segments))


def _check_sums(manifest: Any, *, billed: int, segments: int) -> None:
    """
    Hold the numbers of a first run of `BOOK` against what the sandbox billed, and against each other.
    """
    totals, entries = manifest["totals"], manifest["scripts"]
    assert set() == TOTALS_KEYS - set(totals)
    assert [] == [entry for entry in entries if SCRIPT_KEYS - set(entry)]
    assert ["part-1/chapter-2.md", "part-1/chapter-10.md", "welcome.txt"] == [entry["script"] for entry in entries]
    assert (3, 3, 0, 0, 0, 0) == tuple(
        totals[name] for name in ("scripts", "narrated", "unchanged", "empty", "failed", "pending")
    )
    assert (billed, 0, segments, segments - 1) == tuple(
        totals[name] for name in ("bytes_billed", "bytes_unknown", "segments", "requests")
    )
    assert billed + totals["bytes_reused"] == sum(len(text.encode()) for text in _sent_texts())
    assert pytest.approx(billed * 15e-6) == totals["usd"]
    for name in ("seconds", "usd", "bytes_billed", "bytes_reused", "segments", "retries"):
        assert pytest.approx(sum(entry[name] for entry in entries), abs=1e-4) == totals[name]
    for entry in entries:
        assert pytest.approx(entry["seconds"], abs=0.05) == entry["speech_seconds"] + entry["pause_seconds"]
        assert ("narrated", None) == (entry["state"], entry["error"])
        assert re.fullmatch("[0-9a-f]{64}", entry["digest"])


def _sent_texts() -> list[str]:
    return [
        *("Welcome, friend. Sit down!", "The lamps are lit."),
        *("The Second", "He waited long.", "The lamps are lit."),
        *("The Tenth", "Nobody came (sic) again."),
    ]


def test_a_narration_is_its_takes_and_pauses(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    What is heard where the segments say is what the service speaks for that text, silence is between, and tags say whose it is.
    """
    done = narrate("run", book, "--voice-id", voice_id, "--out", "out", "--format", "flac")

    out = narrate.folder / "out"
    assert 0 == done.code, done.err
    for name in BOOK:
        path = (out / name).with_suffix(".flac")
        samples, rate = soundfile.read(path, dtype="int16")
        rest = samples.copy()
        for segment in _segments(out, name):
            take = _spoken(sandbox, segment["text"], voice_id)
            start = _place(take, samples, near=round(segment["start"] * rate))
            assert pytest.approx((start + len(take)) / rate, abs=1e-4) == segment["end"]
            rest[start : start + len(take)] = 0
        assert 0 == np.abs(rest).max()
        entry = next(entry for entry in _manifest(out)["scripts"] if entry["script"] == name)
        assert pytest.approx(len(samples) / rate, abs=0.05) == entry["seconds"]
    tags = TinyTag.get(out / "part-1/chapter-10.flac")
    assert ("The Tenth", "2", "Ada") == (tags.title, str(tags.track), tags.artist)
    assert "Synthetic speech" in str(tags.comment)
    assert [voice_id] == [voice["_id"] for voice in sandbox.voices()]


def _place(take: np.ndarray[Any, Any], samples: np.ndarray[Any, Any], *, near: int) -> int:
    """
    Find the sample where *take* begins, which the segments tell to a tenth of a millisecond.
    """
    return next(at for at in range(max(near - 4, 0), near + 5) if np.array_equal(take, samples[at : at + len(take)]))


def _spoken(sandbox: Sandbox, text: str, voice_id: str) -> np.ndarray[Any, Any]:
    """
    Ask the sandbox, which speaks the same text the same way, as another client would.
    """
    answer = httpx.post(
        f"{sandbox.url}/v1/tts",
        json={"text": text, "format": "pcm", "sample_rate": 44100, "reference_id": voice_id},
        headers={"Authorization": f"Bearer {KEY}", "model": "s2.1-pro"},
    )
    return np.frombuffer(answer.raise_for_status().content, dtype="<i2")


def test_only_what_changed_is_sent(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    Nothing the second time; then a changed paragraph alone; nothing for a renamed script, whose narration moves along.
    """
    command = ("run", book, "--voice-id", voice_id, "--out", "out")
    out = narrate.folder / "out"
    first = narrate(*command)
    sandbox.forget()

    again = narrate(*command)

    assert [0, 0] == [first.code, again.code], first.err + again.err
    assert [] == sandbox.spoken()
    assert {"unchanged"} == set(_states(out).values())
    assert (0, 0.0, 0) == tuple(_manifest(out)["totals"][name] for name in ("bytes_billed", "usd", "requests"))

    _write(book, {"part-1/chapter-2.md": "# The Second\n\nHe waited briefly.\n\nThe lamps are lit.\n"})
    (book / "welcome.txt").rename(book / "wilkommen.txt")
    changed = narrate(*command)

    assert 0 == changed.code, changed.err
    assert ["He waited briefly."] == sandbox.spoken()
    assert {"part-1/chapter-2.md": "narrated", "part-1/chapter-10.md": "unchanged", "wilkommen.txt": "narrated"} == _states(out)
    assert WORDS["welcome.txt"] == _said(out, "wilkommen.txt")
    assert "The Second He waited briefly. The lamps are lit." == _said(out, "part-1/chapter-2.md")


@pytest.mark.long
def test_another_book_in_the_same_folder_has_its_own_audio(
    narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str
) -> None:
    """
    A script of the same name from elsewhere never gets the first one's narration; an empty one is named and no failure.
    """
    other = _write(narrate.folder / "other", {"welcome.txt": "Go away.\n", "blank.txt": " \n\n"})
    first = narrate("run", book, "--voice-id", voice_id, "--out", "out")
    before = (narrate.folder / "out/welcome.mp3").read_bytes()
    sandbox.forget()

    second = narrate("run", other, "--voice-id", voice_id, "--out", "out", "--json")

    assert [0, 0] == [first.code, second.code], first.err + second.err
    assert ["Go away."] == sandbox.spoken()
    assert before != (narrate.folder / "out/welcome.mp3").read_bytes()
    assert {"blank.txt": "empty", "welcome.txt": "narrated"} == _states(narrate.folder / "out")
    assert (1, 1) == (second.json["totals"]["empty"], second.json["totals"]["narrated"])


USAGE: dict[str, tuple[list[str], dict[str, str], str]] = {
    "missing folder": (["run", "nosuch", "--voice-id", "x"], {}, "nosuch"),
    "no scripts": (["run", "empty", "--voice-id", "x"], {}, "empty"),
    "one output name": (["run", "twins", "--voice-id", "x"], {}, "a.md and a.txt"),
    "not text": (["run", "latin", "--voice-id", "x"], {}, "cafe.txt"),
    "no such encoding": (["run", "latin", "--voice-id", "x", "--encoding", "klingon"], {}, "--encoding"),
    "another's file": (["run", "book", "--voice-id", "x", "--out", "foreign"], {}, "welcome.mp3"),
    "out is a file": (["run", "book", "--voice-id", "x", "--out", "book/welcome.txt"], {}, "welcome.txt"),
    "unknown model": (["run", "book", "--voice-id", "x", "--model", "s9"], {}, "--model"),
    "unknown model, environment": (["run", "book", "--voice-id", "x"], {"NARRATE_MODEL": "s9"}, "--model"),
    "unknown format": (["run", "book", "--voice-id", "x", "--format", "aac"], {}, "--format"),
    "no number": (["run", "book", "--voice-id", "x", "--speed", "fast"], {}, "--speed"),
    "out of range": (["run", "book", "--voice-id", "x", "--concurrency", "0"], {}, "--concurrency"),
    "unknown option": (["run", "book", "--voice-id", "x", "--loud"], {}, "--loud"),
    "unknown command": (["sing"], {}, "sing"),
    "no voice": (["run", "book"], {}, "--reference"),
    "two voices": (["run", "book", "--voice-id", "x", "--reference", "clip.wav"], {}, "--reference"),
    "instant without recording": (["run", "book", "--voice-id", "x", "--instant"], {}, "--instant"),
    "instant without transcript": (["run", "book", "--reference", "clip.wav", "--instant"], {}, "transcript"),
    "no such recording": (["run", "book", "--reference", "nosuch.wav"], {}, "nosuch.wav"),
    "takes elsewhere": (["run", "book", "--voice-id", "x", "--takes", "gopher://a/b"], {}, "gopher"),
    "bad base URL": (["run", "book", "--voice-id", "x"], {"FISH_BASE_URL": "api.fish.audio"}, "FISH_BASE_URL"),
    "bad port": (["run", "book", "--voice-id", "x"], {"FISH_BASE_URL": "http://localhost:99999"}, "FISH_BASE_URL"),
    "list that is none": (["run", "book"], {"NARRATE_REFERENCE": "clip.wav"}, "NARRATE_REFERENCE"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_is_wrong_with_the_command_is_told_before_the_key_is_asked_for(
    bare_narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path, case: str
) -> None:
    """
    Usage ends with 2 in a sentence that names what is wrong: nothing is sent, written or started, key or no key.
    """
    folder = bare_narrate.folder
    _write(folder, {"empty/README.md": "About.", "empty/a.png": "", "twins/a.md": "A.", "twins/a.txt": "A."})
    (folder / "latin").mkdir()
    (folder / "latin/cafe.txt").write_bytes("Un café.".encode("latin-1"))
    (folder / "foreign").mkdir()
    (folder / "foreign/welcome.mp3").write_bytes(b"somebody's song")
    (folder / "clip.wav").write_bytes(clip.read_bytes())
    arguments, environment, told = USAGE[case]

    done = bare_narrate(*arguments, FISH_API_KEY="", **environment)

    _refused(done, 2, told)
    assert "" == done.out
    assert [] == sandbox.requests()
    assert not list(folder.rglob("run.json"))
    assert b"somebody's song" == (folder / "foreign/welcome.mp3").read_bytes()


def test_no_key_ends_with_7(bare_narrate: Narrate, sandbox: Sandbox, book: Path) -> None:
    """
    A missing key is named at once, before the reference is looked into, and whatever would ask the account says so.
    """
    silence = _silence(bare_narrate.folder / "silence.wav")

    _refused(bare_narrate("run", book, "--reference", silence, FISH_API_KEY=""), 7, "FISH_API_KEY")
    _refused(bare_narrate("voices", "list", FISH_API_KEY=" "), 7, "FISH_API_KEY")
    assert [] == sandbox.requests()


def _silence(path: Path) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(44100)
        wav.writeframes(bytes(2 * 44100 * 12))
    return path


@pytest.mark.parametrize("key", [KEY, pytest.param("schlüssel", marks=pytest.mark.long)])
def test_a_wrong_key_ends_with_7(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path, key: str) -> None:
    """
    A key the service does not know, or that no header can hold, is a matter of the key; its run is written down.
    """
    sandbox.config(keys=["another"])

    done = narrate("run", book, "--reference", clip, "--out", "out", FISH_API_KEY=key)

    _refused(done, 7, "FISH_API_KEY")
    assert key not in done.err
    assert [] == sandbox.spoken()
    assert "failed" == _manifest(narrate.folder / "out")["state"]
    assert {"pending"} == set(_states(narrate.folder / "out").values())


def test_an_unusable_reference_ends_with_4(narrate: Narrate, sandbox: Sandbox, book: Path) -> None:
    """
    Silence is refused with what is wrong with it, and no voice is made of it.
    """
    silence = _silence(narrate.folder / "silence.wav")

    done = narrate("run", book, "--reference", silence, "--out", "out")

    _refused(done, 4, "silence.wav")
    assert [] == sandbox.requests()
    assert "failed" == _manifest(narrate.folder / "out")["state"]


@pytest.mark.parametrize(
    ("training", "patience", "code", "told"),
    [
        pytest.param("failed", "60", 4, "failed to train", id="failed"),
        pytest.param(["dreaming"], "60", 4, "dreaming", id="unknown state", marks=pytest.mark.long),
        pytest.param("never", "0.5", 5, "--training-timeout", id="timeout"),
    ],
)
def test_a_voice_that_does_not_get_ready(
    narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path, training: Any, patience: str, code: int, told: str
) -> None:
    """
    Failed and unknown states end with 4 at once, a timeout with 5; nothing is spoken, and the error names the voice.
    """
    sandbox.config(training=training)

    done = narrate("run", book, "--reference", clip, "--out", "out", NARRATE_TRAINING_TIMEOUT=patience, **QUICK)

    [voice] = sandbox.voices()
    _refused(done, code, told, voice["_id"])
    assert [] == sandbox.spoken()
    assert "failed" == _manifest(narrate.folder / "out")["state"]


def test_an_unknown_voice_ends_with_4(narrate: Narrate, sandbox: Sandbox, book: Path) -> None:
    """
    An id of no voice is named.
    """
    _refused(narrate("run", book, "--voice-id", "nobody", "--out", "out"), 4, "nobody")
    _refused(narrate("voices", "show", "nobody"), 4, "nobody")
    assert [] == sandbox.spoken()


def test_a_budget_too_small_sends_nothing(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    What the estimate shows to be short, in the budget or in the wallet, ends with 6 before the first segment.
    """
    budget = narrate("run", book, "--voice-id", voice_id, "--out", "out", "--budget", "0.0001")
    sandbox.config(credit=0.0001)
    wallet = narrate("run", book, "--voice-id", voice_id, "--out", "out")

    _refused(budget, 6, "--budget")
    _refused(wallet, 6, "credit")
    assert [] == sandbox.requests("/v1/tts")


def test_credit_that_runs_out_keeps_what_was_paid(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    402 on the way ends with 6; the next run sends the rest and no segment twice.
    """
    sandbox.config(faults=[{"kind": "status", "status": 402, "after": 3}])
    command = ("run", book, "--voice-id", voice_id, "--out", "out", "--concurrency", "1")

    short = narrate(*command)
    sandbox.config(faults=[])
    rest = narrate(*command)

    _refused(short, 6, "402")
    assert 0 == rest.code, rest.err
    assert sorted(set(_sent_texts())) == sorted(sandbox.spoken())
    assert WORDS == {name: _said(narrate.folder / "out", name) for name in BOOK}


def test_a_service_that_goes_away_ends_with_8(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    Patience at its end is 8: what was paid for is kept, and the next run goes on.
    """
    sandbox.config(faults=[{"kind": "status", "status": 503, "after": 3}])
    command = ("run", book, "--voice-id", voice_id, "--out", "out", "--concurrency", "1")

    away = narrate(*command, NARRATE_PATIENCE="0.5", **QUICK)
    sandbox.config(faults=[])
    rest = narrate(*command)

    _refused(away, 8, "503")
    assert 0 == rest.code, rest.err
    assert sorted(set(_sent_texts())) == sorted(sandbox.spoken())


@pytest.mark.parametrize("whose", ["--voice-id", pytest.param("--reference", marks=pytest.mark.long)])
def test_a_service_out_of_reach_ends_with_8(narrate: Narrate, book: Path, clip: Path, whose: str) -> None:
    """
    Nobody listens at the address: that is 8 and not the voice's fault, and comes as soon as patience says.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
    voice = clip if whose == "--reference" else "ada"
    environment = {**QUICK, "FISH_BASE_URL": nowhere, "NARRATE_PATIENCE": "1", "NARRATE_TRAINING_TIMEOUT": "1"}

    done = narrate("run", book, whose, voice, "--out", "out", **environment)

    _refused(done, 8, "no connection")


@pytest.mark.long
def test_a_poisoned_segment_fails_its_script_alone(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    The report names file, line and sentence; the others are narrated; the next run sends only what is missing.
    """
    sandbox.config(faults=[{"kind": "silence", "match": "waited"}])
    command = ("run", book, "--voice-id", voice_id, "--out", "out", "--json")
    out = narrate.folder / "out"

    failed = narrate(*command, **QUICK)
    billed, audio = failed.json["totals"]["bytes_billed"], _audio(out)

    _refused(failed, 3, "part-1/chapter-2.md, line 3", "He waited long.")
    assert {"part-1/chapter-2.md": "failed", "part-1/chapter-10.md": "narrated", "welcome.txt": "narrated"} == _states(out)
    assert {"welcome.mp3", "part-1/chapter-10.mp3"} == audio
    assert _billed(sandbox) == billed

    sandbox.config(faults=[])
    sandbox.forget()
    mended = narrate(*command)

    assert 0 == mended.code, mended.err
    assert ["He waited long."] == sandbox.spoken()
    assert {"part-1/chapter-2.md": "narrated", "part-1/chapter-10.md": "unchanged", "welcome.txt": "unchanged"} == _states(out)


def test_ctrl_c_keeps_what_is_paid_for(narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str) -> None:
    """
    It ends with 130, run.json and Prefect both say so, and the next run sends only what is missing.
    """
    long = _write(narrate.folder / "long", {f"{place}.txt": f"Paragraph number {place}.\n" for place in range(8)})
    sandbox.config(latency=0.4)
    command = ("run", long, "--voice-id", voice_id, "--out", "out", "--concurrency", "1")
    process = narrate.start(*command)
    wait_for(lambda: len(sandbox.spoken()) >= 2 or None, what="the second take")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    _refused(Done(process.returncode, out, err), 130)
    manifest = _manifest(narrate.folder / "out")
    assert "cancelled" == manifest["state"]
    run = ask("GET", f"{prefect_api}/flow_runs/{manifest['flow_run_id']}").raise_for_status().json()
    assert run["state_type"] not in ("RUNNING", "PENDING", "SCHEDULED")
    takes = len(list((narrate.folder / "out/.takes").rglob("*.flac")))
    assert 1 <= takes < 8

    sandbox.config(latency=0)
    sandbox.forget()
    rest = narrate(*command)
    assert 0 == rest.code, rest.err
    assert 8 - takes == len(sandbox.spoken())


@pytest.mark.long
def test_ctrl_c_while_a_voice_trains(narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path) -> None:
    """
    It ends with 130 at once, and Prefect knows of it; the voice is waited for, and made only once, the next time.
    """
    sandbox.config(training="never")
    command = ("run", book, "--reference", clip, "--out", "out")
    process = narrate.start(*command)
    wait_for(lambda: sandbox.requests("/model/") or None, what="the first look")

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    _refused(Done(process.returncode, out, err), 130)
    manifest = _manifest(narrate.folder / "out")
    run = ask("GET", f"{prefect_api}/flow_runs/{manifest['flow_run_id']}").raise_for_status().json()
    assert ("cancelled", "CANCELLED") == (manifest["state"], run["state_type"])
    assert 1 == len(sandbox.voices())
    assert [] == sandbox.spoken()


def test_history_out_of_reach_ends_with_8(narrate: Narrate, sandbox: Sandbox, book: Path) -> None:
    """
    A Prefect server that is configured but away is named in a sentence, before anything is sent.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}/api"

    done = narrate("run", book, "--voice-id", "ada", "--out", "out", PREFECT_API_URL=nowhere)

    _refused(done, 8, nowhere)
    assert [] == sandbox.requests()


def test_a_sandbox_at_a_port_that_is_taken(bare_narrate: Narrate, sandbox: Sandbox) -> None:
    """
    It says so, and which port.
    """
    port = sandbox.url.rpartition(":")[2]

    _refused(bare_narrate("sandbox", "--port", port), 2, port)
    _refused(bare_narrate("sandbox", "--port", "99999"), 2, "99999")


def test_a_voice_is_made_once_for_a_recording(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    A lost answer makes no second voice, a second run attaches to the first's, and another recording makes another.
    """
    script = _write(narrate.folder / "s", {"a.txt": "One.\n"})
    recording = narrate.folder / "me.wav"
    recording.write_bytes(clip.read_bytes())
    command = ("run", script, "--reference", recording, "--out", "out", "--json")
    sandbox.config(training="at-once", faults=[{"kind": "lost", "count": 1}])

    lost = narrate(*command)
    again = narrate(*command)

    assert [0, 0] == [lost.code, again.code], lost.err + again.err
    [voice] = sandbox.voices()
    assert [voice["_id"]] * 2 == [done.json["voice"]["id"] for done in (lost, again)]
    assert again.json["voice"]["attached"]

    samples, rate = soundfile.read(clip, dtype="int16")
    soundfile.write(recording, samples[: 15 * rate], rate)
    changed = narrate(*command)

    assert 0 == changed.code, changed.err
    assert 2 == len(sandbox.voices())
    assert voice["_id"] != changed.json["voice"]["id"]


@pytest.mark.long
def test_instant_makes_no_voice(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    The recording and its transcript go along with each request; the account gets no voice, and nothing is sent twice.
    """
    script = _write(narrate.folder / "s", {"a.txt": "One.\n\nTwo.\n"})
    command = ("run", script, "--reference", clip, "--instant", "--transcript", "What is said.", "--out", "out")

    first = narrate(*command)
    sent = sandbox.requests("/v1/tts")
    again = narrate(*command)

    assert [0, 0] == [first.code, again.code], first.err + again.err
    assert [] == sandbox.voices()
    assert [] == [row for row in sandbox.requests("/model") if row["method"] == "POST"]
    assert ["inline", "inline"] == [row["reference_id"] for row in sent]
    assert {"What is said."} == {row["parameters"]["references"][0]["text"] for row in sent}
    assert sent == sandbox.requests("/v1/tts")
    assert _manifest(narrate.folder / "out")["voice"]["id"].startswith("inline-")
    covered = narrate("estimate", script, "--out", "out", "--json").json
    assert covered["bytes"] == covered["bytes_covered"]


@pytest.mark.long
def test_voices_are_listed_shown_and_deleted(bare_narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    The account's voices, as lines and as JSON; deleting asks a person, refuses where there is none, and needs no Prefect.
    """
    listed, as_json = bare_narrate("voices", "list"), bare_narrate("voices", "list", "--json")
    shown = bare_narrate("voices", "show", voice_id, "--json")

    assert [0, 0, 0] == [done.code for done in (listed, as_json, shown)]
    assert all(part in listed.out for part in (voice_id, "Ada", "trained"))
    assert [shown.json] == as_json.json
    assert {"id": voice_id, "title": "Ada", "state": "trained"} == {name: shown.json[name] for name in ("id", "title", "state")}
    assert f"id: {voice_id}" in bare_narrate("voices", "show", voice_id).out

    _refused(bare_narrate("voices", "delete", voice_id), 2, "--yes")
    assert (0, 1) == (_answered(bare_narrate, ["voices", "delete", voice_id], "n\n"), len(sandbox.voices()))
    assert (0, 0) == (_answered(bare_narrate, ["voices", "delete", voice_id], "y\n"), len(sandbox.voices()))
    _refused(bare_narrate("voices", "delete", voice_id, "--yes"), 4, voice_id)


def _answered(narrate: Narrate, arguments: list[str], answer: str) -> int:
    """
    Run a command where a person sits, who answers *answer*; return its exit code.
    """
    person, terminal = pty.openpty()
    try:
        os.write(person, answer.encode())
        command = [sys.executable, "-m", "flows", *arguments]
        return subprocess.run(command, cwd=narrate.folder, env=narrate.environment, stdin=terminal, check=False).returncode
    finally:
        os.close(person)
        os.close(terminal)


def test_estimate_needs_neither_key_nor_network(bare_narrate: Narrate, book: Path) -> None:
    """
    It counts each distinct segment once, at the published price, and knows of no takes as it knows no voice.
    """
    nowhere = {"FISH_API_KEY": "", "FISH_BASE_URL": "http://127.0.0.1:9", "PREFECT_API_URL": "http://127.0.0.1:9/api"}

    done, plain = bare_narrate("estimate", book, "--json", **nowhere), bare_narrate("estimate", book, **nowhere)

    size = sum(len(text) for text in set(_sent_texts()))
    told = done.json
    hours = told.pop("hours")
    expected = {"characters": sum(map(len, _sent_texts())), "bytes": size, "segments": 7, "usd": round(size * 15e-6, 6)}
    assert [0, 0] == [done.code, plain.code], done.err
    assert {**expected, "bytes_covered": None} == told
    assert 0 < hours < 0.01
    assert f"{size} bytes" in plain.out
    assert not (bare_narrate.folder / "home").exists()


@pytest.mark.long
def test_estimate_knows_the_takes_there_are(narrate: Narrate, book: Path, voice_id: str) -> None:
    """
    With the voice of OUT/run.json, or that of --voice-id, what is recorded costs nothing; the free model never does.
    """
    done = narrate("run", book, "--voice-id", voice_id, "--out", "out")
    assert 0 == done.code, done.err
    _write(book, {"more.txt": "One more.\n"})

    told = narrate("estimate", book, "--out", "out", "--json").json
    other = narrate("estimate", book, "--out", "out", "--voice-id", "other", "--json").json
    free = narrate("estimate", book, "--out", "elsewhere", "--model", "s2.1-pro-free", "--json").json

    size = sum(len(text) for text in set(_sent_texts()))
    assert (size + 9, size, round(9 * 15e-6, 6)) == tuple(told[name] for name in ("bytes", "bytes_covered", "usd"))
    assert (0, round((size + 9) * 15e-6, 6)) == (other["bytes_covered"], other["usd"])
    assert (None, 0) == (free["bytes_covered"], free["usd"])


def test_a_terminal_gets_bars(narrate: Narrate, sandbox: Sandbox, book: Path, voice_id: str) -> None:
    """
    Where a person looks there are bars for scripts and segments; what is printed stays the one line of the result.
    """
    sandbox.config(latency=0.8)
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "flows", "run", str(book), "--voice-id", voice_id, "--out", "out"]
    environment = {**narrate.environment, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, cwd=narrate.folder, env=environment, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, text=True
    )
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):
        while piece := os.read(person, 65536):
            seen += piece
    out, _ = process.communicate(timeout=60)
    os.close(person)

    assert 0 == process.returncode, seen
    assert "3 scripts: 3 narrated" in out
    assert 1 == out.count("\n")
    assert all(part in seen for part in (b"scripts", b"segments", b"USD", b"min made"))


def test_a_missing_key_is_told_with_what_is_left_to_do(bare_narrate: Narrate, clip: Path) -> None:
    """
    7, before a server is started; the manifest stands, and is printed, at every end but 2.
    """
    script = _write(bare_narrate.folder / "s", {"a.txt": "One.\n"})

    done = bare_narrate("run", script, "--reference", clip, "--out", "out", "--json", FISH_API_KEY="")

    assert (7, "failed", ["pending"]) == (done.code, done.json["state"], [entry["state"] for entry in done.json["scripts"]])
    assert done.json == _manifest(bare_narrate.folder / "out")
    assert "FISH_API_KEY" in done.err
    assert "Prefect" not in done.err


@pytest.mark.long
def test_two_commands_at_once_pay_once(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    The second waits for the first, says so, and finds everything recorded.
    """
    # The first takes a minute unless it is hurried, and it is once the other has said that it waits.
    sandbox.config(latency=10, seconds=1)
    script = _write(narrate.folder / "s", {"a.txt": "\n\n".join(f"Sentence {number}." for number in range(30))})

    both = [narrate.start("run", script, "--voice-id", voice_id, "--out", "out") for _ in range(2)]
    with ThreadPoolExecutor() as readers:
        said: list[str] = []
        for process in both:
            readers.submit(_listen, process.stderr, said)
        try:
            wait_for(
                lambda: any("waiting until it is done" in line for line in said) or None,
                what="the second waiting",
                seconds=COMMAND_SECONDS,
            )
        finally:
            sandbox.config(latency=0)
            codes = [process.wait(timeout=COMMAND_SECONDS) for process in both]

    assert [0, 0] == codes, said
    assert 30 == len(sandbox.spoken()) == len(set(sandbox.spoken()))
    assert 1 == sum("waiting until it is done" in line for line in said)


def test_the_proxy_of_others_is_not_for_this_machine(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    A company's proxy cannot reach a server on loopback, be it Prefect's or the API's.
    """
    sandbox.config(seconds=1)
    script = _write(narrate.folder / "s", {"a.txt": "One."})

    done = narrate("run", script, "--voice-id", voice_id, "--out", "out", HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="")

    assert 0 == done.code, done.err
