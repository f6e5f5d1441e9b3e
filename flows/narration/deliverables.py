"""
What was made of a book, written down: `book.json` lists every file with its digest and levels, and says of every segment where
it stands in the text and in the audio.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from flows.narration.alignment import Word
from flows.narration.binding import Bound
from flows.narration.files import file_digest
from flows.narration.links import Links
from flows.narration.manifest import Record, VoiceEntry
from flows.narration.mastering import LevelProfile, Levels, Mastered
from flows.narration.plan import Planned
from flows.narration.report import counted, escaped, linked
from flows.narration.speech import SAMPLE_RATE

Role = Literal["chapter", "credits", "sample", "audiobook"]


class FileEntry(Record):
    """
    A finished file; *levels* (dB, seconds) were measured on it as it is encoded.
    """

    file: str
    role: Role
    title: str
    sha256: str
    size: int
    seconds: float
    levels: Levels | None = None


class Place(Record):
    """
    A segment: its place in the text, its take, and its seconds in its file and in the audiobook.

    *block* is the number of its block in the chapter, *first* and *last* the slice of that block's text. Where the book is
    markup, *href* is the document and *start_node*, *end_node* are text node and offset there, `None` for what was made.
    *words* are in the file's seconds, where they are known.
    """

    text: str
    take: str
    joint: str
    block: int
    first: int
    last: int
    line: int
    file: str
    start: float
    end: float
    m4b_start: float
    m4b_end: float
    href: str | None = None
    start_node: tuple[int, int] | None = None
    end_node: tuple[int, int] | None = None
    words: list[Word] = Field(default_factory=list)


class ChapterEntry(Record):
    """
    A chapter, or credits, which have no *number*; *text* is the digest (SHA-256, hex) of what is spoken.
    """

    name: str
    title: str
    number: int | None
    source: str
    text: str
    start: float
    seconds: float
    usd: float
    files: list[str]
    segments: list[Place]


class BookFile(Record):
    """
    `book.json`. Money is what speaking all of it once costs, in USD; paths are relative to the folder.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    source: str
    digest: str
    title: str
    authors: list[str]
    narrator: str
    language: str
    publisher: str
    date: str
    identifier: str
    synthetic_speech: bool = True
    profile: dict[str, Any]
    voice: VoiceEntry
    model: str
    usd: float
    seconds: float
    files: list[FileEntry]
    chapters: list[ChapterEntry]
    left_out: list[dict[str, str]]

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


def files_of(mastered: Mastered, role: Role) -> list[FileEntry]:
    """
    The files of one chapter.
    """
    return [
        FileEntry(
            file=part.file,
            role=role,
            title=part.title,
            sha256=part.sha256,
            size=part.size,
            seconds=round(part.seconds, 3),
            levels=part.levels,
        )
        for part in mastered.parts
    ]


def audiobook_of(target: Path, bound: Bound, *, title: str) -> FileEntry:
    """
    The bound book as a file.
    """
    return FileEntry(
        file=target.name, role="audiobook", title=title, sha256=bound.sha256, size=bound.size, seconds=round(bound.seconds, 3)
    )


def places_of(plan: Planned, mastered: Mastered, starts: Sequence[int], origins: Sequence[Any]) -> list[Place]:
    """
    Where each segment of a chapter stands; *starts* are the samples at which its files begin in the audiobook.
    """
    places: list[Place] = []
    segments = plan.reading.segments
    for part, begin in zip(mastered.parts, starts, strict=True):
        words = part.words or [[] for _ in part.places]
        for at, ((start, end), said) in enumerate(zip(part.places, words, strict=True), start=part.first):
            segment = segments[at]
            origin = origins[segment.block] if origins else None
            places.append(
                Place(
                    text=segment.text,
                    take=plan.pieces[at].take,
                    joint=segment.joint.value,
                    block=segment.block,
                    first=segment.first,
                    last=segment.last,
                    line=segment.line,
                    file=part.file,
                    start=_seconds(start),
                    end=_seconds(end),
                    m4b_start=_seconds(begin + start),
                    m4b_end=_seconds(begin + end),
                    href=origin.href if origin else None,
                    start_node=origin.locate(segment.first) if origin else None,
                    end_node=origin.locate(segment.last - 1) if origin else None,
                    words=said,
                )
            )
    return places


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 4)


def take_away(folder: Path, before: BookFile | None, after: BookFile) -> None:
    """
    Remove the files that the book had before and has no more, unless somebody changed them.
    """
    kept = {one.file for one in after.files}
    for one in before.files if before else ():
        path = folder / one.file
        if one.file not in kept and path.is_file() and file_digest(path) == one.sha256:
            path.unlink()


def levels_table(entries: Sequence[FileEntry], profile: LevelProfile) -> str:
    """
    Show as Markdown what was measured on each file beside what the profile asks for.
    """
    lines = [
        f"Measured on the files as encoded, against the level profile **{escaped(profile.name)}**.",
        "",
        "| file | minutes | loudness, LUFS | RMS, dBFS | peak, dBFS | true peak, dBTP | floor, dBFS | head, s | tail, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in entries:
        levels = one.levels
        if levels is None:
            continue
        loud = "" if levels.loudness is None else f"{levels.loudness:.1f}"
        lines.append(
            f"| {escaped(one.file)} | {levels.seconds / 60:.2f} | {loud} | {levels.rms:.1f} | {levels.peak:.1f} "
            f"| {levels.true_peak:.1f} | {levels.noise_floor:.1f} | {levels.head:.2f} | {levels.tail:.2f} |"
        )
    return "\n".join(lines) + "\n"


def deliverables_table(written: BookFile, folder: Path, links: Links | None = None) -> str:
    """
    Show as Markdown what there is to listen to, and where.
    """
    lines = [
        f"**{escaped(written.title)}**: {written.seconds / 3600:.2f} hours, "
        f"{counted(sum(one.number is not None for one in written.chapters), 'chapter')}. "
        f"In {escaped(str(folder.resolve()))}.",
        "",
        "| file | what | minutes | MB |",
        "|---|---|--:|--:|",
    ]
    shown = {one.file: linked(one.file, links.to(folder / one.file) if links else None) for one in written.files}
    lines += [f"| {shown[one.file]} | {one.role} | {one.seconds / 60:.1f} | {one.size / 1e6:.1f} |" for one in written.files]
    return "\n".join(lines) + "\n"
