"""
The bench measures what it says.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bench import contest, measure
from bench.contest import NARRATE, SCRIPT, Contest, Row
from bench.service import Terms
from bench.stage import Stage, service

pytestmark = pytest.mark.alone

BUSY = """
import subprocess, sys, time
def burn(seconds):
    while time.process_time() < seconds: pass
ballast = bytearray(100_000_000)
burn(0.4)
if len(sys.argv) > 1:
    subprocess.run([sys.executable, __file__], check=True)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """
    The bench's service, without a Prefect server.
    """
    with service() as address, httpx.Client(base_url=address) as client:
        yield Stage(client=client, service=address, prefect="", prefect_pid=os.getpid(), folder=tmp_path)


def test_cpu_and_memory_are_those_of_the_command_and_of_its_children(tmp_path: Path) -> None:
    """
    Each process burns 0.4 s and holds 100 MB, the child while its parent does.
    """
    busy = tmp_path / "busy.py"
    busy.write_text(BUSY)

    alone = measure.run([sys.executable, str(busy)], cwd=tmp_path, env={}, log=tmp_path / "log")
    both = measure.run([sys.executable, str(busy), "both"], cwd=tmp_path, env={}, log=tmp_path / "log")

    assert (alone.code, alone.children) == (0, 0)
    assert 0.38 <= alone.cpu <= alone.wall + 0.02
    assert 0.38 <= both.children < 1
    assert 100e6 < alone.memory < 180e6
    assert 200e6 < both.memory < 360e6


def test_a_command_that_fails_is_no_measurement(tmp_path: Path) -> None:
    """
    A contender that gives up early would look fast.
    """
    with pytest.raises(measure.Failed, match="ended with 3"):
        measure.run([sys.executable, "-c", "raise SystemExit(3)"], cwd=tmp_path, env={}, log=tmp_path / "log")


@pytest.mark.long
def test_the_service_refuses_above_the_limit_and_bills_what_it_admits(stage: Stage) -> None:
    """
    Eight paragraphs, two at a time, are four rounds; whatever a run killed midway had is billed again.
    """
    runs = Contest(stage)
    scripts = runs.scripts(8, each=4)

    fitting = runs.run(SCRIPT, scripts, terms=Terms(latency=0.5, limit=2), at_once=2)
    pressing = runs.run(SCRIPT, scripts, terms=Terms(latency=0.1, limit=2), at_once=3)
    billed = runs.billed_after_kill(SCRIPT, runs.scripts(60), latency=1.0)

    assert (fitting.journal.refused, fitting.journal.most_in_flight) == (0, 2)
    assert fitting.journal.bytes_billed == scripts.size
    assert 2.0 <= fitting.phase < 4
    assert pressing.journal.refused > 0
    assert 1.5 <= billed <= 2.0


@pytest.mark.long
def test_narrate_is_measured_as_the_others_are(stage: Stage, prefect_api: str) -> None:
    """
    The real command, its encoding apart, and a kill that bills again what was in flight or waited to be judged, and no more.
    """
    runs = Contest(replace(stage, prefect=prefect_api))
    scripts = runs.scripts(400)

    result = runs.run(NARRATE, scripts, terms=Terms(latency=0.2))
    billed = runs.billed_after_kill(NARRATE, scripts, latency=1.0)

    assert result.journal.bytes_billed == scripts.size
    assert result.taken.cpu > 0.5
    assert result.taken.children > 0
    assert 1.0 <= billed <= 1.0 + 2 * contest.AT_ONCE / 400


def test_the_table_tells_ratios() -> None:
    """
    To the ideal, and to the script of the same run.
    """
    script = Row(name="script", wall=30.0, phase=20.0, cpu=0.004, memory=50e6, refused=0, billed=1.5)
    ours = Row(name="Narrate", wall=40.0, phase=21.0, cpu=0.008, memory=150e6, refused=2, billed=1.01)

    lines = contest.table([(1000, [script, ours])]).splitlines()

    assert lines[-1] == (
        "| 1,000 | Narrate | 40.0 s (2.00) | 21.00 s (1.050, 1.050) | 8.0 ms (2.0) | 150 MB (3.0) | 2 | 1.010 |"
    )
