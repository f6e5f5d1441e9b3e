"""
Bind mastered chapters into one M4B: their AAC as it is, with chapters, cover and tags.

Nothing is encoded, so that after a change in one chapter binding the book again takes seconds. Where everything stands follows
from the frames that were counted, each of `FRAME` samples: no length is ever read from a header or rounded.
"""

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from flows.narration import ffmpeg
from flows.narration.assemble import MARK
from flows.narration.errors import MasteringFailed
from flows.narration.ffmpeg import FRAME
from flows.narration.files import file_digest, replacing, scratch
from flows.narration.manifest import Record
from flows.narration.mastering.book import Book
from flows.narration.mastering.chapter import Mastered, Part
from flows.narration.speech import SAMPLE_RATE

SCHEMA = 1
"""Raised when the same chapters are bound differently."""

BOUND = "bound.json"
"""In the work folder: what is known of the M4B that was bound last."""

_CHUNK = 1_000_000


class Bound(Record):
    """
    An M4B of *size* bytes: *starts* tells for each part of each chapter the sample at which its audio begins.

    A segment that is at a sample of its MP3 is in the M4B at that sample after its part's start. *samples* is how long it is.
    """

    digest: str
    sha256: str
    size: int
    starts: list[list[int]]
    samples: int

    @property
    def seconds(self) -> float:
        """
        Length in seconds.
        """
        return self.samples / SAMPLE_RATE


def bind(chapters: Sequence[Mastered], *, book: Book, work: Path, target: Path) -> Bound:
    """
    Bind *chapters*, whose AAC is in *work*, into the M4B *target*, which is whole or as before.

    One that is there already, made from the same, stays. Raises `MasteringFailed` where AAC is not as it was made.
    """
    if not chapters:
        raise MasteringFailed("There is nothing to bind.", "Master a chapter first.")
    digest = bound_digest(chapters, book=book)
    before = Bound.read(work / BOUND)
    if before and before.digest == digest and target.is_file() and file_digest(target) == before.sha256:
        return before
    starts, marks, samples = _marks(chapters)
    tags = {**book.tags(), "comment": MARK.format(digest=digest)}
    with scratch(work) as folder, replacing(target) as temporary:
        listed = folder / "chapters.txt"
        listed.write_text(ffmpeg.chapter_list(marks, sample_rate=SAMPLE_RATE), encoding="utf-8")
        with ffmpeg.binder(
            temporary,
            chapters=listed,
            sample_rate=SAMPLE_RATE,
            tags=tags,
            language=book.language_code,
            cover=book.cover,
        ) as binder:
            for part in (part for chapter in chapters for part in chapter.parts):
                _pour(part, work, binder)
        size, sha256 = temporary.stat().st_size, file_digest(temporary)
    bound = Bound(digest=digest, sha256=sha256, size=size, starts=starts, samples=samples)
    bound.write(work / BOUND)
    return bound


def _marks(chapters: Sequence[Mastered]) -> tuple[list[list[int]], list[tuple[str, int, int]], int]:
    """
    Where each part begins, the chapters' marks, and how long it all is, in samples of the joined stream.

    A part's audio comes a frame after its stream's beginning, as the encoder needs one to start from.
    """
    starts: list[list[int]] = []
    at = 0
    for chapter in chapters:
        here = []
        for part in chapter.parts:
            here.append(at + FRAME)
            at += part.frames * FRAME
        starts.append(here)
    edges = [0, *(here[0] for here in starts[1:]), at]
    marks = [(chapter.title, *edge) for chapter, edge in zip(chapters, pairwise(edges), strict=True)]
    return starts, marks, at


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
