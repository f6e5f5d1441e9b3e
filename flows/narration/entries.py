"""
What is written down of each script of a run: its entry in the manifest, and where each segment stands in its narration.
"""

from collections.abc import Iterable
from typing import Any

from flows.narration import cost
from flows.narration.alignment import moved
from flows.narration.assemble import Narration
from flows.narration.cost import Tally
from flows.narration.ending import ENDS
from flows.narration.errors import NarrateError
from flows.narration.manifest import ScriptEntry, SegmentEntry, SegmentsFile
from flows.narration.plan import Planned, Reading
from flows.narration.speech import SAMPLE_RATE
from flows.narration.unchanged import Made


def to_make(readings: Iterable[Reading]) -> dict[str, ScriptEntry]:
    """
    The entries of scripts of which nothing is known but their text, by name.
    """
    return {
        reading.script.name: ScriptEntry(
            script=reading.script.name,
            digest=reading.digest,
            segments=reading.count,
            state="pending" if reading.count else "empty",
            notes=list(reading.notes),
        )
        for reading in readings
    }


def unchanged(reading: Reading, made: Made) -> ScriptEntry:
    """
    The entry of a script whose narration is there already.
    """
    return ScriptEntry(
        script=reading.script.name,
        digest=reading.digest,
        audio=reading.script.audio,
        seconds=made.seconds,
        speech_seconds=made.speech_seconds,
        pause_seconds=made.pause_seconds,
        segments=reading.count,
        bytes_reused=reading.size,
        state="unchanged",
        notes=list(reading.notes),
    )


def narrated(entry: ScriptEntry, plan: Planned, made: Made, *, tally: Tally, model: str) -> ScriptEntry:
    """
    The *entry* of a script that was narrated in this run.
    """
    return entry.model_copy(
        update={
            "audio": plan.reading.script.audio,
            "seconds": made.seconds,
            "speech_seconds": made.speech_seconds,
            "pause_seconds": made.pause_seconds,
            "bytes_reused": max(0, plan.reading.size - tally.bytes_recorded),
            "state": "narrated",
            **spent(tally, model=model),
        }
    )


def failed(entry: ScriptEntry, error: NarrateError, *, tally: Tally, model: str) -> ScriptEntry:
    """
    A script that met an error of its own failed; one that the end of the whole run caught is still pending.
    """
    own = error.exit_code not in ENDS
    fact = error.fact if error.fact.startswith(entry.script) or not own else f"{entry.script}: {error.fact}"
    return entry.model_copy(update={"state": "failed" if own else "pending", "error": fact, **spent(tally, model=model)})


def spent(tally: Tally, *, model: str) -> dict[str, Any]:
    """
    What requests for a script took, with bytes as UTF-8 and money in USD.
    """
    return {
        "requests": tally.requests,
        "bytes_billed": tally.bytes_billed,
        "bytes_unknown": tally.bytes_unknown,
        "retries": tally.retries,
        "usd": cost.usd(tally.bytes_billed, model=model),
    }


def segments_file(plan: Planned, made: Narration, *, size: int) -> SegmentsFile:
    """
    Where each segment stands in a narration of *size* bytes, in seconds.
    """
    seconds, speech = round(made.samples / SAMPLE_RATE, 4), round(made.speech_samples / SAMPLE_RATE, 4)
    return SegmentsFile(
        narration=plan.narration,
        size=size,
        seconds=seconds,
        speech_seconds=speech,
        pause_seconds=round(seconds - speech, 4),
        segments=[
            SegmentEntry(
                line=segment.line,
                text=segment.text,
                take=piece.take,
                joint=segment.joint.value,
                start=round(start / SAMPLE_RATE, 4),
                end=round(end / SAMPLE_RATE, 4),
                words=moved(words, start / SAMPLE_RATE, within=(start / SAMPLE_RATE, end / SAMPLE_RATE)),
            )
            for segment, piece, (start, end), words in zip(
                plan.reading.segments, plan.pieces, made.places, made.words or ((),) * len(made.places), strict=True
            )
        ],
    )
