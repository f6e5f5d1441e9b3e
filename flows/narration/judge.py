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

from flows.narration.errors import NarrateError

Samples = npt.NDArray[np.int16]

SILENT_PEAK = 33
"""Peak (of 32,768) below which a take is silence: -60 dBFS, the noise floor that audiobook shops allow."""

MOST_BYTES_A_SECOND = 1000
"""
UTF-8 bytes that one second can at most hold at speed 1. Speech holds 15 (English) to 45 (Hindi); so a take that is shorter than
this allows is a fragment, whatever the language.
"""

LONGEST_SECONDS = 20.0
MOST_SECONDS_A_BYTE = 1.5
"""A take longer than 20 s and 1.5 s for each byte is no reading of its text: written-out digits take 0.5 s a byte."""


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
    """
    heard = _decoded(wav)
    peak = max(int(heard.samples.max()), -int(heard.samples.min()))
    if peak < SILENT_PEAK:
        raise BadTake(f"The take is silent ({heard.seconds:.1f} s).")
    size = len(text.encode())
    if heard.seconds < size / MOST_BYTES_A_SECOND / speed:
        raise BadTake(f"The take is too short: {heard.seconds:.2f} s for {size} bytes of text.")
    if heard.seconds > (LONGEST_SECONDS + size * MOST_SECONDS_A_BYTE) / speed:
        raise BadTake(f"The take is too long: {heard.seconds:.0f} s for {size} bytes of text.")
    return heard


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
