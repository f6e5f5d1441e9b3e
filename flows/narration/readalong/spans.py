"""
Sentences → spans in the text of a book, so that each can be led to; nothing else is touched.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.narration.books.model import Origin
from flows.narration.readalong.edits import Tag, Written

_INLINE = frozenset(
    "a abbr acronym b bdi bdo big br cite code data del dfn em font i img ins kbd label mark q rb rp rt rtc ruby s samp small "  # noqa: SIM905
    "span strike strong sub sup time tt u var wbr".split()
)
_NO_SPAN = frozenset("table thead tbody tfoot tr colgroup ul ol dl select optgroup html head svg math audio video".split())  # noqa: SIM905
_READING = frozenset(("rt", "rp", "rtc"))


@dataclass
class Passage:
    """
    A sentence of a chapter: its words, its milliseconds in *file*, and where it stands in the book.

    *href* is "" for what was made. *ids* are the spans it became, each with its share of the sentence.
    """

    text: str
    file: str
    start: int
    end: int
    href: str = ""
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    ids: list[tuple[str, float]] = field(default_factory=list)


class _Slice(NamedTuple):
    first: int
    last: int
    letters: int


def runs_of(origin: Origin, first: int, last: int) -> list[tuple[int, int, int]]:
    """
    Return the text nodes, and the slices of them, that a slice of a block's text stands in.
    """
    found = []
    at = max(0, bisect_right(origin.runs, first, key=lambda run: run.at) - 1)
    for run in origin.runs[at:]:
        low, high = max(first, run.at), min(last, run.at + run.length)
        if low < high:
            found.append((run.node, run.offset + low - run.at, run.offset + high - run.at))
        elif run.at >= last:
            break
    return found


def wrap(document: Written, passages: Iterable[Passage]) -> list[Passage]:
    """
    Put each passage into spans, and return those that have one, in the order of the document.

    A passage becomes one span; it becomes several where one would cross other elements.
    """
    prefix = "sentence-"
    while prefix in document.source:
        prefix += "n-"
    placed = []
    for passage in passages:
        slices = [
            _Slice(*place, last - first)
            for node, first, last in passage.runs
            if (place := document.place(node, first, last)) and _may_hold(document, place[0])
        ]
        if slices:
            placed.append((slices, passage))
    placed.sort(key=lambda one: one[0][0].first)
    count = 0
    behind = 0
    for slices, passage in placed:
        spans = _grouped(document, slices, behind)
        whole = sum(one.letters for one in spans) or 1
        for span in spans:
            count += 1
            behind = span.last
            around = document.around(span.first)
            name = f"{around.prefix if around else ''}span"
            document.put(span.first, f'<{name} id="{prefix}{count}">')
            document.put(span.last, f"</{name}>", early=True)
            passage.ids.append((f"{prefix}{count}", span.letters / whole))
    return [passage for _, passage in placed if passage.ids]


def _may_hold(document: Written, at: int) -> bool:
    """
    Tell whether there may be a span at a place.
    """
    around = document.around(at)
    return around is not None and around.local not in _NO_SPAN


def _grouped(document: Written, slices: Sequence[_Slice], behind: int) -> list[_Slice]:
    """
    Group slices into as few spans as may be.
    """
    spans: list[_Slice] = []
    at = 0
    while at < len(slices):
        if slices[at].first < behind:
            at += 1
            continue
        for end in range(len(slices), at, -1):
            whole = _balanced(document, slices[at].first, slices[end - 1].last, behind)
            if whole:
                spans.append(_Slice(*whole, sum(one.letters for one in slices[at:end])))
                behind, at = whole[1], end
                break
        else:
            at += 1
    return spans


def _balanced(document: Written, first: int, last: int, behind: int) -> tuple[int, int] | None:
    """
    Return a slice of the source that holds whole elements only, made a little larger where need be; `None` if there is none.
    """
    low, high = _whole(document, first, last)
    if low < behind or _speaks(document, low, first) or _speaks(document, last, high) or not _may_hold(document, low):
        return None
    tags = document.between(low, high)
    if any(tag.local not in _INLINE for tag in tags) or (low, high) != _whole(document, low, high):
        return None
    return low, high


def _whole(document: Written, first: int, last: int) -> tuple[int, int]:
    opened: list[Tag] = []
    low = first
    for tag in document.between(first, last):
        if tag.kind == "open":
            opened.append(tag)
        elif tag.kind == "close":
            if opened:
                opened.pop()
            elif tag.other:
                low = min(low, tag.other.first)
    return low, max([last, *(tag.other.last for tag in opened if tag.other)])


def _speaks(document: Written, first: int, last: int) -> bool:
    """
    Tell whether there is text in a slice of the source that is no reading of what it stands beside.
    """
    rest = document.source[first:last]
    if "<" not in rest:
        return bool(rest.strip())
    at, reading = first, 0
    for tag in (*document.between(first, last), None):
        text = document.source[at : tag.first if tag else last]
        if not reading and re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).strip():
            return True
        if tag:
            at = tag.last
            if tag.local in _READING and tag.kind != "empty":
                reading += 1 if tag.kind == "open" else -1
    return False
