"""
Places as a person tells them: the chapter or script, and the sentence in it, as the page to listen shows them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flows.narration import captions
from flows.narration.deliverables import BookFile, ChapterEntry
from flows.narration.errors import UsageError
from flows.narration.manifest import BOOK, RUN, Manifest, SegmentsFile, segments_path
from flows.narration.timing import SENTENCES, Sentence, SentencesFile


class Spot(NamedTuple):
    """
    A segment: its script, the texts of all segments of that script, and which of them it is, from 0.
    """

    script: str
    texts: Sequence[str]
    place: int


def find(out: Path, at: str) -> Spot:
    """
    Find the segment at *at*, `CHAPTER:SENTENCE`, in what stands in *out*; sentences are counted from 1.

    `UsageError` says what there is.
    """
    chapter, colon, told = at.rpartition(":")
    if not (colon and chapter and told.isascii() and told.isdigit() and int(told)):
        raise UsageError(f"{at!r} is no place.", "It looks like 3:12 or 'part-1/chapter-02.txt:12': chapter, colon, sentence.")
    book = BookFile.read(out / BOOK)
    script, texts, counts = _of_book(out, book, chapter) if book else _of_folder(out, chapter)
    sentence = int(told)
    for place, count in enumerate(counts):
        if sentence <= count:
            return Spot(script, texts, place)
        sentence -= count
    raise UsageError(f"{script} has {sum(counts)} sentences, so there is no {told}.", "index.html shows their numbers.")


def _of_book(out: Path, book: BookFile, wanted: str) -> tuple[str, list[str], list[int]]:
    one = _chosen([*book.chapters], wanted)
    texts, counts = [], []
    for file in one.files:
        places = [place for place in one.segments if place.file == file]
        texts += [place.text for place in places]
        counts += [len(own) for own in captions.sentences_of(out, book, file, places)]
    return one.name, texts, counts


def _chosen(chapters: Sequence[ChapterEntry], wanted: str) -> ChapterEntry:
    for one in chapters:
        if wanted in (one.name, one.title, str(one.number)):
            return one
    names = ", ".join(one.name for one in chapters)
    raise UsageError(f"There is no chapter {wanted!r}.", f"There are: {names}.")


def _of_folder(out: Path, wanted: str) -> tuple[str, list[str], list[int]]:
    manifest = Manifest.read(out / RUN)
    if manifest is None:
        raise UsageError(f"{out} holds nothing that was narrated.", "Give the folder that run.json is in.")
    # As the page numbers them; a run that failed or was refused may know nothing of narrations that are there.
    names = [one.script for one in manifest.scripts if one.state != "empty"]
    script = names[int(wanted) - 1] if wanted.isascii() and wanted.isdigit() and 0 < int(wanted) <= len(names) else wanted
    found = SegmentsFile.read(segments_path(out, script)) if script in names else None
    if found is None:
        there = [name for name in names if segments_path(out, name).is_file()]
        raise UsageError(f"There is no narration of {script!r} in {out}.", f"There are: {', '.join(there) or 'none'}.")
    known = SentencesFile.read(out / SENTENCES / f"{script.rpartition('.')[0]}.json")
    sentences: list[list[Sentence]] = known.segments if known and len(known.segments) == len(found.segments) else []
    counts = [len(one) for one in sentences] or [1] * len(found.segments)
    return script, [one.text for one in found.segments], counts
