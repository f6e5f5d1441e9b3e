"""
One run over one book: its chapters are the scripts, and mastered files and an M4B are what they become.

Chapters come from the book, never from the audio that was made: one that failed leaves the book unbound.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from flows.narration import companions, cost, deliverables, entries, ffmpeg
from flows.narration.assemble import Piece
from flows.narration.binding import Bound, bind
from flows.narration.contour import Contour
from flows.narration.deliverables import BookFile, ChapterEntry, FileEntry
from flows.narration.edition import SAMPLE, BookOrder, Spoken, m4b_name
from flows.narration.errors import MasteringFailed, TakeFailed, UsageError
from flows.narration.files import replacing
from flows.narration.manifest import BOOK, ScriptEntry, VoiceEntry
from flows.narration.mastering import (
    Chapter,
    Lengths,
    Mastered,
    Studio,
    cut_sample,
    master,
    standing,
    tidy,
)
from flows.narration.mastering.book import Book as Tagged
from flows.narration.order import Order
from flows.narration.plan import Planned, Reading
from flows.narration.production import Production
from flows.narration.speech import SAMPLE_RATE, InlineReference, Voice
from flows.narration.takes import TakeDamaged, key_by, voice_key
from flows.narration.unchanged import Made

WORK = ".work"
"""In a book's folder: the AAC of its chapters, and what is known of them."""


class BookProduction(Production):
    """
    A run over a book in progress.
    """

    order: BookOrder

    def __init__(
        self,
        order: BookOrder,
        *,
        run_id: str | None = None,
        remember: Callable[[], None] = lambda: None,
        ask_again: Callable[[], Order] | None = None,
    ) -> None:
        super().__init__(order, run_id=run_id, remember=remember, ask_again=ask_again)
        self.mastered: dict[str, Mastered] = {}
        self.bound: Bound | None = None
        self._spoken: dict[str, Spoken] = {}
        self._studio: Studio | None = None
        self._sampled: str | None = None
        self._wanted: Sequence[str] = ()

    def plan(self, *, voice: Voice | InlineReference, entry: VoiceEntry, host: str) -> list[str]:
        """
        Name every take now that the voice is known, and return the chapters that are not finished, in order.
        """
        order = self.order
        self.voice = entry
        self._host = host
        self._key_of = key_by(voice_key(voice), delivery=order.delivery, host=host, store=order.store)
        self._spoken = {one.name: one for one in order.spoken}
        self._studio = self._opened_studio(entry)
        self._sampled = self._chosen()
        for reading in order.survey.readings:
            if not reading.count:
                continue
            name = reading.script.name
            keys = order.retakes.keys(name, reading.segments, self._key_of)
            pieces = tuple(Piece(take=key, joint=segment.joint) for key, segment in zip(keys, reading.segments, strict=True))
            found = standing(self._chapter(name, pieces), self._studio)
            if found and name == self._sampled:
                self._wanted = self._lacking(found, pieces)
                if not all(map(order.store.covers, self._wanted)):
                    found = None
            made = self._as_made(reading, found) if found else None
            self._plans[name] = Planned(reading=reading, pieces=pieces, tags={}, narration="", made=made)
            if found and made:
                self.mastered[name] = found
                self.entries[name] = self._with_audio(entries.unchanged(reading, made), found)
        return [name for name, plan in self._plans.items() if plan.made is None]

    async def bring(self) -> None:
        """
        Have the takes of a sample that is to be cut from a chapter that is there: nothing else brings them.
        """
        await self.order.store.bring(self._wanted)

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
        return Studio(
            book=tagged,
            store=order.store,
            sound=order.sound,
            profile=order.profile,
            folder=order.out,
            work=work,
            stopped=lambda: self.interrupted,
        )

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
        deliverables.take_away(order.out, before, written)  # while the file that tells of it is there
        written.write(order.out / BOOK)
        parts = [part for one in (*chapters, *([sample] if sample else [])) for part in one.parts]
        tidy(studio.work, parts)
        return written

    def accompany(self, written: BookFile) -> list[str]:
        """
        Make captions, the read-along book and the page to listen of what is bound, and name them.
        """
        contours = {part.file: part.contour for one in self.mastered.values() for part in one.parts}
        return companions.of_book(self.order, written, contours=contours, cover=self._mine.book.cover)

    def _written(self, sample: Mastered | None, bound: Bound) -> BookFile:
        """
        Put together `book.json`.
        """
        book = self.order.book
        files: list[FileEntry] = []
        chapters: list[ChapterEntry] = []
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
                    usd=cost.usd(plan.reading.size, model=self.order.delivery.model),
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
            usd=round(sum(one.usd for one in chapters), 6),
            seconds=round(bound.seconds, 3),
            files=files,
            chapters=chapters,
            left_out=[{"name": left.name, "reason": left.reason} for left in self.order.survey.left_out],
        )

    def _chosen(self) -> str | None:
        """
        Name the chapter that the retail sample is cut from: the one that the plan names, or else the first.
        """
        wanted = self.order.plan.sample
        if wanted is False:
            return None
        spoken = {reading.script.name for reading in self.order.survey.readings if reading.count}
        chapters = [one for one in self.order.spoken if one.number is not None and one.name in spoken]
        one = next((one for one in chapters if wanted.chapter in (None, one.source)), None)
        if one is None:
            raise UsageError(f"The sample's chapter {wanted.chapter} is not in the book.", "--outline lists the chapters.")
        return one.name

    def _cut(self, found: Mastered, pieces: Sequence[Piece]) -> Chapter:
        """
        Cut the retail sample from its chapter, *found* as it is made of *pieces*; no take has to be there for that.
        """
        wanted = self.order.plan.sample
        if wanted is False:
            raise RuntimeError("no sample is wanted")
        places = [place for part in found.parts for place in part.places]
        first = next((at for at, (start, _) in enumerate(places) if start >= wanted.start * 60 * SAMPLE_RATE), 0)
        lengths = Lengths.heard(pieces[first:], places[first:], sound=self.order.sound)
        return Chapter(title=SAMPLE, pieces=cut_sample(pieces[first:], lengths=lengths, seconds=wanted.minutes * 60))

    def _lacking(self, found: Mastered, pieces: Sequence[Piece]) -> Sequence[str]:
        """
        Name the takes that the sample of a chapter is still to be made of: none where it is there.
        """
        try:
            sample = self._cut(found, pieces)
        except MasteringFailed:  # which ends the run where the sample is made, when all that can be made is
            return ()
        return () if standing(sample, self._mine) else [piece.take for piece in sample.pieces]

    def _sample(self) -> Mastered | None:
        """
        Make the retail sample; a take of it that is damaged is forgotten, so that the next run records it anew.
        """
        if self._sampled is None:
            return None
        sample = self._cut(self.mastered[self._sampled], self._plans[self._sampled].pieces)
        try:
            return standing(sample, self._mine) or master(sample, self._mine)
        except TakeDamaged as damaged:
            if self._mended(sample.pieces):
                return master(sample, self._mine)
            raise TakeFailed(
                f"The sample cannot be made. {damaged.fact}", "Run again: what is damaged is then recorded anew."
            ) from damaged

    def _mended(self, pieces: Sequence[Piece]) -> bool:
        """
        Forget takes that are damaged, and say whether all are there all the same: object storage may have sound ones.
        """
        store, keys = self.order.store, {piece.take for piece in pieces}
        for key in keys:
            with suppress(TakeDamaged):
                for _ in store.read(key):
                    pass
                if store.find(key):
                    continue
            store.discard(key)
        return all(map(store.find, keys))

    def _remember(self) -> None:
        """
        Nothing: a finished chapter is known by what stands in the work folder.
        """
