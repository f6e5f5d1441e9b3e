"""
The run's record on disk.
"""

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.narration.manifest import Manifest, ScriptEntry, SegmentsFile, State, Totals, VoiceEntry, segments_path

ENTRIES = [
    ScriptEntry(
        script="a.txt",
        audio="a.mp3",
        seconds=1.5,
        segments=2,
        requests=3,
        bytes_billed=10,
        bytes_unknown=1,
        bytes_reused=4,
        usd=0.00015,
        retries=1,
        state="narrated",
    ),
    ScriptEntry(script="b.txt", seconds=2.25, segments=1, bytes_reused=7, state="unchanged"),
    ScriptEntry(script="c.txt", segments=4, requests=5, bytes_billed=20, usd=0.0003, retries=4, state="failed", error="x"),
    ScriptEntry(script="d.txt", state="empty"),
    ScriptEntry(script="e.txt", segments=9),
]


def _manifest() -> Manifest:
    return Manifest(
        started="2026-01-01T00:00:00+00:00",
        state="failed",
        voice=VoiceEntry(id="v", title="Ann"),
        speech={"model": "s2.1-pro"},
        totals=Totals.of(ENTRIES),
        scripts=ENTRIES,
    )


def test_totals_are_the_sums_of_the_entries() -> None:
    """
    Every state and every number, also of what failed: it was paid for.
    """
    assert {
        "scripts": 5,
        "narrated": 1,
        "unchanged": 1,
        "empty": 1,
        "failed": 1,
        "pending": 1,
        "segments": 16,
        "seconds": 3.75,
        "requests": 8,
        "bytes_billed": 30,
        "bytes_unknown": 1,
        "bytes_reused": 11,
        "usd": 0.00045,
        "retries": 5,
    } == Totals.of(ENTRIES).model_dump()


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """
    With its schema by that name, in UTF-8 that a person can read.
    """
    path, manifest = tmp_path / "run.json", _manifest()
    manifest.scripts[0].notes.append("line 1: “ö”")

    manifest.write(path)

    assert manifest == Manifest.read(path)
    assert 1 == json.loads(path.read_text(encoding="utf-8"))["schema"]
    assert "“ö”" in path.read_text(encoding="utf-8")
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"schema": 2}, {"later": "more"}, {"totals": None}], ids=str)
def test_what_another_version_wrote_reads_as_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    """
    Half understood is not understood.
    """
    path = tmp_path / "run.json"
    _manifest().write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    assert Manifest.read(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null"])
def test_what_is_no_manifest_reads_as_nothing(tmp_path: Path, content: bytes) -> None:
    """
    Nor does it stop a run.
    """
    path = tmp_path / "run.json"
    path.write_bytes(content)

    assert (None, None, None) == (Manifest.read(path), SegmentsFile.read(path), Manifest.read(tmp_path / "none.json"))


def test_segments_mirror_the_scripts() -> None:
    """
    A point in a name is no suffix.
    """
    paths = [segments_path(Path("out"), name).as_posix() for name in ("part/one.txt", "no. 1.md", "v1.2.txt")]

    assert ["out/.segments/part/one.json", "out/.segments/no. 1.json", "out/.segments/v1.2.json"] == paths


numbers = st.integers(0, 10**9)
money = st.floats(0, 10**6).map(lambda amount: round(amount, 6))
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
entries = st.lists(
    st.builds(
        ScriptEntry,
        script=names,
        digest=names,
        audio=st.none() | names,
        seconds=money,
        speech_seconds=money,
        pause_seconds=money,
        segments=numbers,
        bytes_billed=numbers,
        bytes_unknown=numbers,
        bytes_reused=numbers,
        requests=numbers,
        usd=money,
        retries=numbers,
        state=st.sampled_from(get_args(State)),
        error=st.none() | names,
        notes=st.lists(names, max_size=2),
    ),
    max_size=8,
)


@settings(max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=entries,
    state=st.sampled_from(["completed", "failed", "cancelled"]),
    error=st.none() | names,
    voice=st.none() | st.builds(VoiceEntry, id=names, title=names, reference=st.none() | names, attached=st.booleans()),
)
def test_a_manifest_of_any_end_is_read_back(
    tmp_path: Path, scripts: list[ScriptEntry], state: Any, error: str | None, voice: VoiceEntry | None
) -> None:
    """
    Whatever is in names and errors, and however the run ended; its totals are the sums of its entries.
    """
    manifest = Manifest(
        started="2026-01-01T00:00:00+00:00",
        state=state,
        error=error,
        voice=voice,
        speech={"model": "s2.1-pro"},
        totals=Totals.of(scripts),
        scripts=scripts,
    )
    manifest.write(tmp_path / "run.json")

    read = Manifest.read(tmp_path / "run.json")

    assert manifest == read
    totals = read.totals
    assert len(scripts) == totals.scripts == sum(getattr(totals, state) for state in get_args(State))
    for name in ("segments", "requests", "bytes_billed", "bytes_unknown", "bytes_reused", "retries"):
        assert sum(getattr(entry, name) for entry in scripts) == getattr(totals, name)
    for name in ("seconds", "usd"):
        assert math.fsum(getattr(entry, name) for entry in scripts) == pytest.approx(getattr(totals, name), abs=1e-5)
