"""
Files that are no EPUB → slices: a folder of chapters, or one text, Markdown, HTML or Word file with headings.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from natsort import natsort_keygen, ns

from flows.narration import ours
from flows.narration.books.chapters import Slice
from flows.narration.books.docx import read_docx
from flows.narration.books.headings import by_headings
from flows.narration.books.markup import Element, find, first, parse, words_of
from flows.narration.books.model import Cover
from flows.narration.books.package import Package
from flows.narration.books.plain import read_plain
from flows.narration.books.plan import BookPlan
from flows.narration.books.stretches import Stretch
from flows.narration.books.walk import Walker
from flows.narration.errors import UsageError
from flows.narration.marked import markdown
from flows.narration.prose import Block, BlockKind
from flows.narration.scripts import clean_text, read_bytes
from flows.narration.suffixes import CHAPTERS

_COVERS = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_FOOTNOTE = re.compile(r"\s{0,3}\[\^[^\]]+\]:")
_NUMBERED = re.compile(r"^\s*\d+\s*[-_. ]+\s*")
_natural = natsort_keygen(alg=ns.PATH | ns.IGNORECASE)


def files_of(folder: Path) -> list[Path]:
    """
    List the chapters in a folder in natural order; hidden files, README.md, pages made here and links out of it are none.
    """
    root = folder.resolve()
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in CHAPTERS
        and path.is_file()
        and path.name.lower() != "readme.md"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.resolve().is_relative_to(root)
        and not (path.name == ours.INDEX and ours.is_page(path))
    ]
    return sorted(found, key=lambda path: _natural(path.relative_to(folder).as_posix()))


def read_files(path: Path, plan: BookPlan, warnings: list[str], *, encoding: str | None) -> tuple[Package, list[Slice]]:
    """
    Read a file or a folder; `UsageError` where it cannot be read.
    """
    package = Package()
    if path.is_dir():
        files = files_of(path)
        if not files:
            raise UsageError(f"There is no chapter in {path}.", f"Put {', '.join(CHAPTERS)} files there.")
        package.cover = next(_covers(path), None)
        return package, [_chapter(file, file.relative_to(path).as_posix(), plan, warnings, encoding) for file in files]
    if path.suffix.lower() == ".docx":
        package, stretches = read_docx(path, warnings)
        package.title = package.title or _title(stretches)
        return package, by_headings(stretches, path.name, package, path.stem)
    stretches = _stretches(path, path.name, plan, warnings, encoding, package)
    package.title = package.title or _title(stretches)
    slices = by_headings(stretches, path.name, package, path.stem)
    if len(slices) == 1:
        warnings.append(f"{path.name} has no headings that tell chapters; it is one chapter.")
    return package, slices


def _chapter(file: Path, name: str, plan: BookPlan, warnings: list[str], encoding: str | None) -> Slice:
    """
    Read one file of a folder as one chapter; the name of a file is shown, but not spoken.
    """
    stretches = _stretches(file, name, plan, warnings, encoding, Package())
    title = next((stretch.text for stretch in stretches if stretch.kind is BlockKind.HEADING and not stretch.left), "")
    plain_name = _NUMBERED.sub("", file.stem).replace("_", " ").strip() or file.stem
    return Slice(name, title or plain_name, name, stretches, spoken=bool(title))


def _stretches(
    path: Path, href: str, plan: BookPlan, warnings: list[str], encoding: str | None, package: Package
) -> list[Stretch]:
    """
    Read one file as stretches, and what it says of itself into *package*.
    """
    data = read_bytes(path)
    match path.suffix.lower():
        case ".md":
            return _markdown(clean_text(data, path, encoding=encoding), href, package)
        case ".txt":
            return read_plain(clean_text(data, path, encoding=encoding), href, package)
    root = parse(data, href, warnings)
    _head(root, package)
    return Walker(href, root, reading=plan.ruby == "reading").walk()


def _head(root: Element, package: Package) -> None:
    """
    Read what an HTML file's head says.
    """
    title = first(root, "title")
    package.title = words_of(title) if title is not None else ""
    package.language = root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""
    for meta in find(root, "meta"):
        if (meta.get("name") or "").lower() in ("author", "dc.creator", "dcterms.creator") and meta.get("content"):
            package.authors = (*package.authors, str(meta.get("content")))


def _markdown(text: str, href: str, package: Package) -> list[Stretch]:
    """
    Read Markdown; its footnotes, which come last, are left out.
    """
    prose = markdown(text)
    rows = text.split("\n")
    stretches = [Stretch(None, "", href, line=note.line, notes=(note.what,)) for note in prose.notes]
    footnotes = False
    for block in prose.blocks:
        row = rows[block.line - 1] if block.line <= len(rows) else ""
        footnotes = footnotes or bool(_FOOTNOTE.match(row))
        stretches.append(_stretch(block, href, _level(block, rows), "notes" if footnotes else ""))
    package.title = (prose.title or "") if rows[0].rstrip() == "---" else ""
    return sorted(stretches, key=lambda stretch: (stretch.left == "notes", stretch.line))


def _stretch(block: Block, href: str, level: int, left: str) -> Stretch:
    """
    Make a stretch of a block that has lines.
    """
    return Stretch(block.kind, block.text, href, level=level, left=left, line=block.line, turns=block.turns)


def _level(block: Block, rows: list[str]) -> int:
    """
    Return the level of a heading as it is written.
    """
    if block.kind is not BlockKind.HEADING:
        return 0
    if signs := re.match(r"[\s>]*(#{1,6})(?:\s|$)", rows[block.line - 1]):
        return len(signs[1])
    under = next((row.strip() for row in rows[block.line :] if re.fullmatch(r"[\s>]*(?:=+|-+)\s*", row)), "")
    return 1 if under.endswith("=") else 2


def _title(stretches: list[Stretch]) -> str:
    """
    Return the topmost heading, where there is but one of its level.
    """
    headings = [stretch for stretch in stretches if stretch.kind is BlockKind.HEADING and not stretch.left]
    top = [stretch for stretch in headings if stretch.level == min(one.level for one in headings)]
    return top[0].text if len(top) == 1 and len(headings) > 1 else ""


def _covers(folder: Path) -> Iterator[Cover]:
    """
    Give the pictures in a folder that are called cover.
    """
    for path in sorted(folder.iterdir()):
        if path.stem.lower() == "cover" and path.suffix.lower() in _COVERS and path.is_file():
            yield Cover(path.read_bytes(), _COVERS[path.suffix.lower()])
