"""
An EPUB → slices: documents in the order of the spine, parted where the navigation says.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flows.narration.books.archive import Archive, BrokenEntry, resolve
from flows.narration.books.chapters import Slice, first_words, is_title_page
from flows.narration.books.headings import by_headings
from flows.narration.books.markup import Element, Unparsable, find, first, local, parse, words_of
from flows.narration.books.package import Entry, Package, read_package
from flows.narration.books.plan import BookPlan
from flows.narration.books.rules import rule_for
from flows.narration.books.seen import look, opens_block
from flows.narration.books.stretches import Stretch
from flows.narration.books.walk import Walker
from flows.narration.books.wellknown import called, filed, guided
from flows.narration.errors import UsageError
from flows.narration.prose import BlockKind

_PART = re.compile(
    r"\W*(?:part|book|volume|section|teil|buch|band|partie|livre|tome|parte|libro|第.{1,5}[部編篇卷巻])\b.*", re.IGNORECASE
)
_CHAPTER = re.compile(
    r"\W*(?:(?:chapter|kapitel|chapitre|cap[ií]tulo|capitolo)\b.*|第.{1,5}[章回話话節节].*|\d+\W.*)", re.IGNORECASE
)


@dataclass
class Document:
    """
    A document of the spine, parsed.
    """

    href: str
    root: Element
    starts: dict[Element, int] = field(default_factory=dict)
    whole: list[int] = field(default_factory=list)


def read_epub(path: Path, plan: BookPlan, warnings: list[str]) -> tuple[Package, list[Slice]]:
    """
    Read the EPUB at *path*; `UsageError` where there is nothing to read in it.
    """
    archive = Archive(path, warnings)
    try:
        package = read_package(archive)
        documents = list(_documents(archive, package.documents))
        aside = [Slice(href, href.rpartition("/")[2], href, _walked(document), spoken=False) for href, document in
                 ((document.href, document) for document in _documents(archive, package.aside))]  # fmt: skip
    finally:
        archive.close()
    if not documents:
        raise UsageError(f"{path} has no document that can be read.", "Get the book from its source again.")
    for stretch in (stretch for piece in aside for stretch in piece.stretches):
        stretch.left = stretch.left or "linear"
    targets = _targets(documents)
    if not package.entries:
        warnings.append("The book has no navigation; its chapters are told by their headings.")
        return package, [*_by_headings(documents, package, plan, targets), *aside]
    if len(documents) == 1 and len(package.entries) == 1 and not package.entries[0].children:
        by_their_headings = _by_headings(documents, package, plan, targets)
        if len(by_their_headings) > 2:
            warnings.append("The book's navigation has but one entry; its chapters are told by their headings.")
            return package, [*by_their_headings, *aside]
    entries = list(_chosen(package.entries, plan.depth, 1, documents))
    _place(entries, documents, warnings)
    return package, [*_sliced(entries, documents, package, plan, targets), *aside]


def _documents(archive: Archive, hrefs: Iterable[str]) -> Iterator[Document]:
    """
    Parse documents; one that cannot be read becomes a warning.
    """
    for href in hrefs:
        try:
            yield Document(href, parse(archive.read(href), href, archive.warnings))
        except (BrokenEntry, Unparsable) as error:
            archive.warnings.append(error.fact)


def _walked(document: Document) -> list[Stretch]:
    """
    Walk a document that nothing begins in.
    """
    return Walker(document.href, document.root).walk()


def _targets(documents: list[Document]) -> dict[str, frozenset[str]]:
    """
    Return, for each document, the ids that marks of notes lead to.
    """
    found: dict[str, set[str]] = {}
    for document in documents:
        for link in find(document.root, "a"):
            href = link.get("href") or ""
            if "#" not in href or len(words_of(link)) > 8 or opens_block(link):
                continue
            parent = link.getparent()
            marks = (link, parent) if parent is not None and local(parent) == "sup" else (link,)
            if any(rule_for(look(mark)).name == "noteref" for mark in marks):
                place, fragment = resolve(document.href, href)
                found.setdefault(place, set()).add(fragment)
    return {href: frozenset(fragments) for href, fragments in found.items()}


@dataclass
class _Chosen:
    """
    An entry of the navigation that begins a chapter, or a part of the book.
    """

    entry: Entry
    is_part: bool


def _chosen(entries: list[Entry], depth: int | None, level: int, documents: list[Document]) -> Iterator[_Chosen]:
    """
    Choose the entries that begin chapters: the sections of a chapter do not, the chapters of a part do.
    """
    for entry in entries:
        split = bool(entry.children) and (_is_part(entry, len(entries), documents) if depth is None else level < depth)
        yield _Chosen(entry, split)
        if split:
            yield from _chosen(entry.children, depth, level + 1, documents)


def _is_part(entry: Entry, siblings: int, documents: list[Document]) -> bool:
    """
    Tell whether what stands below an entry are chapters: it says so, leads nowhere, is the whole book, or they are elsewhere.
    """
    if not entry.href or "part" in entry.types or _PART.fullmatch(entry.title):
        return True
    if _CHAPTER.fullmatch(entry.title) or "chapter" in entry.types:
        return False
    if siblings == 1 and len(documents) <= 2:
        return True
    return any(child.href != entry.href for child in entry.children)


def _place(chosen: list[_Chosen], documents: list[Document], warnings: list[str]) -> None:
    """
    Find where in the documents each entry begins.
    """
    places = {document.href: place for place, document in enumerate(documents)}
    ids: dict[str, dict[str, Element]] = {}
    lost: list[tuple[int, Document]] = []
    for number, one in enumerate(chosen):
        href, fragment = one.entry.href, one.entry.fragment
        if href not in places:
            if href:
                warnings.append(f"The navigation leads to {href}, which is not in the reading order (“{one.entry.title}”).")
            continue
        document = documents[places[href]]
        if fragment:
            if href not in ids:
                ids[href] = _ids(document.root)
            element = ids[href].get(fragment)
            if element is not None:
                document.starts.setdefault(element, number)
                continue
            warnings.append(f"The navigation leads to {href}#{fragment}, which is not there (“{one.entry.title}”).")
            lost.append((number, document))
        else:
            document.whole.append(number)
    for number, document in lost:
        if not document.whole and not document.starts:
            document.whole.append(number)


def _ids(root: Element) -> dict[str, Element]:
    """
    Return the elements that can be led to.
    """
    found: dict[str, Element] = {}
    for element in root.iter():
        for name in (element.get("id"), element.get("name") if local(element) == "a" else None):
            if name:
                found.setdefault(name, element)
    return found


def _sliced(
    chosen: list[_Chosen], documents: list[Document], package: Package, plan: BookPlan, targets: dict[str, frozenset[str]]
) -> list[Slice]:
    """
    Cut the documents where the chosen entries begin; what no entry names continues what is before it.
    """
    slices: list[Slice] = []
    parts: set[int] = set()
    orphans = [one for one in chosen if not one.entry.href and one.is_part]
    alike: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(chosen):
        alike.setdefault(_place_of(one), []).append(number)
    followers = {id(one): chosen[place + 1] if place + 1 < len(chosen) else None for place, one in enumerate(chosen)}
    for document in documents:
        walker = Walker(
            document.href, document.root, document.starts, targets.get(document.href, frozenset()), plan.ruby == "reading"
        )
        stretches = walker.walk()
        cuts = sorted((index, number) for number, index in walker.begun.items())
        cuts = [*((0, number) for number in document.whole), *cuts]
        groups = _grouped(cuts)
        head = stretches[: groups[0][0] if groups else len(stretches)]
        if head:
            _unnamed(head, document, package, slices)
        for place, (index, numbers) in enumerate(groups):
            end = groups[place + 1][0] if place + 1 < len(groups) else len(stretches)
            same = sorted({other for number in numbers for other in alike[_place_of(chosen[number])]})
            piece = _named([chosen[number] for number in same], stretches[index:end], package)
            if same and chosen[same[-1]].is_part:
                parts.add(len(slices))
            for orphan in orphans:
                if followers[id(orphan)] is chosen[same[0]]:
                    piece.parts.insert(0, (orphan.entry.title, []))
            slices.append(piece)
    return _with_parts(slices, parts, package)


def _grouped(cuts: list[tuple[int, int]]) -> list[tuple[int, list[int]]]:
    """
    Group cuts that fall on one place.
    """
    groups: dict[int, list[int]] = {}
    for index, number in cuts:
        groups.setdefault(index, []).append(number)
    return sorted(groups.items())


def _place_of(one: _Chosen) -> tuple[str, str]:
    """
    Return the place that an entry leads to.
    """
    return one.entry.href, one.entry.fragment


def _named(ones: list[_Chosen], stretches: list[Stretch], package: Package) -> Slice:
    """
    Make the slice that entries name, the innermost one giving the title, parts above it their own.
    """
    inner = ones[-1].entry
    source = f"{inner.href}#{inner.fragment}" if inner.fragment else inner.href
    title = inner.title or _heading(stretches)
    piece = Slice(source, title or first_words(stretches), inner.href, stretches, spoken=bool(title))
    titles = dict.fromkeys(one.entry.title for one in ones[:-1] if one.is_part and one.entry.title != inner.title)
    piece.parts = [(title, []) for title in titles]
    said = package.matter.get((inner.href, inner.fragment), frozenset()) | inner.types
    if why := guided(sorted(said)) or called(piece.title, piece.words):
        piece.leave(why)
    elif is_title_page(stretches, package.title, package.authors):
        piece.leave("titlepage")
    return piece


def _unnamed(stretches: list[Stretch], document: Document, package: Package, slices: list[Slice]) -> None:
    """
    Let what no entry names continue the chapter before it; what the book begins with is a chapter of its own.
    """
    title = _heading(stretches)
    piece = Slice(
        document.href, title or _page_title(document) or first_words(stretches), document.href, stretches, spoken=bool(title)
    )
    why = _why(piece, package)
    if document.href == package.navigation:
        why = "contents"
    if not why and not slices and is_title_page(stretches, package.title, package.authors):
        why = "titlepage"
    if why:
        piece.leave(why)
    kept = any(stretch.words and not stretch.left for stretch in stretches)
    if not slices or not kept or not any(stretch.words and not stretch.left for one in slices for stretch in one.stretches):
        if any(stretch.words for stretch in stretches):
            slices.append(piece)
        return
    last = next(one for one in reversed(slices) if any(stretch.words and not stretch.left for stretch in one.stretches))
    last.stretches += stretches


def _why(piece: Slice, package: Package) -> str:
    """
    Return why a document that is one slice is left out, "" where it is not.
    """
    said = guided(sorted(package.matter.get((piece.href, ""), frozenset())))
    return said or called(piece.title, piece.words) or filed(piece.href, piece.words)


def _with_parts(slices: list[Slice], parts: set[int], package: Package) -> list[Slice]:
    """
    Speak a part's title before its first chapter, unless the part has text of its own or is the whole book.
    """
    done: list[Slice] = []
    waiting: list[tuple[str, list[Stretch]]] = []
    for place, piece in enumerate(slices):
        kept = [stretch for stretch in piece.stretches if not stretch.left]
        text = any(stretch.kind is BlockKind.PARAGRAPH and stretch.words for stretch in kept)
        if place in parts and not text and place + 1 < len(slices):
            if is_title_page(kept, package.title, package.authors):
                piece.leave("titlepage")
                done.append(piece)
            else:
                waiting += [*piece.parts, (piece.title, kept)]
            continue
        piece.parts, waiting = [*waiting, *piece.parts], []
        done.append(piece)
    return done


def _by_headings(
    documents: list[Document], package: Package, plan: BookPlan, targets: dict[str, frozenset[str]]
) -> list[Slice]:
    """
    Tell chapters by their headings, where the book has no navigation.
    """
    if len(documents) == 1:
        document = documents[0]
        walker = Walker(document.href, document.root, {}, targets.get(document.href, frozenset()), plan.ruby == "reading")
        return by_headings(walker.walk(), document.href, package)
    slices: list[Slice] = []
    for document in documents:
        walker = Walker(document.href, document.root, {}, targets.get(document.href, frozenset()), plan.ruby == "reading")
        stretches = walker.walk()
        if title := _heading(stretches):
            piece = Slice(document.href, title, document.href, stretches)
            if why := _why(piece, package):
                piece.leave(why)
            slices.append(piece)
        elif stretches:
            _unnamed(stretches, document, package, slices)
    return slices


def _heading(stretches: list[Stretch]) -> str:
    """
    Return the first heading.
    """
    return next((stretch.text for stretch in stretches if stretch.kind is BlockKind.HEADING), "")


def _page_title(document: Document) -> str:
    """
    Return what a document's head calls it.
    """
    title = first(document.root, "title")
    return words_of(title) if title is not None else ""
