"""
Documents of any shape: every word once and in order, and each letter found again where it came from.
"""

import random
import re

import pytest

from flows.narration.books.markup import numbered, parse, text_node
from flows.narration.books.walk import Walker
from tests.bookmaking import page

INLINE = ("b", "i", "span", "a href='#x'", "code", "small", "em", "u", "font", "ruby", "del", "unknown")
BLOCK = ("p", "div", "section", "blockquote", "h3", "li", "article", "dd", "center", "td", "figcaption")
GAPS = (
    " ",
    "\n\t",
    "&#160;",
    "&#8288; ",
    "<br/>",
    " <!-- a comment --> ",
    "<span/> ",
    " <?pi x?>",
    "<i> </i>",
    "&#12288;",
    " \u00ad",
)


class Maker:
    """
    Makes documents of numbered words; *words* are those it used, in order.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.words: list[str] = []

    def word(self) -> str:
        """
        Return a word, perhaps in pieces that must not be parted.
        """
        word = self.random.choice(("w{}", "語{}x", "it’s{}", "{}–x")).format(len(self.words))
        self.words.append(word)
        cut = self.random.randrange(1, len(word))
        seam = self.random.choice(("", "", "&#173;", "<b/>", "<wbr/>", "&#8288;"))
        return word[:cut] + seam + word[cut:]

    def inline(self, depth: int) -> str:
        """
        Return words with gaps between them.
        """
        parts = []
        for _ in range(self.random.randrange(1, 4)):
            if depth and self.random.random() < 0.4:
                tag = self.random.choice(INLINE)
                parts.append(f"<{tag}>{self.inline(depth - 1)}</{tag.split()[0]}>")
            else:
                parts.append(self.word())
        return self.random.choice(GAPS).join(parts)

    def blocks(self, depth: int) -> str:
        """
        Return blocks, and text between them.
        """
        parts = []
        for _ in range(self.random.randrange(1, 5)):
            tag = self.random.choice(BLOCK)
            inside = self.blocks(depth - 1) if depth and self.random.random() < 0.5 else self.inline(3)
            parts.append(f"<{tag}>{inside}</{tag}>")
            if self.random.random() < 0.2:
                parts.append(self.inline(1))
        return self.random.choice(("", "\n", " ")).join(parts)


@pytest.mark.parametrize("seed", range(60))
def test_every_word_is_spoken_once_and_leads_back(seed: int) -> None:
    """
    However blocks and inline elements nest; also as a browser reads it, without XML's help.
    """
    maker = Maker(seed)
    data = page(maker.blocks(4)).encode()

    root = parse(data, "a.xhtml", [])
    stretches = Walker("a.xhtml", root).walk()

    spoken = [word for stretch in stretches for word in stretch.text.split()]
    assert spoken == maker.words
    elements = list(numbered(root))
    for stretch in stretches:
        covered = 0
        for run in stretch.runs:
            element, tail = text_node(elements, run.node)
            there = ((element.tail if tail else element.text) or "")[run.offset : run.offset + run.length]
            assert re.sub(r"\s", " ", there) == stretch.text[run.at : run.at + run.length]
            covered += len(there.replace(" ", "").replace("\u00a0", "").replace("\u3000", ""))
        assert covered == len(stretch.text.replace(" ", ""))
