"""
Master a chapter: from its takes to an MP3 that was measured, and the AAC of the same samples for the M4B.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from flows.narration import ffmpeg
from flows.narration.alignment import Word
from flows.narration.assemble import MARK, Piece
from flows.narration.contour import Contour
from flows.narration.errors import MasteringFailed, NarrateError
from flows.narration.files import file_digest, replacing
from flows.narration.manifest import Record
from flows.narration.mastering.book import Book, Chapter
from flows.narration.mastering.leveling import find_gain, level
from flows.narration.mastering.measuring import Levels
from flows.narration.mastering.naming import deliverable_name
from flows.narration.mastering.parts import split
from flows.narration.mastering.reel import Reel
from flows.narration.mastering.studio import Studio
from flows.narration.speech import SAMPLE_RATE

SCHEMA: Literal[1] = 1
"""Raised when the same takes are mastered differently: every chapter is then made anew, from the takes there are."""


class Part(Record):
    """
    A finished MP3 and its AAC; *digest* is of what they were made from, lengths are in samples at `SAMPLE_RATE`.

    *sound* is the digest of what the audio alone was made from, without tags and cover.

    *levels* were measured of the MP3, and *aac_loudness* (LUFS) and *aac_peak* (dB) of the AAC.

    *places* is where each piece's speech begins and ends in the MP3, *words* (seconds) where its words are heard, where that is
    known; *first* and *last* are the pieces that it holds.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    digest: str
    sound: str
    title: str
    file: str
    sha256: str
    size: int
    aac: str
    aac_sha256: str
    frames: int
    samples: int
    first: int
    last: int
    places: list[tuple[int, int]]
    words: list[list[Word]] = Field(default_factory=list)
    levels: Levels
    aac_loudness: float | None
    aac_peak: float
    gain: float
    peaks: list[int]
    momentary: list[float]

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    @property
    def seconds(self) -> float:
        """
        Length in seconds.
        """
        return self.samples / SAMPLE_RATE

    @property
    def contour(self) -> Contour:
        """
        How loud the MP3 is from its beginning to its end.
        """
        return Contour(peaks=self.peaks, momentary=self.momentary, integrated=self.levels.loudness)


@dataclass(frozen=True)
class Mastered:
    """
    A chapter's finished parts, one unless it had to be split; *unchanged* where nothing had to be made.
    """

    title: str
    number: int | None
    parts: tuple[Part, ...]
    unchanged: bool


def master(chapter: Chapter, studio: Studio) -> Mastered:
    """
    Make the MP3s of *chapter* and their AAC; what is there already, from the same takes and settings, stays.

    The files of before stay where one of them misses the profile: `MasteringFailed` tells by which number. `TakeDamaged` tells
    of a take that must be recorded anew. May run for several chapters at once, in threads.
    """
    if not chapter.pieces:
        raise MasteringFailed(f"The chapter “{chapter.title}” has nothing that is spoken.", "Leave it out of the book.")
    ranges = split(chapter.pieces, store=studio.store, sound=studio.sound, seconds=studio.profile.most_speech)
    one_gain = functools.cache(lambda: find_gain(chapter, studio, ranges))
    parts, unchanged = [], True
    for count, place in enumerate(ranges, start=1):
        made, kept = _part(chapter, studio, place, part=count if len(ranges) > 1 else 0, one_gain=one_gain)
        parts.append(made)
        unchanged = unchanged and kept
    return Mastered(title=chapter.title, number=chapter.number, parts=tuple(parts), unchanged=unchanged)


def standing(chapter: Chapter, studio: Studio) -> Mastered | None:
    """
    Return *chapter* as it is there already, made from the same takes and settings; `None` where anything is to be made.

    The takes themselves may be gone, but for those of a chapter that had to be split.
    """
    ranges = [range(len(chapter.pieces))]
    if _standing(chapter, studio, ranges[0], part=0) is None:
        try:
            ranges = split(chapter.pieces, store=studio.store, sound=studio.sound, seconds=studio.profile.most_speech)
        except (NarrateError, OSError):
            return None
    parts = []
    for count, place in enumerate(ranges, start=1):
        part = _standing(chapter, studio, place, part=count if len(ranges) > 1 else 0)
        if part is None:
            return None
        parts.append(part)
    return Mastered(title=chapter.title, number=chapter.number, parts=tuple(parts), unchanged=True)


def _standing(chapter: Chapter, studio: Studio, place: range, *, part: int) -> Part | None:
    name, known, _, _ = _named(chapter, studio, place, part=part)
    before = Part.read(known)
    return before if before and before.file == name and _is_whole(before, studio) else None


def _named(chapter: Chapter, studio: Studio, place: range, *, part: int) -> tuple[str, Path, dict[str, Any], dict[str, str]]:
    """
    Return a part's file name, where it is written down, what is known of it beforehand, and its tags.
    """
    title = f"{chapter.title} (part {part})" if part else chapter.title
    name = deliverable_name(chapter.title, suffix=".mp3", number=chapter.number, count=studio.book.chapters, part=part)
    if part and chapter.number is None:
        name = deliverable_name(title, suffix=".mp3")
    pieces = chapter.pieces[place.start : place.stop]
    tags = studio.book.chapter_tags(title, chapter.number)
    sound = sound_digest(pieces, studio=studio, whole=chapter.pieces if part else ())
    digest = part_digest(sound, book=studio.book, tags=tags)
    known = studio.work / f"{sound[:32]}-{digest[:32]}.json"
    named = {"digest": digest, "sound": sound, "title": title, "file": name, "first": place.start, "last": place.stop - 1}
    tags["comment"] = MARK.format(digest=digest)
    return name, known, named, tags


def _part(chapter: Chapter, studio: Studio, place: range, *, part: int, one_gain: Callable[[], float]) -> tuple[Part, bool]:
    name, known, named, tags = _named(chapter, studio, place, part=part)
    before = Part.read(known)
    if before and before.file == name and _is_whole(before, studio):
        return before, True
    pieces = chapter.pieces[place.start : place.stop]
    made = _retagged(named, studio, tags) or _encoded(pieces, named, studio, tags, one_gain=one_gain if part else None)
    made.write(known)
    return made, False


def _retagged(named: dict[str, Any], studio: Studio, tags: dict[str, str]) -> Part | None:
    """
    Make a part from one that sounds the same and has other tags or another name, where there is one.
    """
    for path in sorted(studio.work.glob(f"{named['sound'][:32]}-*.json")):
        other = Part.read(path)
        if other and _is_whole(other, studio):
            with replacing(studio.folder / named["file"]) as mp3:
                ffmpeg.retag(studio.folder / other.file, mp3, tags=tags, cover=studio.book.cover)
                file = {"sha256": file_digest(mp3), "size": mp3.stat().st_size}
            return other.model_copy(update=named | file)
    return None


def _encoded(
    pieces: Sequence[Piece],
    named: dict[str, Any],
    studio: Studio,
    tags: dict[str, str],
    *,
    one_gain: Callable[[], float] | None,
) -> Part:
    reel = Reel.of(pieces, store=studio.store, sound=studio.sound, stopped=studio.stopped)
    stream = f"{named['sound']}.aac"
    with ExitStack() as stack:
        mp3 = stack.enter_context(replacing(studio.folder / named["file"]))
        aac = stack.enter_context(replacing(studio.work / stream))
        made = level(reel, studio, mp3, aac, tags=tags, name=named["file"], one_gain=one_gain)
        return Part(
            **named,
            sha256=file_digest(mp3),
            size=mp3.stat().st_size,
            aac=stream,
            aac_sha256=file_digest(aac),
            frames=count_frames(aac),
            samples=made.reel.samples,
            places=made.reel.places(),
            words=made.reel.words(),
            levels=made.levels,
            aac_loudness=None if made.aac.integrated is None else round(made.aac.integrated, 2),
            aac_peak=round(made.aac_peak, 2),
            gain=round(made.gain, 3),
            peaks=made.contour.peaks,
            momentary=made.contour.momentary,
        )


def sound_digest(pieces: Sequence[Piece], *, studio: Studio, whole: Sequence[Piece] = ()) -> str:
    """
    Digest (SHA-256, hex) of all that the audio of a part is made from; its gain comes from the *whole* chapter, where that was
    split.
    """
    pauses = [studio.sound.pause(piece.joint) for piece in pieces[:-1]]
    recipe = {
        "schema": SCHEMA,
        "takes": [piece.take for piece in pieces],
        "pauses": pauses,
        "profile": studio.profile.model_dump(exclude={"name"}),
    }
    if whole:
        recipe["whole"] = [piece.take for piece in whole]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def part_digest(sound: str, *, book: Book, tags: dict[str, str]) -> str:
    """
    Digest (SHA-256, hex) of all that a part is made from.
    """
    recipe = {"sound": sound, "tags": tags, "cover": file_digest(book.cover) if book.cover else None}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def tidy(work: Path, parts: Iterable[Part]) -> None:
    """
    Remove from *work* what belongs to none of *parts*.
    """
    kept = {name for part in parts for name in (part.aac, f"{part.sound[:32]}-{part.digest[:32]}.json")}
    for path in (*work.glob("*.aac"), *work.glob("*-*.json")):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _is_whole(part: Part, studio: Studio) -> bool:
    """
    Say whether both files of *part* are there as they were made.
    """
    try:
        return part.sha256 == file_digest(studio.folder / part.file) and part.aac_sha256 == file_digest(studio.work / part.aac)
    except OSError:
        return False


def count_frames(path: Path) -> int:
    """
    Count the frames of an ADTS stream of ours, by their headers. Raises `MasteringFailed` for one that breaks off.
    """
    frames = 0
    with path.open("rb") as file:
        while header := file.read(7):
            size = ((header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5) if len(header) == 7 else 0
            if header[0] != 0xFF or size < 7 or len(file.read(size - 7)) != size - 7:
                raise MasteringFailed(f"{path.name} breaks off after {frames} frames.", "Run again.")
            frames += 1
    return frames
