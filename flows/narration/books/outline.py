"""
What is in a book, before anything is sent: chapters with words, minutes, bytes and USD, and what is left out.
"""

from typing import Any

from flows.narration import cost
from flows.narration.books.model import Book
from flows.narration.segments import Cutting, cut


def outline(book: Book, *, cutting: Cutting, model: str, speed: float = 1.0) -> dict[str, Any]:
    """
    Return the outline as data; equal segments are billed once, so that the total can be less than its chapters.
    """
    rows: list[dict[str, Any]] = []
    distinct: set[str] = set()
    for chapter in book.chapters:
        texts = [segment.text for segment in cut(chapter.prose, cutting=cutting).segments]
        distinct |= set(texts)
        size = sum(map(cost.billed_bytes, texts))
        rows.append(
            {
                "source": chapter.source,
                "name": chapter.name,
                "title": chapter.title,
                "words": chapter.words,
                "minutes": round(cost.hours(size, speed=speed) * 60, 2),
                "segments": len(texts),
                "bytes": size,
                "usd": cost.usd(size, model=model),
            }
        )
    size = sum(map(cost.billed_bytes, distinct))
    return {
        "title": book.title,
        "authors": list(book.authors),
        "narrator": book.narrator,
        "language": book.language,
        "publisher": book.publisher,
        "date": book.date,
        "identifier": book.identifier,
        "digest": book.digest,
        "chapters": rows,
        "words": sum(chapter.words for chapter in book.chapters),
        "minutes": round(sum(row["minutes"] for row in rows), 2),
        "bytes": size,
        "usd": cost.usd(size, model=model),
        "left_out": [
            {
                "source": left.source,
                "title": left.title,
                "href": left.href,
                "why": left.why,
                "words": left.words,
                "how": left.how,
            }
            for left in book.left_out
        ],
        "warnings": list(book.warnings),
    }


def table(said: dict[str, Any]) -> str:
    """
    Write an outline for people.
    """
    authors = f" by {', '.join(said['authors'])}" if said["authors"] else ""
    lines = [f"{said['title']}{authors} ({said['language'] or 'language unknown'})", ""]
    width = max([len(row["title"]) for row in said["chapters"]] + [7])
    width = min(width, 60)
    lines.append(f"     {'chapter':<{width}}  {'words':>7}  {'minutes':>7}  {'bytes':>9}  {'USD':>8}")
    for place, row in enumerate(said["chapters"], 1):
        title = row["title"] if len(row["title"]) <= width else f"{row['title'][: width - 1]}…"
        lines.append(
            f"{place:>3}  {title:<{width}}  {row['words']:>7,}  {row['minutes']:>7.1f}  {row['bytes']:>9,}  {row['usd']:>8.4f}"
        )
    lines.append(
        f"     {'in all':<{width}}  {said['words']:>7,}  {said['minutes']:>7.1f}  {said['bytes']:>9,}  {said['usd']:>8.4f}"
    )
    if said["left_out"]:
        lines += ["", "Left out:"]
        for left in said["left_out"]:
            words = f", {left['words']:,} words" if left["words"] else ""
            lines.append(f"  {left['title']} ({left['href']}): {left['why']}{words}. {left['how']}")
    if said["warnings"]:
        lines += ["", "Warnings:", *(f"  {warning}" for warning in said["warnings"])]
    return "\n".join(lines)
