"""
The neural voice: moved towards its reference, and silent about cues.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from flows.sandbox import timbre
from flows.sandbox.encode import decode, encode, resample
from flows.sandbox.neural import Reader
from tests.sandbox.running import client, pcm, running, trained

pytest.importorskip("hibari")

TEXT = "It was a bright cold day in April, and nobody in the whole town knew why the clocks were striking."
RECORDING = Path(__file__).parents[2] / "data" / "reference.wav"


@pytest.fixture(scope="module", name="reader")
def _reader() -> Reader:
    """
    The neural voice itself, loaded once.
    """
    return Reader()


@pytest.fixture(scope="module", name="neural")
def _neural() -> Iterator[httpx.Client]:
    """
    A sandbox of its own with the neural voice.
    """
    with running(voice="neural") as server, client(server.url) as http:
        yield http


def speaker(reader: Reader, times: float) -> bytes:
    """
    Make a recording of another speaker: the neural voice played faster or slower.
    """
    said = (reader.speak(TEXT, [], rate=24000, seed=3) / 32768).astype(np.float32)
    shifted = resample(said, int(24000 * times), 24000)
    return encode((shifted * 32767).astype(np.int16), "wav", 24000)


def measured(samples: np.ndarray[tuple[int], np.dtype[np.int16]], rate: int) -> float:
    """
    Measure the pitch of an answer in Hz.
    """
    found = timbre.measure(resample((samples / 32768).astype(np.float32), rate, timbre.RATE))
    assert found
    return found.pitch


@pytest.mark.parametrize("times", [0.45, 0.6, 0.8, 1.15])
def test_moves_to_the_reference(reader: Reader, times: float) -> None:
    """
    Whatever the pitch of the reference, the answer comes out near it.
    """
    reference = speaker(reader, times)
    asked = timbre.measure(decode(reference, rate=timbre.RATE, seconds=30))
    said = reader.speak("Nobody knew what she meant by that, least of all her brother.", [reference], rate=44100)

    assert asked
    assert measured(said, 44100) == pytest.approx(asked.pitch, rel=0.12)


def test_moves_to_a_recording(reader: Reader) -> None:
    """
    A real recording of a man gives a man's pitch, while the reader's own is a woman's.
    """
    if not RECORDING.exists():
        pytest.skip("data/reference.wav is not here")
    said = reader.speak(TEXT, [RECORDING.read_bytes()], rate=24000)

    assert 85 < measured(said, 24000) < 115
    assert 180 < measured(reader.speak(TEXT, [], rate=24000), 24000) < 230


def test_two_voices_over_http(neural: httpx.Client, reader: Reader) -> None:
    """
    Two voices of one sandbox speak at their own pitches, at a sane level, and say what reads them.
    """
    voices = [trained(neural, sample=speaker(reader, times)) for times in (0.5, 1.1)]
    answers = [
        neural.post("/v1/tts", json={"text": TEXT, "format": "pcm", "sample_rate": 24000, "reference_id": voice})
        for voice in voices
    ]
    low, high = (measured(pcm(answer), 24000) for answer in answers)

    assert high / low > 1.7
    assert [answer.headers["x-sandbox-voice"] for answer in answers] == ["neural"] * 2
    assert all(0.3 < np.abs(pcm(answer)).max() / 32768 <= 0.95 for answer in answers)


def test_samples_survive(tmp_path: Path, reader: Reader) -> None:
    """
    After a restart a voice sounds as before, to the bit: its samples were kept.
    """
    said = {"text": "Hello there.", "format": "pcm"}
    with running(voice="neural", state=tmp_path) as server, client(server.url) as http:
        voice = trained(http, sample=speaker(reader, 0.5))
        before = http.post("/v1/tts", json={**said, "reference_id": voice}).content
    with running(voice="neural", state=tmp_path) as server, client(server.url) as http:
        assert before == http.post("/v1/tts", json={**said, "reference_id": voice}).content
        assert before != http.post("/v1/tts", json=said).content


def test_repeats_to_the_bit(reader: Reader) -> None:
    """
    The same seed gives the same sound, another seed another one.
    """
    said = [reader.speak("Hello there.", [], rate=44100, seed=seed).tobytes() for seed in (1, 1, 2)]

    assert said[0] == said[1] != said[2]


def test_cues_are_not_read(reader: Reader) -> None:
    """
    A cue is not heard; a word in brackets would be missed, and a pause is silence.
    """
    plain, cue, spoken, pause = (
        len(reader.speak(text, [], rate=24000))
        for text in ("He went away.", "[sic] He went away.", "sick He went away.", "He went away. [long-break]")
    )

    assert (plain, plain + 24000) == (cue, pause)
    assert spoken > plain + 2400


def test_speed(reader: Reader) -> None:
    """
    Twice the speed is about half as long.
    """
    slow, fast = (len(reader.speak(TEXT, [], rate=24000, speed=speed)) for speed in (1.0, 2.0))

    assert slow / fast == pytest.approx(2, rel=0.15)


def test_other_languages(neural: httpx.Client) -> None:
    """
    What an English reader cannot read is answered by the quick voice, and says so.
    """
    texts = {"Привет, мир.": "quick", "你好，世界": "quick", "…": "quick", "Café au lait.": "neural", "1984": "neural"}

    assert texts == {
        text: neural.post("/v1/tts", json={"text": text, "format": "wav"}).headers["x-sandbox-voice"] for text in texts
    }


def test_other_languages_refused(neural: httpx.Client) -> None:
    """
    Or it is refused in words, and not billed, if switched so.
    """
    neural.patch("/_config", json={"foreign": "refuse"})
    answers = [neural.post("/v1/tts", json={"text": text, "format": "wav"}) for text in ("Привет, мир.", "Hello.", "1984")]
    billed = [row["billed"] for row in neural.get("/_config/requests").json()[-3:]]
    neural.patch("/_config", json={"foreign": None})

    assert [400, 200, 200] == [answer.status_code for answer in answers]
    assert "reads English only" in answers[0].json()["message"]
    assert [False, True, True] == billed


def test_other_formats(neural: httpx.Client) -> None:
    """
    Every format speaks, and a reference that nothing can be measured in leaves the reader's own voice.
    """
    voice = trained(neural, sample=b"\x00\x00\x00\x20ftypM4A rest")
    answers = [
        neural.post("/v1/tts", json={"text": "Hello.", "format": kind, "reference_id": voice})
        for kind in ("wav", "pcm", "mp3", "opus")
    ]

    assert [answer.status_code for answer in answers] == [200] * 4
