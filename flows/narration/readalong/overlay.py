"""
Media overlays: which sentence is heard when, as SMIL.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from flows.narration.readalong.spans import Passage


@dataclass(frozen=True)
class Clip:
    """
    A span and the milliseconds of a file in which it is heard.
    """

    span: str
    file: str
    start: int
    end: int


def clips_of(passages: Sequence[Passage], *, lengths: Mapping[str, int]) -> dict[int, list[Clip]]:
    """
    Return the clips of each passage, by `id`; *passages* are all that are spoken, in order, *lengths* in milliseconds.

    Clips meet, so that a player goes on from one to the next without a jump: the pause behind a sentence belongs to it, and
    what is spoken and has no place in the book (a title that was made) to the sentence it stands beside.
    """
    found: dict[int, list[Clip]] = {}
    for file, length in lengths.items():
        own = [one for one in passages if one.file == file and one.ids]
        at = 0
        for place, one in enumerate(own):
            after = own[place + 1].start if place + 1 < len(own) else length
            end = max(after, at + len(one.ids))
            start = max(at, min(one.start, end)) if place else at
            found[id(one)] = _shared(one, start, min(max(one.end, start), end), end, begin=at)
            at = end
    return found


def _shared(passage: Passage, start: int, spoken: int, end: int, *, begin: int) -> list[Clip]:
    """
    Share a passage's time among its spans.
    """
    clips: list[Clip] = []
    at, share = begin, 0.0
    for count, (span, part) in enumerate(passage.ids, 1):
        share += part
        stop = end if count == len(passage.ids) else max(at + 1, round(start + share * (spoken - start)))
        clips.append(Clip(span, passage.file, at, stop))
        at = stop
    return clips


def smil(clips: Iterable[Clip], *, here: str, document: str, files: Mapping[str, str]) -> str:
    """
    Write the overlay *here* of *document*; both, and what *files* are called in the book, are entries of it.
    """
    text = relative(here, document)
    audio = {name: quoteattr(relative(here, entry)) for name, entry in files.items()}
    rows = [
        f'<par id="p{count}"><text src={quoteattr(f"{text}#{clip.span}")}/>'
        f'<audio src={audio[clip.file]} clipBegin="{clock(clip.start)}" clipEnd="{clock(clip.end)}"/></par>'
        for count, clip in enumerate(clips, 1)
    ]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<smil xmlns="http://www.w3.org/ns/SMIL" xmlns:epub="http://www.idpf.org/2007/ops" version="3.0"><body>\n'
        f'<seq id="s1" epub:textref={quoteattr(text)}>\n' + "\n".join(rows) + "\n</seq>\n</body></smil>\n"
    )


def clock(milliseconds: int) -> str:
    """
    Write a time as SMIL does.
    """
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def relative(here: str, there: str) -> str:
    """
    Return the address that leads from one entry of a book to another.
    """
    return quote(posixpath.relpath(there, posixpath.dirname(here) or "."), safe="/")
