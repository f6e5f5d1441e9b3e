"""
The application: which address is answered by what, and the door every request to the API comes through.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.sandbox import control, models, wallet
from flows.sandbox.errors import Refused
from flows.sandbox.faults import Reset, answer
from flows.sandbox.hear import hear
from flows.sandbox.live import live
from flows.sandbox.speak import CAPTIONED, speak
from flows.sandbox.world import Call, World

Handler = Callable[[Request], Awaitable[Response]]


class Door:
    """
    Writes every request to the API into the journal, and closes its entry before the last byte leaves.

    Before, because a client that has the whole answer may send its next request at once: by then its slot must be
    free, or a client that keeps the limit to the letter would meet 429.
    """

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Serve one request.
        """
        if scope["type"] == "lifespan" or scope["path"] == "/" or scope["path"].startswith("/_config"):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        entry = self._world.journal.open(method=scope.get("method", "GET"), path=scope["path"], query=query)
        call = Call(entry)
        scope.setdefault("state", {})["call"] = call

        async def watched(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                entry.status = message["status"]
                MutableHeaders(scope=message)["x-fish-trace-id"] = entry.trace
            elif message["type"] == "websocket.accept":
                entry.status = 101
            elif message["type"].endswith("http.response.body") and not message.get("more_body"):
                self._world.finish(call)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._world.finish(call)


def _guarded(handler: Handler) -> Handler:
    """
    Let *handler* answer once the key is right and no fault comes first.
    """

    async def guarded(request: Request) -> Response:
        world: World = request.app.state.world
        call: Call = request.state.call
        call.account = world.authenticate(request)
        fault = world.fault(call)
        spoiled = answer(fault, authorization=request.headers["authorization"]) if fault else None
        response = spoiled or await handler(request)
        return Reset() if fault and fault.kind == "lost" else response

    return guarded


def _resource(path: str, **handlers: Handler) -> Route:
    """
    Let one handler answer each method, so that whatever else is refused is told all of them.
    """

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, _guarded(handle), methods=list(handlers))


async def _absent(request: Request) -> Response:
    raise Refused(501, f"The sandbox has no {request.url.path}.")


async def _refused(_request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return error.response()
    if isinstance(error, HTTPException):
        # A form that cannot be read says so in plain text, as the hosted API does.
        if error.status_code == 400:
            return PlainTextResponse(error.detail, 400)
        return JSONResponse({"status": error.status_code, "message": error.detail}, error.status_code, error.headers)
    return JSONResponse({"status": 500, "message": f"the sandbox itself failed: {error!r}"}, 500)


def create_app(*, voice: str = "quick", state: Path | None = None, knobs: Mapping[str, Any] | None = None) -> Starlette:
    """
    Make a sandbox to be served; *state* is the folder that voices are kept in, None keeps them in memory, *knobs* are
    what it begins with and goes back to.

    Faults that drop a connection need the sandbox's own server, see `flows.sandbox.server`.

    :raises ValueError: for an unknown *voice*
    """
    world = World(folder=state, knobs={**(knobs or {}), "voice": voice})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        """
        Give up the sound nobody waits for any more, at the end.
        """
        yield
        world.worker.shutdown(wait=False, cancel_futures=True)

    routes = [
        Route("/", control.welcome),
        Route("/_config", control.show, methods=["GET"]),
        Route("/_config", control.patch, methods=["PATCH"]),
        Route("/_config/reset", control.reset, methods=["POST"]),
        Route("/_config/requests", control.requests, methods=["GET"]),
        Route("/_config/requests", control.forget, methods=["DELETE"]),
        Route("/v1/tts", speak, methods=["POST"]),
        Route(CAPTIONED, speak, methods=["POST"]),
        WebSocketRoute("/v1/tts/live", live),
        Route("/v1/asr", _guarded(hear), methods=["POST"]),
        Route("/v1/voice-design", _guarded(_absent), methods=["POST"]),
        _resource("/model", POST=models.create, GET=models.listing),
        _resource("/model/{voice_id}", GET=models.show, PATCH=models.update, DELETE=models.delete),
        Route("/wallet/{user_id}/api-credit", _guarded(wallet.show_credit), methods=["GET"]),
        Route("/wallet/{user_id}/package", _guarded(wallet.show_package), methods=["GET"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Door, world=world)],
        exception_handlers={Refused: _refused, HTTPException: _refused, Exception: _refused},
        lifespan=lifespan,
    )
    app.state.world = world
    return app
