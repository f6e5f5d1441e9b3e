"""
Text → prose: the headings, paragraphs and scene breaks of a script, as a reader would read them aloud.

The text is a clean one (`scripts.clean`). What is left out or read otherwise than it is written becomes a note, so that
no word disappears in silence. Here is what prose is, and how plain text becomes it; Markdown is read by `marked`.
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple


class BlockKind(StrEnum):
    """
    What a stretch of prose is.
    """

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    SCENE_BREAK = "scene_break"


@dataclass(frozen=True, slots=True)
class Block:
    """
    One stretch of prose, its white space collapsed; the text of a scene break is the row that stands for it.
    """

    kind: BlockKind
    text: str
    line: int
    turns: tuple[tuple[int, int], ...] = ()
    """
    Where the later lines of the script begin in *text*: (offset, line).
    """

    def line_at(self, offset: int) -> int:
        """
        Return the line of the script on which the character at *offset* stands.
        """
        turn = bisect_right(self.turns, offset, key=lambda turn: turn[0])
        return self.turns[turn - 1][1] if turn else self.line


@dataclass(frozen=True, slots=True)
class Note:
    """
    Something in the script that is not read as it is written.
    """

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Prose:
    """
    A script as it is read; *title* is what it calls itself.
    """

    title: str | None
    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]


def plain(text: str) -> Prose:
    """
    Read a plain text: blank lines part paragraphs, rows of ornaments are scene breaks, all else is read as it is.
    """
    draft = Draft()
    draft.paragraphs(rows_of(text))
    return Prose(None, tuple(draft.blocks), tuple(draft.notes))


def excerpt(text: str) -> str:
    """
    Quote the beginning of *text* for a note.
    """
    text = " ".join(text[:300].split())
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'


class Row(NamedTuple):
    """
    What one line of the script gives to a paragraph; a *hard* row is kept apart from the next one in every language.
    """

    line: int
    text: str
    hard: bool = False


# Rows of ornaments are scene breaks; rows of other signs without letters (emoji, "?!") are not spoken, and noted.
_ORNAMENTS = re.compile(r"[\s*\-_=~#+.·•⁂❦❧☙※◇◆○●□■★☆✦✧✳–—―…/\\|]+")
_SPOKEN = re.compile(r"[^\W_]")


class Draft:
    """
    Prose in the making.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.notes: list[Note] = []

    def note(self, line: int, what: str) -> None:
        """
        Put down what is not read as it is written.
        """
        self.notes.append(Note(line, what))

    def paragraphs(self, rows: Iterable[Row]) -> None:
        """
        Add paragraphs parted by blank rows and by rows of ornaments.
        """
        paragraph: list[Row] = []
        for row in rows:
            if _ORNAMENTS.fullmatch(row.text or " "):
                self.add(paragraph)
                self.add([row])
                paragraph = []
            else:
                paragraph.append(row)
        self.add(paragraph)

    def add(self, rows: Iterable[Row], kind: BlockKind = BlockKind.PARAGRAPH) -> None:
        """
        Add one block; without any letter or digit it is a scene break, or else not spoken and noted.
        """
        full = [row._replace(text=text) for row in rows if (text := " ".join(row.text.split()))]
        if not full:
            return
        text, turns = _joined(full)
        if _SPOKEN.search(text):
            self.blocks.append(Block(kind, text, full[0].line, turns))
        elif _ORNAMENTS.fullmatch(text):
            self.blocks.append(Block(BlockKind.SCENE_BREAK, text, full[0].line))
        else:
            self.note(full[0].line, f"not spoken, as there is no word in it: {excerpt(text)}")


def rows_of(text: str) -> Iterator[Row]:
    """
    Give the rows of a clean text with their lines; a paragraph separator is a blank row.
    """
    for line, row in enumerate(text.split("\n"), 1):
        for part in row.replace("\u2029", "\u2028\u2028").split("\u2028"):
            yield Row(line, part)


def _joined(rows: list[Row]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """
    Join the rows of a paragraph: with a space, but with nothing where Chinese or Japanese runs on.
    """
    pieces = [rows[0].text]
    turns: list[tuple[int, int]] = []
    length = len(rows[0].text)
    for before, row in zip(rows, islice(rows, 1, None), strict=False):
        if before.hard or not (runs_on(before.text[-1]) and runs_on(row.text[0])):
            pieces.append(" ")
            length += 1
        if row.line != before.line:
            turns.append((length, row.line))
        pieces.append(row.text)
        length += len(row.text)
    return "".join(pieces), tuple(turns)


def runs_on(letter: str) -> bool:
    """
    Tell whether a line that ends or begins with *letter* is joined to the next without a space.
    """
    return unicodedata.east_asian_width(letter) in "WF" and not unicodedata.name(letter, "").startswith("HANGUL")
