"""
The neural voice: English speech by hibari-tts, moved towards a reference's pitch, liveliness and formants.

It is a **stand-in and not a clone**: two references are told apart by ear and by measurement, and neither is imitated.
The network of hibari predicts pitch and spectral envelope for every frame, which is where the moving is done.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from flows.sandbox import timbre
from flows.sandbox.encode import Pcm, Wave, decode, resample
from flows.sandbox.errors import Refused
from flows.sandbox.markup import spans
from flows.sandbox.timbre import Timbre

MISSING = "The neural voice needs hibari-tts: pip install 'hibari-tts>=0.2.1', or use the quick voice."
RATE = 24000
LISTENED = 30.0
"""Seconds of a reference that are measured."""
LOUDNESS, PEAK = 0.1, 0.9
"""RMS aimed at (-20 dBFS) and the peak never exceeded, of full scale."""
RIPPLE = 10
"""Bins of 20 Hz on either side that the envelope is smoothed over."""
SENTENCE = "The old man walked slowly down to the harbour, and wondered why nobody had lit the lamps that evening."
"""What the reader says once, to know its own timbre."""


def require() -> None:
    """
    Make sure that the neural voice is installed.

    :raises ModuleNotFoundError: with what to install
    """
    if importlib.util.find_spec("hibari") is None:
        raise ModuleNotFoundError(MISSING)


def digest(samples: Sequence[bytes]) -> str:
    """
    Name *samples* by their content.
    """
    return hashlib.sha256(b"".join(hashlib.sha256(sample).digest() for sample in samples)).hexdigest()[:32]


@lru_cache(maxsize=64)
def _measured(samples: tuple[bytes, ...]) -> Timbre | None:
    heard = [decode(sample, rate=timbre.RATE, seconds=LISTENED) for sample in samples]
    return timbre.measure(np.concatenate(heard)[: int(LISTENED * timbre.RATE)])


class Reader:
    """
    Reads English aloud. Not safe for several threads at once; the model is loaded on first use.
    """

    @cached_property
    def _hibari(self) -> Any:
        try:
            import onnxruntime
            from hibari import Hibari
        except ModuleNotFoundError as error:
            raise Refused(501, MISSING) from error
        onnxruntime.disable_telemetry_events()
        return Hibari(threads=1)

    @cached_property
    def _own(self) -> Timbre:
        said = self._hibari(SENTENCE, seed=0)
        own = timbre.measure(resample(said, RATE, timbre.RATE))
        if own is None:
            raise RuntimeError("the neural voice has no pitch: hibari-tts is not the release it was written for")
        return own

    def speak(self, text: str, samples: Sequence[bytes], *, rate: int, speed: float = 1.0, seed: int = 0) -> Pcm:
        """
        Read *text* in a voice moved towards *samples*; none, or samples without a pitch, leave the reader's own.

        Cues in brackets are not read. The same *seed* gives the same sound, to the bit.
        """
        target = _measured(tuple(samples)) if samples else None
        noise = np.random.default_rng(seed)
        parts = [np.zeros(0, np.float32)]
        for span in spans(text):
            if isinstance(span, float):
                parts.append(np.zeros(int(span * RATE), np.float32))
                continue
            sentences = [self._hibari.ids(phonemes) for phonemes in self._hibari.phonemize(span)]
            parts += [self._say(ids, target, speed, noise) for ids in sentences]
        spoken = np.concatenate(parts)
        if not len(spoken):
            return np.zeros(rate // 5, np.int16)
        return _levelled(resample(spoken, RATE, rate))

    def _say(self, ids: list[int], target: Timbre | None, speed: float, noise: np.random.Generator) -> Wave:
        if len(ids) < 3:
            return np.zeros(0, np.float32)
        from hibari import dsp

        given = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
        harmonics, phase, breath, rest, rest_phase, pitch = (out[0] for out in self._hibari.sess.run(None, given))
        if target:
            pitch = _moved(pitch, self._own, target)
            factor = timbre.stretch(self._own, target)
            harmonics = _smoothed(harmonics)
            harmonics, phase, breath, rest = (_stretched(a, factor) for a in (harmonics, phase, breath, rest))
        said: Wave = dsp.synth(harmonics, phase, breath, rest, rest_phase, pitch, noise)
        return said


def _moved(pitch: Wave, own: Timbre, target: Timbre) -> Wave:
    voiced = pitch > 40
    if not voiced.any():
        return pitch
    middle = np.log(np.median(pitch[voiced]))
    liveliness = np.clip(target.spread / own.spread, 0.7, 1.4)
    melody = (np.log(np.maximum(pitch, 1)) - middle) * liveliness
    moved = np.exp(middle + melody) * (target.pitch / own.pitch)
    return np.where(voiced, moved, 0).astype(np.float32)


def _smoothed(envelope: Any) -> Any:
    """
    Smooth the spectral envelope, bins of 20 Hz by frames, over 400 Hz.

    It carries ripples of the reader's own pitch, which would still be heard an octave above a lower one: at 80 Hz
    asked for, half the frames measured 160 and more without this, one in fifteen with it.
    """
    kernel = np.hanning(2 * RIPPLE + 3)[1:-1]
    padded = np.pad(envelope, ((RIPPLE, RIPPLE), (0, 0)), mode="edge")
    rows = np.lib.stride_tricks.sliding_window_view(padded, 2 * RIPPLE + 1, axis=0)
    return np.asarray(rows @ (kernel / kernel.sum()).astype(np.float32))


def _stretched(bins: Any, factor: float) -> Any:
    place = np.arange(len(bins)) / factor
    below = np.clip(place.astype(int), 0, len(bins) - 2)
    share = np.clip(place - below, 0, 1)[:, None].astype(np.float32)
    return bins[below] * (1 - share) + bins[below + 1] * share


def _levelled(wave: Wave) -> Pcm:
    loudness = float(np.sqrt(np.mean(wave**2))) + 1e-9
    peak = float(np.abs(wave).max()) + 1e-9
    return (wave * (min(LOUDNESS / loudness, PEAK / peak) * 32767)).astype(np.int16)
