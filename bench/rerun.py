"""
What an unchanged run over 1,000 scripts takes beyond one over a single script, against reading and hashing those files.

The single script stands for what every run takes: Python, Prefect, the voice. All runs use one Prefect server that stands
already, so that its start, ten seconds and never twice the same, does not drown the difference; of each, the fastest of several
counts, in seconds that pass and in seconds of CPU, which other work on the machine disturbs less. The scripts are of 2 to 6 KB;
in place of speech their takes hold a tone, as nothing is sent here.
"""

import hashlib
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from flows import orders, settings, studio
from flows.narration.judge import Heard
from flows.narration.manifest import Manifest, VoiceEntry
from flows.narration.production import Production
from flows.narration.speech import SAMPLE_RATE, Voice
from flows.settings import Settings

ROOT = Path(__file__).parents[1]
SCRIPTS, ROUNDS = 1000, 5
TONE = Heard((9000 * np.sin(np.arange(4410) / 10)).astype(np.int16), SAMPLE_RATE)
START_SECONDS = 120


def main() -> None:
    """
    Print one row.
    """
    print(f"| seconds of | unchanged run of {SCRIPTS} scripts | of one | beyond it | read and hash | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, studio.sandbox(voice="quick", state=Path(folder) / "state") as url:
        httpx.patch(f"{url}/_config", json={"training": "at-once"}).raise_for_status()
        settings.use_account(base_url=url, api_key="bench")
        one, many = Path(folder) / "one", Path(folder) / "many"
        _write(one, 1)
        _write(many, SCRIPTS)
        with _prefect(Path(folder) / "home") as api:
            _run(one, api)
            _narrated(many, Manifest.model_validate_json((_out(one) / "run.json").read_bytes()))
            _run(many, api)  # looks into every narration, and knows them from then on
            base, ours = _fastest(lambda: _run(one, api), lambda: _run(many, api))
        files = sorted(many.rglob("*.txt"))
        (read,) = _fastest(lambda: [hashlib.sha256(file.read_bytes()).digest() for file in files])
    for place, name in enumerate(("time", "CPU")):
        beyond = ours[place] - base[place]
        times = f"{ours[place]:.3f} | {base[place]:.3f} | {beyond:.3f} | {read[place]:.3f}"
        print(f"| {name} | {times} | {beyond / read[place]:.1f} |")


def _write(folder: Path, number: int) -> None:
    """
    Write scripts, a hundred in a folder.
    """
    chance = random.Random(number)
    words = [
        "the",
        "lamp",
        "harbour",
        "keeper",
        "stairs",
        "evening",
        "storm",
        "oil",
        "wick",
        "glass",
        "slowly",
        "burned",
        "and",
    ]
    for script in range(number):
        path = folder / f"part-{script // 100 + 1}" / f"chapter-{script % 100 + 1}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        text, size = "", chance.randint(2000, 6000)
        while len(text) < size:
            text += f"{' '.join(chance.choices(words, k=chance.randint(8, 20))).capitalize()}."
            text += chance.choice([" ", " ", "\n\n"])
        path.write_text(text)


def _out(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-out")


def _narrated(folder: Path, run: Manifest) -> None:
    """
    Make every narration as a run in the voice of *run* does once it has all takes, of a tone.
    """
    voice = run.voice or VoiceEntry(id="", title="")
    given = {"scripts": str(folder), "out": str(_out(folder)), "voice_id": voice.id}
    order = orders.order(settings.checked(Settings, given).groups())
    production = Production(order)
    host = settings.account().host
    names = production.plan(voice=Voice(id=voice.id, title=voice.title, state="trained"), entry=voice, host=host)

    def make(name: str) -> None:
        for piece in production._plans[name].pieces:
            order.store.keep(piece.take, TONE)
        production._assemble(production._plans[name])

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, names))


def _run(folder: Path, api: str) -> None:
    """
    Run the command, which has to find everything unchanged, or, the first time, to narrate it.
    """
    command = [sys.executable, "-m", "flows", "run", str(folder), "--out", str(_out(folder)), "--json"]
    command += ["--reference", str(ROOT / "data" / "reference.wav")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PREFECT_API_URL": api}, capture_output=True, check=True)
    totals = json.loads(done.stdout)["totals"]
    if totals["scripts"] not in (totals["unchanged"], totals["narrated"]):
        raise SystemExit(f"{folder} is not there as a whole: {totals}")


@contextmanager
def _prefect(home: Path) -> Iterator[str]:
    """
    Run a Prefect server while the block runs, and yield its address.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    environment = {**os.environ, **settings.PREFECT, "PREFECT_HOME": str(home)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(f"http://127.0.0.1:{port}/api/health")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(url).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


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


if __name__ == "__main__":
    main()
