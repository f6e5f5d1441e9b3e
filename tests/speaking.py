"""
Takes of a recorded voice, for what is made from takes: as long, as loud and as strange as a test needs them.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from flows.narration import ffmpeg
from flows.narration.assemble import Piece
from flows.narration.judge import Heard
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore

CLIP = Path(__file__).parents[1] / "data" / "reference.wav"

Wave = npt.NDArray[np.float64]


@cache
def voice() -> Wave:
    """
    A recorded voice at `SAMPLE_RATE`, 24 seconds of it, its highest peak at 1.
    """
    samples, rate = soundfile.read(CLIP, dtype="int16")
    wave = ffmpeg.resample(samples, source_rate=rate, target_rate=SAMPLE_RATE).astype(np.float64)
    return wave / float(np.abs(wave).max())


def spoken(seconds: float, *, db: float = -3.0, start: float = 0.0) -> Wave:
    """
    So many seconds of it, again and again where it is too short, its peaks at *db* dBFS; above 0 they are clipped.
    """
    wave = np.roll(voice(), -round(start * SAMPLE_RATE))
    return np.resize(wave, round(seconds * SAMPLE_RATE)) * 10 ** (db / 20)


def silence(seconds: float) -> Wave:
    """
    So many seconds of nothing.
    """
    return np.zeros(round(seconds * SAMPLE_RATE))


def kept(store: TakeStore, waves: Sequence[Wave], *, name: str, joint: Joint = Joint.SENTENCE) -> list[Piece]:
    """
    Keep *waves* as takes, under keys made of *name*, and return them as pieces of a chapter.
    """
    pieces = []
    for place, wave in enumerate(waves):
        key = f"{name.encode().hex()}{place:04x}".rjust(64, "0")[-64:]
        store.keep(key, Heard((np.clip(wave, -1, 1) * 32767).astype(np.int16), SAMPLE_RATE))
        pieces.append(Piece(key, Joint.END if place == len(waves) - 1 else joint))
    return pieces
