"""
One run over one book: its chapters are the scripts, and mastered files and an M4B are what they become.

Chapters come from the book, never from the audio that was made: one that failed leaves the book unbound.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.narration import books, cost, deliverables, entries, ffmpeg
from flows.narration.assemble import Piece, read_mark
from flows.narration.binding import Bound, bind
from flows.narration.books import BookPlan, Origin
from flows.narration.contour import Contour
from flows.narration.deliverables import BOOK, BookFile, ChapterEntry
from flows.narration.errors import UsageError
from flows.narration.files import replacing
from flows.narration.manifest import ScriptEntry, VoiceEntry
from flows.narration.mastering import (
    Chapter,
    LevelProfile,
    Mastered,
    Studio,
    cut_sample,
    deliverable_name,
    master,
    plain_name,
    standing,
    tidy,
)
from flows.narration.mastering.book import Book as Tagged
from flows.narration.plan import Planned, Reading, Survey, Text
from flows.narration.production import Order, Production, key_by
from flows.narration.prose import Prose, plain
from flows.narration.scripts import LeftOut, Script
from flows.narration.segments import Cutting, cut
from flows.narration.speech import SAMPLE_RATE, InlineReference, Voice
from flows.narration.unchanged import Made, Memory

WORK = ".work"
"""In a book's folder: the AAC of its chapters, and what is known of them."""

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
    count = len(order.book.chapters)
    names = [deliverable_name(one.title, suffix=".mp3", number=one.number, count=count) for one in order.spoken]
    for name in (*names, f"{SAMPLE}.mp3", m4b_name(order.book)):
        target = order.out / name
        if target.exists() and read_mark(target) is None:
            raise UsageError(f"{target} was not made here and would be overwritten.", "Move it away, or give another --out.")
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault(name.casefold(), name)
        if other is not name:
            raise UsageError(f"Two chapters would be called {name}.", "Give one of them another title in book.toml.")


def m4b_name(book: books.Book) -> str:
    """
    Name the bound book.
    """
    return deliverable_name(book.title, suffix=".m4b")


class BookProduction(Production):
    """
    A run over a book in progress.
    """

    order: BookOrder

    def __init__(self, order: BookOrder, *, run_id: str | None = None) -> None:
        super().__init__(order, run_id=run_id)
        self.mastered: dict[str, Mastered] = {}
        self.bound: Bound | None = None
        self._spoken = {one.name: one for one in order.spoken}
        self._studio: Studio | None = None

    def plan(self, *, voice: Voice | InlineReference, entry: VoiceEntry, host: str) -> list[str]:
        """
        Name every take now that the voice is known, and return the chapters that are not finished, in order.
        """
        order = self.order
        self.voice = entry
        self._host = host
        self._key_of = key_by(voice, delivery=order.delivery, host=host)
        self._studio = self._opened_studio(entry)
        for reading in order.survey.readings:
            if not reading.count:
                continue
            pieces = tuple(Piece(take=self._key_of(segment.text), joint=segment.joint) for segment in reading.segments)
            name = reading.script.name
            found = standing(self._chapter(name, pieces), self._studio)
            made = self._as_made(reading, found) if found else None
            self._plans[name] = Planned(reading=reading, pieces=pieces, tags={}, narration="", made=made)
            if found and made:
                self.mastered[name] = found
                self.entries[name] = self._with_audio(entries.unchanged(reading, made), found)
        return [name for name, plan in self._plans.items() if plan.made is None]

    async def finish_script(self, name: str) -> ScriptEntry:
        """
        Master the chapter named *name*, recording anew what is damaged.
        """
        entry = await super().finish_script(name)
        self.entries[name] = self._with_audio(entry, self.mastered[name])
        return self.entries[name]

    def _with_audio(self, entry: ScriptEntry, found: Mastered) -> ScriptEntry:
        return entry.model_copy(update={"audio": found.parts[0].file})

    def _assemble(self, plan: Planned) -> Made:
        name = plan.reading.script.name
        found = master(self._chapter(name, plan.pieces), self._mine)
        self.mastered[name] = found
        self._contours[name] = found.parts[0].contour
        return self._as_made(plan.reading, found)

    @property
    def _mine(self) -> Studio:
        if self._studio is None:
            raise RuntimeError("nothing is planned")
        return self._studio

    def _opened_studio(self, entry: VoiceEntry) -> Studio:
        """
        Open the folders, and make the cover what files hold.
        """
        order, book = self.order, self.order.book
        work = order.out / WORK
        work.mkdir(parents=True, exist_ok=True)
        cover = None
        if book.cover:
            cover = work / "cover.jpg"
            given = work / "cover"
            given.write_bytes(book.cover.data)
            with replacing(cover) as temporary:
                made = ffmpeg.picture(given, temporary)
                if not made:
                    temporary.touch()
            given.unlink()
            if not made:
                cover.unlink()
                cover = None
        tagged = Tagged(
            title=book.title,
            author=", ".join(book.authors),
            narrator=book.narrator or entry.title,
            date=book.date,
            language=book.language,
            publisher=book.publisher,
            chapters=len(book.chapters),
            cover=cover,
        )
        return Studio(book=tagged, store=order.store, sound=order.sound, profile=order.profile, folder=order.out, work=work)

    def _chapter(self, name: str, pieces: Sequence[Piece]) -> Chapter:
        one = self._spoken[name]
        return Chapter(title=one.title, pieces=pieces, number=one.number)

    def _as_made(self, reading: Reading, found: Mastered) -> Made:
        """
        Put together what is known of a finished chapter.
        """
        seconds = sum(part.samples for part in found.parts) / SAMPLE_RATE
        speech = sum(end - start for part in found.parts for start, end in part.places) / SAMPLE_RATE
        return Made(
            digest=reading.digest,
            title=reading.title,
            track=reading.track,
            notes=reading.notes,
            segments=reading.count,
            size=reading.size,
            narration="",
            seconds=round(seconds, 4),
            speech_seconds=round(speech, 4),
            pause_seconds=round(seconds - speech, 4),
            audio=[],
            record=[],
        )

    def contour(self, name: str) -> Contour:
        """
        Hand over how loud the first file of a chapter is that was just mastered; it is not kept.
        """
        return self._contours.pop(name)

    def bind(self) -> BookFile:
        """
        Bind what is mastered into the M4B, cut the sample, write down all there is, and take away what is no more part of it.
        """
        order, studio = self.order, self._mine
        chapters = [self.mastered[name] for name in self._plans]
        sample = self._sample()
        self.bound = bind(chapters, book=studio.book, work=studio.work, target=order.out / m4b_name(order.book))
        written = self._written(sample, self.bound)
        before = BookFile.read(order.out / BOOK)
        written.write(order.out / BOOK)
        parts = [part for one in (*chapters, *([sample] if sample else [])) for part in one.parts]
        tidy(studio.work, parts)
        deliverables.take_away(order.out, before, written)
        return written

    def _written(self, sample: Mastered | None, bound: Bound) -> BookFile:
        """
        Put together `book.json`.
        """
        book, files, chapters = self.order.book, [], []
        for name, starts in zip(self._plans, bound.starts, strict=True):
            one, found, plan, entry = self._spoken[name], self.mastered[name], self._plans[name], self.entries[name]
            files += deliverables.files_of(found, "credits" if one.number is None else "chapter")
            chapters.append(
                ChapterEntry(
                    name=name,
                    title=one.title,
                    number=one.number,
                    source=one.source,
                    text=plan.reading.digest,
                    start=round(starts[0] / SAMPLE_RATE, 4),
                    seconds=entry.seconds,
                    usd=entry.usd,
                    files=[part.file for part in found.parts],
                    segments=deliverables.places_of(plan, found, starts, one.origins),
                )
            )
        if sample:
            files += deliverables.files_of(sample, "sample")
        files.append(deliverables.audiobook_of(self.order.out / m4b_name(book), bound, title=book.title))
        if self.voice is None:
            raise RuntimeError("nothing is planned")
        return BookFile(
            source=self.order.source.name,
            digest=book.digest,
            title=book.title,
            authors=list(book.authors),
            narrator=book.narrator or self.voice.title,
            language=book.language,
            publisher=book.publisher,
            date=book.date,
            identifier=book.identifier,
            profile=self.order.profile.model_dump(),
            voice=self.voice,
            model=self.order.delivery.model,
            usd=round(sum(entry.usd for entry in self.entries.values()), 6),
            seconds=round(bound.seconds, 3),
            files=files,
            chapters=chapters,
            left_out=[{"name": left.name, "reason": left.reason} for left in self.order.survey.left_out],
        )

    def _sample(self) -> Mastered | None:
        """
        Make the retail sample, from the chapter that the plan names or else the first.
        """
        wanted = self.order.plan.sample
        if wanted is False:
            return None
        chapters = [one for one in self.order.spoken if one.number is not None and one.name in self._plans]
        one = next((one for one in chapters if wanted.chapter in (None, one.source)), None)
        if one is None:
            raise UsageError(f"The sample's chapter {wanted.chapter} is not in the book.", "--outline lists the chapters.")
        pieces = self._plans[one.name].pieces
        places = [place for part in self.mastered[one.name].parts for place in part.places]
        first = next((at for at, (start, _) in enumerate(places) if start >= wanted.start * 60 * SAMPLE_RATE), 0)
        cut_out = cut_sample(pieces[first:], store=self.order.store, sound=self.order.sound, seconds=wanted.minutes * 60)
        return master(Chapter(title=SAMPLE, pieces=cut_out), self._mine)

    def _remember(self) -> None:
        """
        Nothing: a finished chapter is known by what stands in the work folder.
        """
