"""
Sound as bytes: which are audio at all, and the four formats the API speaks.
"""

import io
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import soundfile

from flows.sandbox.errors import Refused

Pcm = np.ndarray[tuple[int], np.dtype[np.int16]]
Wave = np.ndarray[tuple[int], np.dtype[np.float32]]

MEDIA = {"wav": "audio/wav", "pcm": "audio/pcm", "mp3": "audio/mpeg", "opus": "audio/opus"}
RATES: dict[str, Sequence[int]] = {
    "wav": (8000, 16000, 24000, 32000, 44100),
    "pcm": (8000, 16000, 24000, 32000, 44100),
    "mp3": (32000, 44100),
    "opus": (48000,),
}
TINY_MP3 = b"\xff\xfb\x90\xc4" + bytes(413)
"""One silent MPEG-1 layer 3 frame, 128 kbit/s at 44.1 kHz, mono: the blank answer of fish-audio-python#128."""
UNREADABLE_HERE = (b"\x1aE\xdf\xa3", b"\xff\xf1", b"\xff\xf9")
"""WebM and AAC: audio that libsndfile does not open. M4A is told by its fifth byte instead."""


def is_audio(data: bytes) -> bool:
    """
    Tell whether *data* is sound, by its content: names and types of uploads say nothing.
    """
    if data.startswith(UNREADABLE_HERE) or data[4:8] == b"ftyp":
        return True
    try:
        return bool(soundfile.info(io.BytesIO(data)).frames > 0)
    except soundfile.LibsndfileError:
        return False


def decode(data: bytes, *, rate: int, seconds: float) -> Wave:
    """
    Read the beginning of *data* as mono at *rate*, at most *seconds* of it; empty when it cannot be read here.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples = file.read(int(seconds * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
            return resample(samples, file.samplerate, rate)
    except soundfile.LibsndfileError:
        return np.zeros(0, np.float32)


def resample(samples: Wave, source: int, target: int) -> Wave:
    """
    Change the rate of *samples*, band-limited: in one Fourier transform of all of it.
    """
    if source == target or not len(samples):
        return samples
    step = source // np.gcd(source, target)
    # The transform is circular: silence at the end keeps the tail out of the beginning. Whole steps of a smooth
    # number keep both lengths whole and the transform fast.
    padded = int(step * _smooth(-(-(len(samples) + source // 20) // step)))
    length = padded * target // source
    spectrum = np.fft.rfft(samples, padded)[: length // 2 + 1]
    if target < source:
        # A cliff at the new limit would ring: fade out over the last tenth.
        edge = len(spectrum) // 10
        spectrum[-edge:] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, edge))
    wave = np.fft.irfft(spectrum, length) * (target / source)
    return wave[: -(-len(samples) * target // source)].astype(np.float32)


@lru_cache(maxsize=1)
def _smooth_numbers() -> list[int]:
    return sorted(2**i * 3**j * 5**k for i in range(24) for j in range(10) for k in range(7) if 2**i * 3**j * 5**k < 1 << 24)


def _smooth(least: int) -> int:
    return next((number for number in _smooth_numbers() if number >= least), least)


def encode(samples: Pcm, audio_format: str, rate: int, *, mp3_bitrate: int = 128, opus_bitrate: int = -1000) -> bytes:
    """
    Encode mono *samples*; bit rates are in kbit/s, opus -1000 leaves it to the encoder.

    :raises Refused: 501 when this libsndfile has no such encoder
    """
    if audio_format == "pcm":
        return samples.astype("<i2").tobytes()
    if audio_format == "wav":
        return _placeholder_header(rate) + samples.astype("<i2").tobytes()
    file = io.BytesIO()
    try:
        if audio_format == "mp3":
            # libsndfile takes the bit rate as a share of the way from 320 down to 32 kbit/s.
            level = (320 - mp3_bitrate) / 288
            how = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
        else:
            # Likewise from 256 down to 6 kbit/s a channel.
            level = (256 - (64 if opus_bitrate < 0 else opus_bitrate)) / 250
            how = {"format": "OGG", "subtype": "OPUS"}
        soundfile.write(file, samples, rate, compression_level=level, **how)
    except soundfile.LibsndfileError as error:
        raise Refused(501, f"this sandbox cannot write {audio_format}: {error}. Ask for wav or pcm.") from error
    return file.getvalue()


def flac(samples: Pcm, rate: int) -> bytes:
    """
    Encode mono *samples* as FLAC, which the API does not speak.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _placeholder_header(rate: int) -> bytes:
    # As the hosted API streams it: the length is not known yet, so the sizes are placeholders.
    fields = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 0xFFFFFF24) + b"WAVEfmt " + fields + b"data" + struct.pack("<I", 0xFFFFFF00)
