"""
What can be measured of a speaker without a model: pitch, liveliness, and the shape of the spectrum.
"""

from dataclasses import dataclass

import numpy as np

from flows.sandbox.encode import Wave

RATE = 16000
"""Everything here is measured at this rate."""
WINDOW, HOP = 1024, 320
LOWEST, HIGHEST = 60, 420
"""Hz searched for pitch; wider than what is believed, so that the edges are no attraction."""
BELIEVED = (70.0, 260.0)
"""Hz: estimates outside are octave errors more often than not."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Timbre:
    """
    A speaker: median pitch in Hz, standard deviation of its logarithm, smoothed spectrum in dB by 31.25 Hz.
    """

    pitch: float
    spread: float
    spectrum: Array


def measure(wave: Wave) -> Timbre | None:
    """
    Measure the speaker of *wave*, which is at 16 kHz; None when nothing in it has a pitch.
    """
    if len(wave) < RATE // 2:
        return None
    track = pitches(wave)
    voiced = track[track > 0]
    if len(voiced) < 10:
        return None
    middle = np.median(voiced)
    melody = np.log(voiced / middle)
    # Octave errors would count as liveliness: half an octave either way is melody, more is not.
    spread = float(np.std(melody[np.abs(melody) < 0.35]))
    return Timbre(float(np.clip(middle, *BELIEVED)), spread, _spectrum(wave))


def pitches(wave: Wave) -> Array:
    """
    Track the pitch of *wave* in Hz every 20 ms, by autocorrelation; 0 where there is none.
    """
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, WINDOW), WINDOW)[::HOP] * np.hanning(WINDOW)
    energy = (frames**2).mean(axis=1)
    likeness = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * WINDOW)) ** 2)[:, :WINDOW]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(WINDOW), 2 * WINDOW)) ** 2)[:WINDOW]
    likeness = likeness / (likeness[:, :1] + 1e-12) / (window / window[0] + 1e-6)
    shortest, longest = RATE // HIGHEST, RATE // LOWEST
    searched = likeness[:, shortest:longest]
    best = searched.max(axis=1)
    middle = searched[:, 1:-1]
    # The first peak nearly as high as the best one: a later one is an octave too low.
    peaks = (middle > searched[:, :-2]) & (middle >= searched[:, 2:]) & (middle > 0.85 * best[:, None])
    lag = np.where(peaks.any(axis=1), peaks.argmax(axis=1) + 1, searched.argmax(axis=1))
    return np.where((best > 0.6) & (energy > np.percentile(energy, 40)), RATE / (shortest + lag), 0.0)


def _spectrum(wave: Wave) -> Array:
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(frames)) ** 2
    energy = power.sum(axis=1)
    level = 10 * np.log10(power[energy >= np.percentile(energy, 50)].mean(axis=0) + 1e-12)
    kernel = np.hanning(15)
    return np.convolve(level, kernel / kernel.sum(), "same")


def stretch(source: Timbre, target: Timbre) -> float:
    """
    Tell by which factor to stretch the formants of *source* so that they fall on those of *target*, 0.85 to 1.18.

    The tilt between the two is taken out first: it belongs to the microphone, not to the speaker.
    """
    hertz = np.arange(len(source.spectrum)) * RATE / 512
    heard = (hertz > 300) & (hertz < 5000)
    factors = np.arange(0.85, 1.185, 0.01)

    def distance(factor: float) -> float:
        difference = np.interp(hertz / factor, hertz, source.spectrum)[heard] - target.spectrum[heard]
        tilt = np.polyval(np.polyfit(hertz[heard], difference, 1), hertz[heard])
        return float(((difference - tilt) ** 2).mean())

    return float(min(factors, key=distance))
