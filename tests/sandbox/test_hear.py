"""
Recognition: it really listens, in every format, and refuses what is no speech to listen to.
"""

import asyncio
import importlib.util
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ormsgpack
import pytest
import soundfile
from fishaudio import AsyncFishAudio, FishAudio, TTSConfig

from tests.sandbox.running import client, clip, journal, running

pytest.importorskip("hibari")
pytest.importorskip("faster_whisper")

TEXT = "Every morning the baker opened his shop before the sun had touched the roofs."
RECORDING = Path(__file__).parents[2] / "data" / "reference.wav"


def words(text: str) -> list[str]:
    """
    Tell the words of a text, without what cannot be heard.
    """
    return re.findall(r"[a-z']+", text.lower())


@pytest.fixture(scope="module", name="http")
def _http() -> Iterator[httpx.Client]:
    """
    A sandbox of its own that speaks with the neural voice.
    """
    with running(voice="neural") as server, client(server.url) as http:
        yield http


@pytest.fixture(scope="module", name="spoken")
def _spoken(http: httpx.Client) -> bytes:
    """
    Speech to listen to, as a WAV.
    """
    return http.post("/v1/tts", json={"text": TEXT, "format": "wav"}).content


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus"])
def test_hears_what_it_said(http: httpx.Client, audio_format: str) -> None:
    """
    What the neural voice says is understood through the SDK, to the word, whatever the format.
    """
    with FishAudio(api_key="test-key", base_url=str(http.base_url)) as fish:
        audio = fish.tts.convert(text=TEXT, config=TTSConfig(format=audio_format, opus_bitrate=64))
        heard = fish.asr.transcribe(audio=audio, language="en")

    assert words(heard.text) == words(TEXT)
    assert words(" ".join(segment.text for segment in heard.segments)) == words(TEXT)
    assert 4 < heard.duration < 6
    assert all(0 <= segment.start < segment.end <= heard.duration for segment in heard.segments)


async def test_asynchronously(http: httpx.Client, spoken: bytes) -> None:
    """
    The asynchronous client transcribes a batch at once.
    """
    async with AsyncFishAudio(api_key="test-key", base_url=str(http.base_url)) as fish:
        heard = await asyncio.gather(*(fish.asr.transcribe(audio=spoken, include_timestamps=False) for _ in range(2)))

    assert [(words(one.text), one.segments) for one in heard] == [(words(TEXT), [])] * 2


def test_form(http: httpx.Client, spoken: bytes) -> None:
    """
    A form is heard too, without times unless they are asked for; it costs a hundredth of a cent a second begun.
    """
    plain, timed = (
        http.post("/v1/asr", files={"audio": ("a.wav", spoken)}, data=data)
        for data in ({}, {"ignore_timestamps": "false", "language": "en"})
    )

    assert {"text", "duration", "segments", "language_code", "language"} == set(plain.json())
    assert (plain.json()["segments"], plain.json()["language_code"]) == ([], "en")
    assert words(" ".join(segment["text"] for segment in timed.json()["segments"])) == words(TEXT)
    assert [segment["text"] for segment in timed.json()["segments"]] == TEXT.rstrip(".").split()
    assert journal(http)[-1]["cost_usd"] == "0.0005"


def test_unit_of_the_duration(http: httpx.Client, spoken: bytes) -> None:
    """
    Seconds, as documented, unless switched to what the SDK documents.
    """
    seconds = http.post("/v1/asr", files={"audio": spoken}).json()["duration"]
    http.patch("/_config", json={"asr_duration": "milliseconds"})
    milliseconds = http.post("/v1/asr", files={"audio": spoken}).json()["duration"]
    http.patch("/_config", json={"asr_duration": None})

    assert milliseconds == pytest.approx(seconds * 1000)


def test_no_words(http: httpx.Client) -> None:
    """
    Silence has no words, and none are invented.
    """
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(16000 * 3), 16000, format="WAV")
    heard = http.post("/v1/asr", files={"audio": silence.getvalue()}).json()

    assert {"text": "", "duration": 3.0, "segments": []} == heard


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "missing field `audio`"),
        ({"audio": "a.wav"}, 400, "invalid type for field `audio`"),
        ({"audio": b"no sound at all"}, 400, "not audio"),
        ({"audio": b""}, 400, "not audio"),
        ({"audio": clip(seconds=0.5)}, 400, "0.50 seconds, expected 1 to 3600"),
        ({"audio": clip(), "language": 7}, 400, "invalid type for field `language`"),
        ({"audio": clip(), "ignore_timestamps": "maybe"}, 400, "invalid type for field `ignore_timestamps`"),
        ({"audio": bytes(21 << 20)}, 413, "larger than 20 MB"),
    ],
)
def test_refusals(http: httpx.Client, fields: dict[str, Any], status: int, said: str) -> None:
    """
    What cannot be listened to is refused in words, and not billed.
    """
    kind = {"Content-Type": "application/msgpack"}
    answer = http.post("/v1/asr", content=ormsgpack.packb(fields), headers=kind)

    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert said in answer.json()["message"]
    assert journal(http)[-1]["billed"] is False


def test_order_of_checks(http: httpx.Client) -> None:
    """
    The key comes first, then the slot, then the wallet, then the body.
    """
    kind = {"Content-Type": "application/json"}
    stranger = httpx.post(f"{http.base_url}/v1/asr", trust_env=False)
    http.patch("/_config", json={"credit": 0, "concurrency_limit": 0})
    full = http.post("/v1/asr", json={})
    http.patch("/_config", json={"concurrency_limit": None})
    poor = http.post("/v1/asr", json={})
    http.patch("/_config", json={"credit": None})
    other = http.post("/v1/asr", content=b"{}", headers=kind)

    assert [401, 429, 402, 415] == [answer.status_code for answer in (stranger, full, poor, other)]


def test_without_ears(sandbox: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the extra it says what to install.
    """
    # The extra cannot be taken away from the environment that runs this test.
    from flows.sandbox import hear
    from flows.sandbox.errors import Refused

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(Refused, match="narrate-flows\\[asr\\]") as refused:
        hear.require()

    assert refused.value.status == 501


@pytest.mark.skipif(not RECORDING.exists(), reason="data/reference.wav is not here")
def test_hears_a_person(http: httpx.Client) -> None:
    """
    A recording of a person is understood: many words in sentences.
    """
    heard = http.post("/v1/asr", files={"audio": RECORDING.read_bytes()}).json()

    assert len(words(heard["text"])) > heard["duration"]
