"""
Faults: which rule fires for a request, and the answers that are none.
"""

import asyncio
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flows.sandbox.config import Fault

TRANSPORT = "sandbox.transport"
"""Key of the connection's transport in the scope, put there by the server."""
PAGE = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
PIECES = 20
"""In how many pieces a dripping body comes."""


class FaultBook:
    """
    Counts how often each rule matched and fired, and since when.
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self._fired: Counter[int] = Counter()
        self._since: dict[int, float] = {}

    def reset(self) -> None:
        """
        Start counting again.
        """
        self._seen.clear()
        self._fired.clear()
        self._since.clear()

    def pick(self, rules: Sequence[Fault], *, method: str, path: str, text: str, seed: int) -> Fault | None:
        """
        Tell the first rule that fires for this request.
        """
        for index, rule in enumerate(rules):
            if _matches(rule, method=method, path=path, text=text) and self._fires(index, rule, seed):
                return rule
        return None

    def _fires(self, index: int, rule: Fault, seed: int) -> bool:
        self._seen[index] += 1
        if self._seen[index] <= rule.after or (rule.count is not None and self._fired[index] >= rule.count):
            return False
        if rule.lasts is not None and time.monotonic() > self._since.get(index, float("inf")) + rule.lasts:
            return False
        # By rule and ordinal, so that the same requests meet the same faults in whatever order they arrive.
        fires = random.Random(f"{seed}/{index}/{self._seen[index]}").random() < rule.rate
        self._fired[index] += fires
        if fires:
            self._since.setdefault(index, time.monotonic())
        return fires


def _matches(rule: Fault, *, method: str, path: str, text: str) -> bool:
    return (
        path.startswith(rule.path)
        and rule.method in (None, method)
        and (not rule.match or rule.match in text or rule.match in path)
    )


def answer(rule: Fault, *, authorization: str = "") -> Response | None:
    """
    Answer for *rule* alone, without serving the request; None when the request is served first.

    *authorization* is the request's header, for the body that repeats the key.
    """
    match rule.kind:
        case "status":
            return _error(rule, authorization)
        case "reset":
            return Reset()
        case "drop":
            return Drop()
        case "hang":
            return Hang()
        case "empty":
            return StreamingResponse(_pieces(b"", 1, 0))
        case "html":
            return HTMLResponse(PAGE)
        case "json":
            return JSONResponse({"status": 500, "message": "No audio generated, please check the input text."})
    return None


def _error(rule: Fault, authorization: str) -> Response:
    headers = {} if rule.retry_after is None else {"Retry-After": str(rule.retry_after)}
    message = f"injected status {rule.status}"
    match rule.body:
        case "json":
            return JSONResponse({"status": rule.status, "message": message}, rule.status, headers)
        case "list":
            return JSONResponse([{"loc": ["body"], "type": "injected", "msg": message}], rule.status, headers)
        case "html":
            return HTMLResponse(PAGE, rule.status, headers)
        case "key":
            said = f"{message}: no such key {authorization.removeprefix('Bearer ')}"
            return JSONResponse({"status": rule.status, "message": said}, rule.status, headers)
        case "empty":
            return Response(b"", rule.status, headers)


async def _pieces(body: bytes, count: int, seconds: float) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // count))
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / count)
        yield body[start : start + size]


def drip(body: bytes, *, seconds: float, headers: dict[str, str]) -> Response:
    """
    Answer with *body* in pieces that take *seconds* in all.
    """
    return StreamingResponse(_pieces(body, PIECES, seconds), headers=headers)


class Reset(Response):
    """
    No answer: the connection is reset.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Reset the connection, and wait until it is gone.

        :raises ConnectionResetError: in a server that does not hand over its transport
        """
        transport = _transport(scope)
        # Lingering for zero seconds turns the close into a reset, as from a crashed peer.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await _gone(receive)


class Drop(Reset):
    """
    The headers of a good answer, and then a reset.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Send the headers, and reset the connection.

        :raises ConnectionResetError: in a server that does not hand over its transport
        """
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"audio/wav")]})
        await super().__call__(scope, receive, send)


class Hang(Response):
    """
    No answer, until the client gives up.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Wait for the client to go.
        """
        await _gone(receive)


class Cut(Response):
    """
    Half of a body, then the connection is closed: chunked, or with the *length* of the whole in its headers.
    """

    def __init__(self, body: bytes, *, headers: dict[str, str], length: bool) -> None:
        super().__init__(body, headers=headers)
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Send the half, and close.

        :raises ConnectionResetError: in a server that does not hand over its transport
        """
        # By a length a client may notice by counting; the hosted API sends chunks, where the end marker is missing.
        headers = [(key, value) for key, value in self.raw_headers if self._length or key != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _transport(scope).close()
        await _gone(receive)


def _transport(scope: Scope) -> asyncio.Transport:
    transport: asyncio.Transport | None = scope.get(TRANSPORT)
    if transport is None:
        raise ConnectionResetError("the sandbox drops connections only when started by its own server")
    return transport


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
