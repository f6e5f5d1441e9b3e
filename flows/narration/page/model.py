"""
What a page to listen shows: chapters, their text with its times, their files, and what is known of their sound.
"""

from dataclasses import dataclass
from typing import NamedTuple

from flows.narration.contour import Contour
from flows.narration.mastering import LevelProfile, Levels


class Word(NamedTuple):
    """
    A word: the slice of its sentence's text, and its seconds in the chapter.
    """

    first: int
    last: int
    start: float
    end: float


class Sentence(NamedTuple):
    """
    A sentence and its seconds in the chapter; *paragraph* counts the chapter's paragraphs, *line* is that of the script.
    """

    text: str
    start: float
    end: float
    paragraph: int = 0
    line: int | None = None
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Track:
    """
    An audio file of a chapter, relative to the page; most chapters have one, and *start* is its place in the chapter.
    """

    file: str
    seconds: float
    start: float = 0.0
    levels: Levels | None = None
    contour: Contour | None = None


@dataclass(frozen=True)
class File:
    """
    A file that the page links to, relative to it, and what it is in a word or two.
    """

    file: str
    what: str
    size: int | None = None


@dataclass(frozen=True)
class Chapter:
    """
    A chapter, or credits, which have no *number*; *name* is what commands call it.

    *headings* and *breaks* are the paragraphs that are headings, and those before which a scene ends. *missing* says why there
    is nothing to hear.
    """

    name: str
    title: str
    number: int | None
    tracks: tuple[Track, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    headings: frozenset[int] = frozenset()
    breaks: frozenset[int] = frozenset()
    files: tuple[File, ...] = ()
    usd: float = 0.0
    missing: str = ""

    @property
    def seconds(self) -> float:
        """
        Length of all its tracks.
        """
        return sum(track.seconds for track in self.tracks)


@dataclass(frozen=True)
class Page:
    """
    A page; *identity* tells it from others in the memory of a browser, *folder* is what commands call its folder.

    *people* are pairs of what somebody did and a name, *facts* pairs of a label and what is so, *left_out* of what and why.
    """

    title: str
    language: str
    identity: str
    folder: str
    people: tuple[tuple[str, str], ...]
    chapters: tuple[Chapter, ...]
    facts: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    files: tuple[File, ...] = ()
    profile: LevelProfile | None = None
    cover: bytes | None = None
