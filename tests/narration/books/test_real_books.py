"""
Four real books, if they are there: every word of what is kept, once and in order, held against another extraction.
"""

import os
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from flows.narration.books import Book, read_book
from flows.narration.books.markup import Element, numbered, parse, text_node
from flows.narration.prose import BlockKind

BOOKS = os.environ.get("BOOKS", "")
"""
The folder in which the books are; they belong to others, so they are not kept here.
"""

XHTML = {"h": "http://www.w3.org/1999/xhtml", "e": "http://www.idpf.org/2007/ops"}
NAMES = {
    "sherlock-holmes": [
        "A Scandal in Bohemia",
        "The Redheaded League",
        "A Case of Identity",
        "The Boscombe Valley Mystery",
        "The Five Orange Pips",
        "The Man with the Twisted Lip",
        "The Adventure of the Blue Carbuncle",
        "The Adventure of the Speckled Band",
        "The Adventure of the Engineer’s Thumb",
        "The Adventure of the Noble Bachelor",
        "The Adventure of the Beryl Coronet",
        "The Adventure of the Copper Beeches",
    ],
    "idpf-wasteland": [
        "I. THE BURIAL OF THE DEAD",
        "II. A GAME OF CHESS",
        "III. THE FIRE SERMON",
        "IV. DEATH BY WATER",
        "V. WHAT THE THUNDER SAID",
    ],
    "idpf-kusamakura-japanese-vertical-writing": [
        "一",
        "二",
        "三",
        "四",
        "五",
        "六",
        "七",
        "八",
        "九",
        "十",
        "十一",
        "十二",
        "十三",
    ],
    "developers-reference": [
        "Scope of This Document",
        "Applying to Become a Member",
        "Debian Developer's Duties",
        "Resources for Debian Members",
        "Managing Packages",
        "Best Packaging Practices",
        "Beyond Packaging",
        "Internationalization and Translations",
        "Overview of Debian Maintainer Tools",
    ],
}
KEPT = {
    "sherlock-holmes": r"epub/text/(?!titlepage|imprint|colophon|uncopyright).*",
    "idpf-wasteland": r"EPUB/wasteland-content.xhtml",
    "idpf-kusamakura-japanese-vertical-writing": r"OPS/xhtml/[一二三四五六七八九十]+.xhtml",
    "developers-reference": r"(?!index|genindex|nav).*\.xhtml",
}
"""
The documents that are narrated.
"""

GONE = {
    "sherlock-holmes": "//h:head",
    "idpf-wasteland": "//h:head|//h:a[@e:type='noteref']|//h:span[@class='lnum']|//*[@id='frontmatter']|//*[@id='rearnotes']",
    "idpf-kusamakura-japanese-vertical-writing": "//h:head|//h:rt|//h:rp",
    "developers-reference": "//h:head|//h:a[contains(@class,'footnote-reference')]|"
    "//h:aside|//h:pre|//h:span[@class='link-target']",
}
"""
What is not narrated of them, said by XPath.
"""


@cache
def book(name: str) -> Book:
    """
    Read one of them.
    """
    return read_book(epub(name))


def epub(name: str) -> Path:
    """
    Return where one of them is; without it the test is skipped.
    """
    path = Path(BOOKS) / f"{name}.epub"
    if not BOOKS or not path.exists():
        pytest.skip(f"{name}.epub is not there; BOOKS names the folder")
    return path


def bare(text: str) -> str:
    """
    Return the letters of a text: no white space, nothing unseen.
    """
    return re.sub(r"[\s\u2060\u00ad\ufeff]+", "", text)


def otherwise_extracted(name: str) -> str:
    """
    Extract the text of a book's kept documents without any of our own code.
    """
    with zipfile.ZipFile(epub(name)) as archive:
        package = next(entry for entry in archive.namelist() if entry.endswith(".opf"))
        root = etree.fromstring(archive.read(package))
        hrefs = {item.get("id"): item.get("href") for item in root.iter("{*}item")}
        texts = []
        for reference in root.iter("{*}itemref"):
            entry = str(Path(package).parent / str(hrefs[reference.get("idref")]))
            if not re.fullmatch(KEPT[name], entry):
                continue
            document: Any = etree.fromstring(archive.read(entry), etree.XMLParser(remove_comments=True, remove_pis=True))
            for element in document.xpath(GONE[name], namespaces=XHTML):
                parent, before = element.getparent(), element.getprevious()
                if before is not None:
                    before.tail = (before.tail or "") + (element.tail or "")
                else:
                    parent.text = (parent.text or "") + (element.tail or "")
                parent.remove(element)
            for link in document.iter("{*}a"):
                if not len(link) and (address := re.fullmatch(r"[a-z]+://(?:www\.)?([^/]+)\S*", (link.text or "").strip())):
                    link.text = address[1]
            for item in document.iter("{*}li"):
                if item.getparent().tag.endswith("}ol"):
                    first = next((part for part in item.iter() if part.text and part.text.strip()), None)
                    place = [child for child in item.getparent() if child.tag.endswith("}li")].index(item)
                    if first is not None:
                        first.text = f"{place + 1}. {first.text}"
            for row in document.iter("{*}tr"):
                for place, cell in enumerate(row):
                    if not place or (place == 1 and not "".join(row[0].itertext()).strip()):
                        continue
                    cell.text = f",{cell.text or ''}"
            texts.append("".join(document.itertext()))
    return "".join(texts)


@pytest.mark.parametrize("name", NAMES)
def test_chapters_are_called_as_in_the_navigation(name: str) -> None:
    """
    Front and back matter aside, chapters and navigation agree.
    """
    assert [chapter.title for chapter in book(name).chapters] == NAMES[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_word_that_is_kept_is_spoken_once_and_in_order(name: str) -> None:
    """
    Letter for letter, white space aside.
    """
    spoken = "".join(
        block.text
        for chapter in book(name).chapters
        for block in chapter.prose.blocks
        if block.kind is not BlockKind.SCENE_BREAK
    )

    assert bare(spoken) == bare(otherwise_extracted(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_letter_that_the_book_has_is_found_there_again(name: str) -> None:
    """
    An offset of what is spoken leads back to a text node of the document, and to the same letter.
    """
    read = book(name)
    documents: dict[str, list[Element]] = {}
    with zipfile.ZipFile(epub(name)) as archive:
        for chapter in (read.chapters[0], read.chapters[-1]):
            for block, origin in zip(chapter.prose.blocks, chapter.origins, strict=True):
                if origin is None or block.kind is BlockKind.SCENE_BREAK:
                    continue
                if origin.href not in documents:
                    documents[origin.href] = list(numbered(parse(archive.read(origin.href), origin.href, [])))
                elements = documents[origin.href]
                for run in origin.runs:
                    element, tail = text_node(elements, run.node)
                    whole = (element.tail if tail else element.text) or ""
                    said, there = block.text[run.at : run.at + run.length], whole[run.offset : run.offset + run.length]
                    assert said == re.sub(r"\s", " ", there)
                covered = sum(run.length for run in origin.runs)
                assert covered >= 0.8 * len(block.text.replace(" ", ""))
