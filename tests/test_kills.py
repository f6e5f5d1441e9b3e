"""
`kill -9` at random moments of a run, and then one run to the end: nothing lost, and next to nothing paid for twice.
"""

import os
import random
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from flows.narration.manifest import SegmentsFile, segments_path
from tests.bucket import Bucket
from tests.conftest import Narrate, Sandbox, wait_for

KILLS = int(os.environ.get("KILLS", "4"))
SCRIPTS, SENTENCES = 2 * KILLS, 20
LATENCY, LONGEST_LIFE = 0.3, 2.0
"""Seconds of an answer, and of a life after its first request: too few for what a kill more needs to find work left."""
CONCURRENCY = 5
SEED = 20261125


def _sentence(script: int, number: int) -> str:
    return f"This is sentence {number} of script {script}, and it is said once."


def _written(scripts: Path) -> int:
    """
    Write the scripts, and return the bytes of the longest sentence.
    """
    scripts.mkdir()
    for script in range(SCRIPTS):
        sentences = [_sentence(script, number) for number in range(SENTENCES)]
        (scripts / f"{script:02}.txt").write_text("\n\n".join(sentences))
    return max(len(sentence) for sentence in sentences)


@pytest.mark.long
@pytest.mark.parametrize("storage", ["folder", "bucket"])
def test_kills_cost_no_more_than_what_was_in_flight(
    narrate: Narrate, sandbox: Sandbox, clip: Path, tmp_path: Path, request: pytest.FixtureRequest, storage: str
) -> None:
    """
    One voice, every sentence once and in order, at most the requests in flight paid for again, and nothing half-written left.
    """
    longest = _written(tmp_path / "scripts")
    bucket: Bucket | None = request.getfixturevalue("bucket") if storage == "bucket" else None
    out, host = (f"{bucket.uri}/out", bucket.host("a")) if bucket else (str(tmp_path / "out"), {})
    chance = random.Random(SEED)
    sandbox.config(training="looks", seconds=1.0, concurrency_limit=CONCURRENCY, latency=LATENCY)
    command: list[str | Path] = [
        "run",
        "scripts",
        "--reference",
        clip,
        "--out",
        out,
        "--format",
        "wav",
        "--poll-interval",
        "0.2",
        "--yes",
    ]

    for _ in range(KILLS):
        asked = len(sandbox.requests())
        life = narrate.start(*command, "--concurrency", str(CONCURRENCY), **host)
        try:
            wait_for(lambda asked=asked: len(sandbox.requests()) > asked or None, what="a request", seconds=60)  # type: ignore[misc]
            time.sleep(chance.uniform(0, LONGEST_LIFE))  # the moment is what is random here; nothing is waited for
        finally:
            life.send_signal(signal.SIGKILL)
            life.communicate()
        assert life.returncode == -signal.SIGKILL, "it ended before it was killed"

    sandbox.config(latency=0.0)
    done = narrate(*command, "--concurrency", str(CONCURRENCY), **host)

    assert done.code == 0, done.err
    assert len(sandbox.voices()) == 1
    made = tmp_path / "out"
    if bucket:
        bucket.download("out", made)
    _complete(made)
    ledger = narrate("ledger", "--takes", f"{out}/.takes", "--json", **host)
    _paid(sandbox, ledger.json["total"], most=KILLS * CONCURRENCY * longest)
    assert [] == [
        str(path) for path in made.rglob("*") if path.name.endswith((".part", ".tmp")) or re.match(r"\.tmp", path.name)
    ]


def _complete(out: Path) -> None:
    for script in range(SCRIPTS):
        made = SegmentsFile.read(segments_path(out, f"{script:02}.txt"))
        assert made is not None
        assert [_sentence(script, number) for number in range(SENTENCES)] == [segment.text for segment in made.segments]
        samples, rate = soundfile.read(out / f"{script:02}.wav", dtype="int16")
        assert made.seconds == pytest.approx(len(samples) / rate, abs=0.001)
        for segment in made.segments:
            heard = samples[round(segment.start * rate) : round(segment.end * rate)]
            assert np.abs(heard).max() > 1000


def _paid(sandbox: Sandbox, sums: dict[str, Any], *, most: int) -> None:
    """
    Check what the service billed against the text, and against the ledger.
    """
    rows = sandbox.requests("/v1/tts")
    text = sum(len(_sentence(script, number)) for script in range(SCRIPTS) for number in range(SENTENCES))
    billed = sum(row["bytes"] for row in rows if row["billed"])
    print(f"text {text} bytes, billed {billed}, ledger {sums}")
    assert billed <= text + most
    assert sums["bytes_billed"] <= billed <= sums["bytes_billed"] + sums["bytes_unknown"]
    assert sums["requests"] >= len(rows)
