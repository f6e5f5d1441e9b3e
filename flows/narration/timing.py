"""
Where each sentence of a segment is heard: found in the finished audio by its pauses, and by how long its text takes to read.

What was found is kept in `.sentences`, so that nothing is heard twice that is as it was.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from pydantic import ConfigDict, Field

from flows.narration import pace
from flows.narration.errors import UsageError
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

_RUN_ON = 3.0  # what it costs to part sentences where there is no pause
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
    A segment as it stands in a file: its text, and its seconds there.
    """

    text: str
    start: float
    end: float


class Word(NamedTuple):
    """
    A word whose time is known exactly: its offset in the segment's text, and its seconds in the file.
    """

    at: int
    start: float
    end: float


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
    words: Sequence[Sequence[Word]] | None = None,
) -> list[list[Sentence]]:
    """
    Return the sentences of each segment of the file *audio* in *folder*; `UsageError` where the file cannot be read.

    *identity* is a digest of the audio: while it and the texts stay as they are, nothing is heard again. *words* are those of
    each segment whose times are known; they need no hearing.
    """
    known = folder / SENTENCES / f"{audio.rpartition('.')[0]}.json"
    digest = hashlib.sha256(
        json.dumps([SCHEMA, identity, language, [list(one) for one in segments], words], ensure_ascii=False).encode()
    ).hexdigest()
    before = SentencesFile.read(known)
    if before and before.digest == digest:
        return before.segments
    if words is not None:
        found = [by_words(one, said, language=language) for one, said in zip(segments, words, strict=True)]
    else:
        pairs = zip(segments, levels_of(folder / audio, segments), strict=True)
        found = [divided(one, levels, language=language) for one, levels in pairs]
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
        raise UsageError(f"{audio} cannot be heard: {error}.", "Run again.") from error


def divided(segment: Heard, levels: Levels, *, language: str) -> list[Sentence]:
    """
    Find the sentences of a segment in its *levels*.
    """
    slices = sentences(segment.text, language=language)
    sounding = _sounding(levels)
    found = []
    for (first, last), (start, end) in zip(slices, divide(levels, sounding, _weights(segment.text, slices)), strict=True):
        own = [(first + low, first + high) for low, high in clauses(segment.text[first:last])]
        spans: list[Span] = []
        if len(own) > 1:
            inner = divide(levels[start:end], sounding[start:end], _weights(segment.text, own))
            spans = [_span(segment, *place, start + low, start + high) for place, (low, high) in zip(own, inner, strict=True)]
        whole = _span(segment, first, last, start, end)
        found.append(Sentence(**whole.model_dump(), parts=spans))
    return found


def by_words(segment: Heard, words: Sequence[Word], *, language: str) -> list[Sentence]:
    """
    Find the sentences of a segment where the time of each word is known.
    """

    def placed(first: int, last: int) -> Span:
        own = [word for word in words if first <= word.at < last]
        start, end = (own[0].start, own[-1].end) if own else (segment.start, segment.start)
        return Span(first=first, last=last, start=round(start, 3), end=round(end, 3))

    found = []
    for first, last in sentences(segment.text, language=language):
        own = [(first + low, first + high) for low, high in clauses(segment.text[first:last])]
        parts = [placed(*one) for one in own] if len(own) > 1 else []
        found.append(Sentence(**placed(first, last).model_dump(), parts=parts))
    return found


def _span(segment: Heard, first: int, last: int, start: int, end: int) -> Span:
    """
    Return a slice of a segment with its seconds; *start* and *end* are steps of it.
    """
    low = min(segment.start + start * STEP, segment.end)
    return Span(first=first, last=last, start=round(low, 3), end=round(min(segment.start + end * STEP, segment.end), 3))


def _weights(text: str, slices: Sequence[tuple[int, int]]) -> npt.NDArray[np.float64]:
    return np.array([max(1.0, pace.letters(text[first:last])) for first, last in slices])


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


def divide(levels: Levels, sounding: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """
    Divide a stretch of audio among texts of these *weights*: return the steps at which each begins and ends to sound.

    Of all ways to do so the likeliest is taken: long pauses part sentences, and what lies between two is as long as its text.
    """
    count = len(weights)
    heard = _runs(sounding)
    if not heard:
        return _shared(0, len(levels), weights)
    begin, finish = heard[0][0], heard[-1][1]
    if count == 1:
        return [(begin, finish)]
    befores, afters, costs = _seams(levels, heard)
    if len(befores) < count - 1:
        return _shared(begin, finish, weights)
    spoken = np.concatenate(([0], np.cumsum(sounding)))
    wanted = weights / weights.sum() * float(spoken[finish]) * STEP
    reached = np.where(True, _miss((spoken[befores] - spoken[begin]) * STEP, wanted[0]) + costs, 0)
    came: list[Steps] = []
    lengths = (spoken[befores][None, :] - spoken[afters][:, None]) * STEP
    behind = befores[None, :] <= afters[:, None]
    for place in range(1, count - 1):
        ways = reached[:, None] + _miss(lengths, wanted[place])
        ways[behind] = np.inf
        came.append(ways.argmin(axis=0))
        reached = ways.min(axis=0) + costs
    reached = reached + _miss((spoken[finish] - spoken[afters]) * STEP, wanted[-1])
    chosen = [int(reached.argmin())]
    if not np.isfinite(reached[chosen[0]]):
        return _shared(begin, finish, weights)
    for back in reversed(came):
        chosen.append(int(back[chosen[-1]]))
    chosen.reverse()
    starts = [begin, *(int(afters[at]) for at in chosen)]
    ends = [*(int(befores[at]) for at in chosen), finish]
    return list(zip(starts, ends, strict=True))


def _seams(levels: Levels, heard: list[tuple[int, int]]) -> tuple[Steps, Steps, Levels]:
    """
    Return where texts may part: the steps before and behind each pause or quiet moment, and what it costs to part there.
    """
    seams = [
        (end, start, -2.5 * float(np.log(min(1.0, (start - end) * STEP) / 0.1))) for (_, end), (start, _) in pairwise(heard)
    ]
    quiet = []
    for first, last in heard:
        for low in range(first + 5, last - 5, 10):
            at = low + int(levels[low : min(low + 10, last - 5)].argmin())
            quiet.append((at, at, _RUN_ON + max(0.0, float(levels[at] - levels[first:last].mean()) / 6 + 2)))
    if len(seams) + len(quiet) <= _MOST_PLACES:
        seams = sorted(seams + quiet)
    return (
        np.array([one[0] for one in seams], np.int64),
        np.array([one[1] for one in seams], np.int64),
        np.array([one[2] for one in seams], np.float64),
    )


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
