"""
A path → a book: which reader reads it, and what a plan changes.
"""

import hashlib
import re
from pathlib import Path

from flows.narration.books import plan as plans
from flows.narration.books.chapters import Slice, assemble
from flows.narration.books.epub import read_epub
from flows.narration.books.files import files_of, read_files
from flows.narration.books.model import Book, Cover
from flows.narration.books.plan import LANGUAGE, BookPlan, ChapterPlan
from flows.narration.errors import UsageError
from flows.narration.files import legible, status
from flows.narration.suffixes import CHAPTERS, WHOLE

SUFFIXES = WHOLE + CHAPTERS


def read_book(path: Path, plan: BookPlan | None = None, *, encoding: str | None = None) -> Book:
    """
    Read the book at *path* as *plan* wants it; `UsageError` for what cannot be read and for a plan that does not fit.

    A cover that the plan names is looked for beside the book.
    """
    plan = plan or BookPlan()
    found = status(path)
    if found is None:
        raise UsageError(f"{path} does not exist.", f"Give a book ({', '.join(SUFFIXES)}) or a folder of chapters.")
    if not path.is_dir() and (path.suffix.lower() not in SUFFIXES or not path.is_file()):
        raise UsageError(f"{path} is no book.", f"Give one of {', '.join(SUFFIXES)}, or a folder of chapters.")
    warnings: list[str] = []
    if path.suffix.lower() == ".epub" and not path.is_dir():
        package, slices = read_epub(path, plan, warnings)
    else:
        package, slices = read_files(path, plan, warnings, encoding=encoding)
    slices = _named_apart(slices)
    chapters, left_out = assemble(slices, plan)
    if not chapters:
        raise UsageError(
            f"There is nothing to speak in {path}.", "Bring in what is left out with a plan, or give another book."
        )
    language = plan.language or package.language.strip()
    if language and not re.fullmatch(LANGUAGE, language):
        warnings.append(f"The book's language, “{legible(language)}”, is no language code; name it in the plan.")
        language = ""
    return Book(
        title=plan.title or package.title or path.stem,
        authors=plan.authors or package.authors,
        narrator=plan.narrator or "",
        language=language,
        publisher=plan.publisher or package.publisher,
        date=plan.date or package.date,
        identifier=package.identifier,
        cover=_cover(path, plan) or package.cover,
        chapters=chapters,
        left_out=left_out,
        warnings=tuple(warnings),
        digest=_digest(path),
    )


def write_plan(book: Book, plan: BookPlan | None = None) -> str:
    """
    Write the plan that reads *book* as it is: all chapters, and all that is left out with `include = false`.
    """
    chapters = [ChapterPlan(source=chapter.source, title=chapter.title) for chapter in book.chapters]
    named = {chapter.source for chapter in chapters}
    left = [left for left in book.left_out if left.source not in named and left.words]
    whole = (plan or BookPlan()).model_copy(
        update={
            "title": book.title,
            "authors": book.authors,
            "narrator": book.narrator or None,
            "language": book.language or None,
            "publisher": book.publisher or None,
            "date": book.date or None,
            "chapters": (*chapters, *(ChapterPlan(source=one.source, title=None, include=False) for one in left)),
        }
    )
    notes = {one.source: f"{one.title}: {one.why}, {one.words:,} words" for one in left}
    notes |= {chapter.source: f"{chapter.words:,} words" for chapter in book.chapters}
    return plans.written(whole, notes)


def _named_apart(slices: list[Slice]) -> list[Slice]:
    """
    Give every slice a source of its own.
    """
    seen: dict[str, int] = {}
    for piece in slices:
        seen[piece.source] = seen.get(piece.source, 0) + 1
        if seen[piece.source] > 1:
            piece.source = f"{piece.source}~{seen[piece.source]}"
    return slices


def _cover(path: Path, plan: BookPlan) -> Cover | None:
    """
    Return the cover that a plan names.
    """
    if plan.cover is None:
        return None
    place = (path if path.is_dir() else path.parent) / plan.cover
    media = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}.get(place.suffix.lower())
    if media is None:
        raise UsageError(f"{plan.cover} cannot be a cover.", "Name a .jpg or .png file.")
    try:
        return Cover(place.read_bytes(), media)
    except OSError as error:
        raise UsageError(f"The cover {place} cannot be read: {error.strerror}.", "Check the plan's cover.") from error


def _digest(path: Path) -> str:
    """
    Digest a book's bytes; a folder's files with their names.
    """
    if not path.is_dir():
        with path.open("rb") as book:
            return hashlib.file_digest(book, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in files_of(path):
        whole.update(f"{file.relative_to(path).as_posix()}\0".encode())
        whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()
