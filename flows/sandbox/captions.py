"""
The timestamp stream: sound and the times of its words as server-sent events.
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import replace

from flows.sandbox.checks import Order
from flows.sandbox.markup import chunks, spans
from flows.sandbox.render import Part, Sound

STEP = 1.0
"""Seconds of sound in each event."""
NOT_A_WORD = re.compile(r"[^\w']")


def chunked(parts: Sequence[Part], order: Order) -> list[Part]:
    """
    Cut *parts* where the answer begins to count its time anew.
    """
    return [replace(part, text=text) for part in parts for text in chunks(part.text, order.chunk_length)]


def words(text: str, seconds: float) -> list[dict[str, object]]:
    """
    Share *seconds* among the words of *text* by their length, once its silences are taken out.

    Of the quick voice that is the truth, of the neural one an estimate.
    """
    said = spans(text)
    silent = sum(span for span in said if isinstance(span, float))
    size = sum(len(word.encode()) + 1 for span in said if isinstance(span, str) for word in span.split())
    pace, at, timed = max(0.0, seconds - silent) / max(1, size), 0.0, []
    for span in said:
        if isinstance(span, float):
            at += span
            continue
        for word in span.split():
            start, at = at, at + (len(word.encode()) + 1) * pace
            if shown := NOT_A_WORD.sub("", word):
                timed.append({"text": shown, "start": round(start, 2), "end": round(min(at, seconds), 2)})
    return timed


def events(sound: Sound, parts: Sequence[Part]) -> list[bytes]:
    """
    Cut *sound* into events: each carries what of the words of its part has been heard so far.
    """
    made, begun = [], 0.0
    for number, (part, seconds) in enumerate(zip(parts, sound.lengths, strict=True)):
        timed, steps = words(part.text, seconds), max(1, round(seconds / STEP))
        for step in range(steps):
            heard = begun + seconds * step / steps, begun + seconds * (step + 1) / steps
            first, last = (round(len(sound.body) * at / max(sound.seconds, 1e-9)) for at in heard)
            segments = [word for word in timed if float(str(word["end"])) <= heard[1] - begun + 0.01]
            event = {
                "audio_base64": base64.b64encode(sound.body[first:last]).decode(),
                "content": part.text.strip(),
                "alignment": {"segments": segments, "audio_duration": round(seconds, 2)},
                "chunk_seq": number,
                "chunk_audio_offset_sec": round(begun, 2),
            }
            made.append(b"data: " + json.dumps(event).encode() + b"\n\n")
        begun += seconds
    return made
