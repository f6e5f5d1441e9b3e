"""
A text with headings → slices, where nothing else tells its chapters.
"""

import re
from collections import Counter

from flows.narration.books.chapters import Slice, first_words, is_title_page
from flows.narration.books.package import Package
from flows.narration.books.stretches import Stretch
from flows.narration.books.wellknown import called
from flows.narration.prose import BlockKind

PART = re.compile(
    r"\W*(?:part|book|volume|teil|buch|band|partie|livre|tome|parte|libro)\b.{0,80}|第.{1,5}[部編篇卷巻].{0,40}", re.IGNORECASE
)
"""
Headings of parts, which have chapters below them.
"""


def by_headings(stretches: list[Stretch], href: str, package: Package, name: str = "") -> list[Slice]:
    """
    Cut a text at the headings that begin chapters: the topmost level that has several, parts aside.

    What has no title is called by the book's, or by *name*; neither is spoken.
    """
    title = package.title or name
    headings = [stretch for stretch in stretches if stretch.kind is BlockKind.HEADING and not stretch.left]
    counts = Counter(stretch.level for stretch in headings)
    if not headings:
        return [Slice(href, title or first_words(stretches), href, stretches, spoken=False)]
    level = next((level for level in sorted(counts) if counts[level] > 1), min(counts))
    top = [stretch for stretch in headings if stretch.level == level]
    deeper = [one for one in sorted(counts) if one > level]
    if deeper and all(PART.fullmatch(stretch.text) for stretch in top):
        level = deeper[0]
    slices: list[Slice] = []
    parts: list[tuple[str, list[Stretch]]] = []
    current = Slice(f"{href}#1", title or first_words(stretches), href, spoken=False)
    number = 1
    for stretch in stretches:
        begins = stretch.kind is BlockKind.HEADING and not stretch.left and stretch.level <= level
        if begins:
            parts = _end(current, slices, parts, level)
            number += 1
            current = Slice(f"{href}#{number}", stretch.text, href)
        current.stretches.append(stretch)
    left = _end(current, slices, parts, level)
    if left and slices:
        for name, kept in left:
            slices.append(Slice(f"{href}#{number}", name, href, kept))
    if len(slices) > 1 and is_title_page(slices[0].stretches, package.title, package.authors):
        slices[0].leave("titlepage")
    for piece in slices:
        if why := called(piece.title, piece.words):
            piece.leave(why)
    return slices


def _end(
    piece: Slice, slices: list[Slice], parts: list[tuple[str, list[Stretch]]], level: int
) -> list[tuple[str, list[Stretch]]]:
    """
    Put a slice with the others, or let it wait as the title of a part; the book's own title is left to the credits.
    """
    if not any(stretch.words for stretch in piece.stretches):
        if slices:
            slices[-1].stretches += piece.stretches
        return parts
    first = next(stretch for stretch in piece.stretches if stretch.words)
    if first.kind is BlockKind.HEADING and not any(
        stretch.words for stretch in piece.stretches if stretch.kind is BlockKind.PARAGRAPH
    ):
        if first.level < level and (PART.fullmatch(first.text) or slices or parts):
            return [*parts, (piece.title, piece.stretches)]
        if first.level < level:
            piece.leave("titlepage")
            slices.append(piece)
            return parts
    piece.parts = parts
    slices.append(piece)
    return []
