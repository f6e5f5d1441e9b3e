"""
What a speech request may say: every parameter the hosted API documents, and what it refuses with 400.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flows.sandbox.encode import RATES, is_audio
from flows.sandbox.errors import Refused

T = TypeVar("T", str, int)

DEFAULT_RATE = {"wav": 44100, "pcm": 44100, "mp3": 44100, "opus": 48000}
# The document counts opus in bit/s, SDK 1.3.0 in kbit/s and sends 32 with every request whatever its format.
OPUS_BITRATES = (-1000, 24000, 32000, 48000, 64000, 24, 32, 48, 64)


@dataclass(frozen=True)
class Order:
    """
    A speech request that is in order; bit rates in kbit/s, volume in dB.
    """

    text: str
    audio_format: str
    rate: int
    speed: float
    volume: float
    mp3_bitrate: int
    opus_bitrate: int
    chunk_length: int
    reference_ids: tuple[str, ...]
    references: tuple[tuple[bytes, ...], ...]
    """The samples of each speaker."""


def check(parameters: Mapping[str, Any], *, model: str, packed: bool, hottest: float = 1) -> Order:
    """
    Check *parameters*; *packed* tells that they came as msgpack, which alone can carry audio.

    :raises Refused: 400, naming what is accepted
    """
    text = parameters.get("text")
    if not isinstance(text, str):
        raise Refused(400, "missing field `text`" if text is None else "invalid type for field `text`, expected a string")
    if not text.strip():
        raise Refused(400, "No audio generated, please check the input text.")
    audio_format = _choice(parameters, "format", tuple(RATES), "mp3")
    prosody = parameters.get("prosody") or {}
    if not isinstance(prosody, dict):
        raise Refused(400, "invalid type for field `prosody`, expected a map")
    _choice(parameters, "latency", ("low", "normal", "balanced"), "normal")
    _check_numbers(parameters, hottest)
    _check_switches(parameters, prosody)
    opus = _choice(parameters, "opus_bitrate", OPUS_BITRATES, -1000)
    return Order(
        text=text,
        audio_format=audio_format,
        rate=_rate(parameters.get("sample_rate"), audio_format),
        speed=_number(prosody, "speed", (0.5, 2.0), 1.0),
        volume=_number(prosody, "volume", (-100, 100), 0.0),
        mp3_bitrate=_choice(parameters, "mp3_bitrate", (64, 128, 192), 128),
        opus_bitrate=opus // 1000 if opus > 1000 else opus,
        chunk_length=int(_number(parameters, "chunk_length", (100, 300), 300)),
        reference_ids=_reference_ids(parameters.get("reference_id"), model),
        references=_references(parameters.get("references"), model, packed=packed),
    )


def _check_numbers(parameters: Mapping[str, Any], hottest: float) -> None:
    for name, span in {"temperature": (0, hottest), "top_p": (0, 1), "early_stop_threshold": (0, 1)}.items():
        _number(parameters, name, span, 0)
    _number(parameters, "repetition_penalty", (0, 100), 1.2)
    for name, span in {"chunk_length": (100, 300), "min_chunk_length": (0, 100), "max_new_tokens": (0, 1 << 20)}.items():
        if _number(parameters, name, span, span[0]) % 1:
            raise Refused(400, f"invalid type for field `{name}`, expected an integer")


def _check_switches(parameters: Mapping[str, Any], prosody: Mapping[str, Any]) -> None:
    switches = {name: parameters.get(name, True) for name in ("normalize", "condition_on_previous_chunks")}
    for name, value in {**switches, "normalize_loudness": prosody.get("normalize_loudness", True)}.items():
        if not isinstance(value, bool):
            raise Refused(400, f"invalid type for field `{name}`, expected a boolean")
    features = parameters.get("features") or []
    if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
        raise Refused(400, "invalid type for field `features`, expected an array of strings")


def _choice(parameters: Mapping[str, Any], name: str, options: Sequence[T], default: T) -> T:
    value = parameters.get(name)
    if value is None:
        return default
    for option in options:
        if option == value and type(option) is type(value):
            return option
    names = ", ".join(f"`{option}`" for option in options)
    raise Refused(400, f"{name}: unknown variant `{value}`, expected one of {names}")


def _number(parameters: Mapping[str, Any], name: str, span: tuple[float, float], default: float) -> float:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"invalid type for field `{name}`, expected a number")
    if not span[0] <= value <= span[1]:
        raise Refused(400, f"{name} must be in [{span[0]}, {span[1]}]")
    return value


def _rate(value: object, audio_format: str) -> int:
    if value is None:
        return DEFAULT_RATE[audio_format]
    if not isinstance(value, int) or value not in RATES[audio_format]:
        known = ", ".join(str(rate) for rate in RATES[audio_format])
        raise Refused(400, f"Invalid sample rate {value} for format {audio_format}. Supported sample rates: {known}")
    return value


def _reference_ids(value: object, model: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(voice, str) for voice in value):
        raise Refused(400, "invalid type for field `reference_id`, expected a string or an array of strings")
    if model == "s1":
        raise Refused(400, "MultiSpeakerReference is not supported by model s1")
    return tuple(value)


def _references(value: object, model: str, *, packed: bool) -> tuple[tuple[bytes, ...], ...]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise Refused(400, "invalid type for field `references`, expected an array")
    several = all(isinstance(group, list) for group in value)
    if several and model == "s1":
        raise Refused(400, "MultiSpeakerReference is not supported by model s1")
    groups = [group for group in value if group] if several else [value]
    for row in [row for group in groups for row in group]:
        audio = row.get("audio") if isinstance(row, dict) else None
        if not packed or not isinstance(audio, bytes) or not isinstance(row.get("text"), str):
            raise Refused(400, "references need `audio` as bytes and `text`, in a body of application/msgpack")
        if not is_audio(audio):
            raise Refused(400, "Reference Audio is not valid, please check your reference audio")
    return tuple(tuple(row["audio"] for row in group) for group in groups)
