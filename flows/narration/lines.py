"""
Sentences → lines that a person can read while they are spoken: at most two of 42 columns at once.

A Chinese or Japanese character takes two columns. Text is broken where a typesetter would, and read from right to left it
stays as it is: to turn it is the player's part.
"""

import re
import unicodedata
from bisect import bisect_right
from functools import lru_cache
from itertools import pairwise

from flows.narration.prose import runs_on
from flows.narration.segments import CUE, seam

COLUMNS = 42
"""Columns of a line: what broadcasters allow."""

_NOT_FIRST = frozenset(
    "、。，．：；？！）］｝〕〉》」』】〙〗〟’”｠»›,.:;?!)]}%…‥・ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ々〻ゝゞヽヾ゛゜～〜℃％｡､｣ｰ"
)
_NOT_LAST = frozenset("（［｛〔〈《「『【〘〖〝‘“｟«‹([{$£¥＄￥￡｢")
_ENDS = re.compile(r"[.!?…。！？｡؟۔।॥]+[”’»\"'\)\]」』）]*\s*$")
_CLAUSE = re.compile(r"[;:–—؛；：]+[”’»\"'\)\]」』）]*\s*$")
_COMMA = re.compile(r"[,،，、､]+[”’»\"'\)\]」』）]*\s*$")
_CONJUNCTION = re.compile(r"(?:and|or|but|nor|because|which|who|while|when|und|aber|et|ou|mais|y|o|pero|e|ma)\s", re.I)
_PIECE, _WORD, _WITHIN = 12.0, 6.0, 60.0


def shown(text: str) -> str:
    """
    Return a segment's text as it is heard: without what directs the voice.
    """
    return " ".join(CUE.sub(" ", text).split()) if "[" in text or "<|" in text else text.strip()


@lru_cache(maxsize=4096)
def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def columns(text: str) -> int:
    """
    Count the columns that *text* takes once it is shown.
    """
    if text.isascii() and "[" not in text and "<|" not in text:
        return len(text)
    return sum(map(_columns, CUE.sub("", text) if "[" in text or "<|" in text else text))


def clauses(text: str) -> list[tuple[int, int]]:
    """
    Part a sentence into slices that meet, each of which two lines hold; where it fits, it stays whole.

    Of all ways to do so the best is taken: few parts, of about one length, that end where a reader would breathe.
    """
    if columns(text) <= COLUMNS:
        return [(0, len(text))]
    room = _Room(text)
    marks = room.marks
    if room.fits(0, len(marks) - 1):
        return [(0, len(text))]
    whole = room.columns(0, len(marks) - 1)
    even = whole / max(2, -(-whole // (2 * COLUMNS - 8)))
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(marks)):
        cost = _cost(text, marks[end], room.places)
        ways = []
        for begin in range(end - 1, -1, -1):
            wide = room.columns(begin, end)
            if wide > 2 * COLUMNS + 1 and begin < end - 1:
                break
            if begin == end - 1 or room.fits(begin, end):
                ways.append((best[begin][0] + cost + _PIECE + 30 * (wide / even - 1) ** 2, begin))
        best.append(min(ways))
    ends = [len(marks) - 1]
    while ends[-1]:
        ends.append(best[ends[-1]][1])
    ends.reverse()
    return [(marks[low], marks[high]) for low, high in pairwise(ends)]


def lines(text: str) -> list[str]:
    """
    Break what is shown at once into one line or two, the longer one no longer than need be.
    """
    text = text.strip()
    if columns(text) <= COLUMNS:
        return [text]
    room = _Room(text)
    last = len(room.marks) - 1
    ways = [
        (max(wide) > COLUMNS, 1.5 * _cost(text, room.marks[mark], room.places) + 0.7 * abs(wide[0] - wide[1]), mark)
        for mark in range(1, last)
        for wide in [(room.columns(0, mark), room.columns(mark, last))]
    ]
    if not ways:
        return [text]
    at = room.marks[min(ways)[2]]
    return [text[:at].rstrip(), text[at:].lstrip()]


class _Room:
    """
    How much room the stretches between *marks* take, the places at which a text may be broken.
    """

    def __init__(self, text: str) -> None:
        self.places = _places(text)
        self.marks = [0, *sorted(self.places), len(text)]
        self.begins, self.ends = [0], [0]
        for low, high in pairwise(self.marks):
            piece = text[low:high]
            self.ends.append(self.begins[-1] + columns(piece.rstrip()))
            self.begins.append(self.begins[-1] + columns(piece))

    def columns(self, low: int, high: int) -> int:
        """
        Count the columns from one mark to another, without a blank at the end.
        """
        return self.ends[high] - self.begins[low]

    def fits(self, low: int, high: int) -> bool:
        """
        Tell whether two lines hold it.
        """
        if self.columns(low, high) <= COLUMNS:
            return True
        middle = bisect_right(self.ends, self.begins[low] + COLUMNS, low, high + 1) - 1
        return low < middle and self.columns(middle, high) <= COLUMNS


def _places(text: str) -> dict[int, float]:
    """
    Return where *text* may be broken, and what that costs; within a word only where no line would hold it.
    """
    found: dict[int, float] = {}
    run = 0
    cues = {at for cue in CUE.finditer(text) for at in range(cue.start() + 1, cue.end())}
    for at in range(1, len(text)):
        before, after = text[at - 1], text[at]
        if at in cues:
            continue
        run = 0 if before == " " else run + _columns(before)
        if before == " " and after != " ":
            found[at] = _WORD
        elif after == " " or after in _NOT_FIRST or before in _NOT_LAST:
            continue
        elif (runs_on(before) or runs_on(after)) and seam(text, at, 0):
            found[at] = _WORD
            run = 0
        elif run >= COLUMNS - 6 and seam(text, at, 0):
            found[at] = _WITHIN
            run = 0
    return found


def _cost(text: str, at: int, places: dict[int, float]) -> float:
    """
    What it costs to show a new part at *at*.
    """
    if at == len(text):
        return 0.0
    before = text[max(0, at - 8) : at]
    if _ENDS.search(before):
        return 0.0
    if _CLAUSE.search(before):
        return 0.5
    if _COMMA.search(before):
        return 2.0
    return 4.0 if _CONJUNCTION.match(text, at) else places[at]
