"""
Gather what a page shows: of a book from `book.json`, of a folder of narrations from `run.json` and `.segments`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from flows.narration import alignment, cost
from flows.narration.contour import Contour
from flows.narration.deliverables import BookFile, ChapterEntry, Place
from flows.narration.manifest import Manifest, ScriptEntry, SegmentEntry, SegmentsFile, segments_path
from flows.narration.mastering import LevelProfile
from flows.narration.page.model import Chapter, File, Page, Sentence, Track, Word
from flows.narration.segments import Joint

CAPTIONS = {".vtt": "Captions (WebVTT)", ".srt": "Captions (SRT)"}
ROLES = {"audiobook": "Audiobook with chapters", "sample": "Sample", "credits": "Credits", "chapter": "Chapter"}

_ENDS = ".!?…:;\"'”’»。！？؟"


class SpanLike(Protocol):
    """
    A sentence as a slice of its segment's text, and its seconds in the file.
    """

    @property
    def first(self) -> int:
        """Offset of its first character."""
        ...

    @property
    def last(self) -> int:
        """Offset behind its last character."""
        ...

    @property
    def start(self) -> float:
        """Seconds at which it begins."""
        ...

    @property
    def end(self) -> float:
        """Seconds at which it ends."""
        ...


Spans = Mapping[str, Sequence[Sequence[SpanLike]]]
"""Of each file: of each of its segments the sentences."""


def page_of_book(
    book: BookFile,
    folder: Path,
    *,
    contours: Mapping[str, Contour] | None = None,
    cover: Path | None = None,
    spans: Spans | None = None,
) -> Page:
    """
    Gather the page of the *book* in *folder*. *contours* and *spans* are by file; without spans, segments are shown.
    """
    profile = LevelProfile.model_validate(book.profile)
    size = sum(cost.billed_bytes(place.text) for one in book.chapters for place in one.segments)
    writers = [("by", name) for name in book.authors]
    return Page(
        title=book.title,
        language=book.language,
        identity=f"{book.identifier or book.title} {book.digest[:16]}",
        folder=folder.name,
        people=(*writers, ("read by", book.narrator)),
        chapters=tuple(_book_chapter(one, book, folder, contours or {}, spans or {}) for one in book.chapters),
        facts=(
            ("Cost", f"{book.usd:.4f} USD to speak all of it once"),
            ("Text sent", f"{size:,} bytes"),
            ("Voice", f"{book.voice.title} ({book.voice.id})"),
            ("Model", book.model),
            ("Level profile", profile.name),
            *((label, told) for label, told in (("Publisher", book.publisher), ("Date", book.date)) if told),
        ),
        left_out=tuple((one["name"], one["reason"]) for one in book.left_out),
        files=_whole_files(book, folder),
        profile=profile,
        cover=cover.read_bytes() if cover and cover.is_file() else None,
    )


def page_of_folder(
    manifest: Manifest,
    out: Path,
    *,
    title: str = "",
    language: str = "",
    contours: Mapping[str, Contour] | None = None,
    spans: Spans | None = None,
) -> Page:
    """
    Gather the page of the narrations in *out*, a chapter for each script. *contours* and *spans* are by audio file.
    """
    voice = manifest.voice
    named = title or out.resolve().name
    chapters = tuple(
        _script(one, number, out, contours or {}, spans or {})
        for number, one in enumerate((one for one in manifest.scripts if one.state != "empty"), 1)
    )
    size = sum(one.bytes_billed + one.bytes_reused for one in manifest.scripts)
    empty = tuple((one.script, "It holds nothing that is spoken.") for one in manifest.scripts if one.state == "empty")
    return Page(
        title=named,
        language=language,
        identity=f"{named} {hashlib.sha256(chr(0).join(one.digest for one in manifest.scripts).encode()).hexdigest()[:16]}",
        folder=out.name,
        people=(("read by", voice.title),) if voice else (),
        chapters=chapters,
        facts=(
            ("Paid in the last run", f"{manifest.totals.usd:.4f} USD for {manifest.totals.bytes_billed:,} bytes"),
            ("Text", f"{size:,} bytes"),
            *((("Voice", f"{voice.title} ({voice.id})"),) if voice else ()),
            ("Model", str(manifest.speech.get("model", "unknown"))),
        ),
        left_out=(*((one["name"], one["reason"]) for one in manifest.left_out), *empty),
        files=tuple(_beside(out, "*.epub", "EPUB to read along")),
    )


def _book_chapter(one: ChapterEntry, book: BookFile, folder: Path, contours: Mapping[str, Contour], spans: Spans) -> Chapter:
    known = {entry.file: entry for entry in book.files}
    tracks, sentences, at = [], [], 0.0
    for file in one.files:
        entry = known[file]
        tracks.append(Track(file, entry.seconds, at, entry.levels, contours.get(file)))
        places = [place for place in one.segments if place.file == file]
        paragraphs = [place.block for place in places]
        sentences += _sentences(places, paragraphs, spans.get(file), at)
        at += entry.seconds
    paragraphs = [place.block for place in one.segments]
    return Chapter(
        name=one.name,
        title=one.title,
        number=one.number,
        tracks=tuple(tracks),
        sentences=tuple(sentences),
        headings=_headings(one.segments, paragraphs),
        breaks=_breaks(one.segments, paragraphs),
        files=tuple(file for track in tracks for file in _chapter_files(folder, track.file, known[track.file].size)),
        usd=one.usd,
    )


def _script(one: ScriptEntry, number: int, out: Path, contours: Mapping[str, Contour], spans: Spans) -> Chapter:
    title = one.script.rpartition(".")[0].replace("_", " ")
    found = SegmentsFile.read(segments_path(out, one.script)) if one.audio else None
    if one.audio is None or found is None or not (out / one.audio).is_file():
        return Chapter(one.script, title, number, missing=one.error or "It is not narrated yet.")
    paragraphs, count = [], 0
    for segment in found.segments:
        paragraphs.append(count)
        count += segment.joint not in (Joint.BREATH, Joint.SENTENCE)
    headings = _headings(found.segments, paragraphs)
    heading = " ".join(segment.text for segment, paragraph in zip(found.segments, paragraphs, strict=True) if not paragraph)
    return Chapter(
        name=one.script,
        title=heading.rstrip(".") if 0 in headings else title,
        number=number,
        tracks=(Track(one.audio, found.seconds, contour=contours.get(one.audio)),),
        sentences=tuple(_sentences(found.segments, paragraphs, spans.get(one.audio), 0.0)),
        headings=headings,
        breaks=_breaks(found.segments, paragraphs),
        files=tuple(_chapter_files(out, one.audio, found.size)),
        usd=one.usd,
    )


def _sentences(
    segments: Sequence[Place | SegmentEntry],
    paragraphs: Sequence[int],
    spans: Sequence[Sequence[SpanLike]] | None,
    shift: float,
) -> list[Sentence]:
    """
    Put together the sentences of one file, which begins *shift* seconds after its chapter.
    """
    found = []
    for at, (segment, paragraph) in enumerate(zip(segments, paragraphs, strict=True)):
        edges = [(one.first, one.last, one.start, one.end) for one in spans[at]] if spans else []
        for first, last, start, end in edges or [(0, len(segment.text), segment.start, segment.end)]:
            text = segment.text[first:last]
            inside = _words(text, first, segment.words, shift)
            found.append(Sentence(text, start + shift, end + shift, paragraph, segment.line, inside))
    return found


def _words(text: str, first: int, words: Sequence[alignment.Word], shift: float) -> tuple[Word, ...]:
    """
    Return those of a segment's *words* that are in the sentence that begins at its character *first*.
    """
    inside = [one for one in words if first <= one.at < first + len(text)]
    ends = [*(one.at - first for one in inside[1:]), len(text)][: len(inside)]
    return tuple(
        Word(one.at - first, one.at - first + len(text[one.at - first : end].rstrip()), one.start + shift, one.end + shift)
        for one, end in zip(inside, ends, strict=True)
    )


def _headings(segments: Sequence[Place | SegmentEntry], paragraphs: Sequence[int]) -> frozenset[int]:
    """
    Guess which paragraphs are headings: a heading's pause is after them, and before them where they are not the first.
    """
    found: set[int] = set()
    open_ = True
    texts: dict[int, list[str]] = {}
    for segment, paragraph in zip(segments, paragraphs, strict=True):
        texts.setdefault(paragraph, []).append(segment.text)
        if segment.joint in (Joint.BREATH, Joint.SENTENCE):
            continue
        ends = segment.joint == Joint.HEADING
        whole = " ".join(texts[paragraph])
        if ends and open_ and (not found or not whole.endswith(tuple(_ENDS))) and len(whole) < 200:
            found.add(paragraph)
        open_ = ends
    return frozenset(found)


def _breaks(segments: Sequence[Place | SegmentEntry], paragraphs: Sequence[int]) -> frozenset[int]:
    following = list(paragraphs[1:])
    return frozenset(after for segment, after in zip(segments, following, strict=False) if segment.joint == Joint.SCENE_BREAK)


def _chapter_files(folder: Path, audio: str, size: int) -> list[File]:
    stem, _, suffix = audio.rpartition(".")
    captions = [File(f"{stem}{ending}", what) for ending, what in CAPTIONS.items() if (folder / f"{stem}{ending}").is_file()]
    return [File(audio, suffix.upper(), size), *captions]


def _whole_files(book: BookFile, folder: Path) -> tuple[File, ...]:
    """
    Name what is of the whole book: the M4B and its captions, the sample, an EPUB.
    """
    found = []
    for one in book.files:
        if one.role in ("audiobook", "sample"):
            found.append(File(one.file, ROLES[one.role], one.size))
            found += [file for file in _chapter_files(folder, one.file, one.size)[1:] if one.role == "audiobook"]
    return (*found, *_beside(folder, "*.epub", "EPUB to read along"))


def _beside(folder: Path, pattern: str, what: str) -> list[File]:
    return [File(path.name, what, path.stat().st_size) for path in sorted(folder.glob(pattern))]
