"""
Other people's voices: the public library, dialogues, and references in the request itself.
"""

from typing import Any

import httpx
import numpy as np
import ormsgpack
import pytest

from flows.sandbox import timbre
from flows.sandbox.library import VOICES
from tests.sandbox.running import clip, pcm

HANNAH, MALE = "9a9cf47702da476aa4629e2506d4a857", "802e3bc2b27e49c2995d23ef70e6ac89"
LINE = "that was said by somebody else and took a while "


def speak(http: httpx.Client, **parameters: Any) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """
    Ask for speech, and read its samples at 16 kHz.
    """
    body = ormsgpack.packb({"text": LINE, "format": "pcm", "sample_rate": timbre.RATE, **parameters})
    return pcm(http.post("/v1/tts", content=body, headers={"Content-Type": "application/msgpack"}).raise_for_status())


def pitch(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> float:
    """
    Measure a voice, in Hz.
    """
    found = timbre.measure((samples / 32768).astype(np.float32))
    assert found
    return found.pitch


def test_library(http: httpx.Client) -> None:
    """
    A dozen voices of strangers are listed, the most used first, and filtered; each page has others.
    """
    pages = [http.get(f"/model?page_size=5&page_number={page}&sort_by=task_count").json() for page in (1, 2, 3)]
    ids = [voice["_id"] for page in pages for voice in page["items"]]
    narrators = http.get("/model?tag=narration&tag=male&language=en").json()["items"]

    assert [voice[0] for voice in VOICES] == ids
    assert {HANNAH, MALE} < set(ids)
    assert [page["total"] for page in pages] == [12] * 3
    assert ["Adrian", "Deep narration"] == sorted(voice["title"] for voice in narrators)
    assert http.get("/model?title=hann").json()["items"][0]["_id"] == HANNAH


def test_library_is_not_ours(http: httpx.Client) -> None:
    """
    A voice of the library can be looked at and not changed, is none of the caller's own, and stays after a reset.
    """
    changed = [http.patch(f"/model/{HANNAH}", data={"title": "Mine"}), http.delete(f"/model/{HANNAH}")]
    http.post("/_config/reset")
    voice = http.get(f"/model/{HANNAH}").json()

    assert [answer.status_code for answer in changed] == [403, 403]
    assert (voice["title"], voice["state"], voice["visibility"]) == ("Hannah", "trained", "public")
    assert http.get("/model?self=true").json()["items"] == []


def test_library_speaks(http: httpx.Client) -> None:
    """
    Two voices of the library are told apart by their pitch.
    """
    assert pitch(speak(http, reference_id=HANNAH)) / pitch(speak(http, reference_id=MALE)) > 1.3


@pytest.mark.parametrize("how", ["reference_id", "references"])
def test_dialogue(http: httpx.Client, how: str) -> None:
    """
    Each speaker of a dialogue has a voice of its own; one that nobody was given for has the first's.
    """
    if how == "reference_id":
        voices: dict[str, Any] = {how: [HANNAH, MALE]}
    else:
        rows = [[{"audio": clip(hertz), "text": "t"}] for hertz in (110, 220)]
        voices = {how: rows, "reference_id": ["a", "b"]}
    text = f"<|speaker:0|>{LINE}<|speaker:1|>{LINE}<|speaker:7|>{LINE}"
    first, second, third = np.split(speak(http, text=text, **voices), 3)

    assert len(second) == len(first)
    assert abs(pitch(first) - pitch(third)) < 2 < abs(pitch(first) - pitch(second))


def test_instant_clones(http: httpx.Client) -> None:
    """
    The same reference sounds the same in every request, another one otherwise.
    """
    first, again, other = (speak(http, references=[{"audio": clip(hertz), "text": "t"}]) for hertz in (110, 110, 220))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dialogue_needs_the_s2_family(http: httpx.Client) -> None:
    """
    References of several speakers are refused by s1, as arrays of ids are.
    """
    body = ormsgpack.packb({"text": "Hi", "references": [[{"audio": clip(), "text": "t"}]]})
    headers = {"Content-Type": "application/msgpack", "model": "s1"}

    assert "MultiSpeakerReference" in http.post("/v1/tts", content=body, headers=headers).json()["message"]
