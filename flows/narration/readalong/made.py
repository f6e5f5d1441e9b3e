"""
An EPUB 3 of a book that is none: its chapters' prose, with title, cover and navigation.
"""

from dataclasses import dataclass, replace
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape, quoteattr

from flows.narration.books import Book, Chapter, Origin, Run
from flows.narration.books.package import Entry
from flows.narration.prose import BlockKind
from flows.narration.readalong.package import navigation

PLACE = "EPUB/package.opf"
_CONTAINER = (
    '<?xml version="1.0" encoding="utf-8"?>\n<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    f'<rootfiles><rootfile full-path="{PLACE}" media-type="application/oebps-package+xml"/></rootfiles></container>\n'
)


@dataclass(frozen=True)
class MadeBook:
    """
    The entries of a book, and its chapters, which know where in them their text stands.
    """

    entries: dict[str, bytes]
    chapters: tuple[Chapter, ...]


def make(book: Book) -> MadeBook:
    """
    Make an EPUB of a book's prose.
    """
    entries = {"META-INF/container.xml": _CONTAINER.encode()}
    chapters, listed = [], []
    language = book.language.replace("_", "-") or "und"
    for number, chapter in enumerate(book.chapters, 1):
        href = f"EPUB/chapter-{number:03d}.xhtml"
        text, origins = _document(chapter, href, language)
        entries[href] = text.encode()
        chapters.append(replace(chapter, origins=origins))
        listed.append(Entry(chapter.title, href, ""))
    entries["EPUB/nav.xhtml"] = navigation(listed, here="EPUB/nav.xhtml", title=book.title, language=language).encode()
    items = ['<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>']
    items += [
        f'<item id="c{number}" href="{entry.href[5:]}" media-type="application/xhtml+xml"/>'
        for number, entry in enumerate(listed, 1)
    ]
    if book.cover:
        name = f"cover.{'png' if 'png' in book.cover.media_type else 'jpg'}"
        entries[f"EPUB/{name}"] = book.cover.data
        items.append(f'<item id="cover" href="{name}" media-type={quoteattr(book.cover.media_type)} properties="cover-image"/>')
    entries[PLACE] = _package(book, items, len(listed), language).encode()
    return MadeBook(entries, tuple(chapters))


def _document(chapter: Chapter, href: str, language: str) -> tuple[str, tuple[Origin | None, ...]]:
    """
    Write a chapter, each block of it an element whose text is the block's.
    """
    rows: list[str] = []
    origins: list[Origin | None] = []
    for number, block in enumerate(chapter.prose.blocks):
        tag = "h1" if block.kind is BlockKind.HEADING and not rows else "h2" if block.kind is BlockKind.HEADING else "p"
        element = 5 + number  # html, head, title, body and section come before
        if block.kind is BlockKind.SCENE_BREAK:
            rows.append("<hr/>")
            origins.append(None)
        else:
            rows.append(f"<{tag}>{escape(block.text)}</{tag}>")
            origins.append(Origin(href, (Run(0, len(block.text), 2 * element, 0),)))
    text = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        f'<html xmlns="http://www.w3.org/1999/xhtml" lang={quoteattr(language)} xml:lang={quoteattr(language)}>'
        f"<head><title>{escape(chapter.title)}</title></head>\n<body><section>\n"
        + "\n".join(rows)
        + "\n</section></body></html>\n"
    )
    return text, tuple(origins)


def _package(book: Book, items: list[str], chapters: int, language: str) -> str:
    identifier = book.identifier or f"urn:uuid:{uuid5(NAMESPACE_URL, book.digest)}"
    said = [
        f'<dc:identifier id="id">{escape(identifier)}</dc:identifier>',
        f"<dc:title>{escape(book.title)}</dc:title>",
        f"<dc:language>{escape(language)}</dc:language>",
        *(f"<dc:creator>{escape(author)}</dc:creator>" for author in book.authors),
        *([f"<dc:publisher>{escape(book.publisher)}</dc:publisher>"] if book.publisher else []),
        *([f"<dc:date>{escape(book.date)}</dc:date>"] if book.date else []),
    ]
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(1, chapters + 1))
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">\n'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n{_rows(said)}</metadata>\n'
        f"<manifest>\n{_rows(items)}</manifest>\n<spine>{spine}</spine></package>\n"
    )


def _rows(elements: list[str]) -> str:
    return "".join(f"{one}\n" for one in elements)
