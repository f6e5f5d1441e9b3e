"""
A Word file → stretches.

Its XML is read here, as python-docx gives neither what was inserted under review nor what stands in content controls, and
does not bound what it unpacks.
"""

import re
from pathlib import Path

from flows.narration.books.archive import Archive
from flows.narration.books.markup import Element, find, first, local, parse_package, words_of
from flows.narration.books.package import Package
from flows.narration.books.stretches import Stretch, Weaver
from flows.narration.errors import UsageError
from flows.narration.prose import BlockKind

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_STRICT = "{http://purl.oclc.org/ooxml/wordprocessingml/main}"
_GONE = ("del", "moveFrom", "Fallback", "instrText", "delText", "rt", "footnoteReference", "endnoteReference", "rPr", "pPr")


def read_docx(path: Path, warnings: list[str]) -> tuple[Package, list[Stretch]]:
    """
    Read the document; `UsageError` where it is none.
    """
    archive = Archive(path, warnings)
    try:
        place = archive.find("word/document.xml")
        if place is None:
            raise UsageError(f"{path} is no Word file.", "Save it as .docx.")
        root = parse_package(archive.read(place), place, warnings)
        levels = _levels(archive)
        package = _package(archive)
        notes = sum(local(part) in ("footnotereference", "endnotereference") for part in root.iter())
    finally:
        archive.close()
    body = first(root, "body")
    reader = _Reader(path.name, levels)
    for element in body if body is not None else ():
        reader.block(element)
    if notes:
        reader.stretches.append(Stretch(None, "", path.name, notes=(f"left out: {notes} footnotes and endnotes",)))
        warnings.append(f"{path.name} has {notes} footnotes and endnotes, which are left out.")
    return package, reader.stretches


class _Reader:
    """
    Reads the blocks of the document called *href*; *levels* are those of styles that make headings.
    """

    def __init__(self, href: str, levels: dict[str, int]) -> None:
        self.href = href
        self.levels = levels
        self.stretches: list[Stretch] = []
        self.node = 0

    def block(self, element: Element) -> None:
        """
        Read a paragraph or a table, also within a content control.
        """
        match local(element):
            case "p":
                self.paragraph(element)
            case "tbl":
                self.table(element)
            case "sectpr":
                return
            case _:
                for child in element:
                    self.block(child)

    def paragraph(self, element: Element) -> None:
        """
        Read one paragraph.
        """
        weaver = Weaver()
        self._text(element, weaver)
        level = self._level(element)
        stretch = weaver.weave(BlockKind.HEADING if level else BlockKind.PARAGRAPH, self.href)
        if stretch is not None:
            stretch.level, stretch.runs = level, ()
            self.stretches.append(stretch)

    def table(self, element: Element) -> None:
        """
        Read a table row by row.
        """
        for row in find(element, "tr"):
            cells = [Weaver() for _ in range(sum(local(part) == "tc" for part in row))]
            for weaver, cell in zip(cells, (part for part in row if local(part) == "tc"), strict=True):
                for paragraph in find(cell, "p"):
                    self._text(paragraph, weaver)
                    weaver.space()
            texts = ["".join(weaver.pieces) for weaver in cells]
            whole = Weaver()
            whole.made(", ".join(filter(None, texts)))
            if (stretch := whole.weave(BlockKind.PARAGRAPH, self.href)) is not None:
                self.stretches.append(stretch)

    def _text(self, element: Element, weaver: Weaver) -> None:
        """
        Read the text of a paragraph as it stands once its changes are accepted.
        """
        for child in element:
            name = str(child.tag).rpartition("}")[2]
            if name in _GONE:
                continue
            if name == "t":
                weaver.add(child.text or "", 0)
            elif name in ("br", "cr"):
                weaver.line_break()
            elif name == "tab":
                weaver.space()
            elif name == "p":
                weaver.space()
                self._text(child, weaver)
                weaver.space()
            elif name == "noBreakHyphen":
                weaver.add("-", 0)
            else:
                self._text(child, weaver)

    def _level(self, element: Element) -> int:
        """
        Return the level of the heading that a paragraph is, 0 for none.
        """
        style, outline = first(element, "pstyle"), first(element, "outlinelvl")
        if outline is not None and (_value(outline) or "9").isdigit() and int(_value(outline) or 9) < 9:
            return int(_value(outline)) + 1
        return self.levels.get(_value(style), 0) if style is not None else 0


def _value(element: Element) -> str:
    """
    Return the value that an element of Word's has.
    """
    return element.get(f"{_W}val") or element.get(f"{_STRICT}val") or ""


def _levels(archive: Archive) -> dict[str, int]:
    """
    Return the levels of the styles that make headings; a title is above all.
    """
    place = archive.find("word/styles.xml")
    if place is None:
        return {f"Heading{level}": level for level in range(1, 7)} | {"Title": 1}
    levels: dict[str, int] = {}
    based: dict[str, str] = {}
    for style in find(parse_package(archive.read(place), place, archive.warnings), "style"):
        key = style.get(f"{_W}styleId") or style.get(f"{_STRICT}styleId") or ""
        name, parent, outline = first(style, "name"), first(style, "basedon"), first(style, "outlinelvl")
        called = (_value(name) if name is not None else "").lower()
        if heading := re.fullmatch(r"heading (\d)", called):
            levels[key] = int(heading[1])
        elif called == "title":
            levels[key] = 1
        elif outline is not None and _value(outline).isdigit() and int(_value(outline)) < 9:
            levels[key] = int(_value(outline)) + 1
        elif parent is not None:
            based[key] = _value(parent)
    for key in based:
        above, seen = key, set[str]()
        while above in based and above not in seen:
            seen.add(above)
            above = based[above]
        if above in levels:
            levels[key] = levels[above]
    titles = [key for key, level in levels.items() if level == 1 and key.lower() == "title"]
    if titles:
        levels = {key: level if key in titles else level + 1 for key, level in levels.items()}
    return levels


def _package(archive: Archive) -> Package:
    """
    Read what the document's properties say.
    """
    package = Package()
    place = archive.find("docProps/core.xml")
    if place is not None:
        for element in parse_package(archive.read(place), place, archive.warnings):
            match local(element), words_of(element):
                case "title", text if text:
                    package.title = text
                case "creator", text if text:
                    package.authors = (text,)
                case "language", text if text:
                    package.language = text
    return package
