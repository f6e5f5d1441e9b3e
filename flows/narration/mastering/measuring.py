"""
Measure a finished MP3: what is told of it comes from its frames and from a decode of it, never from what was meant.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from flows.narration import ffmpeg
from flows.narration.contour import Contour, Peaks
from flows.narration.errors import MasteringFailed
from flows.narration.manifest import Record

SOUND = -50.0
"""dBFS (RMS of 10 ms) above which there is a word, or a breath; room tone lies far below."""

FLOOR_SECONDS = 0.5
STEP_SECONDS = 0.01
_BLOCK_SECONDS = 10
_CHUNK = 1_000_000
_NOTHING = 1e-6  # full scale is 1: -120 dB

_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_RATES = (44_100, 48_000, 32_000)


class Levels(Record):
    """
    What was measured: levels in dB, lengths in seconds; *kbps* only where it is the same from the first frame to the last.
    """

    loudness: float | None
    rms: float
    peak: float
    true_peak: float
    noise_floor: float
    seconds: float
    head: float
    tail: float
    sample_rate: int
    channels: int
    kbps: int | None
    kbps_seen: list[int]

    @property
    def told_rate(self) -> str:
        """
        Tell the bit rate, or between which it varies.
        """
        return f"{self.kbps} kbit/s" if self.kbps else f"from {min(self.kbps_seen)} to {max(self.kbps_seen)} kbit/s"

    @property
    def told(self) -> str:
        """
        Tell the levels in a line.
        """
        loud = "no loudness" if self.loudness is None else f"{self.loudness:.1f} LUFS"
        return f"{loud}, RMS {self.rms:.1f} dBFS, peak {self.peak:.1f} dBFS, floor {self.noise_floor:.1f} dBFS"


@dataclass
class Envelope:
    """
    Takes samples (-1 to 1) as they come and keeps the mean square of each *step* seconds, and of all of them.
    """

    sample_rate: int
    step: float = STEP_SECONDS
    steps: list[npt.NDArray[np.float64]] = field(default_factory=list)
    samples: int = 0
    energy: float = 0.0
    _left: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """
        Hear some samples more.
        """
        self.samples += len(samples)
        size = round(self.step * self.sample_rate)
        together = np.concatenate((self._left, samples)) if len(self._left) else samples
        whole = len(together) // size * size
        rows = together[:whole].reshape(-1, size)
        # einsum adds in the type of what it is given: a step is short enough for that, a file is not.
        squares = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
        self.energy += float(squares.sum())
        self.steps.append(squares / size)
        self._left = together[whole:].copy()

    def end(self) -> npt.NDArray[np.float64]:
        """
        Tell the mean square of every whole step.
        """
        self.energy += float(np.dot(self._left, self._left))
        self._left = self._left[:0]
        return np.concatenate(self.steps) if self.steps else np.zeros(0)

    @property
    def rms(self) -> float:
        """
        RMS of all that was heard, in dBFS.
        """
        return decibel(np.sqrt(self.energy / max(1, self.samples)))


def decibel(amplitude: float | np.floating) -> float:
    """
    Return an amplitude (full scale is 1) in dBFS.
    """
    return float(20 * np.log10(max(float(amplitude), _NOTHING)))


def mean_level(levels: Sequence[float], shares: Sequence[int]) -> float:
    """
    Return the level (dB) of what is put together from shares (samples) of these levels.
    """
    energy = sum(share * 10 ** (level / 10) for level, share in zip(levels, shares, strict=True))
    return 10 * math.log10(energy / sum(shares))


def edges(squares: npt.NDArray[np.float64], *, above: float = SOUND) -> tuple[int, int] | None:
    """
    Count the steps before the first and after the last that is louder than *above* (dBFS); None where there is none.
    """
    loud = np.flatnonzero(squares > 10 ** (above / 10))
    return (int(loud[0]), len(squares) - 1 - int(loud[-1])) if len(loud) else None


def measure(path: Path) -> tuple[Levels, Contour]:
    """
    Measure the MP3 at *path*, and tell how loud it is from its beginning to its end. Raises `MasteringFailed`.
    """
    seen = bit_rates(path)
    heard = ffmpeg.hear(path, format="mp3")
    peaks, highest = Peaks(), 0.0
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels = file.samplerate, file.channels
            envelope = Envelope(rate)
            for block in file.blocks(_BLOCK_SECONDS * rate, dtype="float32", always_2d=True):
                mono = np.ascontiguousarray(block[:, 0])
                envelope.add(mono)
                highest = max(highest, float(mono.max(initial=0)), -float(mono.min(initial=0)))
                peaks.add(np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16))
    except soundfile.LibsndfileError as error:
        raise MasteringFailed(f"{path.name} cannot be decoded ({error}).", "Run again.") from error
    squares = envelope.end()
    seconds = envelope.samples / rate
    head, tail = edges(squares) or (len(squares), len(squares))
    rest = seconds - len(squares) * envelope.step
    levels = Levels(
        loudness=_rounded(heard.integrated),
        rms=round(envelope.rms, 2),
        peak=round(decibel(highest), 2),
        true_peak=round(heard.peak if heard.peak is not None else decibel(highest), 2),
        noise_floor=round(_floor(squares), 2),
        seconds=round(seconds, 3),
        head=round(head * envelope.step, 2),
        tail=round(tail * envelope.step + rest, 2),
        sample_rate=rate,
        channels=channels,
        kbps=seen[0] if len(seen) == 1 else None,
        kbps_seen=seen,
    )
    return levels, Contour(peaks=peaks.end(), momentary=heard.momentary, integrated=heard.integrated)


def _floor(squares: npt.NDArray[np.float64]) -> float:
    """
    RMS (dBFS) of the quietest half second, looked for at every step.
    """
    wide = min(len(squares), round(FLOOR_SECONDS / STEP_SECONDS))
    sums = np.concatenate(([0.0], np.cumsum(squares)))
    return decibel(np.sqrt(max(0.0, float((sums[wide:] - sums[:-wide]).min()) / wide))) if wide else decibel(0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def bit_rates(path: Path) -> list[int]:
    """
    Walk over all frames of an MP3 (MPEG-1 layer III) and tell the bit rates (kbit/s) that occur; 0 for what is no frame.
    """
    sizes: dict[int, int] = {}
    with path.open("rb") as file:
        file.seek(ffmpeg.id3_bytes(file.read(10)))
        left = b""
        while more := file.read(_CHUNK):
            data = left + more
            at, end = 0, len(data) - 4
            while at < end:
                key = data[at + 2]
                if data[at] != 0xFF or data[at + 1] & 0xFE != 0xFA or not (size := sizes.get(key) or _frame_bytes(key)):
                    return [0, *sorted({_KBPS[key >> 4] for key in sizes})]
                sizes[key] = size
                at += size
            # A frame may reach beyond what was read.
            file.seek(max(0, at - len(data)), 1)
            left = data[at:]
    return sorted({_KBPS[key >> 4] for key in sizes})


def _frame_bytes(key: int) -> int:
    """
    Bytes of a frame with the third header byte *key*; 0 where there is no such frame.
    """
    bits, rate = key >> 4, key >> 2 & 3
    return 144_000 * _KBPS[bits] // _RATES[rate] + (key >> 1 & 1) if 0 < bits < 15 and rate < 3 else 0


def samples_of(block: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """
    Return 16-bit samples as numbers from -1 to 1.
    """
    return block.astype(np.float32) / np.float32(32768)
