"""
Stretches of a book on their way to chapters: blocks that know where they come from.
"""

import re
from dataclasses import dataclass

from flows.narration.books.model import Run, count_words
from flows.narration.prose import BlockKind, Draft, Row, runs_on
from flows.narration.scripts import INVISIBLE, STRAY_ZWSP

_UNSEEN = "".join(map(chr, INVISIBLE))
_TOKEN = re.compile(rf"(?P<unseen>[{_UNSEEN}]+)|(?P<space>[\s\x7f-\x9f]+)|[^\s\x7f-\x9f{_UNSEEN}]+")
ADDRESS = re.compile(r"\s*[a-z][a-z+]*://(?:[^/?#\s@]*@)?(?:www\.)?([^/?#:\s]+)\S*\s*", re.IGNORECASE)
"""
An address, whose group is the name of the host.
"""

_UNEVEN = re.compile(rf"[{_UNSEEN}\x00-\x1f\x7f-\xa0]|(?! )\s|  ")
_SOFT, _SPACE, _HARD = 1, 2, 3


@dataclass(slots=True)
class Stretch:
    """
    A block of a book, or with no *kind* only notes on what was left out there.

    *level* is that of a heading. *breaks* are the offsets at which later lines of verse begin. *left* names the rule by which
    it is left out unless a plan brings it in; *sure* where the book itself says that it belongs to its body. *line* and
    *turns* are those of a text that has lines.
    """

    kind: BlockKind | None
    text: str
    href: str
    level: int = 0
    runs: tuple[Run, ...] = ()
    breaks: tuple[int, ...] = ()
    left: str = ""
    sure: bool = False
    line: int = 0
    turns: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """
        How many words it has.
        """
        return count_words(self.text) if self.kind in (BlockKind.HEADING, BlockKind.PARAGRAPH) else 0


class Weaver:
    """
    Weaves the text of one block out of pieces of text nodes, white space collapsed as browsers collapse it.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.runs: list[Run] = []
        self.breaks: list[int] = []
        self.notes: list[str] = []
        self.length = 0
        self.gap = 0
        self.last = ""

    def add(self, text: str, node: int, start: int = 0, stop: int | None = None) -> None:
        """
        Add the text of a text node, or a slice of it.
        """
        if "\u200b" in text:
            text = STRAY_ZWSP.sub(lambda stray: " " * len(stray[0]), text)
        stop = len(text) if stop is None else stop
        if not _UNEVEN.search(text, start, stop):
            core = text[start:stop].strip(" ")
            if core:
                self.gap = max(self.gap, _SPACE) if text[start] == " " else self.gap
                self._from_book(core, node, text.index(core, start))
            self.gap = max(self.gap, _SPACE) if text[start:stop].endswith(" ") else self.gap
            return
        for token in _TOKEN.finditer(text, start, stop):
            if token["space"]:
                self.gap = max(self.gap, _SOFT if "\n" in token[0] else _SPACE)
            elif not token["unseen"]:
                self._from_book(token[0], node, token.start())

    def address(self, text: str, node: int) -> None:
        """
        Add an address, of which the name of the host is spoken.
        """
        if url := ADDRESS.match(text):
            self.notes.append(f"spoken as {url[1]}: {' '.join(text.split())}")
            self.add(text, node, *url.span(1))
        else:
            self.add(text, node)

    def made(self, text: str) -> None:
        """
        Add what the book does not have as text.
        """
        for part in text.split():
            self._put(part)
            self.space()
        self.gap = self.gap if text[-1:].isspace() else 0

    def space(self) -> None:
        """
        Part what follows from what is there.
        """
        self.gap = max(self.gap, _SPACE)

    def line_break(self) -> None:
        """
        Begin a line of verse.
        """
        self.gap = _HARD

    def weave(self, kind: BlockKind, href: str) -> Stretch | None:
        """
        Return the block, `None` where there is nothing at all; what has no word is a scene break or a note.
        """
        text = "".join(self.pieces)
        draft = Draft()
        draft.add([Row(0, text)], kind)
        if draft.blocks:
            block = draft.blocks[0]
            return Stretch(
                block.kind, block.text, href, runs=tuple(self.runs), breaks=tuple(self.breaks), notes=tuple(self.notes)
            )
        notes = (*self.notes, *(note.what for note in draft.notes))
        return Stretch(None, "", href, notes=notes) if notes else None

    def _from_book(self, words: str, node: int, offset: int) -> None:
        """
        Put words that stand in the book at *offset* of a text node.
        """
        at = self._put(words)
        before = self.runs[-1] if self.runs else None
        if before and before.node == node and before.offset - before.at == offset - at:
            self.runs[-1] = Run(before.at, at + len(words) - before.at, node, before.offset)
        else:
            self.runs.append(Run(at, len(words), node, offset))

    def _put(self, word: str) -> int:
        """
        Put a word behind the gap that is due, and return its offset.
        """
        if self.length and self.gap and not (self.gap == _SOFT and runs_on(self.last) and runs_on(word[0])):
            self.pieces.append(" ")
            self.length += 1
        if self.length and self.gap == _HARD:
            self.breaks.append(self.length)
        self.gap = 0
        at = self.length
        self.pieces.append(word)
        self.length += len(word)
        self.last = word[-1]
        return at
