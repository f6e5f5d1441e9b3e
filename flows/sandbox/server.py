"""
Start and stop the sandbox as a server of its own.
"""

import asyncio
import copy
import signal
import socket
from asyncio import BaseTransport, Transport
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.config import LOGGING_CONFIG
from uvicorn.protocols.http.h11_impl import H11Protocol

from flows.sandbox import neural
from flows.sandbox.app import create_app
from flows.sandbox.faults import TRANSPORT
from flows.sandbox.scenarios import SCENARIOS

GRACE = 1
"""Seconds open requests may take to end once the sandbox is told to."""


class _Protocol(H11Protocol):
    """
    HTTP/1.1 that hands its connection to the application, which can then drop it.
    """

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast(Transport, transport))
        # asyncio does so by itself only for sockets that name their protocol, which those of create_server do not;
        # without it an answer in two writes waits 40 ms for an acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                # Only the end of the server cancels requests: their connections break, as those of a crashed one do.
                cast(Transport, transport).abort()
                while (await receive())["type"] != "http.disconnect":
                    pass

        self.app = with_transport


class _Server(uvicorn.Server):
    """
    A server that says when it is ready, and for which a signal to end is no failure.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again after the end, and the process would count as killed.
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(*, port: int, voice: str, state: Path | None, host: str = "127.0.0.1", scenario: str | None = None) -> None:
    """
    Serve the sandbox until SIGTERM or SIGINT, and then return.

    Prints one line, `ready http://HOST:PORT`, on standard output once connections are accepted; everything else goes
    to standard error. Port 0 picks a free one. Call it in the main thread: signals arrive nowhere else.

    :raises OSError: when the port is taken
    :raises ModuleNotFoundError: when the neural voice is asked for and not installed
    :raises ValueError: for an unknown *voice*
    :raises KeyError: for an unknown *scenario*
    """
    if voice == "neural":
        neural.require()
    app = create_app(voice=voice, state=state, knobs=SCENARIOS[scenario] if scenario else None)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        _Server(_config(app), lambda: print(f"ready {address}", flush=True)).run(sockets=[listener])


def _config(app: Any) -> uvicorn.Config:
    logging = copy.deepcopy(LOGGING_CONFIG)
    logging["handlers"]["access"]["stream"] = "ext://sys.stderr"
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="wsproto",  # the SDK brings it
        log_config=logging,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Longer than any client keeps an idle connection: the server must not close one just as it is used again.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
