"""
Where a chapter that is too long for one file is cut, and where a retail sample ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from flows.narration.assemble import Piece, Sound
from flows.narration.errors import MasteringFailed
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeDamaged, TakeStore

SAMPLE_SECONDS = (60, 300)
"""Shortest and longest retail sample."""

_SLACK_SECONDS = 20
"""Kept free of the longest sample for head and tail."""

_PLACES: tuple[frozenset[Joint], ...] = (
    frozenset({Joint.PARAGRAPH, Joint.SCENE_BREAK}),
    frozenset({Joint.PARAGRAPH, Joint.SCENE_BREAK, Joint.SENTENCE}),
)
"""Joints at which a chapter may be cut, the better ones first; a heading is never parted from what it heads."""


@dataclass(frozen=True)
class Lengths:
    """
    Samples of each piece, and of the pause after it.
    """

    speech: tuple[int, ...]
    pauses: tuple[int, ...]

    @classmethod
    def of(cls, pieces: Sequence[Piece], *, store: TakeStore, sound: Sound) -> "Lengths":
        """
        Ask the store; `TakeDamaged` tells of a take that is not there.
        """
        speech = []
        for piece in pieces:
            take = store.find(piece.take)
            if take is None:
                raise TakeDamaged(f"The take {piece.take} cannot be found.", piece.take)
            speech.append(take.samples)
        return cls(tuple(speech), tuple(sound.pause(piece.joint) for piece in pieces))

    @classmethod
    def heard(cls, pieces: Sequence[Piece], places: Sequence[tuple[int, int]], *, sound: Sound) -> "Lengths":
        """
        Go by the *places* of the pieces in what was made of them, for which no take has to be there.
        """
        return cls(tuple(end - start for start, end in places), tuple(sound.pause(piece.joint) for piece in pieces))

    def ends(self) -> list[int]:
        """
        Where the speech of each piece ends, in samples from the beginning.
        """
        at, found = 0, []
        for speech, pause in zip(self.speech, self.pauses, strict=True):
            found.append(at + speech)
            at += speech + pause
        return found


def split(pieces: Sequence[Piece], *, store: TakeStore, sound: Sound, seconds: float) -> list[range]:
    """
    Cut a chapter into parts of about equal length, none longer than so many *seconds*.

    Cuts fall between paragraphs; where paragraphs are too long for that, between sentences. Raises `MasteringFailed` where
    that is not enough either.
    """
    ends = Lengths.of(pieces, store=store, sound=sound).ends()
    most = round(seconds * SAMPLE_RATE)
    whole = ends[-1] if ends else 0
    if whole <= most:
        return [range(len(pieces))]
    for joints in _PLACES:
        places = [at for at, piece in enumerate(pieces[:-1]) if piece.joint in joints]
        for count in range(-(-whole // most), len(places) + 2):
            parts = _cut(ends, places, count)
            if all(_length(ends, part) <= most for part in parts):
                return parts
            if count > 4 * -(-whole // most):
                break
    raise MasteringFailed(
        f"A chapter of {whole / SAMPLE_RATE / 60:.0f} minutes has no place at which to split it below {seconds / 60:.0f}.",
        "Give it paragraphs, or choose a level profile with longer files.",
    )


def _cut(ends: Sequence[int], places: Sequence[int], count: int) -> list[range]:
    """
    Cut at those *places* (pieces that a part may end with) that are nearest to equal parts.
    """
    cuts: list[int] = []
    for part in range(1, count):
        ideal = ends[-1] * part / count
        left = [place for place in places if not cuts or place >= cuts[-1]]
        if left:
            cuts.append(min(left, key=lambda place: abs(ends[place] - ideal)) + 1)
    edges = [0, *sorted(set(cuts)), len(ends)]
    return [range(first, last) for first, last in pairwise(edges) if first < last]


def _length(ends: Sequence[int], part: range) -> int:
    return ends[part[-1]] - (ends[part[0] - 1] if part[0] else 0)


def cut_sample(pieces: Sequence[Piece], *, lengths: Lengths, seconds: float = 180.0) -> Sequence[Piece]:
    """
    Return the first pieces that make a retail sample of about so many *seconds* (1 to 5 minutes), ending with a sentence.

    A chapter that is shorter than a minute is all of it. To begin elsewhere, give the pieces and lengths from there on.
    """
    shortest, longest = (bound * SAMPLE_RATE for bound in SAMPLE_SECONDS)
    longest -= _SLACK_SECONDS * SAMPLE_RATE
    ends = lengths.ends()
    if ends and ends[-1] <= shortest:
        return pieces
    whole = [at for at, piece in enumerate(pieces) if piece.joint not in (Joint.BREATH, Joint.HEADING)]
    good = [at for at in whole if shortest <= ends[at] <= longest]
    if not good:
        raise MasteringFailed(
            "No sentence ends between one and five minutes after the beginning of the sample.",
            "Let the sample begin elsewhere.",
        )
    paragraphs = [at for at in good if pieces[at].joint in _PLACES[0] and abs(ends[at] / SAMPLE_RATE - seconds) < seconds / 4]
    return pieces[: min(paragraphs or good, key=lambda at: abs(ends[at] - seconds * SAMPLE_RATE)) + 1]
