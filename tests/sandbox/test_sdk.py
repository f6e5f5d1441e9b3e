"""
The real SDK against the sandbox: what it can read, and where it stumbles as it would over the hosted API.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fishaudio import AsyncFishAudio, FishAudio, ReferenceAudio, TTSConfig
from fishaudio.exceptions import APIError, AuthenticationError, NotFoundError, RateLimitError, ServerError
from pydantic import ValidationError

from tests.sandbox.running import clip, journal


@pytest.fixture(name="fish")
def _fish(sandbox: str) -> Iterator[Any]:
    """
    The SDK's client.
    """
    with FishAudio(api_key="test-key", base_url=sandbox) as fish:
        yield fish


def test_whole_life(fish: Any) -> None:
    """
    A voice is made, trained, found, used, changed and deleted.
    """
    made = fish.voices.create(title="Me", voices=[clip()], tags=["t"], texts=["one"], description="d")
    looks = [made.state, *(fish.voices.get(made.id).state for _ in range(2))]
    found = fish.voices.list(self_only=True, title="Me", tags=["t"])
    spoken = fish.tts.convert(text="Hello there.", reference_id=made.id)
    fish.voices.update(made.id, title="You", tags=["x", "y"])
    changed = fish.voices.get(made.id)
    fish.voices.delete(made.id)

    assert looks == ["created", "training", "trained"]
    assert [made.id] == [voice.id for voice in found.items]
    assert spoken.startswith(b"\xff\xfb")
    assert (changed.title, changed.tags, changed.description) == ("You", ["x", "y"], "d")
    with pytest.raises(NotFoundError):
        fish.voices.get(made.id)


async def test_async(sandbox: str) -> None:
    """
    The asynchronous client speaks in parallel.
    """
    async with AsyncFishAudio(api_key="test-key", base_url=sandbox) as fish:
        heard = await asyncio.gather(*(fish.tts.convert(text="Hello", format="wav") for _ in range(4)))

    assert [sound[:4] for sound in heard] == [b"RIFF"] * 4


def test_everything_the_sdk_sends(fish: Any, http: httpx.Client) -> None:
    """
    The SDK's own defaults pass, its bit rates for Opus in kbit/s among them.
    """
    config = TTSConfig(format="opus", opus_bitrate=24, sample_rate=48000, latency="normal")
    fish.tts.convert(text="Hi", config=config, speed=1.5, references=[ReferenceAudio(audio=clip(), text="t")])
    row = journal(http)[0]

    assert tuple(row[key] for key in ("model", "reference_id", "format", "speed")) == ("s2-pro", "inline", "opus", 1.5)
    assert {
        "chunk_length": 200,
        "format": "opus",
        "sample_rate": 48000,
        "mp3_bitrate": 128,
        "opus_bitrate": 24,
        "references": [{"audio": f"{len(clip())} bytes", "text": "t"}],
        "normalize": True,
        "latency": "normal",
        "prosody": {"speed": 1.5, "volume": 0.0},
        "top_p": 0.7,
        "temperature": 0.7,
        "max_new_tokens": 1024,
        "repetition_penalty": 1.2,
        "min_chunk_length": 50,
        "condition_on_previous_chunks": True,
        "early_stop_threshold": 1.0,
    } == row["parameters"]


def test_errors(fish: Any, http: httpx.Client) -> None:
    """
    Refusals arrive as the SDK's exceptions, with the message of the envelope.
    """
    with pytest.raises(APIError, match="Reference not found") as unknown:
        fish.tts.convert(text="Hi", reference_id="0" * 32)
    http.patch("/_config", json={"credit": 0})
    with pytest.raises(APIError, match="Insufficient API credit") as poor:
        fish.tts.convert(text="Hi")
    http.patch("/_config", json={"credit": 1, "concurrency_limit": 0})
    with pytest.raises(RateLimitError):
        fish.tts.convert(text="Hi")
    http.patch("/_config", json={"concurrency_limit": 5, "faults": [{"kind": "status", "status": 502, "body": "html"}]})
    with pytest.raises(ServerError):
        fish.tts.convert(text="Hi")
    http.patch("/_config", json={"keys": ["other"]})
    with pytest.raises(AuthenticationError):
        fish.tts.convert(text="Hi")

    assert (unknown.value.status, poor.value.status) == (400, 402)


def test_where_the_sdk_stumbles(fish: Any, http: httpx.Client) -> None:
    """
    The shapes that break SDK 1.3.0 do so here: a list of problems, a fully trained voice, a package without _id.
    """
    http.patch("/_config", json={"full_voice": True, "package_id": False})
    with pytest.raises(AttributeError):
        fish.voices.create(title="T", voices=[])
    with pytest.raises(ValidationError):
        fish.voices.list()
    with pytest.raises(ValidationError):
        fish.account.get_package()


def test_wallet(fish: Any, http: httpx.Client) -> None:
    """
    The SDK reads the credit, and the package once it has its _id.
    """
    http.patch("/_config", json={"credit": "12.5"})

    assert fish.account.get_credits().credit == 12.5
    assert fish.account.get_package().type == "free"
