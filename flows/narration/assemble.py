"""
Join takes and pauses into one narration, as a stream.

Samples go through a single encoder from the first to the last, so that an MP3 has no encoder gaps at the joints and no
narration is ever held whole in memory. A narration carries in its tags the digest of what it was made from.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from tinytag import TinyTag, TinyTagException

from flows.narration import ffmpeg
from flows.narration.alignment import Word
from flows.narration.contour import Contour, Peaks
from flows.narration.files import replacing
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore

SCHEMA = 1
"""Raised when the same takes are joined differently: every narration is then made anew, from the takes there are."""

MARK = "Synthetic speech, made with Narrate. narrate:{digest}"
"""The `comment` tag: says to a person what this is, and to us what it was made from."""


class Pauses(BaseModel):
    """
    What lies between segments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pause_breath: float = Field(
        title="Pause for breath (seconds)",
        default=0.0,
        ge=0,
        le=10,
        description="Seconds between the parts of a sentence too long for one segment.",
    )
    pause_sentence: float = Field(
        title="Pause between sentences (seconds)",
        default=0.35,
        ge=0,
        le=10,
        description="Seconds between two segments of one paragraph.",
    )
    pause_paragraph: float = Field(
        title="Pause between paragraphs (seconds)", default=0.7, ge=0, le=10, description="Seconds between paragraphs."
    )
    pause_heading: float = Field(
        title="Pause after a heading (seconds)", default=1.2, ge=0, le=10, description="Seconds after a heading."
    )
    pause_scene_break: float = Field(
        title="Pause at a scene break (seconds)", default=1.8, ge=0, le=10, description="Seconds at a scene break."
    )

    def pause(self, joint: Joint) -> int:
        """
        Length of the pause at *joint*, in samples at `SAMPLE_RATE`; none after the last segment.
        """
        seconds = 0.0 if joint is Joint.END else getattr(self, f"pause_{joint.value}")
        return round(seconds * SAMPLE_RATE)


class _Encoding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["mp3", "wav", "flac", "opus"] = Field(
        default="mp3", description="Format of the narrations, and their suffix."
    )
    bitrate: int = Field(
        title="Bitrate (kbit/s)", default=128, ge=32, le=320, description="Bitrate of mp3 and opus, in kbit/s."
    )


# The base that comes last stands first in the form.
class Sound(Pauses, _Encoding):
    """
    What a narration sounds like as a file.
    """


@dataclass(frozen=True)
class Piece:
    """
    A take and the joint that follows it.
    """

    take: str
    joint: Joint


@dataclass(frozen=True)
class Narration:
    """
    What was made: lengths in samples at `SAMPLE_RATE`, and where each piece's speech begins and ends.

    *words* are those of each piece, in seconds of its take; none where they are not known.
    """

    places: tuple[tuple[int, int], ...]
    samples: int
    words: tuple[Sequence[Word], ...] = ()
    contour: Contour = field(default_factory=Contour, compare=False)

    @property
    def speech_samples(self) -> int:
        """
        Samples that come from takes; the others are pauses.
        """
        return sum(end - start for start, end in self.places)


def narration_digest(pieces: Sequence[Piece], *, sound: Sound, tags: Mapping[str, str]) -> str:
    """
    Digest (SHA-256, hex) of all that a narration is made from.
    """
    recipe = {
        "schema": SCHEMA,
        "pieces": [(piece.take, sound.pause(piece.joint)) for piece in pieces],
        "format": sound.format,
        "bitrate": sound.bitrate,
        "tags": dict(tags),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def assemble(pieces: Sequence[Piece], *, store: TakeStore, sound: Sound, tags: Mapping[str, str], target: Path) -> Narration:
    """
    Make the narration at *target*, which is whole or as before; `TakeDamaged` tells of a take that must be recorded anew.
    """
    mark = MARK.format(digest=narration_digest(pieces, sound=sound, tags=tags))
    places: list[tuple[int, int]] = []
    words: list[Sequence[Word]] = []
    peaks = Peaks()
    at = 0
    with (
        replacing(target) as temporary,
        ffmpeg.encoder(
            temporary,
            format=sound.format,
            sample_rate=SAMPLE_RATE,
            bitrate_kbps=sound.bitrate,
            tags={**tags, "comment": mark},
        ) as encoder,
    ):
        for piece in pieces:
            start = at
            for block in store.read(piece.take):
                encoder.write(block.tobytes())
                peaks.add(block)
                at += len(block)
            places.append((start, at))
            words.append(store.words(piece.take) or ())
            pause = sound.pause(piece.joint)
            encoder.write(bytes(2 * pause))
            peaks.silence(pause)
            at += pause
    contour = Contour(peaks=peaks.end(), momentary=encoder.momentary, integrated=encoder.integrated)
    return Narration(places=tuple(places), samples=at, words=tuple(words), contour=contour)


def read_mark(path: Path) -> str | None:
    """
    Return the digest a narration of ours carries, or `None` for any other file.
    """
    try:
        comment = TinyTag.get(path, duration=False).comment or ""
    except (TinyTagException, OSError):
        return None
    found = re.search(r"narrate:([0-9a-f]{64})", comment)
    return found[1] if found else None
