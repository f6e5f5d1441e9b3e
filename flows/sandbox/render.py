"""
From an order to sound: which voice reads which part of the text, by which reader.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.sandbox import neural, sound
from flows.sandbox.checks import Order
from flows.sandbox.config import FaultKind
from flows.sandbox.encode import TINY_MP3, Pcm, encode, flac
from flows.sandbox.errors import Refused
from flows.sandbox.markup import is_english, turns
from flows.sandbox.world import World


@dataclass(frozen=True)
class Part:
    """
    What one voice reads: *tone* in Hz for the quick voice, *samples* for the neural one.
    """

    text: str
    tone: float
    samples: Sequence[bytes]


def swallowed(part: Part) -> Part:
    """
    Leave out the last two words of *part*, as a model does that ends too early; one word at least stays.
    """
    words = part.text.split()
    return replace(part, text=" ".join(words[: max(1, len(words) - 2)]))


@dataclass(frozen=True)
class Sound:
    """
    An answer: its bytes in the format asked for, and how many seconds each part takes.
    """

    body: bytes
    lengths: list[float]
    read_by: str

    @property
    def seconds(self) -> float:
        """
        Tell how long all of it is.
        """
        return sum(self.lengths)


def cast(world: World, account: str, order: Order) -> list[Part]:
    """
    Tell who reads what; a speaker nobody was given for is read by the first.

    :raises Refused: 400 for a voice that is unknown, another's or not trained, or a language that nobody here reads
    """
    foreign = any(letter.isalpha() for letter in order.text) and not is_english(order.text)
    if foreign and world.knobs.voice == "neural" and world.knobs.foreign == "refuse":
        raise Refused(400, "The neural voice of this sandbox reads English only. Use the quick voice, or the knob `foreign`.")
    voices = _inline(order) if order.references else _known(world, account, order)
    if len(voices) < 2:
        return [Part(order.text, *(voices or [(sound.pitch("default"), [])])[0])]
    return [Part(text, *voices[speaker if speaker < len(voices) else 0]) for speaker, text in turns(order.text)]


def _inline(order: Order) -> list[tuple[float, list[bytes]]]:
    # The samples are the identity here: the same reference must sound the same in the next request.
    return [(sound.pitch(neural.digest(samples)), list(samples)) for samples in order.references]


def _known(world: World, account: str, order: Order) -> list[tuple[float, list[bytes]]]:
    found = []
    for voice in [world.voices.find(voice_id) for voice_id in order.reference_ids]:
        if voice is None or not voice.visible_to(account):
            raise Refused(400, "Reference not found")
        early = world.knobs.early == "speak" and voice.ready_at is None and voice.states[-1] == "trained"
        if voice.state != "trained" and not early:
            raise Refused(400, f"Reference is not ready: its state is {voice.state}")
        voice.facts["task_count"] += 1
        found.append((voice.tone or sound.pitch(voice.id), voice.samples))
    return found


async def render(world: World, order: Order, parts: Sequence[Part], *, take: int, kind: FaultKind | None = None) -> Sound:
    """
    Read *parts* one after the other; another *take* sounds otherwise, and a fault of this *kind* spoils it.
    """
    read_by = "neural" if world.knobs.voice == "neural" and is_english(order.text) else "quick"
    knobs, rate, speed = world.knobs, order.rate, order.speed

    def read(part: Part) -> Pcm:
        """
        Let the reader say one part.
        """
        if read_by == "neural":
            return world.reader.speak(part.text, part.samples, rate=rate, speed=speed, seed=knobs.seed + take)
        return sound.speak(part.text, tone=part.tone, rate=rate, speed=speed, take=take)

    def work() -> Sound:
        """
        Read, change and encode: all that costs time.
        """
        said = [read(part) for part in parts]
        pcm = sound.adjust(np.concatenate(said), rate=rate, seconds=knobs.seconds, volume=order.volume)
        pcm = sound.spoil(pcm, kind, rate=rate, seed=knobs.seed)
        share = len(pcm) / rate / sum(len(one) for one in said)
        return Sound(_encoded(pcm, order, kind), [len(one) * share for one in said], read_by)

    quick = read_by == "quick" and order.audio_format in ("wav", "pcm")
    return work() if quick else await in_turn(world, work)


async def in_turn(world: World, work: Callable[[], Sound]) -> Sound:
    """
    Let the worker do *work*: what costs time is done one after the other, and the event loop stays free.
    """
    return await asyncio.get_running_loop().run_in_executor(world.worker, work)


def _encoded(pcm: Pcm, order: Order, kind: FaultKind | None) -> bytes:
    if kind == "tiny":
        return TINY_MP3
    if kind == "flac":
        return flac(pcm, order.rate)
    return encode(pcm, order.audio_format, order.rate, mp3_bitrate=order.mp3_bitrate, opus_bitrate=order.opus_bitrate)
