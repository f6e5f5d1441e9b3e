"""
Master a chapter: from its takes to an MP3 that was measured, and the AAC of the same samples for the M4B.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from flows.narration import ffmpeg
from flows.narration.assemble import MARK, Piece, Sound
from flows.narration.contour import Contour
from flows.narration.errors import MasteringFailed, NarrateError
from flows.narration.ffmpeg import NO_PEAK, Chain, Encoder
from flows.narration.files import file_digest, replacing
from flows.narration.manifest import Record
from flows.narration.mastering.book import Book, Chapter
from flows.narration.mastering.measuring import Levels, measure
from flows.narration.mastering.naming import deliverable_name
from flows.narration.mastering.parts import split
from flows.narration.mastering.profiles import SLACK, LevelProfile
from flows.narration.mastering.reel import Reel, rehearse, survey
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore

SCHEMA: Literal[1] = 1
"""Raised when the same takes are mastered differently: every chapter is then made anew, from the takes there are."""

NEAR = 0.15
"""LU by which a file may differ from the goal without another try: so any two chapters are closer than 0.5."""

INSIDE = 0.3
"""dB that are kept from the edges of a window of RMS."""

BELOW = 0.8
"""dB by which peaks are held below their limit: MP3 and AAC let them rise again."""

TRIES = 6
MOST_GAIN = 60.0


class Part(Record):
    """
    A finished MP3 and its AAC; *digest* is of what they were made from, lengths are in samples at `SAMPLE_RATE`.

    *sound* is the digest of what the audio alone was made from, without tags and cover.

    *levels* were measured of the MP3, and *aac_loudness* (LUFS) and *aac_peak* (dB) of the AAC.

    *places* is where each piece's speech begins and ends in the MP3; *first* and *last* are the pieces that it holds.
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


@dataclass(frozen=True)
class Studio:
    """
    What all chapters of a book share: finished files go to *folder*, AAC and what is known of them to *work*.
    """

    book: Book
    store: TakeStore
    sound: Sound
    profile: LevelProfile
    folder: Path
    work: Path
    stopped: Callable[[], bool] = bool
    """Whether nothing more is to be made."""


def master(chapter: Chapter, studio: Studio) -> Mastered:
    """
    Make the MP3s of *chapter* and their AAC; what is there already, from the same takes and settings, stays.

    The files of before stay where one of them misses the profile: `MasteringFailed` tells by which number. `TakeDamaged` tells
    of a take that must be recorded anew. May run for several chapters at once, in threads.
    """
    if not chapter.pieces:
        raise MasteringFailed(f"The chapter “{chapter.title}” has nothing that is spoken.", "Leave it out of the book.")
    ranges = split(chapter.pieces, store=studio.store, sound=studio.sound, seconds=studio.profile.most_speech)
    parts, unchanged = [], True
    for count, place in enumerate(ranges, start=1):
        made, kept = _part(chapter, studio, place, part=count if len(ranges) > 1 else 0)
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
    sound = sound_digest(pieces, studio=studio)
    digest = part_digest(sound, book=studio.book, tags=tags)
    known = studio.work / f"{sound[:32]}-{digest[:32]}.json"
    named = {"digest": digest, "sound": sound, "title": title, "file": name, "first": place.start, "last": place.stop - 1}
    tags["comment"] = MARK.format(digest=digest)
    return name, known, named, tags


def _part(chapter: Chapter, studio: Studio, place: range, *, part: int) -> tuple[Part, bool]:
    name, known, named, tags = _named(chapter, studio, place, part=part)
    before = Part.read(known)
    if before and before.file == name and _is_whole(before, studio):
        return before, True
    pieces = chapter.pieces[place.start : place.stop]
    made = _retagged(named, studio, tags) or _recorded(pieces, named, studio, tags)
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


def _recorded(pieces: Sequence[Piece], named: dict[str, Any], studio: Studio, tags: dict[str, str]) -> Part:
    reel = Reel.of(pieces, store=studio.store, sound=studio.sound, stopped=studio.stopped)
    stream = f"{named['sound']}.aac"
    with ExitStack() as stack:
        mp3 = stack.enter_context(replacing(studio.folder / named["file"]))
        aac = stack.enter_context(replacing(studio.work / stream))
        made = _made(reel, studio, mp3, aac, tags=tags, name=named["file"])
        return Part(
            **named,
            sha256=file_digest(mp3),
            size=mp3.stat().st_size,
            aac=stream,
            aac_sha256=file_digest(aac),
            frames=count_frames(aac),
            samples=made.reel.samples,
            places=made.reel.places(),
            levels=made.levels,
            aac_loudness=None if made.aac.integrated is None else round(made.aac.integrated, 2),
            aac_peak=round(_peak(made.aac), 2),
            gain=round(made.gain, 3),
            peaks=made.contour.peaks,
            momentary=made.contour.momentary,
        )


@dataclass(frozen=True)
class _Made:
    reel: Reel
    levels: Levels
    contour: Contour
    aac: Encoder
    gain: float


def _made(reel: Reel, studio: Studio, mp3: Path, aac: Path, *, tags: dict[str, str], name: str) -> _Made:
    """
    Encode until the file itself says that it is as it has to be; most are so the first time.
    """
    profile = studio.profile
    try:
        heard = survey(reel, profile=profile)
    except MasteringFailed as error:
        raise MasteringFailed(f"{name}: {error.fact}", error.next_step) from error
    ceiling = profile.highest_peak - BELOW
    gain = _step(profile, loudness=heard.loudness, rms=heard.rms)
    if gain <= MOST_GAIN:
        gain = rehearse(reel, profile=profile, gain=gain, ceiling=ceiling)
    tried: list[tuple[float, float]] = []
    for _ in range(TRIES):
        if gain > MOST_GAIN:
            raise MasteringFailed(f"{name} is too quiet: it would need {gain:.0f} dB.", "Listen to the takes.")
        fitted = heard.fit(reel, gain=gain, profile=profile)
        _encode(fitted, studio, mp3, aac, chain=_chain(profile, gain, ceiling), tags=tags)
        levels, contour = measure(mp3)
        other = ffmpeg.hear(aac, format="aac", peak="sample" if profile.true_peak is None else "true")
        made = _Made(reel=fitted, levels=levels, contour=contour, aac=other, gain=gain)
        over = max(_over(profile, levels), _peak(other) - profile.highest_peak)
        step = 0.0 if levels.loudness is None else _step(profile, loudness=levels.loudness, rms=levels.rms)
        if over <= 0 and abs(step) <= NEAR:
            break
        tried.append((gain, levels.loudness or 0.0))
        if over > 0:
            ceiling -= over + 0.2
        if abs(step) > NEAR:
            gain += step / _slope(tried)
    misses = profile.misses(levels)
    if _peak(other) > profile.highest_peak + SLACK:
        misses.append(f"peak of the AAC {_peak(other):.2f} dB, above {profile.highest_peak:g}")
    if misses:
        raise MasteringFailed(
            f"{name} misses the level profile {profile.name}: {'; '.join(misses)}.",
            "Listen to the takes; choose another level profile, or record the chapter anew.",
        )
    return made


def _chain(profile: LevelProfile, gain: float, ceiling: float) -> Chain:
    return Chain(gain=gain, ceiling=ceiling, high_pass=profile.high_pass, room_tone=profile.room_tone)


def _step(profile: LevelProfile, *, loudness: float, rms: float) -> float:
    """
    How many dB are missing to the goal, as far as the window of RMS allows.
    """
    wanted = profile.loudness - loudness
    if profile.rms_low is not None:
        wanted = max(wanted, profile.rms_low + INSIDE - rms)
    if profile.rms_high is not None:
        wanted = min(wanted, profile.rms_high - INSIDE - rms)
    return wanted


def _over(profile: LevelProfile, levels: Levels) -> float:
    """
    By how many dB peaks exceed their limits.
    """
    pairs = ((levels.peak, profile.peak), (levels.true_peak, profile.true_peak))
    return max((seen - limit for seen, limit in pairs if limit is not None), default=0.0)


def _peak(heard: Encoder) -> float:
    return NO_PEAK if heard.peak is None else heard.peak


def _slope(tried: list[tuple[float, float]]) -> float:
    """
    How many LU a dB of gain brought between the last two tries: less than one where the limiter works.
    """
    if len(tried) < 2:
        return 1.0
    (gain, loudness), (other, before) = tried[-1], tried[-2]
    return min(1.0, max(0.2, (loudness - before) / (gain - other))) if abs(gain - other) > 0.01 else 1.0


def _encode(reel: Reel, studio: Studio, mp3: Path, aac: Path, *, chain: Chain, tags: dict[str, str]) -> None:
    with ffmpeg.masters(
        mp3,
        aac,
        chain=chain,
        sample_rate=SAMPLE_RATE,
        mp3_kbps=studio.profile.mp3_kbps,
        aac_kbps=studio.profile.aac_kbps,
        tags=tags,
        cover=studio.book.cover,
    ) as encoder:
        for _, block in reel.blocks():
            encoder.write(block.tobytes())


def sound_digest(pieces: Sequence[Piece], *, studio: Studio) -> str:
    """
    Digest (SHA-256, hex) of all that the audio of a part is made from.
    """
    pauses = [studio.sound.pause(piece.joint) for piece in pieces[:-1]]
    recipe = {
        "schema": SCHEMA,
        "takes": [piece.take for piece in pieces],
        "pauses": pauses,
        "profile": studio.profile.model_dump(exclude={"name"}),
    }
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
