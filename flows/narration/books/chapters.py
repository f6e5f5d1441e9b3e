"""
Slices of a book → chapters that are spoken, and what is left out.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from flows.narration.books.model import Chapter, LeftOut, Origin, count_words
from flows.narration.books.numbers import folded
from flows.narration.books.plan import BookPlan, ChapterPlan
from flows.narration.books.stretches import Stretch
from flows.narration.books.wellknown import WHY
from flows.narration.errors import UsageError
from flows.narration.prose import Block, BlockKind, Note, Prose, runs_on

_BESIDE_TITLES = frozenset(("by", "von", "de", "par", "por", "di", "a", "the", "written", "novel", "roman", "author"))
"""What may stand beside title and author on a title page."""


@dataclass
class Slice:
    """
    A stretch of the book between two entries of its navigation.

    *parts* are the parts that begin with it: their title and what stands in the book of it. Where the book has no title for
    it, the title is not *spoken*.
    """

    source: str
    title: str
    href: str
    stretches: list[Stretch] = field(default_factory=list)
    parts: list[tuple[str, list[Stretch]]] = field(default_factory=list)
    spoken: bool = True

    @property
    def words(self) -> int:
        """
        How many words it has.
        """
        return sum(stretch.words for stretch in self.stretches)

    def leave(self, why: str) -> None:
        """
        Leave out all that the book does not itself count to its body.
        """
        for stretch in self.stretches:
            if not stretch.sure:
                stretch.left = stretch.left or why


def first_words(stretches: list[Stretch]) -> str:
    """
    Return the first words, to call by them what has no title.
    """
    words = next((stretch.text for stretch in stretches if stretch.words), "").split()
    return " ".join(words[:6])[:40] or "Untitled"


def is_title_page(stretches: list[Stretch], title: str, authors: Iterable[str]) -> bool:
    """
    Tell whether stretches say a book's *title* and *authors* and nothing else that matters.
    """
    stretches = [stretch for stretch in stretches if stretch.words and not stretch.left]
    if not title or not _saying(stretches, title):
        return False
    spoken = set(_compared(" ".join(stretch.text for stretch in stretches)).split())
    known = set(_compared(" ".join((title, *authors))).split())
    return len(spoken - known - _BESIDE_TITLES) <= 1


def assemble(slices: list[Slice], plan: BookPlan) -> tuple[tuple[Chapter, ...], tuple[LeftOut, ...]]:
    """
    Make chapters of slices as *plan* wants them; `UsageError` where it names what is not in the book.
    """
    wanted = {chapter.source: chapter for chapter in plan.chapters}
    left_out: list[LeftOut] = []
    spoken: list[tuple[Slice, list[Stretch]]] = []
    known: set[str] = set()
    waiting: list[tuple[str, list[Stretch]]] = []
    for piece in slices:
        chosen = wanted.get(piece.source)
        usual = [stretch for stretch in piece.stretches if not stretch.left]
        whole = not sum(stretch.words for stretch in usual)
        known.add(piece.source)
        if whole and chosen is not None and chosen.include:
            usual = piece.stretches
        elif not whole:
            known |= {_group(stretch) for stretch in piece.stretches if stretch.left}
            usual = [stretch for stretch in piece.stretches if not stretch.left or _included(wanted, _group(stretch))]
        if not sum(stretch.words for stretch in usual):
            left_out += _left_whole(piece)
            waiting += piece.parts
            continue
        if chosen is not None and not chosen.include:
            words = sum(stretch.words for stretch in usual)
            left_out.append(LeftOut(piece.source, piece.title, piece.href, WHY["plan"], words, _how(piece.source)))
            waiting += piece.parts
            continue
        if not whole:
            left_out += _left_groups(stretch for stretch in piece.stretches if stretch.left and stretch not in usual)
        spoken.append((replace(piece, parts=[*waiting, *piece.parts]), usual))
        waiting = []
    if unknown := sorted(wanted.keys() - known):
        names = ", ".join(f"“{name}”" for name in sorted(known)[:40])
        raise UsageError(f"The plan names “{unknown[0]}”, which is not in the book.", f"There are: {names}.")
    width = max(2, len(str(len(spoken))))
    chapters = [
        _chapter(piece, kept, wanted.get(piece.source), f"{place:0{width}}") for place, (piece, kept) in enumerate(spoken, 1)
    ]
    merged: dict[str, LeftOut] = {}
    for left in left_out:
        before = merged.get(left.source)
        merged[left.source] = replace(before, words=before.words + left.words) if before else left
    return tuple(chapters), tuple(merged.values())


def _included(wanted: dict[str, ChapterPlan], source: str) -> bool:
    """
    Tell whether a plan brings in what is left out by default.
    """
    return source in wanted and wanted[source].include


def _group(stretch: Stretch) -> str:
    """
    Name all that one document leaves out for one reason.
    """
    return f"{stretch.href}#:{stretch.left}"


def _how(source: str) -> str:
    """
    Say how something is brought in.
    """
    return f'In book.toml, set include = true for source = "{source}".'


def _left_whole(piece: Slice) -> Iterator[LeftOut]:
    """
    Tell what is left out where nothing of a slice is spoken.
    """
    words = sum(stretch.words for stretch in piece.stretches)
    if not words:
        yield LeftOut(piece.source, piece.title, piece.href, WHY["empty"], 0, "There is nothing to bring in.")
        return
    whys = dict.fromkeys(WHY[stretch.left] for stretch in piece.stretches if stretch.words)
    yield LeftOut(piece.source, piece.title, piece.href, ", ".join(whys), words, _how(piece.source))


def _left_groups(stretches: Iterable[Stretch]) -> Iterator[LeftOut]:
    """
    Tell what is left out within a chapter, by document and reason.
    """
    groups: dict[str, list[Stretch]] = {}
    for stretch in stretches:
        groups.setdefault(_group(stretch), []).append(stretch)
    for source, group in groups.items():
        words = sum(stretch.words for stretch in group)
        if words:
            title = next((stretch.text for stretch in group if stretch.kind is BlockKind.HEADING), WHY[group[0].left])
            yield LeftOut(source, title, group[0].href, WHY[group[0].left], words, _how(source))


def _chapter(piece: Slice, kept: list[Stretch], chosen: ChapterPlan | None, number: str) -> Chapter:
    """
    Make one chapter: its parts' titles, its title, its text.
    """
    title = (chosen.title if chosen else None) or piece.title
    own = _titled(kept, piece.title, title) if piece.spoken or title != piece.title else kept
    above = [stretch for name, stretches in piece.parts for stretch in _titled(stretches, name, name)]
    blocks, origins, notes = _laid([*above, *own])
    words = sum(count_words(block.text) for block in blocks if block.kind is not BlockKind.SCENE_BREAK)
    prose = Prose(title, tuple(blocks), tuple(notes))
    return Chapter(piece.source, f"{number} - {_fit(title)}", title, prose, tuple(origins), words)


def _titled(stretches: list[Stretch], old: str, title: str) -> list[Stretch]:
    """
    Let stretches begin with their *title*, once: what says the *old* one is it, or is replaced by a new one.
    """
    places = _saying(stretches, old)
    if title != old or not places:
        rest = [stretch for place, stretch in enumerate(stretches) if place not in places]
        return [Stretch(BlockKind.HEADING, title, ""), *rest] if title else stretches
    return [
        replace(stretch, kind=BlockKind.HEADING) if place in places and stretch.kind is BlockKind.PARAGRAPH else stretch
        for place, stretch in enumerate(stretches)
    ]


def _saying(stretches: list[Stretch], title: str) -> range:
    """
    Return the places of the first stretches that together say *title*; or of the first heading, if it says a part of it.
    """
    want = _compared(title)
    if not want.strip():
        return range(0)
    said: list[tuple[int, str]] = []
    for place, stretch in enumerate(stretches[:12]):
        if not stretch.words:
            continue
        here = _compared(stretch.text)
        if stretch.kind is BlockKind.PARAGRAPH and len(here) > len(want) + 40:
            break
        said.append((place, here))
        for begin in range(len(said) - 1, -1, -1):
            if want in "".join(text for _, text in said[begin:]).replace("  ", " "):
                return range(said[begin][0], place + 1)
        if len(said) == 4:
            break
    if said and stretches[said[0][0]].kind is BlockKind.HEADING and said[0][1].strip() and said[0][1] in want:
        return range(said[0][0], said[0][0] + 1)
    return range(0)


def _compared(title: str) -> str:
    """
    Return a title for comparing; without blanks where its script has none.
    """
    text = folded(unicodedata.normalize("NFKC", title))
    return text.replace(" ", "") if any(map(runs_on, text)) else text


def _laid(stretches: list[Stretch]) -> tuple[list[Block], list[Origin | None], list[Note]]:
    """
    Lay stretches out as blocks; where the book has no lines, each block and each line of verse counts as one.
    """
    blocks: list[Block] = []
    origins: list[Origin | None] = []
    notes: list[Note] = []
    line = 0
    for stretch in stretches:
        start = stretch.line or line + 1
        notes += [Note(start, note) for note in stretch.notes]
        if stretch.kind is None:
            continue
        turns = stretch.turns or tuple((offset, start + row) for row, offset in enumerate(stretch.breaks, 1))
        blocks.append(Block(stretch.kind, stretch.text, start, turns))
        origins.append(Origin(stretch.href, stretch.runs) if stretch.href else None)
        line = turns[-1][1] if turns else start
    return blocks, origins, notes


def _fit(title: str) -> str:
    """
    Make a title fit for a file's name on every system.
    """
    name = unicodedata.normalize("NFC", title).replace(":", " -").replace("/", "-").replace("\\", "-")
    name = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter for letter in name)
    name = " ".join(re.sub(r'[<>"|?*]', "", name).split()).encode()[:120].decode(errors="ignore").strip(" .")
    return name or "untitled"
