"""
Captions: `.vtt` and `.srt` beside each narration, a cue for each sentence, or for each part of one that is too long to read.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pysubs2 import SSAEvent, SSAFile
from pysubs2.formats.subrip import SubripFormat
from pysubs2.formats.webvtt import WebVTTFormat

from flows.narration.deliverables import BookFile, Place
from flows.narration.files import replacing
from flows.narration.lines import lines, shown
from flows.narration.manifest import SegmentsFile
from flows.narration.ours import CAPTIONS as SUFFIXES
from flows.narration.ours import CAPTIONS_NOTE
from flows.narration.timing import SENTENCES, Heard, Sentence, Span, heard_in

SHORTEST = 0.8
"""Seconds for which a cue stays, unless the next one is due."""

_BACKSLASH = "\ue000"  # pysubs2 takes \N, \n and \h for signs of its own
_TAG = re.compile(r"<(?=[A-Za-z/])|\{(?=\\)")


class Cue(NamedTuple):
    """
    What is shown at once, and its milliseconds.
    """

    text: str
    start: int
    end: int


class Said(NamedTuple):
    """
    A segment's text and its sentences, in a file *shift* seconds earlier than where they are heard.
    """

    text: str
    sentences: Sequence[Sentence]
    shift: float = 0.0


def write_script(out: Path, audio: str, found: SegmentsFile, *, language: str) -> list[list[Sentence]]:
    """
    Write the captions of the narration *audio* (relative to *out*) that *found* tells of; return its sentences.

    `StorageFailed` where the narration cannot be heard. Files that are as they should be are not touched.
    """
    segments = [Heard(one.text, one.start, one.end, one.words) for one in found.segments]
    sentences = heard_in(out, audio, segments, identity=found.narration, language=language)
    write(out / audio, (Said(one.text, own) for one, own in zip(segments, sentences, strict=True)))
    return sentences


def write_book(folder: Path, book: BookFile) -> list[str]:
    """
    Write the captions of each chapter and of the audiobook, take away those of files that are no more; return their names.

    `StorageFailed` where a file cannot be heard.
    """
    files = {one.file: one for one in book.files}
    bound: list[Said] = []
    written = []
    for audio, places in by_file(book).items():
        sentences = sentences_of(folder, book, audio, places)
        said = [Said(place.text, own) for place, own in zip(places, sentences, strict=True)]
        bound += [one._replace(shift=place.m4b_start - place.start) for one, place in zip(said, places, strict=True)]
        written += write(folder / audio, said)
    for one in files.values():
        if one.role == "audiobook":
            written += write(folder / one.file, bound)
    _tidy(folder, set(files))
    return written


def by_file(book: BookFile) -> dict[str, list[Place]]:
    """
    Return the segments of each file that holds any, in order.
    """
    found: dict[str, list[Place]] = {}
    for chapter in book.chapters:
        for place in chapter.segments:
            found.setdefault(place.file, []).append(place)
    return found


def sentences_of(folder: Path, book: BookFile, audio: str, places: Sequence[Place]) -> list[list[Sentence]]:
    """
    Return the sentences of each segment of a book's file *audio*; `StorageFailed` where it cannot be heard.
    """
    identity = next(one.sha256 for one in book.files if one.file == audio)
    segments = [Heard(one.text, one.start, one.end, one.words) for one in places]
    return heard_in(folder, audio, segments, identity=identity, language=language_of(book))


def language_of(book: BookFile) -> str:
    """
    The language whose rules for the ends of sentences hold for a book.
    """
    return book.language.replace("_", "-") or "en"


def write(audio: Path, said: Iterable[Said]) -> list[str]:
    """
    Write the captions beside *audio*, where they are not there already; return their names.
    """
    cues = list(timed(said))
    for suffix in SUFFIXES:
        path = audio.with_suffix(suffix)
        content = captions(cues, suffix=suffix).encode()
        if not path.is_file() or path.read_bytes() != content:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
    return [audio.with_suffix(suffix).name for suffix in SUFFIXES]


def timed(said: Iterable[Said]) -> Iterator[Cue]:
    """
    Give the cues: in order, none before the one before it has ended, each for as long as there is time.
    """
    ready: Cue | None = None
    for one in said:
        for sentence in one.sentences:
            for span in sentence.parts or [sentence]:
                cue = _cue(one, span, after=ready.start + 1 if ready else 0)
                if ready:
                    yield _stretched(ready, until=cue.start)
                ready = cue
    if ready:
        yield ready._replace(end=max(ready.end, ready.start + 1))


def _cue(said: Said, span: Span, *, after: int) -> Cue:
    start = max(after, round((span.start + said.shift) * 1000))
    text = "\n".join(lines(shown(said.text[span.first : span.last])))
    return Cue(text, start, max(start, round((span.end + said.shift) * 1000)))


def _stretched(cue: Cue, *, until: int) -> Cue:
    """
    Let a cue stay as long as it has to be read, and no longer than *until*.
    """
    return cue._replace(end=max(cue.start + 1, min(until, max(cue.end, cue.start + round(SHORTEST * 1000)))))


def captions(cues: Iterable[Cue], *, suffix: str) -> str:
    """
    Write *cues* as WebVTT or SubRip.
    """
    web = suffix == ".vtt"
    subs = SSAFile()
    for cue in cues:
        text = _web_escaped(cue.text) if web else _TAG.sub(r"\g<0>⁠", cue.text)  # a joiner: it is no tag then
        subs.append(SSAEvent(start=cue.start, end=cue.end, text=text.replace("\\", _BACKSLASH).replace("\n", r"\N")))
    written = io.StringIO()
    (_WebVtt if web else _SubRip).to_file(subs, written, suffix[1:], keep_ssa_tags=True)
    text = written.getvalue().replace(_BACKSLASH, "\\")
    return text.replace("WEBVTT\n\n", f"WEBVTT\n\n{CAPTIONS_NOTE}\n\n", 1) if web else text


def _web_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _SubRip(SubripFormat):
    """
    SubRip, in which pysubs2 ends at 100 hours.
    """

    @staticmethod
    def ms_to_timestamp(ms: int) -> str:
        """
        Write a time.
        """
        seconds, rest = divmod(ms, 1000)
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{rest:03d}"


class _WebVtt(WebVTTFormat):
    """
    WebVTT, with the same end.
    """

    @staticmethod
    def ms_to_timestamp(ms: int) -> str:
        """
        Write a time.
        """
        return _SubRip.ms_to_timestamp(ms).replace(",", ".")


def _tidy(folder: Path, files: set[str]) -> None:
    """
    Take away the captions of files that were a book's and are no more.
    """
    kept = {name.rpartition(".")[0] for name in files}
    for known in (folder / SENTENCES).glob("*.json"):
        if known.stem not in kept:
            for suffix in SUFFIXES:
                (folder / f"{known.stem}{suffix}").unlink(missing_ok=True)
            known.unlink()
