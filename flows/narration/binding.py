"""
Bind mastered chapters into one M4B: their AAC as it is, with chapters, cover and tags.

Nothing is encoded, so that after a change in one chapter binding the book again takes seconds. Where everything stands follows
from the frames that were counted, each of `FRAME` samples: no length is ever read from a header or rounded.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.narration import ffmpeg
from flows.narration.assemble import MARK, read_mark
from flows.narration.errors import MasteringFailed
from flows.narration.ffmpeg import FRAME
from flows.narration.files import replacing, scratch
from flows.narration.mastering.book import Book
from flows.narration.mastering.chapter import Mastered, Part, file_digest
from flows.narration.speech import SAMPLE_RATE

SCHEMA = 1
"""Raised when the same chapters are bound differently."""

_CHUNK = 1_000_000


@dataclass(frozen=True)
class Bound:
    """
    An M4B: *starts* tells for each part of each chapter the sample at which its audio begins, *samples* how long it all is.

    A segment that is at a sample of its MP3 is in the M4B at that sample after its part's start.
    """

    starts: tuple[tuple[int, ...], ...]
    samples: int
    unchanged: bool

    @property
    def seconds(self) -> float:
        """
        Length in seconds.
        """
        return self.samples / SAMPLE_RATE


def bind(chapters: Sequence[Mastered], *, book: Book, work: Path, target: Path) -> Bound:
    """
    Bind *chapters*, whose AAC is in *work*, into the M4B *target*, which is whole or as before.

    Raises `MasteringFailed` where the AAC of a chapter is not as it was made.
    """
    starts, marks, samples = _marks(chapters)
    digest = bound_digest(chapters, book=book)
    if read_mark(target) == digest:
        return Bound(starts=starts, samples=samples, unchanged=True)
    tags = {**book.tags(), "comment": MARK.format(digest=digest)}
    with scratch(target.parent) as folder, replacing(target) as temporary:
        listed = folder / "chapters.txt"
        listed.write_text(ffmpeg.chapter_list(marks, sample_rate=SAMPLE_RATE), encoding="utf-8")
        with ffmpeg.binder(
            temporary, chapters=listed, sample_rate=SAMPLE_RATE, tags=tags, language=book.language_code, cover=book.cover
        ) as binder:
            for part in (part for chapter in chapters for part in chapter.parts):
                _pour(part, work, binder)
    return Bound(starts=starts, samples=samples, unchanged=False)


def _marks(
    chapters: Sequence[Mastered],
) -> tuple[tuple[tuple[int, ...], ...], list[tuple[str, int, int]], int]:
    """
    Where each part begins, the chapters' marks, and how long it all is, in samples of the joined stream.

    A part's audio comes a frame after its stream's beginning, as the encoder needs one to start from.
    """
    starts, begins, at = [], [], 0
    for chapter in chapters:
        here = []
        for part in chapter.parts:
            here.append(at + FRAME)
            at += part.frames * FRAME
        starts.append(tuple(here))
        begins.append(here[0])
    edges = [0, *begins[1:], at]
    marks = [(chapter.title, edges[place], edges[place + 1]) for place, chapter in enumerate(chapters)]
    return tuple(starts), marks, at


def _pour(part: Part, work: Path, binder: ffmpeg.Encoder) -> None:
    digest = hashlib.sha256()
    with (work / part.aac).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            binder.write(chunk)
    if digest.hexdigest() != part.aac_sha256:
        raise MasteringFailed(f"The AAC of “{part.title}” is not as it was made.", "Run again: it is then mastered anew.")


def bound_digest(chapters: Sequence[Mastered], *, book: Book) -> str:
    """
    Digest (SHA-256, hex) of all that an M4B is made from.
    """
    recipe = {
        "schema": SCHEMA,
        "chapters": [(chapter.title, [part.aac_sha256 for part in chapter.parts]) for chapter in chapters],
        "tags": book.tags(),
        "language": book.language_code,
        "cover": file_digest(book.cover) if book.cover else None,
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
