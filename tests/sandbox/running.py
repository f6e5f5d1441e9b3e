"""
A sandbox as a real process, and small sounds to send to it.
"""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

SERVE = """
import sys
from pathlib import Path
from typing import Any
from flows.sandbox.server import serve
voice, state, scenario = sys.argv[1:]
serve(port=0, voice=voice, state=Path(state) if state else None, scenario=scenario or None)
"""
ROOT = Path(__file__).parents[2]
KEY = {"Authorization": "Bearer test-key"}


@dataclass(frozen=True)
class Running:
    """
    A sandbox process and where it answers.
    """

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running(*, voice: str = "quick", state: Path | None = None, scenario: str = "") -> Iterator[Running]:
    """
    Run a sandbox process; it is ended when the block is left.
    """
    command = [sys.executable, "-c", SERVE, voice, str(state or ""), scenario]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            ready, _, url = process.stdout.readline().strip().partition(" ")
            assert ready == "ready"
            yield Running(url, process)
        finally:
            process.terminate()


def client(url: str, key: str = "test-key") -> httpx.Client:
    """
    Make a bare HTTP client with a key; nothing in the environment may send it elsewhere.
    """
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20)


def clip(hertz: float = 120, seconds: float = 1.0, rate: int = 16000) -> bytes:
    """
    Make a WAV of a buzzing tone, the nearest thing to a voice that needs no recording.
    """
    time = np.arange(int(seconds * rate)) / rate
    wave = sum(np.cos(2 * np.pi * hertz * harmonic * time) / harmonic for harmonic in range(1, 12))
    file = io.BytesIO()
    soundfile.write(file, np.asarray(wave) * 0.1, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def upload(http: httpx.Client, *, sample: bytes | None = None, **fields: object) -> httpx.Response:
    """
    Create a voice the way the SDK does; a field of None is left out.
    """
    parts = {"title": "Voice", "visibility": "private", "type": "tts", "train_mode": "fast", **fields}
    files = [("voices", ("upload", clip() if sample is None else sample, "application/octet-stream"))]
    return http.post("/model", data={k: v for k, v in parts.items() if v is not None}, files=files)


def trained(http: httpx.Client, *, sample: bytes | None = None, **fields: object) -> str:
    """
    Create a voice that is trained at once, and tell its id.
    """
    http.patch("/_config", json={"training": "at-once"})
    return str(upload(http, sample=sample, **fields).json()["_id"])


def journal(http: httpx.Client) -> list[dict[str, Any]]:
    """
    Tell the journal.
    """
    rows: list[dict[str, Any]] = http.get("/_config/requests").json()
    return rows


def pcm(answer: httpx.Response) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """
    Read the samples of a WAV or PCM answer; only the bytes count, the sizes in a WAV header are placeholders.
    """
    body = answer.content[44:] if answer.content.startswith(b"RIFF") else answer.content
    return np.frombuffer(body, "<i2")
