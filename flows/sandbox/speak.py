"""
`POST /v1/tts` and its timestamp stream: text in, sound out. The order of checks is the hosted API's: key, slot, wallet,
parameters.
"""

import asyncio
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import ormsgpack
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from flows.sandbox import captions
from flows.sandbox.checks import Order, check
from flows.sandbox.config import Fault
from flows.sandbox.encode import MEDIA
from flows.sandbox.errors import Refused, Unparsable
from flows.sandbox.faults import Cut, answer, drip
from flows.sandbox.journal import Entry, plain
from flows.sandbox.render import Part, Sound, cast, render, swallowed
from flows.sandbox.wallet import billed_model, price
from flows.sandbox.world import Call, World

PIECE = 1 << 16
"""Bytes of each chunk of an answer."""
UNBILLED = ("status", "reset", "hang")
"""Faults that come before the wallet: only what is answered with 200 is billed."""
CAPTIONED = "/v1/tts/stream/with-timestamp"


async def speak(request: Request) -> Response:
    """
    Answer `POST /v1/tts` and `POST /v1/tts/stream/with-timestamp`.
    """
    world: World = request.app.state.world
    call: Call = request.state.call
    call.account = world.authenticate(request)
    world.take_slot(call)
    body, kind = await request.body(), request.headers.get("content-type", "").partition(";")[0].strip()
    parameters = _parse(body, kind)
    model = billed_model(request.headers.get("model"))
    text = note(call.entry, parameters or {}, request.headers.get("model"), model)
    fault = world.fault(call, text)
    spoiled = answer(fault, authorization=request.headers["authorization"]) if fault else None
    if fault and spoiled and fault.kind in UNBILLED:
        return spoiled
    cost = price(text, model)
    world.wallet.require(call.account, world.knobs, cost=cost, model=model)
    if spoiled is None:
        if parameters is None:
            raise Unparsable(f"Failed to parse the request body as {kind or 'nothing'}")
        order, parts = accept(world, call, parameters, model=model, packed=kind == "application/msgpack")
    bill(world, call, cost)
    await asyncio.sleep(world.knobs.latency)
    return spoiled or await _answer(world, call, order, parts, fault)


def accept(world: World, call: Call, parameters: Mapping[str, Any], *, model: str, packed: bool) -> tuple[Order, list[Part]]:
    """
    Check *parameters*, and tell what to read and who reads it.

    :raises Refused: naming what is accepted
    """
    try:
        order = check(parameters, model=model, packed=packed, hottest=world.knobs.hottest)
        return order, cast(world, call.account, order)
    except Refused as error:
        error.status = world.knobs.parameter_status
        raise


def bill(world: World, call: Call, cost: Decimal) -> None:
    """
    Charge *cost* in USD, and write it into the journal.
    """
    world.wallet.charge(call.account, world.knobs, cost)
    call.entry.billed, call.entry.cost_usd = True, f"{Decimal(call.entry.cost_usd or 0) + cost:f}"


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


def note(entry: Entry, parameters: Mapping[str, Any], header: str | None, model: str) -> str:
    """
    Write a request into the journal as it came, and return its text; the empty string when it has none.
    """
    text = parameters.get("text")
    text = text if isinstance(text, str) else ""
    prosody = parameters.get("prosody")
    entry.text, entry.bytes = text, len(text.encode())
    entry.model, entry.billed_model = header, model
    told: dict[str, Any] = plain({key: value for key, value in parameters.items() if key != "text"})
    entry.reference_id = "inline" if parameters.get("references") else told.get("reference_id")
    entry.format, entry.sample_rate = told.get("format"), told.get("sample_rate")
    entry.speed = told["prosody"].get("speed") if isinstance(prosody, dict) else None
    entry.parameters = told
    return text


async def _answer(world: World, call: Call, order: Order, parts: list[Part], fault: Fault | None) -> Response:
    if fault and fault.kind == "swallow":
        parts = [*parts[:-1], swallowed(parts[-1])]
    captioned = call.entry.path == CAPTIONED
    parts = captions.chunked(parts, order) if captioned else parts
    take = call.entry.number if world.knobs.vary else 0
    sound = await render(world, order, parts, take=take, kind=fault.kind if fault else None)
    heard(call.entry, order, sound)
    kind = "text/event-stream" if captioned else MEDIA[order.audio_format]
    headers = {"content-type": kind, "x-sandbox-voice": sound.read_by} | world.slot_headers(call)
    events = captions.events(sound, parts) if captioned else []
    body = b"".join(events) if captioned else sound.body
    if fault and fault.kind == "truncate":
        return Cut(body, headers=headers, length=fault.length)
    if fault and fault.kind == "drip":
        return drip(body, seconds=fault.seconds, headers=headers)
    if world.knobs.real_time_factor:
        return drip(body, seconds=sound.seconds * world.knobs.real_time_factor, headers=headers)
    return StreamingResponse(
        events or (body[start : start + PIECE] for start in range(0, len(body), PIECE)),
        headers=headers,
    )


def heard(entry: Entry, order: Order, sound: Sound) -> None:
    """
    Write into the journal what was answered.
    """
    entry.audio_seconds, entry.sample_rate = (entry.audio_seconds or 0) + sound.seconds, order.rate
    entry.format, entry.speed, entry.voice = order.audio_format, order.speed, sound.read_by
