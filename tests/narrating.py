"""
Books narrated by nobody: bursts of noise for sentences, with pauses that are known, and a `book.json` that tells of them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from flows.narration.books import Book
from flows.narration.deliverables import BookFile, ChapterEntry, FileEntry, Place
from flows.narration.manifest import VoiceEntry
from flows.narration.segments import Cutting, cut, sentences

RATE = 32_000
LETTERS_A_SECOND = 40
"""Nearly three times as fast as anybody reads: the shorter are the tests."""

Wave = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """
    A sentence, the file it is heard in, and its seconds there.
    """

    text: str
    file: str
    start: float
    end: float


class Waves:
    """
    Sounds and silences, one after another.
    """

    def __init__(self, begun: list[Wave]) -> None:
        self.all = begun
        self.samples = sum(map(len, begun))

    @property
    def seconds(self) -> float:
        """
        How long they are together.
        """
        return self.samples / RATE

    def add(self, wave: Wave) -> None:
        """
        Add one.
        """
        self.all.append(wave)
        self.samples += len(wave)


def burst(seconds: float, *, seed: int = 0) -> Wave:
    """
    So many seconds of something as loud as speech.
    """
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return np.clip(noise, -0.5, 0.5).astype(np.float32)


def quiet(seconds: float) -> Wave:
    """
    So many seconds of a room in which nobody speaks.
    """
    return np.random.default_rng(1).normal(0, 0.0002, round(seconds * RATE)).astype(np.float32)


def said(text: str, *, language: str, seed: int) -> Iterator[tuple[str, Wave]]:
    """
    Give the sentences of a segment and the pauses between them ("").
    """
    chance = np.random.default_rng(seed)
    for count, (first, last) in enumerate(sentences(text, language=language)):
        if count:
            yield "", quiet(float(chance.uniform(0.25, 0.6)))
        sentence = text[first:last].strip()
        yield sentence, burst(0.1 + len(sentence) / LETTERS_A_SECOND * float(chance.uniform(0.85, 1.15)), seed=seed)


def narrated(book: Book, folder: Path, *, source: str = "book.epub", format: str = "MP3") -> tuple[BookFile, list[Truth]]:
    """
    Narrate *book* into *folder*; return what is written down of it, and where each sentence is in truth.

    Another *format* is quicker for a long book; it is told by its content, not by its name.
    """
    language = book.language.replace("_", "-") or "en"
    chapters, files, truths = [], [], []
    begin = 0.0
    folder.mkdir(parents=True, exist_ok=True)
    for number, chapter in enumerate(book.chapters, 1):
        name = f"{number:02d} - chapter.mp3"
        waves = Waves([quiet(0.75)])
        places = []
        for count, segment in enumerate(cut(chapter.prose, cutting=Cutting(language=language)).segments):
            start = waves.seconds
            waves.add(quiet(0.1))
            for text, wave in said(segment.text, language=language, seed=number * 10_000 + count):
                at = waves.seconds
                waves.add(wave)
                if text:
                    truths.append(Truth(text, name, at, waves.seconds))
            waves.add(quiet(0.08))
            end = waves.seconds
            waves.add(quiet(0.5))
            places.append(
                Place(
                    text=segment.text,
                    take="",
                    joint=segment.joint.value,
                    block=segment.block,
                    first=segment.first,
                    last=segment.last,
                    line=segment.line,
                    file=name,
                    start=round(start, 4),
                    end=round(end, 4),
                    m4b_start=round(begin + start, 4),
                    m4b_end=round(begin + end, 4),
                )
            )
        whole = np.concatenate(waves.all)
        soundfile.write(folder / name, whole, RATE, format=format)
        seconds = round(len(whole) / RATE, 3)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        text = hashlib.sha256("\n\n".join(block.text for block in chapter.prose.blocks).encode()).hexdigest()
        files.append(FileEntry(file=name, role="chapter", title=chapter.title, sha256=digest, size=1, seconds=seconds))
        chapters.append(
            ChapterEntry(
                name=chapter.name,
                title=chapter.title,
                number=number,
                source=chapter.source,
                text=text,
                start=begin,
                seconds=seconds,
                usd=0,
                files=[name],
                segments=places,
            )
        )
        begin += seconds
    files.append(FileEntry(file="Book.m4b", role="audiobook", title=book.title, sha256="0", size=1, seconds=begin))
    written = BookFile(
        source=source,
        digest=book.digest,
        title=book.title,
        authors=list(book.authors),
        narrator="Nobody <at all> & Co.",
        language=book.language,
        publisher=book.publisher,
        date=book.date,
        identifier=book.identifier,
        profile={},
        voice=VoiceEntry(id="v", title="Nobody"),
        model="s2.1-pro",
        usd=0,
        seconds=begin,
        files=files,
        chapters=chapters,
        left_out=[],
    )
    return written, truths
