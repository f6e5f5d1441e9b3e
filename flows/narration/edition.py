"""
An edition of a book: what of it is spoken, what is said before and after it, how loud it is to be, and where it goes.

A plan decides (`book.toml`), which stands beside the book.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.narration import books, cost, ours, readalong
from flows.narration.assemble import read_mark
from flows.narration.books import BookPlan, Origin
from flows.narration.brought import PLAN, books_beside
from flows.narration.catalogue import books_among, refuse_left_out
from flows.narration.deliverables import BookFile
from flows.narration.errors import UsageError
from flows.narration.manifest import BOOK
from flows.narration.mastering import (
    LevelProfile,
    deliverable_name,
    plain_name,
)
from flows.narration.order import Order
from flows.narration.plan import Reading, Survey, Text
from flows.narration.prose import Prose, plain
from flows.narration.report import counted, escaped
from flows.narration.scripts import LeftOut, Script
from flows.narration.segments import Cutting, cut
from flows.narration.unchanged import Memory

PROFILE = "acx"
"""The level profile of a book that says none."""

OPENING, CLOSING, SAMPLE = "Opening credits", "Closing credits", "Sample"


@dataclass(frozen=True)
class Spoken:
    """
    What becomes a file of its own: a chapter, or credits, which have neither *number* nor *source*.
    """

    name: str
    title: str
    number: int | None
    prose: Prose
    source: str = ""
    origins: tuple[Origin | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BookOrder(Order):
    """
    What a run over a book was asked to make; *source* is the book's path, *out* the folder of its own.
    """

    source: Path
    book: books.Book
    plan: BookPlan
    profile: LevelProfile
    spoken: tuple[Spoken, ...]

    def outline(self) -> tuple[str, str]:
        """
        Tell as Markdown what is spoken of the book and what is left out, and in a sentence how much it is.
        """
        readings = self.survey.readings
        minutes = sum(cost.hours(reading.size, speed=self.delivery.speed) for reading in readings) * 60
        told = f"{counted(len(self.book.chapters), 'chapter')}, about {minutes:.0f} minutes"
        lines = [f"**{escaped(self.book.title)}**: {told}.", "", "| chapter | minutes | bytes |", "|---|--:|--:|"]
        for reading in readings:
            about = cost.hours(reading.size, speed=self.delivery.speed) * 60
            lines.append(f"| {escaped(reading.title)} | {about:.1f} | {reading.size} |")
        for title, rows in (
            ("Left out", [f"{left.name}: {left.reason}" for left in self.survey.left_out]),
            ("Warnings", list(self.book.warnings)),
        ):
            if rows:
                lines += ["", f"## {title}", "", *(f"* {escaped(row)}" for row in rows)]
        return "\n".join(lines) + "\n", told


def read(source: Path, plan: BookPlan, *, encoding: str | None, cutting: Cutting) -> tuple[books.Book, Cutting]:
    """
    Read a book, and take its language for the cutting where none was asked for.
    """
    book = books.read_book(source, plan, encoding=encoding)
    known = book.language.replace("_", "-")
    try:
        return book, cutting if cutting.language != Cutting().language or not known else Cutting(
            **{**cutting.model_dump(include=set(Cutting.model_fields)), "language": known}
        )
    except ValueError:  # a book may call its language what it likes
        return book, cutting


def plan_name(source: Path, *, others: Collection[str]) -> str:
    """
    Say what a book's plan is called: `book.toml`, or named after it where there are *others* in its folder.
    """
    return source.with_suffix(".toml").name if others and not source.is_dir() else PLAN


def plan_beside(source: Path) -> BookPlan:
    """
    Read the plan beside a book; an empty one where there is none.
    """
    own = source.with_suffix(".toml")
    if source.is_dir() or not own.is_file():
        own = (source if source.is_dir() else source.parent) / plan_name(source, others=books_beside(str(source)))
    return books.read_plan(own) if own.is_file() else BookPlan()


def books_in(path: Path) -> list[Path]:
    """
    Return the books that *path* stands for: those in a folder of books, in natural order, or itself.
    """
    if not path.is_dir():
        return [path]
    inside = {one.name: one for one in path.iterdir()}
    books = [path / name for name in books_among(inside)]
    if books:
        folders = [one for one in inside.values() if one.is_dir() and not one.name.startswith(".")]
        refuse_left_out(str(path), inside, {one.name: [within.name for within in one.iterdir()] for one in folders})
    return books or [path]


def folder_of(book: books.Book, out: Path) -> Path:
    """
    Name a book's folder below *out*: `Author - Title`.
    """
    authors = ", ".join(book.authors)
    return out / plain_name(f"{authors} - {book.title}" if authors else book.title)


def spoken(book: books.Book, plan: BookPlan) -> tuple[Spoken, ...]:
    """
    All that is spoken of a book, in order, credits among it.
    """
    chapters = [
        Spoken(chapter.name, chapter.title, number, chapter.prose, chapter.source, chapter.origins)
        for number, chapter in enumerate(book.chapters, 1)
    ]
    names = {chapter.name for chapter in chapters}
    first, last = books.opening(book, plan), books.closing(book, plan)
    before = [_credits(OPENING, first, names)] if first else []
    after = [_credits(CLOSING, last, names)] if last else []
    return (*before, *chapters, *after)


def _credits(title: str, text: str, names: set[str]) -> Spoken:
    name = title.lower().replace(" ", "-")
    while name in names:
        name += "-"
    return Spoken(name, title, None, plain(text))


def survey(source: Path, parts: Sequence[Spoken], book: books.Book, *, cutting: Cutting) -> Survey:
    """
    Cut all that is spoken of a book.
    """
    left = tuple(LeftOut(f"{one.title} ({one.href})", f"{one.why}. {one.how}") for one in book.left_out)
    readings = tuple(_reading(source, part, track, cutting) for track, part in enumerate(parts, 1))
    return Survey(root=source.parent, readings=readings, left_out=left, memory=Memory(cutting=""))


def _reading(source: Path, part: Spoken, track: int, cutting: Cutting) -> Reading:
    pieces = cut(part.prose, cutting=cutting)
    notes = [note.what for note in (*part.prose.notes, *pieces.notes)]
    text = Text(title=part.title, notes=notes, segments=pieces.segments)
    digest = hashlib.sha256("\n\n".join(block.text for block in part.prose.blocks).encode()).hexdigest()
    size = sum(cost.billed_bytes(segment.text) for segment in pieces.segments)
    script = Script(part.name, source.parent, deliverable_name(part.title, suffix=".mp3"))
    return Reading(script, digest, part.title, track, notes, len(pieces.segments), size, lambda: text)


def refuse_another_s(order: BookOrder) -> None:
    """
    Raise `UsageError` where another book, or somebody else's file, stands where this one's are to be.
    """
    before = BookFile.read(order.out / BOOK)
    if before and before.identifier != order.book.identifier and before.source != order.source.name:
        raise UsageError(
            f"{order.out} holds another book of that name ({before.source}).",
            "Give another --out, or another title in book.toml.",
        )
    names = _chapter_names(order)
    for name in (*names, f"{SAMPLE}.mp3", m4b_name(order.book)):
        target = order.out / name
        if target.exists() and read_mark(target) is None:
            raise _another_s(target)
        for beside in (target.with_suffix(suffix) for suffix in ours.CAPTIONS):
            if beside.exists() and not ours.is_captions(beside):
                raise _another_s(beside)
    index, epub = order.out / ours.INDEX, order.out / epub_name(order.book.title)
    if index.exists() and not ours.is_page(index):
        raise _another_s(index)
    if epub.exists() and not readalong.is_ours(epub):
        raise _another_s(epub)
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other is not name:
            raise UsageError(f"Two chapters would be called {name}.", "Give one of them another title in book.toml.")


def file_names(order: BookOrder) -> tuple[str, ...]:
    """
    Name the files that a listener is given of a book.
    """
    return (*_chapter_names(order), f"{SAMPLE}.mp3", m4b_name(order.book), epub_name(order.book.title))


def _chapter_names(order: BookOrder) -> list[str]:
    count = len(order.book.chapters)
    return [deliverable_name(one.title, suffix=".mp3", number=one.number, count=count) for one in order.spoken]


def epub_name(title: str) -> str:
    """
    Name the read-along book.
    """
    return deliverable_name(f"{title} (read along)", suffix=".epub")


def _another_s(target: Path) -> UsageError:
    return UsageError(f"{target} was not made here and would be overwritten.", "Move it away, or give another --out.")


def m4b_name(book: books.Book) -> str:
    """
    Name the bound book.
    """
    return deliverable_name(book.title, suffix=".m4b")
