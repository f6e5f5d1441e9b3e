"""
How loud a narration is from its beginning to its end, and a picture of it.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field

from flows.narration.ffmpeg import Samples
from flows.narration.manifest import Record
from flows.narration.speech import SAMPLE_RATE

CONTOURS = ".contours"

STEP = SAMPLE_RATE // 10
"""Samples of each step: a tenth of a second, as loudness is told by EBU R 128."""

WIDTH, HEIGHT = 800, 160
COLUMNS = 400
TOP, FLOOR = 0.0, -60.0
"""LUFS at the upper and the lower edge of the picture."""


@dataclass
class Contour:
    """
    Of each tenth of a second the peak (0 to 32768) and the momentary loudness (LUFS, of 400 ms), and the loudness of all of it.
    """

    peaks: list[int] = field(default_factory=list)
    momentary: list[float] = field(default_factory=list)
    integrated: float | None = None
    """LUFS by ITU-R BS.1770-4, gated; None for what is too short or too quiet to have one."""

    @property
    def peak_dbfs(self) -> float:
        """
        The highest sample, in dBFS.
        """
        return float(20 * np.log10(max([1, *self.peaks]) / 32768))

    def svg(self, *, title: str, target: float | None = None) -> str:
        """
        Draw the waveform, the loudness over it, and the *target* (LUFS) where there is one, as SVG that fits any page.
        """
        wave = "".join(
            f"M{x} {HEIGHT / 2 - reach:.1f}v{2 * reach:.1f}"
            for x, reach in _spread([peak / 32768 * HEIGHT / 2 for peak in self.peaks])
        )
        line = " ".join(f"{x},{_height(level):.1f}" for x, level in _spread(self.momentary))
        wanted = ""
        if target is not None:
            at, said = _height(target), f"{target:g} LUFS"
            wanted = f'<path d="M0 {at:.1f}H{WIDTH}" stroke="#2a9d55" stroke-dasharray="6 4"/>{_text(4, at - 4, said)}'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 24}" width="{WIDTH}" fill="none">'
            f'<rect width="{WIDTH}" height="{HEIGHT + 24}" fill="#fff"/><path d="{wave}" stroke="#8fb3d9" stroke-width="1.6"/>'
            f'<polyline points="{line}" stroke="#c0392b" stroke-width="1.4"/>{wanted}'
            f"{_text(4, HEIGHT + 17, f'{title}: {self.told}')}</svg>"
        )

    @property
    def told(self) -> str:
        """
        Tell length, loudness and peak in a line.
        """
        seconds = len(self.peaks) * STEP / SAMPLE_RATE
        loud = "no loudness" if self.integrated is None else f"{self.integrated:.1f} LUFS"
        return f"{int(seconds) // 60}:{int(seconds) % 60:02}, {loud}, peak {self.peak_dbfs:.1f} dBFS"


class ContourFile(Record):
    """
    `.contours/….json`: how loud a narration is; *narration* is the digest it was made from.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    narration: str
    contour: Contour

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


def contour_path(out: Path, script: str) -> Path:
    """
    Where in *out* it is written how loud the narration of *script* is.
    """
    return out / contour_name(script)


def contour_name(script: str) -> str:
    """
    Where in OUT that is.
    """
    return f"{CONTOURS}/{script.rpartition('.')[0]}.json"


class Peaks:
    """
    Takes samples as they are written, and gives the peak of each step; none of the samples is kept.
    """

    def __init__(self) -> None:
        self.found: list[int] = []
        self._open, self._left = 0, STEP

    def add(self, samples: Samples) -> None:
        """
        Hear some samples more.
        """
        at = 0
        while at < len(samples):
            part = samples[at : at + self._left]
            self._open = max(self._open, int(part.max(initial=0)), -int(part.min(initial=0)))
            self._left -= len(part)
            at += len(part)
            if not self._left:
                self._close()

    def silence(self, samples: int) -> None:
        """
        Hear so many *samples* of nothing.
        """
        while samples:
            part = min(samples, self._left)
            self._left -= part
            samples -= part
            if not self._left:
                self._close()

    def end(self) -> list[int]:
        """
        Tell all peaks.
        """
        if self._left < STEP:
            self._close()
        return self.found

    def _close(self) -> None:
        self.found.append(self._open)
        self._open, self._left = 0, STEP


def _height(level: float) -> float:
    return (TOP - min(TOP, max(FLOOR, level))) / (TOP - FLOOR) * HEIGHT


def _spread(values: Sequence[float]) -> list[tuple[int, float]]:
    """
    Spread *values* over the columns of the picture, the highest of those that share one.
    """
    if not values:
        return []
    edges = np.linspace(0, len(values), min(COLUMNS, len(values)) + 1).astype(int)
    step = WIDTH / (len(edges) - 1)
    return [(round((place + 0.5) * step), max(values[first:last])) for place, (first, last) in enumerate(pairwise(edges))]


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:g}" y="{y:.1f}" font-family="sans-serif" font-size="13" fill="#333">{html.escape(text)}</text>'
