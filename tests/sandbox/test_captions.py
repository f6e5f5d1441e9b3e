"""
The timestamp stream: the sound of /v1/tts in events, with the times of its words.
"""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.sandbox.running import journal

TEXT = "It’s the first one. [break] And here, after a silence, can't you hear another? " * 3


def events(http: httpx.Client, **parameters: Any) -> list[dict[str, Any]]:
    """
    Ask for speech with timestamps, and read its events.
    """
    body = {"text": TEXT, "format": "pcm", "sample_rate": 16000, "chunk_length": 100, **parameters}
    answer = http.post("/v1/tts/stream/with-timestamp", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def sound(found: list[dict[str, Any]]) -> bytes:
    """
    Join the sound of all events.
    """
    return b"".join(base64.b64decode(event["audio_base64"]) for event in found)


@pytest.mark.parametrize("audio_format", ["pcm", "wav", "mp3", "opus"])
def test_sound(http: httpx.Client, audio_format: str) -> None:
    """
    The events joined are the answer of /v1/tts, to the bit.
    """
    rate = {"mp3": 44100, "opus": 48000}.get(audio_format, 16000)
    asked = {"text": TEXT, "format": audio_format, "sample_rate": rate}
    plain = http.post("/v1/tts", json=asked).content

    if audio_format in ("pcm", "wav"):
        assert plain == sound(events(http, **asked, chunk_length=300))
    else:
        assert plain[:4] == sound(events(http, **asked))[:4]


def test_snapshots(http: httpx.Client) -> None:
    """
    A snapshot replaces the one before it; the last of each chunk has every word, in order and within the chunk.
    """
    found = events(http)
    last = {event["chunk_seq"]: event for event in found}
    words = [word["text"] for event in last.values() for word in event["alignment"]["segments"]]
    sizes = [len(event["alignment"]["segments"]) for event in found if event["chunk_seq"] == 0]

    assert [
        "Its",
        "the",
        "first",
        "one",
        "And",
        "here",
        "after",
        "a",
        "silence",
        "can't",
        "you",
        "hear",
        "another",
    ] * 3 == words
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    assert [event["chunk_audio_offset_sec"] for event in last.values()] == sorted(
        event["chunk_audio_offset_sec"] for event in last.values()
    )
    for event in last.values():
        times = [time for word in event["alignment"]["segments"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert times[-1] <= event["alignment"]["audio_duration"]


def test_words_are_where_they_sound(http: httpx.Client) -> None:
    """
    A silence lies between the words around it.
    """
    one = events(http, text="One. [long-break] Two.")[-1]["alignment"]["segments"]

    assert one[1]["start"] - one[0]["end"] == pytest.approx(1, abs=0.02)


def test_billed_and_refused_as_speech(http: httpx.Client) -> None:
    """
    It costs what speech costs, meets the same faults, and refuses what speech refuses.
    """
    events(http)
    refused = http.post("/v1/tts/stream/with-timestamp", json={"text": " "})
    http.patch("/_config", json={"faults": [{"kind": "status", "status": 503, "path": "/v1/tts/stream"}]})
    broken = http.post("/v1/tts/stream/with-timestamp", json={"text": "Hi"})

    assert [refused.status_code, broken.status_code] == [400, 503]
    assert [row["billed"] for row in journal(http)] == [True, False, False]
