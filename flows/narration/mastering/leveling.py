"""
The gain of a chapter: encode with it, measure the files, and try again until their levels are as the profile wants them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.narration import ffmpeg
from flows.narration.contour import Contour
from flows.narration.errors import MasteringFailed
from flows.narration.ffmpeg import NO_PEAK, Chain, Encoder
from flows.narration.mastering.book import Chapter
from flows.narration.mastering.measuring import Levels, mean_level, measure
from flows.narration.mastering.profiles import SLACK, LevelProfile
from flows.narration.mastering.reel import Reel, rehearse, survey
from flows.narration.mastering.studio import Studio
from flows.narration.speech import SAMPLE_RATE

NEAR = 0.22
"""LU by which a file may differ from the goal without another try: so any two chapters are closer than 0.5."""

INSIDE = 0.3
"""dB that are kept from the edges of a window of RMS."""

BELOW = 1.2
"""dB by which peaks are held below their limit: MP3 lets them rise again by a few tenths, AAC by up to one."""

TRIES = 6
MOST_GAIN = 60.0


@dataclass(frozen=True)
class Leveled:
    """
    What was encoded and what was measured of it: *levels* and *contour* of the MP3, *aac* of the other file; *gain* in dB.
    """

    reel: Reel
    levels: Levels
    contour: Contour
    aac: Encoder
    gain: float

    @property
    def aac_peak(self) -> float:
        """
        The highest peak of the AAC, in dB.
        """
        return _peak(self.aac)


def level(
    reel: Reel,
    studio: Studio,
    mp3: Path,
    aac: Path,
    *,
    tags: dict[str, str],
    name: str,
    one_gain: Callable[[], float] | None,
) -> Leveled:
    """
    Encode *reel* until the files themselves say that they are as they have to be; most are so the first time.

    A part of a chapter has the gain of all its parts, *one_gain*, unless it would miss its profile with that. Raises
    `MasteringFailed`, which tells by which number a file misses its profile.
    """
    profile = studio.profile
    try:
        heard = survey(reel, profile=profile)
    except MasteringFailed as error:
        raise MasteringFailed(f"{name}: {error.fact}", error.next_step) from error
    ceiling = profile.highest_peak - BELOW
    gain = one_gain() if one_gain else _step(profile, loudness=heard.loudness, rms=heard.rms)
    if gain <= MOST_GAIN and not one_gain:
        gain = rehearse(reel, profile=profile, gain=gain, ceiling=ceiling)
    tried: list[tuple[float, float]] = []
    for _ in range(TRIES):
        if gain > MOST_GAIN:
            raise MasteringFailed(f"{name} is too quiet: it would need {gain:.0f} dB.", "Listen to the takes.")
        fitted = heard.fit(reel, gain=gain, profile=profile)
        _encode(fitted, studio, mp3, aac, chain=_chain(profile, gain, ceiling), tags=tags)
        levels, contour = measure(mp3)
        other = ffmpeg.hear(aac, format="aac", peak="sample" if profile.true_peak is None else "true")
        made = Leveled(reel=fitted, levels=levels, contour=contour, aac=other, gain=gain)
        over = max(_over(profile, levels), _peak(other) - profile.highest_peak)
        step = 0.0
        if levels.loudness is not None and not (one_gain and not profile.misses_level(levels)):
            step = _step(profile, loudness=levels.loudness, rms=levels.rms)
        if over <= 0 and abs(step) <= NEAR:
            break
        tried.append((gain, levels.loudness or 0.0))
        if over > 0:
            ceiling -= over + 0.2
        if abs(step) > NEAR:
            gain += step / _slope(tried)
    misses = profile.misses(levels)
    if _peak(other) > profile.highest_peak + SLACK:
        misses.append(f"peak of the AAC {_peak(other):.2f} dB, above {profile.highest_peak:g}")
    if misses:
        raise MasteringFailed(
            f"{name} misses the level profile {profile.name}: {'; '.join(misses)}.",
            "Listen to the takes; choose another level profile, or record the chapter anew.",
        )
    return made


def _chain(profile: LevelProfile, gain: float, ceiling: float) -> Chain:
    return Chain(gain=gain, ceiling=ceiling, high_pass=profile.high_pass, room_tone=profile.room_tone)


def _step(profile: LevelProfile, *, loudness: float, rms: float) -> float:
    """
    How many dB are missing to the goal, as far as the window of RMS allows.
    """
    wanted = profile.loudness - loudness
    if profile.rms_low is not None:
        wanted = max(wanted, profile.rms_low + INSIDE - rms)
    if profile.rms_high is not None:
        wanted = min(wanted, profile.rms_high - INSIDE - rms)
    return wanted


def _over(profile: LevelProfile, levels: Levels) -> float:
    """
    By how many dB peaks exceed their limits.
    """
    pairs = ((levels.peak, profile.peak), (levels.true_peak, profile.true_peak))
    return max((seen - limit for seen, limit in pairs if limit is not None), default=0.0)


def _peak(heard: Encoder) -> float:
    return NO_PEAK if heard.peak is None else heard.peak


def _slope(tried: list[tuple[float, float]]) -> float:
    """
    How many LU a dB of gain brought between the last two tries: less than one where the limiter works.
    """
    if len(tried) < 2:
        return 1.0
    (gain, loudness), (other, before) = tried[-1], tried[-2]
    return min(1.0, max(0.2, (loudness - before) / (gain - other))) if abs(gain - other) > 0.01 else 1.0


def _encode(reel: Reel, studio: Studio, mp3: Path, aac: Path, *, chain: Chain, tags: dict[str, str]) -> None:
    with ffmpeg.masters(
        mp3,
        aac,
        chain=chain,
        sample_rate=SAMPLE_RATE,
        mp3_kbps=studio.profile.mp3_kbps,
        aac_kbps=studio.profile.aac_kbps,
        tags=tags,
        cover=studio.book.cover,
    ) as encoder:
        for _, block in reel.blocks():
            encoder.write(block.tobytes())


def find_gain(chapter: Chapter, studio: Studio, ranges: Sequence[range]) -> float:
    """
    Find the gain that all parts of a chapter that was split are made with, so that nothing jumps from one to the next.
    """
    profile = studio.profile
    reels = [
        Reel.of(chapter.pieces[place.start : place.stop], store=studio.store, sound=studio.sound, stopped=studio.stopped)
        for place in ranges
    ]
    try:
        heard = [survey(reel, profile=profile) for reel in reels]
    except MasteringFailed as error:
        raise MasteringFailed(f"{chapter.title}: {error.fact}", error.next_step) from error
    shares = [reel.samples for reel in reels]
    loudness, rms = mean_level([one.loudness for one in heard], shares), mean_level([one.rms for one in heard], shares)
    gain = _step(profile, loudness=loudness, rms=rms)
    if gain > MOST_GAIN:
        return gain
    whole = Reel.of(chapter.pieces, store=studio.store, sound=studio.sound, stopped=studio.stopped)
    return rehearse(whole, profile=profile, gain=gain, ceiling=profile.highest_peak - BELOW)
