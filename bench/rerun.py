"""
What an unchanged run over 1,000 scripts takes beyond one over a single script, against reading and hashing those files.

The single script stands for what every run takes: Python, Prefect, the voice. All runs use one Prefect server that stands
already, so that its start, ten seconds and never twice the same, does not drown the difference. Of each, the fastest of several
counts, in seconds that pass and in seconds of CPU, which other work on the machine disturbs less.
"""

import hashlib
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import measure
from bench.service import Terms
from bench.stage import ROOT, Stage

SCRIPTS, ROUNDS = 1000, 5
SECONDS = 8.0
"""Length of every take: as long as the longest script can be spoken, and the shortest too."""

WORDS = ["the", "lamp", "harbour", "keeper", "stairs", "evening", "storm", "oil", "wick", "glass", "slowly", "burned", "and"]


def table(stage: Stage) -> str:
    """
    Narrate both folders, run both again several times, and return the table.
    """
    one, many = stage.folder / "one", stage.folder / "many"
    _write(one, 1)
    _write(many, SCRIPTS)
    stage.set(Terms(latency=0, seconds=SECONDS))
    for folder in (one, many, one, many):  # narrated, then looked into once, and known from then on
        _run(stage, folder)
    files = sorted(many.rglob("*.txt"))
    base, ours = _fastest(lambda: _run(stage, one), lambda: _run(stage, many))
    (read,) = _fastest(lambda: [hashlib.sha256(file.read_bytes()).digest() for file in files])
    rows = [
        f"| seconds of | unchanged run of {SCRIPTS:,} scripts | of one | beyond it | read and hash | ratio |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for place, name in enumerate(("time", "CPU")):
        beyond = ours[place] - base[place]
        times = f"{ours[place]:.3f} | {base[place]:.3f} | {beyond:.3f} | {read[place]:.3f}"
        rows.append(f"| {name} | {times} | {beyond / read[place]:.1f} |")
    return "\n".join(rows)


def _write(folder: Path, number: int) -> None:
    """
    Write scripts of one paragraph, a hundred in a folder.
    """
    chance = random.Random(number)
    for script in range(number):
        path = folder / f"part-{script // 100 + 1}" / f"chapter-{script % 100 + 1}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{' '.join(chance.choices(WORDS, k=chance.randint(30, 50)))}.")


def _run(stage: Stage, folder: Path) -> measure.Taken:
    """
    Run the command to its end.
    """
    out = folder.with_name(f"{folder.name}-out")
    command = [
        sys.executable,
        "-m",
        "flows",
        "run",
        str(folder),
        "--out",
        str(out),
        "--concurrency",
        "50",
        "--format",
        "wav",
        "--json",
    ]
    command += ["--reference", str(ROOT / "data" / "reference.wav")]
    environment = stage.environment(PREFECT_API_URL=stage.prefect)
    return measure.run(command, cwd=ROOT, env=environment, log=folder.with_suffix(".log"))


def _fastest(*each: Callable[[], object]) -> list[tuple[float, float]]:
    """
    Seconds that each takes at best, and seconds of CPU; taken in turn, so that all meet the same weather.
    """
    best = [(float("inf"), float("inf"))] * len(each)
    for _ in range(ROUNDS):
        for place, call in enumerate(each):
            start, cpu = time.perf_counter(), _cpu()
            call()
            best[place] = min(best[place][0], time.perf_counter() - start), min(best[place][1], _cpu() - cpu)
    return best


def _cpu() -> float:
    """
    Seconds of CPU that this process took, and those it started that have ended.
    """
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
