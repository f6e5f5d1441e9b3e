"""
The quick voice: a tone for every word, as long as the word, at a pitch that belongs to the voice. Next to free.
"""

import hashlib
import random
from functools import lru_cache

import numpy as np

from flows.sandbox.config import FaultKind
from flows.sandbox.encode import Pcm
from flows.sandbox.markup import spans

BYTES_A_SECOND = 15
LONGEST_TONE = 12
"""In bytes of text: longer words, and scripts without blanks, become several tones."""
PEAK = 9000
"""About -11 dBFS: loud enough to be speech, far from clipping."""


def pitch(voice: str) -> float:
    """
    Tell the pitch of *voice* in Hz, between 90 and 250: two voices differ, the same one never does.
    """
    return 90 + 160 * int.from_bytes(hashlib.sha256(voice.encode()).digest()[:6], "big") / 2**48


def speak(text: str, *, tone: float, rate: int, speed: float = 1.0, take: int = 0) -> Pcm:
    """
    Say *text* in tones of *tone* Hz, one second for 15 bytes at *speed* 1; another *take* gives others as long.
    """
    parts = [np.zeros(0, np.int16)]
    for span in spans(text):
        if isinstance(span, float):
            parts.append(np.zeros(int(span * rate), np.int16))
            continue
        for place, (size, sounding) in enumerate(_tones(span)):
            length = round(size / BYTES_A_SECOND / speed * rate)
            heard = int(length * sounding)
            parts += [_tone(tone, rate, heard, (place + take) % 3), np.zeros(length - heard, np.int16)]
    spoken: Pcm = np.concatenate(parts)
    return spoken if len(spoken) else np.zeros(rate // 5, np.int16)


def _tones(span: str) -> list[tuple[int, float]]:
    # Each as its length in bytes, the blank after it included, and the share of it that sounds.
    tones: list[tuple[int, float]] = []
    for word in span.split():
        size = len(word.encode()) + 1
        pieces = -(-size // LONGEST_TONE)
        tones += [(size // pieces + (piece < size % pieces), 0.85) for piece in range(pieces)]
        if word[-1] in ".!?…。！？":
            tones[-1] = (tones[-1][0], 0.5)
    return tones


@lru_cache(maxsize=512)
def _tone(frequency: float, rate: int, length: int, vowel: int) -> Pcm:
    seconds = np.arange(length) / rate
    resonance = (500, 900, 1500)[vowel]
    harmonics = range(1, max(2, int(min(3500, rate * 0.45) // frequency)))
    wave = np.zeros(length)
    for harmonic in harmonics:
        strength = 1 / harmonic + np.exp(-(((harmonic * frequency - resonance) / 250) ** 2))
        wave += strength * np.cos(2 * np.pi * harmonic * frequency * seconds + harmonic**2)
    fade = np.clip(np.minimum(seconds, seconds[::-1]) / 0.015, 0, 1)
    loudest = np.abs(wave).max(initial=1e-9)
    tone: Pcm = (wave * fade * (PEAK / loudest)).astype(np.int16)
    return tone


def adjust(samples: Pcm, *, rate: int, seconds: float | None, volume: float) -> Pcm:
    """
    Make *samples* last *seconds* exactly (None leaves their length) and change their volume by so many dB.
    """
    if seconds is not None:
        samples = np.resize(samples, max(1, round(seconds * rate)))
    if volume:
        samples = np.clip(samples * 10 ** (volume / 20), -32767, 32767).astype(np.int16)
    return samples


def spoil(samples: Pcm, kind: FaultKind | None, *, rate: int, seed: int) -> Pcm:
    """
    Damage *samples* as a fault of this *kind* asks for; other kinds leave them alone.
    """
    match kind:
        case "silence":
            return np.zeros_like(samples)
        case "short":
            return samples[: rate // 10]
        case "long":
            return np.tile(samples, 10)
        case "clip":
            noise = random.Random(seed).randbytes(len(samples))
            return np.where(np.frombuffer(noise, np.uint8) < 128, -32767, 32767).astype(np.int16)
    return samples
