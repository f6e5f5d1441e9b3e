"""
Prose → segments: stretches of text that one request speaks.

Whole sentences of one paragraph are packed together. Between the text of a block and the texts of its segments nothing
is added and nothing gets lost: a segment is a slice, and slices meet.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain

from pydantic import BaseModel, ConfigDict, Field
from sentencex import get_sentence_boundaries

from flows.narration.prose import Block, BlockKind, Note, Prose, excerpt, runs_on


class Cutting(BaseModel):
    """
    How scripts are cut into segments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: str = Field(
        "en",
        pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$",
        description="Language of the scripts, whose rules for the ends of sentences are used (BCP 47 code).",
    )
    # bench/segment_size.py on 10.6 h of Sherlock Holmes: 400 / 600 / 800 bytes give 1.17 / 0.52 / 0.25 seams a minute
    # inside paragraphs, bill 281 / 376 / 456 bytes again for a changed word, and take 51.3 / 50.5 / 50.2 modelled minutes
    # at five slots. At 600 most seams are gone; beyond it changed words and bad takes cost more and nothing gets faster.
    segment_bytes: int = Field(
        600,
        title="Longest segment (bytes)",
        ge=40,
        le=5000,
        description="Longest text sent in one request, in UTF-8 bytes (15 bytes are about a second of speech).",
    )
    cues: bool = Field(
        False,
        title="Cues in brackets",
        description="Let [cues] and phonemes in the scripts direct the voice, instead of speaking them.",
    )


class Joint(StrEnum):
    """
    What follows a segment, and so how long a pause is right.
    """

    BREATH = "breath"
    SENTENCE = "sentence"
    PARAGRAPH = "paragraph"
    HEADING = "heading"
    SCENE_BREAK = "scene_break"
    END = "end"


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A stretch of text as it is sent, the *line* of the script on which it begins, and what follows it.

    *block* is the number of its block in the prose, *first* and *last* the slice of that block's text.
    """

    text: str
    line: int
    joint: Joint
    block: int = field(default=0, compare=False)
    first: int = field(default=0, compare=False)
    last: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Cut:
    """
    A script in segments, and what in it is not spoken as it is written.
    """

    segments: tuple[Segment, ...]
    notes: tuple[Note, ...]


# A sentence that is too long is cut where a reader would breathe, best places first; the end of a match is the place.
_CLOSERS = r"[”’»\"'\)\]]*"
_BREATHS = (
    re.compile(rf"[;:–—…؛]{_CLOSERS}(?=\s)|[；：。！？｡]"),
    re.compile(rf"[,،]{_CLOSERS}(?=\s)|[，、､]"),
    re.compile(r"(?=\s(?:and|or|but|nor|because|which|who|while|when|und|aber|et|ou|mais|y|o|pero|e|ma)\s)"),
    re.compile(r"(?=\s)"),
    re.compile(r"\u200b|[–—…](?=\w)"),
)
_CONJUNCTION = 12  # characters to look ahead for a whole conjunction
_FULL_STOPS = "。！？｡।॥။።។"
_SPOKEN = re.compile(r"[^\W_]")
_LETTER = re.compile(r"[^\W\d_]")
_PHONEMES = r"<\|phoneme_start\|>[^<>|\[\]]{1,200}<\|phoneme_end\|>"
_MARKUP = re.compile(rf"{_PHONEMES}|\[[^\[\]]*\]|<\|[^<>|\[\]]*\|>|[\[\]]|<\||\|>")
CUE = re.compile(rf"{_PHONEMES}|\[[^<>|\[\]]{{1,60}}\]")
_BRACKET = re.compile(r"<\||\|>|[\[\]]")
# What stays with the character before it although it is no mark: joiners, vowels of Thai and Lao, Hangul's parts, skin
# tones, tags; with the one behind it: the joiner, vowels of Thai and Lao that are written first, and viramas.
_STICKS_BEHIND = re.compile(
    "[\u200c\u200d\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u1160-\u11ff\ud7b0-\ud7ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)
_STICKS_AHEAD = re.compile("[\u200d\u0e40-\u0e44\u0ec0-\u0ec4]")
_VIRAMA = 9
_LEADING_JAMO = re.compile("[\u1100-\u115f\ua960-\ua97c]")
_HANGUL = re.compile("[\u1100-\u115f\ua960-\ua97c\uac00-\ud7a3]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
_WINDOW = 4096
"""
Characters handed to sentencex at once: in text that is not ASCII its time grows with the square of the sentences
(100,000 Chinese ones: 28 s).
"""


@dataclass(frozen=True, slots=True)
class _Sendable:
    """
    The text of a block as it is sent; *cues* are the slices of it that direct the voice and have to stay whole.

    *shortened* are the places in the text as it is written of which two characters are sent as one.
    """

    block: Block
    cues: tuple[tuple[int, int], ...]
    notes: tuple[Note, ...]
    shortened: tuple[int, ...]

    def written(self, offset: int) -> int:
        """
        Return the place in the text as it is written of what is at *offset* of the text as it is sent.
        """
        for place in self.shortened:
            if place >= offset:
                break
            offset += 1
        return offset

    def slice(self, first: int, last: int) -> tuple[str, int]:
        """
        Return a slice as it is sent, and its line.
        """
        text = self.block.text[first:last]
        return " ".join(text.split()), self.block.line_at(first + len(text) - len(text.lstrip()))

    def in_cue(self, offset: int) -> bool:
        """
        Tell whether a cut at *offset* would cut a cue.
        """
        at = bisect_left(self.cues, (offset,)) - 1
        return at >= 0 and offset < self.cues[at][1]

    def has(self, sign: re.Pattern[str], first: int, last: int) -> bool:
        """
        Tell whether there is a *sign* in a slice, outside its cues.
        """
        for start, end in self.cues[bisect_left(self.cues, (first,)) : bisect_left(self.cues, (last,))]:
            if sign.search(self.block.text, first, start):
                return True
            first = end
        return bool(sign.search(self.block.text, first, last))


def cut(prose: Prose, *, cutting: Cutting) -> Cut:
    """
    Cut a script into segments that hold all its words in order, none larger than *cutting* allows.

    Only a character with all its marks, or nothing, is larger. A joint is a heading's where a heading begins or ends.
    """
    segments: list[Segment] = []
    notes: list[Note] = []
    before = BlockKind.PARAGRAPH
    for number, block in enumerate(prose.blocks):
        if block.kind is BlockKind.SCENE_BREAK:
            if segments:
                segments[-1] = replace(segments[-1], joint=Joint.SCENE_BREAK)
            continue
        sendable = _sendable(block, cutting)
        notes += sendable.notes
        own: list[Segment] = []
        for first, last, joint in _spans(sendable, cutting):
            text, line = sendable.slice(first, last)
            if sendable.has(_SPOKEN, first, last):
                own.append(Segment(text, line, joint, number, sendable.written(first), sendable.written(last)))
            elif text:
                notes.append(Note(line, f"not spoken, as there is no word in it: {excerpt(text)}"))
        if not own:
            continue
        if segments and segments[-1].joint is Joint.PARAGRAPH and BlockKind.HEADING in (before, block.kind):
            segments[-1] = replace(segments[-1], joint=Joint.HEADING)
        segments += [*own[:-1], replace(own[-1], joint=Joint.PARAGRAPH)]
        before = block.kind
    if segments:
        segments[-1] = replace(segments[-1], joint=Joint.END)
    return Cut(tuple(segments), tuple(notes))


def sentences(text: str, *, language: str) -> list[tuple[int, int]]:
    """
    Return the sentences of a segment's text as slices that meet; brackets that it was sent with are cues.
    """
    sendable = _sendable(Block(BlockKind.PARAGRAPH, text, 1), Cutting(cues=True, segment_bytes=5000))
    return list(_sentences(sendable, language))


def _sendable(block: Block, cutting: Cutting) -> _Sendable:
    """
    Send brackets as parentheses: the voice would take what is between them for a cue, and not speak it.

    With `cues`, short bracketed texts with a letter and phonemes pass, on one line and not nested.
    """
    notes: list[Note] = []
    cues: list[tuple[int, int]] = []
    pieces: list[str] = []
    shortened: list[int] = []
    nested = _nested(block.text) if cutting.cues else []
    end = 0
    for markup in _MARKUP.finditer(block.text):
        pieces.append(block.text[end : markup.start()])
        end = markup.end()
        if cutting.cues and _is_cue(markup, block, nested, cutting.segment_bytes):
            start = markup.start() - len(shortened)
            cues.append((start, start + len(markup[0])))
            pieces.append(markup[0])
            what = f"cue let through: {excerpt(markup[0])}"
        else:
            pieces.append(_BRACKET.sub(lambda mark: "(" if mark[0] in ("[", "<|") else ")", markup[0]))
            shortened += [markup.start() + mark.start() for mark in _BRACKET.finditer(markup[0]) if len(mark[0]) == 2]
            what = f"sent {excerpt(markup[0])} as {excerpt(pieces[-1])}"
        notes.append(Note(block.line_at(markup.start()), what))
    if not notes:
        return _Sendable(block, (), (), ())
    turns = tuple((offset - bisect_left(shortened, offset), line) for offset, line in block.turns)
    sent = replace(block, text="".join([*pieces, block.text[end:]]), turns=turns)
    return _Sendable(sent, tuple(cues), tuple(notes), tuple(shortened))


def _is_cue(markup: re.Match[str], block: Block, nested: list[tuple[int, int]], limit: int) -> bool:
    """
    Tell whether a piece of markup is a cue: one of the documented shapes, on one line, small beside a segment.
    """
    first, last = markup.span()
    outer = bisect_left(nested, (first,)) - 1
    return (
        bool(CUE.fullmatch(markup[0]) and _LETTER.search(markup[0]))
        and 2 * len(markup[0].encode()) <= limit
        and block.line_at(first) == block.line_at(last - 1)
        and not (outer >= 0 and last < nested[outer][1])
    )


def _nested(text: str) -> list[tuple[int, int]]:
    """
    Return the outermost pairs of brackets.
    """
    opened: list[int] = []
    pairs: list[tuple[int, int]] = []
    for bracket in re.finditer(r"[\[\]]", text):
        if bracket[0] == "[":
            opened.append(bracket.start())
        elif opened:
            first = opened.pop()
            while pairs and pairs[-1][0] > first:
                pairs.pop()
            pairs.append((first, bracket.end()))
    return pairs


def _spans(sendable: _Sendable, cutting: Cutting) -> Iterator[tuple[int, int, Joint]]:
    """
    Pack whole sentences into spans up to the largest size; cut those that are larger themselves.
    """
    text, limit = sendable.block.text, cutting.segment_bytes
    first, used = 0, 0
    for start, end in _sentences(sendable, cutting.language):
        size, spoken = len(text[start:end].encode()), len(text[start:end].rstrip().encode())
        if used and used + spoken > limit:
            yield first, start, Joint.SENTENCE
            used = 0
        if spoken > limit:
            yield from _breaths(sendable, start, end, limit)
            continue
        first = first if used else start
        used += size
    if used:
        yield first, len(text), Joint.SENTENCE


def _sentences(sendable: _Sendable, language: str) -> Iterator[tuple[int, int]]:
    """
    Give the sentences of a block without a gap; what has no letter ("…", "1.") belongs to a neighbour.
    """
    text = sendable.block.text
    bounds = (at for at in _boundaries(text, language) if _parts(text, at) and not sendable.in_cue(at))
    kept: tuple[int, int] | None = None
    first = start = 0
    for end in chain(bounds, [len(text)]):
        if sendable.has(_LETTER, start, end):
            if kept:
                yield kept
            kept, first = (first, end), end
        elif kept and first == start and not sendable.has(_SPOKEN, start, end):
            kept, first = (kept[0], end), end
        start = end
    if kept:
        yield kept[0], len(text)
    elif text:
        yield 0, len(text)


def _boundaries(text: str, language: str) -> Iterator[int]:
    """
    Give the offsets at which sentences begin, window by window; the last, unfinished one begins the next window.
    """
    start, size = 0, _WINDOW
    while start < len(text):
        window = text[start : start + size]
        found = {boundary["start_index"] for boundary in get_sentence_boundaries(language, window)}
        begins = sorted(at for at in found if 0 < at < len(window))
        yield from (start + at for at in begins)
        if start + size >= len(text):
            return
        start, size = (start + begins[-1], _WINDOW) if begins else (start, 2 * size)


def _parts(text: str, at: int) -> bool:
    """
    Tell whether a sentence may end before *at*: after white space, or in a script that uses none; never within 3.5.
    """
    before = text[at - 1]
    return before.isspace() or ((before in _FULL_STOPS or runs_on(before) or runs_on(text[at])) and seam(text, at, 0))


def _breaths(sendable: _Sendable, first: int, last: int, limit: int) -> Iterator[tuple[int, int, Joint]]:
    """
    Cut a sentence that is too long into parts of about the same size.
    """
    text = sendable.block.text
    last = first + len(text[first:last].rstrip())
    rest = len(text[first:last].encode())
    while rest > limit:
        head = first + len(text[first : first + limit].encode()[:limit].decode(errors="ignore"))
        even = (head - first) * rest / -(-rest // limit) / limit
        at = _breath(sendable, first, head, last, even)
        yield first, at, Joint.BREATH
        rest -= len(text[first:at].encode())
        first = at
    yield first, last, Joint.SENTENCE


def _breath(sendable: _Sendable, first: int, head: int, last: int, even: float) -> int:
    """
    Return the best place to cut: not behind *head*, if possible near the *even* length and with no small remainder.
    """
    text = sendable.block.text
    near, far = first + max(1, int(even / 2)), min(head, last - int(even / 2))
    for low, high in ((near, far), (first + 1, head)):
        for place in _BREATHS:
            found = (match.end() for match in place.finditer(text, low - 1, high + _CONJUNCTION))
            fit = [at for at in found if low <= at <= high and not sendable.in_cue(at) and seam(text, at, first)]
            if fit:
                return min(fit, key=lambda at: abs(at - first - even))
    centre = first + max(1, round(even))
    for step in range(head - first):
        for at in (centre - step, centre + step):
            if first < at <= head and not sendable.in_cue(at) and seam(text, at, first):
                return at
    behind = (at for at in range(head + 1, last) if not sendable.in_cue(at) and seam(text, at, first))
    return next(behind, last)


def seam(text: str, at: int, first: int) -> bool:
    """
    Tell whether a reader sees two characters around *at*, and not one; flags are paired from *first*.
    """
    before, after = text[at - 1], text[at]
    if _STICKS_BEHIND.match(after) or unicodedata.category(after) in ("Mn", "Mc", "Me"):
        return False
    if _STICKS_AHEAD.match(before) or unicodedata.combining(before) == _VIRAMA:
        return False
    if _FLAG.match(before) and _FLAG.match(after):
        start = at
        while start > first and _FLAG.match(text[start - 1]):
            start -= 1
        return (at - start) % 2 == 0
    return not (_LEADING_JAMO.match(before) and _HANGUL.match(after))
