"""
Where each sentence of a segment is heard: found in the finished audio by its pauses, and by how long its text takes to read.

What was found is kept in `.sentences`, so that nothing is heard twice that is as it was.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import ConfigDict, Field

from flows.narration import pace
from flows.narration.alignment import Word
from flows.narration.errors import StorageFailed
from flows.narration.lines import clauses
from flows.narration.manifest import Record
from flows.narration.segments import sentences

SENTENCES = ".sentences"
"""In a folder of narrations: where their sentences are heard."""

SCHEMA: Literal[1] = 1
"""Raised when the same audio is divided differently: it is then heard anew."""

STEP = 0.01
"""Seconds of which the level is looked at."""

SOUNDING = 32.0
"""dB below the loudest tenth of a second of a segment, from which on it is silent: room tone and most breaths are."""

SHORTEST_PAUSE = 6
BLIP = 3
"""Steps: a shorter silence is part of a word (a stop has 50 ms), a shorter sound is none."""

_CLAUSE = re.compile(r"[,;:–—…،؛][”’»\"'\)]*\s+|[—–]|[、，；：。]|[.!?][”’»\"'\)]*\s+")


class _Kind(Enum):
    """
    What stands between two texts.
    """

    SENTENCE = "sentence"
    CLAUSE = "clause"
    NOTHING = "nothing"


# What a pause of 0.1 s is worth there, what one is that is e times as long, and what it costs that there is none.
_COSTS = {_Kind.SENTENCE: (0.0, 2.5, 3.0), _Kind.CLAUSE: (0.8, 1.0, 0.5), _Kind.NOTHING: (0.3, 0.0, 0.1)}
_SKIPPED, _SKIPPED_SECOND = 1.0, 6.0  # what a pause costs, and each second of it, where nothing stands
_SPREAD, _LEAST_SPREAD = 0.22, 0.2  # how far a sentence's length strays: a share of it, and seconds
_MOST_PLACES = 1500

Levels = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]


class Span(Record):
    """
    A slice of a segment's text (*first*, *last*), and its seconds in the file.
    """

    first: int
    last: int
    start: float
    end: float


class Sentence(Span):
    """
    A sentence; *parts* are those that captions show one after another, none where they show it at once.
    """

    parts: list[Span] = Field(default_factory=list)


class Heard(NamedTuple):
    """
    A segment as it stands in a file: its text, its seconds there, and its words, where their times are known.
    """

    text: str
    start: float
    end: float
    words: Sequence[Word] = ()


class SentencesFile(Record):
    """
    `.sentences/….json`: the sentences of each segment of a file; *digest* is of what they were found from.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    digest: str
    segments: list[list[Sentence]]

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


def heard_in(
    folder: Path,
    audio: str,
    segments: Sequence[Heard],
    *,
    identity: str,
    language: str,
) -> list[list[Sentence]]:
    """
    Return the sentences of each segment of the file *audio* in *folder*; `StorageFailed` where the file cannot be read.

    *identity* is a digest of the audio: while it and the texts stay as they are, nothing is heard again. Segments whose words
    are known need no hearing.
    """
    known = folder / SENTENCES / f"{audio.rpartition('.')[0]}.json"
    digest = hashlib.sha256(
        json.dumps([SCHEMA, identity, language, [list(one) for one in segments]], ensure_ascii=False).encode()
    ).hexdigest()
    before = SentencesFile.read(known)
    if before and before.digest == digest:
        return before.segments
    unknown = [one for one in segments if not one.words]
    heard = levels_of(folder / audio, unknown)
    found = [
        by_words(one, language=language) if one.words else divided(one, next(heard), language=language) for one in segments
    ]
    SentencesFile(digest=digest, segments=found).write(known)
    return found


def levels_of(audio: Path, segments: Sequence[Heard]) -> Iterator[Levels]:
    """
    Yield how loud (dBFS) each step of each segment is, in the order in which they stand in *audio*.
    """
    try:
        with soundfile.SoundFile(audio) as file:
            at, size = 0, round(STEP * file.samplerate)
            for one in segments:
                first, last = round(one.start * file.samplerate), round(one.end * file.samplerate)
                while at < first and len(skipped := file.read(min(first - at, file.samplerate * 10), dtype="float32")):
                    at += len(skipped)
                block = file.read(max(0, last - at), dtype="float32", always_2d=True)
                at += len(block)
                rows = block[: len(block) // size * size, 0].reshape(-1, size)
                yield 10 * np.log10(np.einsum("ij,ij->i", rows, rows).astype(np.float64) / size + 1e-12)
    except soundfile.LibsndfileError as error:
        raise StorageFailed(f"{audio} cannot be read ({error}).", "Look at the disk; run again.") from error


def divided(segment: Heard, levels: Levels, *, language: str) -> list[Sentence]:
    """
    Find the sentences of a segment in its *levels*.
    """
    whole = _parted(segment.text, language)
    marks, kinds = _atoms(segment.text, whole)
    weights = np.array([max(1.0, pace.letters(segment.text[low:high])) for low, high in pairwise(marks)])
    found = dict(zip(marks, divide(levels, weights, kinds), strict=False))
    ends = {last: found[first][1] for first, last in pairwise(marks)}

    def span(first: int, last: int) -> Span:
        seconds = [min(segment.start + step * STEP, segment.end) for step in (found[first][0], ends[last])]
        return Span(first=first, last=last, start=round(seconds[0], 3), end=round(seconds[1], 3))

    return [_sentence(parts, span) for parts in whole]


def by_words(segment: Heard, *, language: str) -> list[Sentence]:
    """
    Find the sentences of a segment where the time of each word is known.
    """

    def span(first: int, last: int) -> Span:
        own = [word for word in segment.words if first <= word.at < last]
        before = [word.end for word in segment.words if word.at < first]
        start, end = (own[0].start, own[-1].end) if own else 2 * (before[-1] if before else segment.start,)
        return Span(first=first, last=last, start=round(start, 3), end=round(end, 3))

    return [_sentence(parts, span) for parts in _parted(segment.text, language)]


def _sentence(parts: list[tuple[int, int]], span: Callable[[int, int], Span]) -> Sentence:
    own = [span(*part) for part in parts] if len(parts) > 1 else []
    return Sentence(**span(parts[0][0], parts[-1][1]).model_dump(), parts=own)


def _parted(text: str, language: str) -> list[list[tuple[int, int]]]:
    """
    Return the sentences of a text, each as the parts that are shown at once.
    """
    return [
        [(first + low, first + high) for low, high in clauses(text[first:last])]
        for first, last in sentences(text, language=language)
    ]


def _atoms(text: str, whole: list[list[tuple[int, int]]]) -> tuple[list[int], list[_Kind]]:
    """
    Return where a text is parted, be it at a comma, and how each place but the first and the last sounds.
    """
    kinds: dict[int, _Kind] = {found.end(): _Kind.CLAUSE for found in _CLAUSE.finditer(text)}
    for parts in whole:
        for first, _ in parts[1:]:
            kinds.setdefault(first, _Kind.NOTHING)
        kinds[parts[0][0]] = _Kind.SENTENCE
    inside = sorted(at for at in kinds if 0 < at < len(text))
    return [0, *inside, len(text)], [kinds[at] for at in inside]


def _sounding(levels: Levels) -> npt.NDArray[np.bool_]:
    """
    Tell which steps sound.
    """
    if not len(levels):
        return np.zeros(0, np.bool_)
    wide = np.convolve(10 ** (levels / 10), np.full(10, 0.1), "same")
    sounds: npt.NDArray[np.bool_] = levels > 10 * np.log10(wide.max() + 1e-12) - SOUNDING
    for first, last in _runs(sounds):
        if last - first < BLIP:
            sounds[first:last] = False
    for first, last in _runs(~sounds):
        if last - first < SHORTEST_PAUSE and first and last < len(sounds):
            sounds[first:last] = True
    return sounds


def _runs(marks: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """
    Return the stretches in which *marks* are set.
    """
    turns = np.flatnonzero(np.diff(np.concatenate(([0], marks.astype(np.int8), [0]))))
    return [(int(first), int(last)) for first, last in turns.reshape(-1, 2)]


def divide(levels: Levels, weights: npt.NDArray[np.float64], kinds: Sequence[_Kind]) -> list[tuple[int, int]]:
    """
    Divide a stretch of audio among texts of these *weights*: return the steps at which each begins and ends to sound.

    *kinds* is what stands between two. Of all ways to do so the likeliest is taken: what lies between two pauses is as long as
    its text, long pauses are ends of sentences, and there are few where nothing stands.
    """
    sounding = _sounding(levels)
    heard = _runs(sounding)
    if not heard:
        return _shared(0, len(levels), weights)
    begin, finish = heard[0][0], heard[-1][1]
    if len(weights) == 1:
        return [(begin, finish)]
    seams = _seams(levels, heard)
    spoken = np.concatenate(([0], np.cumsum(sounding))) * STEP
    wanted = weights / weights.sum() * float(spoken[finish])
    skipped = np.concatenate(([0.0], np.cumsum(seams.skipped)))
    reached = _miss(spoken[seams.before] - spoken[begin], wanted[0]) + skipped[:-1] + seams.cost(kinds[0])
    lengths = spoken[seams.before][None, :] - spoken[seams.after][:, None]
    between = skipped[:-1][None, :] - skipped[1:][:, None]
    between[seams.before[None, :] <= seams.after[:, None]] = np.inf
    came: list[Steps] = []
    for place, kind in enumerate(kinds[1:], 1):
        ways = reached[:, None] + _miss(lengths, wanted[place]) + between
        came.append(ways.argmin(axis=0))
        reached = ways.min(axis=0) + seams.cost(kind)
    reached = reached + _miss(spoken[finish] - spoken[seams.after], wanted[-1]) + skipped[-1] - skipped[1:]
    if not len(reached) or not np.isfinite(reached.min()):
        return _shared(begin, finish, weights)
    chosen = [int(reached.argmin())]
    for back in reversed(came):
        chosen.append(int(back[chosen[-1]]))
    chosen.reverse()
    starts = [begin, *(int(seams.after[at]) for at in chosen)]
    ends = [*(int(seams.before[at]) for at in chosen), finish]
    return list(zip(starts, ends, strict=True))


class _Seams(NamedTuple):
    """
    Where texts may part, in order: the steps before and behind each pause (*seconds*) or quiet moment (none).

    *loud* is how far a quiet moment is from being one, *skipped* what it costs not to part at a pause.
    """

    before: Steps
    after: Steps
    seconds: Levels
    loud: Levels
    skipped: Levels

    def cost(self, kind: _Kind) -> Levels:
        """
        What it costs to part at each.
        """
        clause, log, run_on = _COSTS[kind]
        pause = -clause - log * np.log(np.clip(self.seconds, STEP, 1.0) / 0.1)
        return np.asarray(np.where(self.seconds > 0, pause, run_on + run_on * self.loud / 2))


def _seams(levels: Levels, heard: list[tuple[int, int]]) -> _Seams:
    """
    Find where texts may part.
    """
    found = [(end, start, (start - end) * STEP, 0.0) for (_, end), (start, _) in pairwise(heard)]
    pauses = len(found)
    for first, last in heard:
        mean = float(levels[first:last].mean())
        for low in range(first + 5, last - 5, 10):
            at = low + int(levels[low : min(low + 10, last - 5)].argmin())
            found.append((at, at, 0.0, max(0.0, (float(levels[at]) - mean) / 10 + 1)))
    if len(found) > _MOST_PLACES:
        found = found[:: len(found) // _MOST_PLACES + 1] if pauses > _MOST_PLACES else found[:_MOST_PLACES]
    rows = np.array(sorted(found), np.float64).reshape(-1, 4)
    before, after = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
    skipped = np.where(rows[:, 2] > 0, _SKIPPED + _SKIPPED_SECOND * np.minimum(rows[:, 2], 1.0), 0.0)
    return _Seams(before, after, rows[:, 2], rows[:, 3], skipped)


def _miss(lengths: npt.NDArray[np.float64], wanted: float) -> npt.NDArray[np.float64]:
    """
    What it costs that something is as long as it is and not as long as it should be; seconds.
    """
    return ((lengths - wanted) / (_SPREAD * wanted + _LEAST_SPREAD)) ** 2


def _shared(begin: int, finish: int, weights: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """
    Divide by the length of the texts alone.
    """
    marks = begin + np.rint(np.concatenate(([0.0], np.cumsum(weights))) / weights.sum() * (finish - begin)).astype(np.int64)
    return [(int(low), int(high)) for low, high in pairwise(marks)]
