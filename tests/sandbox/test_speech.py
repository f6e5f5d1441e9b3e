"""
Speech over bare HTTP: formats, limits, refusals and what the journal tells.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import ormsgpack
import pytest
import soundfile

from tests.sandbox.running import clip, journal, pcm, trained, upload

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."
LONG = len(TEXT.encode()) / 15


def speak(http: httpx.Client, *, model: str | None = "s2.1-pro", **parameters: Any) -> httpx.Response:
    """
    Ask for speech in msgpack, as the SDK does.
    """
    headers = {"Content-Type": "application/msgpack"} | ({"model": model} if model else {})
    body = ormsgpack.packb({"text": TEXT, "format": "wav", **parameters})
    return http.post("/v1/tts", content=body, headers=headers)


@pytest.mark.parametrize(
    ("audio_format", "rate", "kind", "magic"),
    [
        ("wav", None, "audio/wav", b"RIFF"),
        ("wav", 8000, "audio/wav", b"RIFF"),
        ("wav", 24000, "audio/wav", b"RIFF"),
        ("mp3", None, "audio/mpeg", b"\xff\xfb"),
        ("mp3", 32000, "audio/mpeg", b"\xff\xfb"),
        ("opus", None, "audio/opus", b"OggS"),
        ("opus", 48000, "audio/opus", b"OggS"),
    ],
)
def test_formats(http: httpx.Client, audio_format: str, rate: int | None, kind: str, magic: bytes) -> None:
    """
    Every format is chunked, of its type, mono, at the rate asked for, and as long as its text.
    """
    answer = speak(http, format=audio_format, sample_rate=rate)
    samples, read_rate = soundfile.read(io.BytesIO(answer.content), always_2d=True)

    assert (200, kind, "chunked") == (
        answer.status_code,
        answer.headers["content-type"],
        answer.headers["transfer-encoding"],
    )
    assert "content-length" not in answer.headers
    assert answer.content.startswith(magic)
    assert (rate or (48000 if audio_format == "opus" else 44100), 1) == (read_rate, samples.shape[1])
    assert len(samples) / read_rate == pytest.approx(LONG, abs=0.1)
    assert 0.1 < np.abs(samples).max() < 0.9


def test_pcm(http: httpx.Client) -> None:
    """
    PCM is the WAV without its header, 16 bits a sample.
    """
    raw, wave = speak(http, format="pcm", sample_rate=16000), speak(http, sample_rate=16000)

    assert raw.headers["content-type"] == "audio/pcm"
    assert raw.content == wave.content[44:]
    assert len(pcm(raw)) / 16000 == pytest.approx(LONG, abs=0.1)


def test_wav_placeholders(http: httpx.Client) -> None:
    """
    The sizes in a WAV header are those of a stream, not of this sound.
    """
    header = speak(http).content[:44]

    assert tuple(int.from_bytes(header[at : at + 4], "little") for at in (4, 40)) == (0xFFFFFF24, 0xFFFFFF00)


def test_mp3_bitrates(http: httpx.Client) -> None:
    """
    MP3 comes at the bit rate asked for.
    """
    sizes = [len(speak(http, format="mp3", mp3_bitrate=rate).content) * 8 / LONG / 1000 for rate in (64, 128, 192)]

    assert pytest.approx(sizes, rel=0.1) == [64, 128, 192]


def test_opus_bitrates(http: httpx.Client) -> None:
    """
    Opus grows with the bit rate asked for, in bit/s as documented or kbit/s as the SDK has it.
    """
    sizes = [len(speak(http, format="opus", opus_bitrate=rate).content) for rate in (24000, 32000, 48000, 64000)]
    of_the_sdk = [len(speak(http, format="opus", opus_bitrate=rate).content) for rate in (24, 32, 48, 64)]

    assert of_the_sdk == sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"text": None}, "missing field `text`"),
        ({"text": 5}, "expected a string"),
        ({"text": "  "}, "check the input text"),
        ({"format": "flac"}, "unknown variant `flac`, expected one of `wav`, `pcm`, `mp3`, `opus`"),
        ({"latency": "fast"}, "expected one of `low`, `normal`, `balanced`"),
        ({"mp3_bitrate": 96}, "expected one of `64`, `128`, `192`"),
        ({"opus_bitrate": 96}, "opus_bitrate"),
        ({"format": "opus", "sample_rate": 44100}, "Invalid sample rate 44100 for format opus"),
        ({"format": "mp3", "sample_rate": 48000}, "Supported sample rates: 32000, 44100"),
        ({"format": "wav", "sample_rate": 22050}, "Invalid sample rate 22050"),
        ({"chunk_length": 99}, "chunk_length must be in [100, 300]"),
        ({"chunk_length": 301}, "chunk_length must be in [100, 300]"),
        ({"chunk_length": 150.5}, "expected an integer"),
        ({"min_chunk_length": 101}, "min_chunk_length must be in [0, 100]"),
        ({"prosody": {"speed": 2.1}}, "speed must be in [0.5, 2.0]"),
        ({"prosody": {"speed": "fast"}}, "expected a number"),
        ({"prosody": "fast"}, "expected a map"),
        ({"temperature": 1.1}, "temperature must be in [0, 1]"),
        ({"top_p": -0.1}, "top_p must be in [0, 1]"),
        ({"normalize": "yes"}, "expected a boolean"),
        ({"reference_id": 7}, "reference_id"),
        ({"reference_id": "0" * 32}, "Reference not found"),
        ({"reference_id": ""}, "Reference not found"),
        ({"references": "voice"}, "expected an array"),
        ({"references": [{"audio": b"no sound", "text": "t"}]}, "Reference Audio is not valid"),
        ({"references": [{"audio": clip()}]}, "references need"),
    ],
)
def test_refusals(http: httpx.Client, parameters: dict[str, Any], said: str) -> None:
    """
    A wrong parameter is 400 in the envelope, names what is accepted, and is not billed.
    """
    answer = speak(http, **parameters)

    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert said in answer.json()["message"]
    assert journal(http)[-1]["billed"] is False


def test_model_of_several_speakers(http: httpx.Client) -> None:
    """
    An array of voices is for the S2 family only.
    """
    voices = [trained(http), trained(http)]

    assert [speak(http, model=model, reference_id=voices).status_code for model in ("s1", "s2-pro")] == [400, 200]


def test_bodies(http: httpx.Client) -> None:
    """
    JSON speaks too; a body nobody can read is plain text, and audio does not fit into JSON.
    """
    kind = {"Content-Type": "application/json"}
    good = http.post("/v1/tts", json={"text": "Hi", "format": "wav"})
    broken = [http.post("/v1/tts", content=body, headers=kind) for body in (b"{", b"[]", b'{"text": "\\ud800"}')]
    audio = http.post("/v1/tts", json={"text": "Hi", "references": [{"audio": "UklGRg==", "text": "t"}]})
    other = http.post("/v1/tts", data={"text": "Hi"})

    assert good.status_code == 200
    assert [(a.status_code, a.headers["content-type"]) for a in broken] == [(400, "text/plain; charset=utf-8")] * 3
    assert (audio.status_code, other.status_code) == (400, 415)


def test_voice_in_training(http: httpx.Client) -> None:
    """
    Where that is wanted, a voice speaks only once it is trained.
    """
    http.patch("/_config", json={"early": "refuse"})
    voice = upload(http).json()["_id"]
    before = speak(http, reference_id=voice)
    for _ in range(2):
        http.get(f"/model/{voice}")

    assert [before.status_code, speak(http, reference_id=voice).status_code] == [400, 200]
    assert "created" in before.json()["message"]


def test_voices_differ(http: httpx.Client) -> None:
    """
    Two voices differ, the default one from both; the same request gives the same bytes unless told to vary.
    """
    one, two = trained(http), trained(http)
    heard = [speak(http, reference_id=voice).content for voice in (one, two, one)]
    default = speak(http).content
    http.patch("/_config", json={"vary": True})
    varied = {speak(http, reference_id=one).content for _ in range(3)}

    assert heard[0] == heard[2]
    assert len({*heard, default}) == 3
    assert len(varied) > 1


def test_inline_reference(http: httpx.Client) -> None:
    """
    A reference in the request itself gives the same voice each time, another reference another one.
    """
    heard = [speak(http, references=[{"audio": clip(hertz), "text": "t"}]).content for hertz in (100, 200, 100)]

    assert heard[0] == heard[2] != heard[1]
    assert [row["reference_id"] for row in journal(http)] == ["inline"] * 3


def test_prosody(http: httpx.Client) -> None:
    """
    Speed shortens and volume loudens.
    """
    plain, fast = pcm(speak(http)), pcm(speak(http, prosody={"speed": 2.0}))
    loud = pcm(speak(http, prosody={"speed": 1, "volume": 6}))

    assert len(plain) / len(fast) == pytest.approx(2, rel=0.01)
    assert np.abs(loud).max() / np.abs(plain).max() == pytest.approx(2, rel=0.01)


def test_cues_are_not_read(http: httpx.Client) -> None:
    """
    What stands in brackets, and phonemes, are not heard; pauses are silence.
    """
    plain, cue = pcm(speak(http, text="One two.")), pcm(speak(http, text="One [whispering a lot] two."))
    spelled = pcm(speak(http, text="One <|phoneme_start|>T UW1<|phoneme_end|>two."))
    pause = pcm(speak(http, text="One [pause] two."))
    silent = pcm(speak(http, text="[sigh]"))

    assert len(plain) == len(cue) == len(spelled) == len(pause) - 22050
    assert not silent.any()


def test_fixed_length(http: httpx.Client) -> None:
    """
    Every answer lasts as long as the knob says.
    """
    http.patch("/_config", json={"seconds": 1.0})

    assert [len(pcm(speak(http, text=text))) for text in ("Hi", TEXT * 20)] == [44100, 44100]


def test_limit(http: httpx.Client) -> None:
    """
    Above the limit 429 comes at once, without Retry-After; below it nothing is refused.
    """
    http.patch("/_config", json={"latency": 0.5})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: speak(http), range(8)))
    refused = [answer for answer in answers if answer.status_code == 429]

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 3
    assert all("exceeded your current concurrency limit" in answer.json()["message"] for answer in refused)
    assert {("5", "5", None)} == {
        tuple(
            answer.headers.get(name) for name in ("ratelimit-limit-concurrency", "ratelimit-current-concurrency", "retry-after")
        )
        for answer in refused
    }
    assert sorted(row["in_flight"] for row in journal(http) if row["status"] == 200) == [1, 2, 3, 4, 5]
    assert max(answer.elapsed.total_seconds() for answer in refused) < 0.4


def test_limit_to_the_letter(http: httpx.Client) -> None:
    """
    A client that keeps the limit exactly is never refused, however fast it sends.
    """
    http.patch("/_config", json={"seconds": 0.1, "concurrency_limit": 4})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: speak(http).status_code, range(80)))

    assert answers == [200] * 80


def test_limit_knobs(http: httpx.Client) -> None:
    """
    The limit and its Retry-After can be set.
    """
    http.patch("/_config", json={"concurrency_limit": 0, "concurrency_retry_after": 7})
    answer = speak(http)

    assert (
        answer.status_code,
        answer.headers["retry-after"],
        answer.headers["ratelimit-limit-concurrency"],
    ) == (429, "7", "0")


def test_journal(http: httpx.Client) -> None:
    """
    The journal tells everything a speech request said, and how it went.
    """
    voice = trained(http)
    answer = speak(
        http, model="typo", text="Größe [sigh]", reference_id=voice, sample_rate=16000, prosody={"speed": 1.5}, top_p=0.5
    )
    row = journal(http)[-1]
    times = [row.pop("started"), row.pop("finished")]

    assert times == sorted(times)
    assert {
        "number": 2,
        "method": "POST",
        "path": "/v1/tts",
        "query": "",
        "in_flight": 1,
        "trace": answer.headers["x-fish-trace-id"],
        "status": 200,
        "fault": None,
        "text": "Größe [sigh]",
        "bytes": 14,
        "reference_id": voice,
        "model": "typo",
        "billed_model": "s2.1-pro",
        "format": "wav",
        "sample_rate": 16000,
        "speed": 1.5,
        "parameters": {
            "format": "wav",
            "reference_id": voice,
            "sample_rate": 16000,
            "prosody": {"speed": 1.5},
            "top_p": 0.5,
        },
        "audio_seconds": row["audio_seconds"],
        "billed": True,
        "cost_usd": "0.000210",
        "voice": "quick",
    } == row
    assert row["audio_seconds"] == pytest.approx(len(pcm(answer)) / 16000)


def test_not_in_the_sandbox(http: httpx.Client) -> None:
    """
    What the sandbox does not have it says so; what nobody has is 404 in the envelope.
    """
    answers = [http.post("/v1/voice-design"), http.get("/nothing"), http.delete("/v1/tts")]

    assert [answer.json()["status"] for answer in answers] == [501, 404, 405]
