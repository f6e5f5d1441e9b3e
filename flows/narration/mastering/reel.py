"""
The samples of a part from its head to its tail, read from the take store as often as they are needed, never held.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flows.narration import ffmpeg
from flows.narration.alignment import Word, moved
from flows.narration.assemble import Piece, Sound
from flows.narration.errors import Interrupted, MasteringFailed
from flows.narration.ffmpeg import Chain, Samples
from flows.narration.mastering.measuring import SOUND, STEP_SECONDS, Envelope, edges
from flows.narration.mastering.parts import Lengths
from flows.narration.mastering.profiles import LevelProfile
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore

EXCERPT_SECONDS = (20, 80)
EXCERPT_SHARE = 0.05
"""How much of a part is rehearsed, and at least and most how many seconds of it."""

REHEARSALS = 4
CLOSE = 0.2
"""LU by which a rehearsal may miss: once that is made up for, there is next to nothing left."""

_STEP = round(STEP_SECONDS * SAMPLE_RATE)


@dataclass(frozen=True)
class Reel:
    """
    *pieces* with their pauses, *head* and *tail* samples of silence around them.

    Of silence that the first take begins with, *skip* samples are left out; of that which the last ends with, *drop*.
    """

    pieces: Sequence[Piece]
    lengths: Lengths
    store: TakeStore
    head: int = 0
    tail: int = 0
    skip: int = 0
    drop: int = 0
    stopped: Callable[[], bool] = bool

    @classmethod
    def of(cls, pieces: Sequence[Piece], *, store: TakeStore, sound: Sound, stopped: Callable[[], bool] = bool) -> "Reel":
        """
        Look up how long everything is; reading it ends with `Interrupted` once it is *stopped*.
        """
        return cls(pieces=pieces, lengths=Lengths.of(pieces, store=store, sound=sound), store=store, stopped=stopped)

    def places(self) -> list[tuple[int, int]]:
        """
        Where each piece begins and ends, in samples.
        """
        found, at = [], self.head
        last = len(self.pieces) - 1
        for place, (speech, pause) in enumerate(zip(self.lengths.speech, self.lengths.pauses, strict=True)):
            end = at + speech - (self.skip if place == 0 else 0) - (self.drop if place == last else 0)
            found.append((at, end))
            at = end + pause
        return found

    def words(self) -> list[list[Word]]:
        """
        The words of each piece, in seconds, as far as they are known.
        """
        found = []
        for place, (piece, (start, end)) in enumerate(zip(self.pieces, self.places(), strict=True)):
            begin = start - (self.skip if place == 0 else 0)
            within = start / SAMPLE_RATE, end / SAMPLE_RATE
            found.append(moved(self.store.words(piece.take) or (), begin / SAMPLE_RATE, within=within))
        return found

    @property
    def samples(self) -> int:
        """
        Length of all of it.
        """
        return self.places()[-1][1] + self.tail

    def blocks(self) -> Iterator[tuple[int, Samples]]:
        """
        Yield the samples block by block, with the place of the piece that they belong to; silence belongs to -1.

        `TakeDamaged` tells of a take that must be recorded anew.
        """
        yield -1, np.zeros(self.head, np.int16)
        last = len(self.pieces) - 1
        for place, piece in enumerate(self.pieces):
            if self.stopped():
                raise Interrupted.by_a_person()
            first = self.skip if place == 0 else 0
            end = self.lengths.speech[place] - (self.drop if place == last else 0)
            at = 0
            for block in self.store.read(piece.take):
                yield place, block[max(0, first - at) : max(0, end - at)]
                at += len(block)
            if place != last:
                yield -1, np.zeros(self.lengths.pauses[place], np.int16)
        yield -1, np.zeros(self.tail, np.int16)


@dataclass(frozen=True)
class Survey:
    """
    What a part sounds like before anything is done to it: *loudness* in LUFS, *rms* in dBFS, and how the silence at the edges
    of its first and last take rises (mean squares of 10 ms).
    """

    loudness: float
    rms: float
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]

    def fit(self, reel: Reel, *, gain: float, profile: LevelProfile) -> Reel:
        """
        Give *reel* the head and tail that *profile* wants, counting in the silence that the takes bring with them.
        """
        above = SOUND - gain
        lead = (edges(self.first, above=above) or (0, 0))[0] * _STEP
        trail = (edges(self.last, above=above) or (0, 0))[1] * _STEP
        head = round(profile.head * SAMPLE_RATE) - lead
        tail = round(profile.tail * SAMPLE_RATE) - trail
        return replace(reel, head=max(0, head), skip=max(0, -head), tail=max(0, tail), drop=max(0, -tail))


def survey(reel: Reel, *, profile: LevelProfile) -> Survey:
    """
    Hear a part once. Raises `MasteringFailed` for one in which there is nothing to hear.
    """
    around = replace(reel, head=round(profile.head * SAMPLE_RATE), tail=round(profile.tail * SAMPLE_RATE))
    everything, first, last = Envelope(SAMPLE_RATE), Envelope(SAMPLE_RATE), Envelope(SAMPLE_RATE)
    end = len(reel.pieces) - 1
    with ffmpeg.meter(Chain(gain=0, ceiling=0, high_pass=profile.high_pass), sample_rate=SAMPLE_RATE) as meter:
        for place, block in around.blocks():
            meter.write(block.tobytes())
            samples = block.astype(np.float32) / np.float32(32768)
            everything.add(samples)
            if place == 0:
                first.add(samples)
            if place == end:
                last.add(samples)
    if meter.integrated is None:
        raise MasteringFailed("There is nothing to hear in it.", "Listen to the takes; `narrate retake` records them anew.")
    everything.end()
    return Survey(loudness=meter.integrated, rms=everything.rms, first=first.end(), last=last.end())


def rehearse(reel: Reel, *, profile: LevelProfile, gain: float, ceiling: float) -> float:
    """
    Return the gain that makes of *reel*, limited at *ceiling*, what *gain* would make of it without a limiter.

    How much a limiter takes is tried on some of it, from all over the part: on a whole chapter it would take too long.
    """
    some = _excerpt(reel)

    def loudness(gain: float, *, limited: bool) -> float | None:
        chain = Chain(gain=gain, ceiling=ceiling, high_pass=profile.high_pass)
        with ffmpeg.meter(chain, sample_rate=SAMPLE_RATE, limited=limited) as meter:
            for _, block in some.blocks():
                meter.write(block.tobytes())
        return meter.integrated

    raw, found = loudness(0, limited=False), gain
    for _ in range(REHEARSALS):
        heard = loudness(found, limited=True)
        if raw is None or heard is None:
            break
        missing = raw + gain - heard
        found += missing
        if abs(missing) < CLOSE:
            break
    return found


def _excerpt(reel: Reel) -> Reel:
    """
    Choose pieces evenly until there is enough of them.
    """
    shortest, longest = (bound * SAMPLE_RATE for bound in EXCERPT_SECONDS)
    whole = sum(reel.lengths.speech)
    every = max(1, whole // min(longest, max(shortest, EXCERPT_SHARE * whole)))
    chosen = range(int(every) // 2, len(reel.pieces), int(every))
    lengths = Lengths(tuple(reel.lengths.speech[at] for at in chosen), tuple(reel.lengths.pauses[at] for at in chosen))
    quiet = round(0.5 * SAMPLE_RATE)
    return Reel(pieces=[reel.pieces[at] for at in chosen], lengths=lengths, store=reel.store, head=quiet, tail=quiet)
