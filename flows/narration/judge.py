"""
Judge what came back for a text before it counts as a take.

A 200 proves little: proxies answer with HTML, the service was seen to answer with a few hundred bytes of nothing, and a WAV
header of this API carries no length.
"""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile

from flows.narration import pace
from flows.narration.errors import NarrateError
from flows.narration.prose import excerpt

Samples = npt.NDArray[np.int16]

SILENT_PEAK = 33
"""Peak (of 32,768) below which a take is silence: -60 dBFS, the noise floor that audiobook shops allow."""

FULL_SCALE = 32_700
"""Absolute sample value (of 32,768) from which a sample counts as clipped."""

MOST_CLIPPED = 0.1
"""Share of clipped samples above which a take is no speech: limited speech has some in a thousand."""

LOUDEST_NOISE = 0.447
"""RMS (-7 dBFS, as a share of full scale) that no speech reaches, whose peaks stand 8 dB and more above it."""

MOST_CROSSINGS = 0.25
"""Zero crossings for each sample above which a sound is hiss: vowels have 0.02, white noise has 0.5."""

FRAME = 882
"""Samples of the frames (20 ms at 44.1 kHz) that are sounding or not."""

SOUNDING = 0.018
"""A frame sounds if it is no more than 35 dB below the loudest one: pauses and room are quieter, soft consonants are not."""


class BadTake(NarrateError):
    """
    What came back is no sound take of the text; recording it again may help.
    """


@dataclass(frozen=True)
class Heard:
    """
    A sound take: mono 16-bit *samples* at *sample_rate* Hz.
    """

    samples: Samples
    sample_rate: int

    @property
    def seconds(self) -> float:
        """
        Length in seconds.
        """
        return len(self.samples) / self.sample_rate


def judge(wav: bytes, *, text: str, speed: float) -> Heard:
    """
    Return what is heard in *wav* if it can be a reading of *text* at *speed*; raise `BadTake` with what is wrong otherwise.

    How long a text may take is told by `flows.narration.pace`; too short is what sounds of a take, not the silence in it.
    """
    heard = _decoded(wav)
    peak = max(int(heard.samples.max()), -int(heard.samples.min()))
    if peak < SILENT_PEAK:
        raise BadTake(f"The take is silent ({heard.seconds:.1f} s).")
    if _is_noise(heard.samples):
        raise BadTake(f"The take is noise at full scale ({heard.seconds:.1f} s).")
    shortest, longest = pace.bounds(text, speed=speed)
    sounding = _sounding(heard)
    if sounding < shortest:
        raise BadTake(f"The take is too short: {sounding:.2f} s of sound for {excerpt(text)}, {shortest:.2f} s are the least.")
    if heard.seconds > longest:
        raise BadTake(f"The take is too long: {heard.seconds:.0f} s for {excerpt(text)}, {longest:.0f} s are the most.")
    return heard


def _is_noise(samples: Samples) -> bool:
    """
    Tell noise at full scale: most of it clipped, or louder and more hissing than any speech.
    """
    if float((np.abs(samples.astype(np.int32)) >= FULL_SCALE).mean()) > MOST_CLIPPED:
        return True
    wave = samples.astype(np.float32) / 32768
    if float(np.sqrt(np.dot(wave, wave) / len(wave))) < LOUDEST_NOISE:
        return False
    return float((np.signbit(wave[1:]) != np.signbit(wave[:-1])).mean()) > MOST_CROSSINGS


def _sounding(heard: Heard) -> float:
    """
    Seconds of a take in which something sounds.
    """
    frame = max(1, round(FRAME * heard.sample_rate / 44_100))
    whole = heard.samples[: len(heard.samples) // frame * frame].reshape(-1, frame).astype(np.float32)
    if not len(whole):
        return heard.seconds
    levels = np.sqrt(np.einsum("ij,ij->i", whole, whole) / frame)
    return float((levels > levels.max() * SOUNDING).sum()) * frame / heard.sample_rate


def _decoded(wav: bytes) -> Heard:
    """
    Decode by what is there, not by the sizes that the header claims.
    """
    if not wav:
        raise BadTake("The answer is empty.")
    try:
        with soundfile.SoundFile(io.BytesIO(wav)) as audio:
            if audio.format not in ("WAV", "WAVEX"):
                raise BadTake(f"The answer is {audio.format}, not WAV as asked for.")
            samples, sample_rate = audio.read(dtype="int16", always_2d=True), audio.samplerate
    except soundfile.LibsndfileError as error:
        raise BadTake(f"The answer is not audio ({len(wav)} bytes that begin with {wav[:16]!r}).") from error
    if not len(samples):
        raise BadTake("The answer is a WAV without sound.")
    mono: Samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1).astype(np.int16)
    return Heard(samples=mono, sample_rate=sample_rate)
