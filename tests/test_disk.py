"""
Disks that are full, read-only, elsewhere or damaged, and what an older or newer Narrate left on them.
"""

import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Done, Narrate, Sandbox

SMALL = 2_000_000
"""Bytes of a disk that a few minutes of speech fill."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """
    A small disk of its own: a real file system that is really full when it is full.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own cannot be mounted here: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """
    Eight scripts of four sentences each, no two of them equal.
    """
    folder = tmp_path / "scripts"
    folder.mkdir()
    for number in range(8):
        (folder / f"chapter-{number}.txt").write_text(
            "\n\n".join(f"This is sentence {place} of chapter {number}, and it ends here." for place in range(4))
        )
    return folder


def _manifest(out: Path) -> Any:
    return json.loads((out / "run.json").read_text())


def _refused(done: Done, code: int, *told: str) -> None:
    assert code == done.code, done.err
    assert "Traceback" not in done.err
    for part in told:
        assert part in done.err, done.err


@pytest.mark.long
@pytest.mark.parametrize("place", ["everything", "takes"])
def test_a_full_disk_loses_nothing_that_was_kept(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path, disk: Path, place: str
) -> None:
    """
    The run ends with 3 and says so; with room again, the next run sends only what was never kept.
    """
    out = disk / "out" if place == "everything" else narrate.folder / "out"
    command = ("run", scripts, "--voice-id", voice_id, "--out", out, "--takes", disk / "takes", "--concurrency", "2")

    full = narrate(*command)
    kept = list((disk / "takes").rglob("*.flac"))
    sent = len(sandbox.spoken())
    _remount(disk, "size=50m")
    rest = narrate(*command)

    _refused(full, 3, "No space left on device")
    assert 0 < len(kept) < 32
    assert 0 == rest.code, rest.err
    assert 8 == _manifest(out)["totals"]["scripts"] == len(list(out.glob("*.mp3")))
    # What was in flight when the disk was full is paid for and could not be kept.
    assert 32 <= len(sandbox.spoken()) <= 32 + 2 + 4
    assert len(sandbox.spoken()) - sent == 32 - len(kept)
    assert [] == list(disk.rglob(".*.part"))


def test_a_disk_that_cannot_be_written_to_is_refused_first(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path, disk: Path
) -> None:
    """
    Before anything is sent, whichever of the two folders it is.
    """
    _remount(disk, "ro")

    out = narrate("run", scripts, "--voice-id", voice_id, "--out", disk / "out")
    takes = narrate("run", scripts, "--voice-id", voice_id, "--out", "out", "--takes", disk / "takes")

    _refused(out, 2, "Read-only file system", str(disk / "out"))
    _refused(takes, 2, "Read-only file system", str(disk / "takes"))
    assert [] == sandbox.requests()


@pytest.mark.long
def test_takes_on_another_file_system_serve_another_folder(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path, disk: Path
) -> None:
    """
    Nothing is renamed from one disk to the other; what one run paid for, the other has.
    """
    _remount(disk, "size=50m")
    for out in ("one", "two"):
        done = narrate("run", scripts, "--voice-id", voice_id, "--out", out, "--takes", disk)
        assert 0 == done.code, done.err

    assert 32 == len(sandbox.spoken())
    assert 8 == len(list((narrate.folder / "two").glob("*.mp3")))


def test_a_flipped_bit_in_a_take_is_found_retaken_and_said(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path
) -> None:
    """
    By the digest of its samples, when a narration is made of it again.
    """
    command = ("run", scripts / "chapter-1.txt", "--voice-id", voice_id, "--out", "out")
    narrate(*command)
    take = next((narrate.folder / "out/.takes").rglob("*.flac"))
    content = bytearray(take.read_bytes())
    content[len(content) // 2] ^= 1
    take.write_bytes(content)
    (narrate.folder / "out/chapter-1.mp3").unlink()

    done = narrate(*command)

    assert 0 == done.code, done.err
    assert 5 == len(sandbox.spoken())
    [entry] = _manifest(narrate.folder / "out")["scripts"]
    [note] = entry["notes"]
    assert re.fullmatch(r"line \d: recorded anew, as the take in the store was damaged", note)


@pytest.mark.long
def test_a_ledger_of_a_newer_narrate_is_left_alone(narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path) -> None:
    """
    What cannot be entered is not spent; one that is no ledger at all is refused as well.
    """
    takes = narrate.folder / "takes"
    takes.mkdir()
    command = ("run", scripts, "--voice-id", voice_id, "--out", "out", "--takes", takes)
    with closing(sqlite3.connect(takes / "ledger.sqlite")) as newer:
        newer.execute("PRAGMA user_version = 99")

    _refused(narrate(*command), 2, "schema 99", "Update Narrate")
    _refused(narrate("ledger", "--takes", takes), 2, "schema 99")
    (takes / "ledger.sqlite").write_text("This is no database, but long enough to be taken for a file of one. " * 20)
    _refused(narrate(*command), 2, "ledger.sqlite cannot be used")
    assert [] == sandbox.requests("/v1/tts")


@pytest.mark.long
def test_records_of_an_older_schema_are_made_anew_without_paying(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, scripts: Path
) -> None:
    """
    What stands in OUT is read where it is understood, and made again from the takes where not.
    """
    command = ("run", scripts, "--voice-id", voice_id, "--out", "out")
    narrate(*command)
    out = narrate.folder / "out"
    for record in (out / "run.json", *(out / ".segments").iterdir()):
        record.write_text(re.sub(r'"schema": \d+', '"schema": 0', record.read_text()))

    done = narrate(*command)

    if done.code == 2:  # a manifest that is not understood may be another's
        assert "run.json" in done.err
        (out / "run.json").unlink()
        done = narrate(*command)
    assert 0 == done.code, done.err
    assert 32 == len(sandbox.spoken())
    assert 8 == _manifest(out)["totals"]["narrated"]
