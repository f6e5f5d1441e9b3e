"""
A long run under faults of every kind: it ends right, in memory that does not grow with it.

`make soak SEGMENTS=10000` is the long one; among the long tests it is short.
"""

import json
import os
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.narration import ledger
from flows.narration.manifest import SegmentsFile, segments_path
from tests.conftest import Narrate, Sandbox
from tests.narration.test_faults import HARMLESS, RARE

SEGMENTS = int(os.environ.get("SEGMENTS", "600"))
SENTENCES = 50
SCRIPTS = max(1, SEGMENTS // SENTENCES)
CONCURRENCY = 20
SHARE = 0.06
"""Of the requests, that meet a fault of some kind."""
SECONDS_EACH = 0.5
"""That a segment may take on a machine with a lot to do, before the run counts as stuck."""


def _sentence(script: int, number: int) -> str:
    return f"This is sentence {number} of script {script}, and it is said once."


@pytest.mark.long
def test_a_long_run_under_faults_ends_right_in_flat_memory(
    narrate: Narrate, sandbox: Sandbox, clip: Path, tmp_path: Path
) -> None:
    """
    Every sentence once and in order, the ledger and the service agree, and the last quarter needs no more than the second.
    """
    (tmp_path / "scripts").mkdir()
    for script in range(SCRIPTS):
        text = "\n\n".join(_sentence(script, number) for number in range(SENTENCES))
        (tmp_path / "scripts" / f"{script:04}.txt").write_text(text)
    faults = [fault for name, fault in RARE.items() if name not in HARMLESS and "lasts" not in fault]
    outage = {"kind": "reset", "after": SEGMENTS // 2, "lasts": 3.0}
    sandbox.config(
        training="at-once",
        seconds=1.0,
        latency=0.02,
        concurrency_limit=CONCURRENCY,
        credit="1000",
        faults=[outage, *(fault | {"rate": SHARE / len(faults)} for fault in faults if fault["kind"] != "long")],
    )
    command: list[str | Path] = ["run", "scripts", "--reference", clip, "--out", "out", "--format", "wav"]
    options: list[str | Path] = ["--concurrency", str(CONCURRENCY), "--backoff", "0.1", "--deadline", "20"]

    life = narrate.start(*command, *options)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(life.communicate)
        sizes = _watched(life.pid, ended, seconds=120 + SEGMENTS * SECONDS_EACH)
        _, said = ended.result()

    assert life.returncode == 0, said[-3000:]
    out = tmp_path / "out"
    for script in range(SCRIPTS):
        made = SegmentsFile.read(segments_path(out, f"{script:04}.txt"))
        assert made is not None
        assert [_sentence(script, number) for number in range(SENTENCES)] == [segment.text for segment in made.segments]
    _books(sandbox, out)
    quarter = len(sizes) // 4
    second, last = (statistics.median(part) for part in (sizes[quarter : 2 * quarter], sizes[3 * quarter :]))
    print(f"{SEGMENTS} segments: {second:.0f} MB in the second quarter, {last:.0f} MB in the last, {max(sizes):.0f} MB at most")
    assert last <= 1.1 * second + SEGMENTS * 0.005


def _watched(pid: int, ended: "Future[tuple[str, str]]", *, seconds: float) -> list[float]:
    """
    Sample how much memory a process holds, in MB, until it has ended.
    """
    sizes: list[float] = []
    deadline = time.monotonic() + seconds
    while not ended.done():
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            break
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            raise AssertionError(f"it did not end within {seconds} s")
        time.sleep(0.2)  # between samples
    return sizes


def _books(sandbox: Sandbox, out: Path) -> None:
    """
    Check the service's journal, the ledger and the manifest against each other.
    """
    asked = sandbox.requests("/v1/tts")
    billed = sum(row["bytes"] for row in asked if row["billed"])
    text = sum(len(_sentence(script, number)) for script in range(SCRIPTS) for number in range(SENTENCES))
    (sums,) = ledger.summed(out / ".takes", by=[])
    totals = json.loads((out / "run.json").read_text())["totals"]
    print(f"text {text} bytes, billed {billed}; {sums}")
    assert SCRIPTS * SENTENCES == sums["taken"] == totals["segments"]
    assert (SCRIPTS, sums["bytes_billed"], sums["requests"]) == (totals["narrated"], totals["bytes_billed"], totals["requests"])
    assert sums["bytes_billed"] <= billed <= sums["bytes_billed"] + sums["bytes_unknown"]
    retaken = sum(row["bytes"] for row in asked if row["billed"] and row["fault"])
    assert billed <= text + retaken + sums["bytes_unknown"]
