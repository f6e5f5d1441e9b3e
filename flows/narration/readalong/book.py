"""
A book and its narration → an EPUB 3 with media overlays.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flows.narration import captions
from flows.narration.books import Book, Chapter
from flows.narration.books.archive import Archive, Packing, resolve
from flows.narration.books.markup import Unparsable, decode, parse, serialized
from flows.narration.books.package import MIMETYPE, Entry, package_place, read_package
from flows.narration.deliverables import BookFile, ChapterEntry
from flows.narration.errors import UsageError
from flows.narration.files import replacing
from flows.narration.readalong.edits import Written
from flows.narration.readalong.made import PLACE, make
from flows.narration.readalong.overlay import clips_of, relative, smil
from flows.narration.readalong.package import ACTIVE, Changes, Item, PackageDocument, navigation
from flows.narration.readalong.spans import Passage, runs_of, wrap

SCHEMA = 1
"""Raised when the same book becomes another file."""

MARK = "narrate:{digest}"
"""What is said at the end of the file: what it was made from."""

CSS = f".{ACTIVE} {{ background-color: #ffe9a8; color: #000; }}\n"
_DECLARED = re.compile(r"""(\A\s*<\?xml[^>]*?\bencoding\s*=\s*["'])[\w.:-]+""")
_CHARSET = re.compile(r"""(<meta[^>]{0,200}?\bcharset\s*=\s*["']?)[\w.:-]+""", re.I)


@dataclass
class _Source:
    """
    The entries that a book begins with: some in a zip file, some made.
    """

    place: str
    chapters: tuple[Chapter, ...]
    made: dict[str, bytes]
    archive: Archive | None = None
    navigation: list[Entry] = field(default_factory=list)

    def read(self, name: str) -> bytes:
        """
        Return an entry; `UsageError` where it is larger than a book's may be.
        """
        if name in self.made or self.archive is None:
            return self.made[name]
        return self.archive.read(name)

    @property
    def names(self) -> list[str]:
        """
        All entries but the mimetype, in their order.
        """
        own = [] if self.archive is None else [name for name in self.archive.infos if _is_file(name)]
        return list(dict.fromkeys([*own, *self.made]))

    def find(self, href: str) -> str:
        """
        Return the entry that an address in the package leads to.
        """
        name = resolve(self.place, href)[0]
        return (self.archive.find(name) if self.archive else None) or name


def read_along(source: Path, book: Book, record: BookFile, *, folder: Path, target: Path) -> bool:
    """
    Make an EPUB at *target* of the book at *source*, read as *book*, and its narration in *folder*, which *record* tells of.

    Its text is the book's own, with sentences wrapped in spans; a book that is no EPUB becomes one. Says whether it had to be
    made: one that is there from the same text and audio stays. `UsageError` where the book is not what was narrated, or cannot
    be unpacked, and where *target* is another's file.
    """
    passages = list(_passages(folder, book.chapters, record))
    digest = _digest(book, record, passages)
    if target.exists():
        mark = _mark(target)
        if mark is None:
            raise UsageError(f"{target} was not made here and would be overwritten.", "Move it away, or give another --out.")
        if mark == digest:
            return False
    archive = Archive(source, []) if source.suffix.lower() == ".epub" and not source.is_dir() else None
    try:
        begun = _opened(archive, book)
        if archive is None:
            passages = list(_passages(folder, begun.chapters, record))
        made = _made(begun, record, passages)
        audio = {name: folder / file for file, name in made.audio.items()}
        with (
            replacing(target) as temporary,
            Packing(temporary, mimetype=MIMETYPE, comment=MARK.format(digest=digest)) as packing,
        ):
            for name in [*begun.names, *(name for name in made.changed if name not in begun.names)]:
                if name not in made.gone:
                    packing.add(name, made.changed[name] if name in made.changed else begun.read(name))
            for name, path in audio.items():
                packing.add_file(name, path)
    finally:
        if archive:
            archive.close()
    return True


def _is_file(name: str) -> bool:
    """
    Tell whether an entry is a file that may stand where it says.
    """
    safe = not name.startswith("/") and ".." not in name.split("/") and not name.endswith("/")
    return safe and name not in ("mimetype", "META-INF/signatures.xml")


def _opened(archive: Archive | None, book: Book) -> _Source:
    if archive is None:
        made = make(book)
        return _Source(PLACE, made.chapters, made.entries)
    package = read_package(archive)
    return _Source(package_place(archive), book.chapters, {}, archive, package.entries)


def _passages(folder: Path, chapters: tuple[Chapter, ...], record: BookFile) -> Iterator[Passage]:
    """
    Give all sentences of a book's chapters, in order, with what is known of where they stand.
    """
    by_source = {chapter.source: chapter for chapter in chapters}
    sentences = {
        audio: iter(captions.sentences_of(folder, record, audio, places)) for audio, places in captions.by_file(record).items()
    }
    for entry in record.chapters:
        chapter = by_source.get(entry.source) if entry.number is not None else None
        if entry.number is not None:
            _refuse_changed(chapter, entry, record)
        for place in entry.segments:
            for sentence in next(sentences[place.file]):
                said = place.text[sentence.first : sentence.last].strip()
                passage = Passage(said, place.file, round(sentence.start * 1000), round(sentence.end * 1000))
                if chapter and (origin := chapter.origins[place.block]) and origin.runs:
                    block = chapter.prose.blocks[place.block].text
                    first, last = (
                        written(place.text, block, place.first, place.last, at) for at in (sentence.first, sentence.last)
                    )
                    passage.href = origin.href
                    passage.runs = runs_of(origin, first, first + len(block[first:last].rstrip()))
                yield passage


def written(sent: str, block: str, first: int, last: int, offset: int) -> int:
    """
    Return the place in a block's text of what is at *offset* of its slice *first* to *last* as it was *sent*.
    """
    first += len(block[first:last]) - len(block[first:last].lstrip())
    if len(sent) == len(block[first:last].rstrip()):
        return first + offset
    at = first
    for letter in sent[:offset]:
        at += 2 if letter in "()" and block[at : at + 2] in ("<|", "|>") else 1
    return min(at, last)


def _refuse_changed(chapter: Chapter | None, entry: ChapterEntry, record: BookFile) -> None:
    text = "\n\n".join(block.text for block in chapter.prose.blocks) if chapter else ""
    if hashlib.sha256(text.encode()).hexdigest() != entry.text:
        raise UsageError(f"{record.source} is not what was narrated: {entry.title} has changed.", "Narrate the book again.")


def _digest(book: Book, record: BookFile, passages: list[Passage]) -> str:
    recipe = {
        "schema": SCHEMA,
        "book": book.digest,
        "said": [book.title, book.language, book.authors, book.publisher, book.date, record.narrator],
        "files": [(one.file, one.sha256) for one in record.files if one.role == "chapter"],
        "passages": [(one.text, one.file, one.start, one.end) for one in passages],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def is_ours(path: Path) -> bool:
    """
    Say whether a read-along book at *path* was made here.
    """
    return _mark(path) is not None


def _mark(path: Path) -> str | None:
    """
    Return what a file of ours was made from, `None` for any other.
    """
    try:
        archive = Archive(path, [])
    except UsageError:
        return None
    archive.close()
    found = re.fullmatch(MARK.format(digest="([0-9a-f]{64})"), archive.comment)
    return found[1] if found else None


@dataclass
class _Made:
    changed: dict[str, bytes]
    gone: set[str]
    audio: dict[str, str]


def _made(source: _Source, record: BookFile, passages: list[Passage]) -> _Made:
    """
    Change the documents and the package, and add what there was not.
    """
    package = PackageDocument(
        decode(source.read(source.place), [], source.place).removeprefix("\ufeff"), source.place, source.find
    )
    base = posixpath.dirname(source.place)
    folder = _free(source, posixpath.join(base, "read-along"))
    css = f"{folder}/read-along.css"
    documents, order = _wrapped(source, passages, old=package.is_old)
    for name, document in documents.items():
        if order.get(name) and (head := document.first("head")) and head.other:
            link = f'<{head.prefix}link rel="stylesheet" type="text/css" href="{relative(name, css)}"/>'
            document.put(head.other.first, link)
    lengths = {one.file: round(one.seconds * 1000) for one in record.files if one.role == "chapter"}
    audio = {
        file: f"{folder}/{number:03d}.mp3"
        for number, file in enumerate([name for name in lengths if any(one.file == name and one.ids for one in passages)], 1)
    }
    clips = clips_of(passages, lengths=lengths)
    items = [Item(package.free(f"audio-{number}"), entry, "audio/mpeg") for number, entry in enumerate(audio.values(), 1)]
    items.append(Item(package.free("read-along-css"), css, "text/css"))
    overlays: dict[str, tuple[str, int]] = {}
    changed = {css: CSS.encode()}
    for number, (name, own) in enumerate(((name, own) for name, own in order.items() if own), 1):
        here = f"{folder}/{number:03d}.smil"
        said = [clip for passage in own for clip in clips[id(passage)]]
        changed[here] = smil(said, here=here, document=name, files=audio).encode()
        key = package.free(f"overlay-{number}")
        items.append(Item(key, here, "application/smil+xml"))
        overlays[name] = key, sum(clip.end - clip.start for clip in said)
    changes = Changes(
        items=items,
        overlays=overlays,
        narrator=record.narrator,
        modified=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        there=source.names,
    )
    if package.is_old:
        _upgrade(source, record, package, documents, changes, changed)
    changed |= {name: document.changed().encode() for name, document in documents.items() if document.edits}
    former = set(package.former)
    changed[source.place] = package.changed(changes).encode()
    return _Made(changed, former, audio)


def _free(source: _Source, name: str) -> str:
    """
    Return a name below which the book has nothing.
    """
    name = name.removeprefix("/")
    while any(one.casefold().startswith(name) for one in source.names):
        name += "-n"
    return name


def _wrapped(source: _Source, passages: list[Passage], *, old: bool) -> tuple[dict[str, Written], dict[str, list[Passage]]]:
    """
    Wrap the sentences of each document; return the documents, and the passages of each in order.
    """
    by_document: dict[str, list[Passage]] = {}
    for passage in passages:
        if passage.href and passage.runs:
            by_document.setdefault(passage.href, []).append(passage)
    documents = {name: opened(source.read(name), name) for name in by_document}
    return documents, {name: wrap(documents[name], own) for name, own in by_document.items()}


def opened(data: bytes, name: str) -> Written:
    """
    Open a document to be changed; one that is not well-formed is mended as browsers read it.
    """
    warnings: list[str] = []
    text = decode(data, [], name)
    root = parse(data, name, warnings)
    if any("well-formed" in warning for warning in warnings):
        return Written(serialized(root))
    if text.encode() != data and text.encode("utf-8") != data.removeprefix(b"\xef\xbb\xbf"):
        text = _CHARSET.sub(r"\1utf-8", _DECLARED.sub(r"\1utf-8", text.removeprefix("\ufeff")), count=1)
    document = Written(text)
    if not document.doctype or not re.search(r"PUBLIC|SYSTEM|\[", text[slice(*document.doctype)]):
        _spell_out(document)
    return document


def _upgrade(
    source: _Source,
    record: BookFile,
    package: PackageDocument,
    documents: dict[str, Written],
    changes: Changes,
    changed: dict[str, bytes],
) -> None:
    """
    Bring a book that is older to EPUB 3: its documents, its navigation, what it says of itself.
    """
    properties: dict[str, set[str]] = {}
    for name, tag in package.items.items():
        media = tag.get("media-type").strip().lower()
        if media in ("application/xhtml+xml", "text/html", "text/x-oeb1-document") and name in source.names:
            try:
                document = documents.setdefault(name, opened(source.read(name), name))
            except Unparsable:
                continue
            _modernized(document)
            found = {one.local for one in document.tags} & {"svg", "math", "script"}
            if found:
                properties[name] = {{"math": "mathml", "script": "scripted"}.get(one, one) for one in found}
    cover = next((tag.get("content") for tag in package.written.tags if tag.local == "meta" and tag.get("name") == "cover"), "")
    for name, tag in package.items.items():
        if cover and tag.get("id") == cover and tag.get("media-type").startswith("image/"):
            properties.setdefault(name, set()).add("cover-image")
    here = f"{posixpath.dirname(next(iter(changed)))}/nav.xhtml"
    entries = source.navigation or [
        Entry(one.title, next((place.href for place in one.segments if place.href), "") or "", "")
        for one in record.chapters
        if one.number is not None
    ]
    changed[here] = navigation(entries, here=here, title=record.title, language=record.language).encode()
    changes.items.append(Item(package.free("nav"), here, "application/xhtml+xml", ' properties="nav"'))
    changes.properties = properties
    changes.missing = {
        "title": record.title,
        "language": record.language or "und",
        "identifier": record.identifier or f"urn:sha256:{record.digest}",
    }


def _modernized(document: Written) -> None:
    """
    Give a document the doctype of EPUB 3, which knows no names for letters.
    """
    if document.doctype:
        document.replace(*document.doctype, "<!DOCTYPE html>")
    _spell_out(document)


def _spell_out(document: Written) -> None:
    """
    Write letters by number that have names nobody declared.
    """
    for first, last, value in document.entities:
        document.replace(first, last, "".join(f"&#{ord(letter)};" for letter in value))
    document.entities.clear()
