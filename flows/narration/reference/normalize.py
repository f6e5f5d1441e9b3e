"""
Make one WAV of the recordings, as a voice is best made from: mono, without silent edges, at one level.

pydub mixes, trims, levels and joins; ffmpeg decodes, resamples and limits (pydub's own resampler leaves mirror images, and its
decoder trusts the file). Speech comes to -20 dBFS RMS. Where peaks would then exceed -3 dBFS, the peak wins: a look-ahead
limiter takes up to 12 dB off them (the bundled clip asks for 2, a pop for more); the rest is taken off the level.
"""

import dataclasses
import functools
import hashlib
import json
import operator
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from flows.narration import ffmpeg
from flows.narration.errors import ReferenceUnusable
from flows.narration.files import replacing, scratch
from flows.narration.reference.identity import digest, stripped
from flows.narration.reference.judge import Finding, weigh, weigh_amount
from flows.narration.reference.levels import Levels, Measured, measure, worst

with warnings.catch_warnings():
    # pydub 0.25.1 has escapes that are warned of when it is compiled, and asks for an ffmpeg on the path that it is not to use.
    warnings.simplefilter("ignore")
    from pydub import AudioSegment
    from pydub.silence import detect_leading_silence

SAMPLE_RATE = 44_100
SPEECH_DBFS, PEAK_DBFS, MOST_LIMITED_DB = -20.0, -3.0, 12.0
MOST_SECONDS, MOST_EDGES = 270.0, 30.0
"""The service takes 270 s; as much as 30 s more may go when edges are trimmed."""

_PAUSE_MS, _MARGIN_MS, _SEARCH_MS, _FADE_MS = 500, 50, 300, 5
_RECALL_SCHEMA = 2


@dataclasses.dataclass(frozen=True)
class Reference:
    """
    A reference that was found good: what a voice is made from.
    """

    digest: str
    wav: Path
    """Mono, 44.1 kHz, 16-bit, with half a second of silence at its end."""

    transcript: str | None
    recordings: tuple[str, ...]
    seconds: float
    speech_seconds: float
    levels: Levels
    warnings: tuple[str, ...]

    @property
    def title(self) -> str:
        """
        What a voice made from it is called if nobody says otherwise: the first recording's name.
        """
        return Path(self.recordings[0]).stem


def normalize(recordings: Sequence[Path], *, transcript: str | None, folder: Path) -> Reference:
    """
    Judge *recordings* and make `folder/<digest>.wav` of them, or return what was made of the same ones before.

    Raises `UsageError` for what is no recording, and `ReferenceUnusable` with all that is wrong and how to record better.
    """
    identity = digest(recordings, transcript=transcript)
    names = tuple(ffmpeg.printable(recording.name) for recording in recordings)
    kept = _recall(folder, identity)
    if kept is not None:
        return dataclasses.replace(kept, recordings=names)
    with scratch(folder) as work:
        decoded = _decode(recordings, work)
        heard = [_hear(path) for path in decoded]
        told = _verdict(names, heard)
        clips = [_clip(path, measured) for path, measured in zip(decoded, heard, strict=True)]
    pause = AudioSegment.silent(duration=_PAUSE_MS, frame_rate=SAMPLE_RATE)
    whole = functools.reduce(operator.add, (part for clip in clips for part in (clip, pause)))
    seconds = whole.frame_count() / SAMPLE_RATE
    _refuse_long(seconds)
    reference = Reference(
        digest=identity,
        wav=folder / f"{identity}.wav",
        transcript=stripped(transcript),
        recordings=names,
        seconds=seconds,
        speech_seconds=sum(measured.speech_seconds for measured in heard),
        levels=worst([measured.levels for measured in heard]),
        warnings=told,
    )
    _keep(reference, whole)
    return reference


def _decode(recordings: Sequence[Path], work: Path) -> list[Path]:
    """
    Decode each at its own rate into *work*; refuse what is too long before any of it is loaded.
    """
    decoded = [work / f"{number:04d}.wav" for number in range(len(recordings))]
    seconds = 0.0
    for recording, path in zip(recordings, decoded, strict=True):
        ffmpeg.decode(recording, path, sample_rate=None)
        seconds += soundfile.info(path).duration
        if seconds > MOST_SECONDS + MOST_EDGES:
            _refuse_long(seconds)
    return decoded


def _hear(path: Path) -> Measured:
    samples, sample_rate = soundfile.read(path, dtype="int16", always_2d=True)
    return measure(samples, sample_rate=sample_rate)


def _verdict(names: Sequence[str], heard: Sequence[Measured]) -> tuple[str, ...]:
    """
    Return the warnings; refuse the reference where there are faults, and name them all.
    """
    faults: list[tuple[str, Finding]] = []
    doubts: list[tuple[str, Finding]] = []
    for name, measured in zip(names, heard, strict=True):
        bad, doubtful = weigh(measured)
        faults += [(name, finding) for finding in bad]
        doubts += [(name, finding) for finding in doubtful]
    speech = sum(measured.speech_seconds for measured in heard)
    if speech or not faults:
        bad, doubtful = weigh_amount(speech)
        faults += [("in all", finding) for finding in bad]
        doubts += [("in all", finding) for finding in doubtful]
    if faults:
        problems = "; ".join(f"{where}: {finding.problem}" for where, finding in faults)
        remedies = dict.fromkeys(finding.remedy for _, finding in faults)
        raise ReferenceUnusable(f"The reference cannot be used. {problems}.", " ".join(remedies))
    return tuple(f"{where}: {finding.problem}. {finding.remedy}" for where, finding in doubts)


def _refuse_long(seconds: float) -> None:
    if seconds > MOST_SECONDS:
        raise ReferenceUnusable(
            f"The recordings last {seconds:.0f} s in all, and the service takes {MOST_SECONDS:.0f} s at most.",
            "Give fewer, or cut them: 10 to 30 s of good speech are enough.",
        )


def _clip(path: Path, measured: Measured) -> Any:
    """
    Return one recording as pydub's segment: mono, trimmed, levelled, at `SAMPLE_RATE`.
    """
    with path.open("rb") as file:
        segment = AudioSegment.from_wav(file)
    mono = segment.split_to_mono()[0] if measured.antiphase else segment.set_channels(1)
    trimmed = _trimmed(mono, measured)
    gain = SPEECH_DBFS - measured.levels.rms_dbfs
    headroom = PEAK_DBFS - trimmed.max_dBFS
    levelled = trimmed.apply_gain(min(gain, headroom))
    samples = ffmpeg.resample(
        np.frombuffer(levelled.raw_data, dtype="<i2").astype(np.int16),
        source_rate=levelled.frame_rate,
        target_rate=SAMPLE_RATE,
        gain_db=min(max(0.0, gain - headroom), MOST_LIMITED_DB),
        ceiling_db=PEAK_DBFS - 0.05,
    )
    return AudioSegment(samples.astype("<i2").tobytes(), sample_width=2, frame_rate=SAMPLE_RATE, channels=1)


def _trimmed(clip: Any, measured: Measured) -> Any:
    """
    Cut the edges off, but for a short margin.

    The detector notices speech late (a soft "s") and leaves it early, so what is louder than the noise within 300 ms of it
    belongs to it as well; a click long before does not.
    """
    begin, end = (round(1000 * at) for at in measured.span)
    # 40 dB below the speech nothing is heard, however quiet the noise is.
    threshold = max(measured.levels.noise_dbfs + 6, measured.levels.rms_dbfs - 40)
    before, after = clip[max(0, begin - _SEARCH_MS) : begin], clip[end : end + _SEARCH_MS].reverse()
    begin -= len(before) - detect_leading_silence(before, threshold) + _MARGIN_MS
    end += len(after) - detect_leading_silence(after, threshold) + _MARGIN_MS
    return clip[max(0, begin) : end].fade_in(_FADE_MS).fade_out(_FADE_MS)


def _keep(reference: Reference, whole: Any) -> None:
    """
    Write the WAV, then what is known of it: judging is not done twice.
    """
    with replacing(reference.wav) as temporary, temporary.open("wb") as file:
        whole.export(file, format="wav")
    known = dataclasses.asdict(reference) | {"schema": _RECALL_SCHEMA, "wav": _content_digest(reference.wav)}
    with replacing(reference.wav.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(known, indent=2, ensure_ascii=False), encoding="utf-8")


def _recall(folder: Path, identity: str) -> Reference | None:
    """
    Return the reference made before, if its WAV is still what was written; anything else is made anew.
    """
    wav = folder / f"{identity}.wav"
    try:
        known = json.loads(wav.with_suffix(".json").read_text(encoding="utf-8"))
        if known.pop("schema") != _RECALL_SCHEMA or known.pop("wav") != _content_digest(wav):
            return None
        levels, told = Levels(**known.pop("levels")), tuple(known.pop("warnings"))
        return Reference(**known, wav=wav, levels=levels, warnings=told)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _content_digest(wav: Path) -> str:
    with wav.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
