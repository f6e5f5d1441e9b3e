"""
How near the recording of a folder comes to the ideal, against a bare asyncio script on the same server in the same run.

The server is the sandbox: 0.5 s for each request, 20 in flight, one second of sound in each answer. The ideal is what a server
that costs nothing would give: N x 0.5 / 20 seconds. The TTS phase lasts from the first request to the last answer. Memory is
the peak of the command's own process (VmHWM), without Prefect's server.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import ormsgpack

from flows import studio

ROOT = Path(__file__).parents[1]
SECONDS, AT_ONCE = 0.5, 20
KEY = {"authorization": "Bearer bench"}


def main() -> None:
    """
    Print a row for each size and layout.
    """
    print("| segments | scripts | ideal | bare asyncio | Narrate | Narrate / ideal | Narrate / bare | peak memory |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, studio.sandbox(voice="quick", state=Path(folder) / "state") as url:
        knobs = {"latency": SECONDS, "seconds": 1.0, "concurrency_limit": 50, "training": "at-once", "credit": "1000"}
        httpx.patch(f"{url}/_config", json=knobs).raise_for_status()
        for scripts, each in ((4, 50), (200, 1), (20, 100)):
            _row(Path(folder) / f"{scripts}x{each}", scripts=scripts, each=each, url=url)


def _row(folder: Path, *, scripts: int, each: int, url: str) -> None:
    number = scripts * each
    ideal = number * SECONDS / AT_ONCE
    asyncio.run(_bare(url, number))
    bare = _phase(url)
    for script in range(scripts):
        lines = [f"Sentence {script * each + line} of a folder that is only there to be timed." for line in range(each)]
        folder.mkdir(exist_ok=True)
        (folder / f"script-{script}.txt").write_text("\n\n".join(lines))
    memory = _narrate(folder, url)
    ours = _phase(url)
    ratios = f"{ours / ideal:.3f} | {ours / bare:.3f}"
    print(f"| {number} | {scripts} | {ideal:.1f} s | {bare:.2f} s | {ours:.2f} s | {ratios} | {memory} MB |")


async def _bare(url: str, number: int) -> None:
    """
    What a good engineer writes first: a semaphore, a pool, and no care for anything else.
    """
    slots = asyncio.Semaphore(AT_ONCE)
    headers = {**KEY, "content-type": "application/msgpack", "model": "s2.1-pro"}
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as client:

        async def one(place: int) -> None:
            body = ormsgpack.packb({"text": f"Sentence {place} of the bare script.", "format": "wav", "sample_rate": 44_100})
            async with slots:
                (await client.post(f"{url}/v1/tts", content=body, headers=headers)).raise_for_status()

        await asyncio.gather(*(one(place) for place in range(number)))


def _narrate(folder: Path, url: str) -> int:
    """
    Run the command, and return the peak memory of its own process in MB.
    """
    command = [sys.executable, "-m", "flows", "run", str(folder), "--out", f"{folder}-out"]
    command += ["--reference", str(ROOT / "data" / "reference.wav"), "--concurrency", str(AT_ONCE)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FISH_API_KEY": "bench", "FISH_BASE_URL": url, "PREFECT_HOME": home}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak


def _peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(next(lines, "VmHWM: 0 kB").split()[1]) // 1024


def _phase(url: str) -> float:
    """
    Seconds from the first request to the last answer; the journal is empty afterwards.
    """
    rows: list[dict[str, Any]] = httpx.get(f"{url}/_config/requests").raise_for_status().json()
    spoken = [row for row in rows if row["path"] == "/v1/tts"]
    httpx.delete(f"{url}/_config/requests").raise_for_status()
    return float(max(row["finished"] for row in spoken) - min(row["started"] for row in spoken))


if __name__ == "__main__":
    main()
