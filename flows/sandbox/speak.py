"""
`POST /v1/tts`: text in, sound out. The order of checks is the hosted API's: key, slot, wallet, parameters.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

import ormsgpack
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from flows.sandbox import neural, sound
from flows.sandbox.checks import Order, check
from flows.sandbox.config import Fault, FaultKind, Knobs
from flows.sandbox.encode import MEDIA, TINY_MP3, Pcm, encode, flac
from flows.sandbox.errors import Refused, Unparsable
from flows.sandbox.faults import Cut, answer, drip
from flows.sandbox.journal import Entry
from flows.sandbox.markup import is_english
from flows.sandbox.wallet import billed_model
from flows.sandbox.world import Call, World

PIECE = 1 << 16
"""Bytes of each chunk of an answer."""
UNBILLED = ("status", "reset", "hang")
"""Faults that come before the wallet: only what is answered with 200 is billed."""


async def speak(request: Request) -> Response:
    """
    Answer `POST /v1/tts`.
    """
    world: World = request.app.state.world
    call: Call = request.state.call
    call.account = world.authenticate(request)
    world.take_slot(call)
    body, kind = await request.body(), request.headers.get("content-type", "").partition(";")[0].strip()
    parameters = _parse(body, kind)
    model = billed_model(request.headers.get("model"))
    text = _note(call.entry, parameters or {}, request.headers.get("model"), model)
    fault = world.fault(call, text)
    spoiled = answer(fault, authorization=request.headers["authorization"]) if fault else None
    if fault and spoiled and fault.kind in UNBILLED:
        return spoiled
    cost = world.wallet.require(call.account, world.knobs, text=text, model=model)
    if spoiled is None:
        if parameters is None:
            raise Unparsable(f"Failed to parse the request body as {kind or 'nothing'}")
        order = check(parameters, model=model, packed=kind == "application/msgpack")
        voice, samples = _voice(world, call.account, order)
    world.wallet.charge(call.account, cost)
    call.entry.billed, call.entry.cost_usd = True, f"{cost:f}"
    await asyncio.sleep(world.knobs.latency)
    return spoiled or await _answer(world, call, order, voice=voice, samples=samples, fault=fault)


def _parse(body: bytes, kind: str) -> dict[str, Any] | None:
    try:
        if kind == "application/msgpack":
            parsed = ormsgpack.unpackb(body)
        elif kind == "application/json":
            parsed = json.loads(body)
            json.dumps(parsed, ensure_ascii=False).encode()  # refuses halves of surrogate pairs, which are no text
        else:
            raise Refused(415, "expected a body of application/msgpack or application/json")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _note(entry: Entry, parameters: Mapping[str, Any], header: str | None, model: str) -> str:
    """
    Write a request into the journal as it came, and return its text; the empty string when it has none.
    """
    text = parameters.get("text")
    text = text if isinstance(text, str) else ""
    prosody = parameters.get("prosody")
    entry.text, entry.bytes = text, len(text.encode())
    entry.model, entry.billed_model = header, model
    entry.reference_id = "inline" if parameters.get("references") else parameters.get("reference_id")
    entry.format, entry.sample_rate = parameters.get("format"), parameters.get("sample_rate")
    entry.speed = prosody.get("speed") if isinstance(prosody, dict) else None
    entry.parameters = {key: _plain(value) for key, value in parameters.items() if key != "text"}
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {str(key): _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _voice(world: World, account: str, order: Order) -> tuple[str, list[bytes]]:
    """
    Find whose voice is asked for, as its name and samples; nobody's is the default voice.

    :raises Refused: 400 for a voice that is unknown, another's or not trained
    """
    if order.references:
        # The samples are the identity here: the same reference must sound the same in the next request.
        return neural.digest(order.references), list(order.references)
    found = [world.voices.find(voice_id) for voice_id in order.reference_ids]
    for voice in found:
        if voice is None or not voice.visible_to(account):
            raise Refused(400, "Reference not found")
        if voice.state != "trained":
            raise Refused(400, f"Reference is not ready: its state is {voice.state}")
        voice.facts["task_count"] += 1
    return (found[0].id, found[0].samples) if found and found[0] else ("default", [])


async def _answer(world: World, call: Call, order: Order, *, voice: str, samples: list[bytes], fault: Fault | None) -> Response:
    kind = fault.kind if fault else None
    take = call.entry.number if world.knobs.vary else 0
    read_by = "neural" if world.knobs.voice == "neural" and is_english(order.text) else "quick"

    def work() -> tuple[bytes, float]:
        if read_by == "neural":
            seed = world.knobs.seed + take
            pcm = world.reader.speak(order.text, samples, rate=order.rate, speed=order.speed, seed=seed)
        else:
            pcm = sound.speak(order.text, voice=voice, rate=order.rate, speed=order.speed, take=take)
        return _finish(pcm, order, world.knobs, kind)

    if read_by == "quick" and order.audio_format in ("wav", "pcm"):
        body, seconds = work()
    else:
        body, seconds = await asyncio.get_running_loop().run_in_executor(world.worker, work)
    call.entry.audio_seconds, call.entry.sample_rate = seconds, order.rate
    call.entry.format, call.entry.speed, call.entry.voice = order.audio_format, order.speed, read_by
    headers = {"content-type": MEDIA[order.audio_format], "x-sandbox-voice": read_by} | world.slot_headers(call)
    if fault and kind == "truncate":
        return Cut(body, headers=headers, length=fault.length)
    if fault and kind == "drip":
        return drip(body, seconds=fault.seconds, headers=headers)
    return StreamingResponse(
        (body[start : start + PIECE] for start in range(0, len(body), PIECE)),
        headers=headers,
    )


def _finish(pcm: Pcm, order: Order, knobs: Knobs, kind: FaultKind | None) -> tuple[bytes, float]:
    pcm = sound.adjust(pcm, rate=order.rate, seconds=knobs.seconds, volume=order.volume)
    pcm = sound.spoil(pcm, kind, rate=order.rate, seed=knobs.seed)
    if kind == "tiny":
        return TINY_MP3, 1152 / 44100
    if kind == "flac":
        return flac(pcm, order.rate), len(pcm) / order.rate
    body = encode(pcm, order.audio_format, order.rate, mp3_bitrate=order.mp3_bitrate, opus_bitrate=order.opus_bitrate)
    return body, len(pcm) / order.rate
