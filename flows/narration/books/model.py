"""
What a book is once it is read: chapters in order, where each word comes from, and what was left out.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from flows.narration.prose import Prose

_WIDE = "\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_WIDE}]|[^\W{_WIDE}]+(?:['’\-][^\W{_WIDE}]+)*")


class Run(NamedTuple):
    """
    A stretch of a block's text that stands letter for letter in the book: from *offset* on in text node *node*.

    Text nodes are numbered by `markup.text_node`; *at* and *length* count characters of the block's text.
    """

    at: int
    length: int
    node: int
    offset: int


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a block comes from: a document of the book, and the runs of it that became the block's text, in order.

    What lies between runs is not in the book (the number of a list's item, the comma between two cells). Texts that are no
    markup have no runs: there the block's line says where it stands.
    """

    href: str
    runs: tuple[Run, ...] = ()

    def locate(self, offset: int) -> tuple[int, int] | None:
        """
        Return the text node and the offset in it of the character at *offset* of the block's text, `None` where it has none.
        """
        at = bisect_right(self.runs, offset, key=lambda run: run.at) - 1
        if at < 0 or offset >= self.runs[at].at + self.runs[at].length:
            return None
        run = self.runs[at]
        return run.node, run.offset + offset - run.at


@dataclass(frozen=True, slots=True)
class Chapter:
    """
    One chapter as it will be spoken.

    *source* names it in the book and in a plan, whatever it is called; *name* is unique, and fit for a file name without its
    suffix. *origins* has one entry for each block of the prose, `None` where the block was made (a title the text lacks).
    """

    source: str
    name: str
    title: str
    prose: Prose
    origins: tuple[Origin | None, ...]
    words: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """
    Something of the book that is not spoken: what, where, why, and how to bring it in.
    """

    source: str
    title: str
    href: str
    why: str
    words: int
    how: str


@dataclass(frozen=True, slots=True)
class Cover:
    """
    The picture on the front.
    """

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Book:
    """
    A book as it will be spoken; *digest* (SHA-256, hex) is of the bytes it was read from.
    """

    title: str
    authors: tuple[str, ...]
    narrator: str
    language: str
    publisher: str
    date: str
    identifier: str
    cover: Cover | None
    chapters: tuple[Chapter, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    digest: str


def count_words(text: str) -> int:
    """
    Count words as word processors do: of Chinese and Japanese, every character is one.
    """
    return len(_WORD.findall(text))
