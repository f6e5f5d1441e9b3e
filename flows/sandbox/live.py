"""
`/v1/tts/live`: text comes in pieces over a WebSocket, sound goes out as soon as there is enough of it to say.
"""

import asyncio
from typing import Any

import ormsgpack
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows.sandbox.config import Fault
from flows.sandbox.errors import Refused
from flows.sandbox.faults import answer
from flows.sandbox.markup import chunks
from flows.sandbox.render import render
from flows.sandbox.speak import accept, bill, heard, note
from flows.sandbox.wallet import billed_model, price
from flows.sandbox.world import Call, World

PIECE = 1 << 14
"""Bytes of sound in each frame."""
WAV_HEADER = 44
LOST = ("reset", "drop", "truncate")
"""Faults that cut the sound in half and close without a finish."""


async def live(socket: WebSocket) -> None:
    """
    Answer the upgrade of `GET /v1/tts/live`, and what is said over the connection.

    Faults are drawn at the handshake, where no text is known yet: a rule with *match* never fires here.
    """
    world, call = socket.app.state.world, socket.state.call
    fault = None
    try:
        call.account = world.authenticate(socket)
        fault = world.fault(call)
        refusal: Response | None = answer(fault) if fault and fault.kind in ("status", "html") else None
        model = billed_model(socket.headers.get("model"))
        world.wallet.require(call.account, world.knobs, cost=price("", model), model=model)
        if world.knobs.live_limit == "status":
            world.take_slot(call)
    except Refused as error:
        refusal = error.response()
    if refusal:
        await socket.send_denial_response(refusal)
        return
    await socket.accept()
    try:
        await _Talk(world, call, socket, model, fault).serve()
    except WebSocketDisconnect:
        return


class _Talk:
    """
    One connection: the request it began with, and the text that waits to be said.
    """

    def __init__(self, world: World, call: Call, socket: WebSocket, model: str, fault: Fault | None) -> None:
        self._world, self._call, self._socket, self._model = world, call, socket, model
        self._fault = fault.kind if fault else None
        self._request: dict[str, Any] | None = None
        self._waiting = ""
        self._said = False

    async def serve(self) -> None:
        """
        Obey the client's events until it stops, something is wrong or a fault cuts it off.
        """
        try:
            while await self._obey(await self._receive()):
                pass
        except Refused as error:
            if error.status == 429:
                await self._send(event="error", error="Concurrency limit exceeded", max_concurrency=self._world.limit)
                await self._socket.close(1008)
            else:
                await self._send(event="error", error=error.message)
                await self._end("error")
        if self._fault in LOST:
            await self._socket.close(1011)
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass

    async def _receive(self) -> dict[str, Any]:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        try:
            event = ormsgpack.unpackb(message.get("bytes") or b"")
        except ValueError as error:
            raise Refused(400, "expected binary frames of msgpack") from error
        return event if isinstance(event, dict) else {}

    async def _obey(self, event: dict[str, Any]) -> bool:
        match event:
            case {"event": "start", "request": dict(request)} if self._request is None:
                self._request = request
                if self._world.knobs.live_limit == "frame":
                    self._world.take_slot(self._call)
                accept(self._world, self._call, {**request, "text": "-"}, model=self._model, packed=True)
            case {"event": "text", "text": str(text)} if self._request is not None:
                self._waiting += text
                *ready, self._waiting = chunks(self._waiting, int(self._request.get("chunk_length") or 300))
                for chunk in ready:
                    await self._say(chunk)
            case {"event": "flush" | "stop" as kind} if self._request is not None:
                text, self._waiting = self._waiting, ""
                await self._say(text)
                if kind == "stop" and self._fault not in (*LOST, "hang"):
                    await self._end("stop")
                return bool(kind == "flush")
            case _:
                raise Refused(400, f"unexpected event {event.get('event')!r}")
        return True

    async def _say(self, text: str) -> None:
        if not text.strip() or self._fault == "hang":
            return
        world, call, knobs = self._world, self._call, self._world.knobs
        order, parts = accept(world, call, {**(self._request or {}), "text": text}, model=self._model, packed=True)
        before = call.entry.text or ""
        note(call.entry, {**(self._request or {}), "text": before + text}, self._socket.headers.get("model"), self._model)
        cost = price(text, self._model)
        world.wallet.require(call.account, knobs, cost=cost, model=self._model)
        bill(world, call, cost)
        if not self._said:
            await asyncio.sleep(knobs.latency)
        sound = await render(world, order, parts, take=call.entry.number if knobs.vary else 0, kind=self._fault)
        heard(call.entry, order, sound)
        # One stream has one header, whatever number of texts it is made of.
        body = sound.body[WAV_HEADER:] if self._said and order.audio_format == "wav" else sound.body
        self._said = True
        body = body[: len(body) // 2] if self._fault in LOST else b"" if self._fault == "empty" else body
        pause = sound.seconds * knobs.real_time_factor * PIECE / max(len(body), PIECE)
        for start in range(0, len(body), PIECE):
            await asyncio.sleep(pause)
            await self._send(event="audio", audio=body[start : start + PIECE])

    async def _end(self, reason: str) -> None:
        # Before the client hears of it: it may come again at once.
        self._world.finish(self._call)
        await self._send(event="finish", reason=reason)
        await self._socket.close(1000)

    async def _send(self, **event: Any) -> None:
        await self._socket.send_bytes(ormsgpack.packb(event))
