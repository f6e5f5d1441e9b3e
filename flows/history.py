"""
Prefect's server as a process of its own: `python -m flows.history API DOOR ADDRESS [studio]`, as `flows.studio` starts it.

Prefect would start the same server by itself, but imports all of it into the command (100 MB) and leaves it running when the
command is killed. This one is shared by the commands that find its address. Each of them holds a connection to the *door*,
which the kernel closes however the command ends; when none is left, the server ends. The server of a *studio* has its UI and
all of its services, among them the clock that starts deployments; the embedded one has neither.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from flows import settings
from flows.studio import turn

LOWER_PRIORITY = 10

CLOSE_SECONDS = 2
"""How long requests are waited for that are still being answered at the end."""

END_SECONDS = 8
"""How long the end may take in all: less than 10 s from the last command's death."""

AT_ONCE_SECONDS = 0.001


class _Server(uvicorn.Server):
    """
    A server that steps back once it is up: writing history down must not keep requests waiting. A studio's does not.
    """

    lower_priority = LOWER_PRIORITY

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        os.nice(self.lower_priority)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """
        Leave signals ignored, see `main`.
        """
        yield


def main() -> None:
    """
    Serve Prefect's API until no command is left.
    """
    # Who stops a whole group of processes stops the commands too, and they still have to tell how their runs ended.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    api, door = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    studio = "studio" in sys.argv[4:]
    server = _Server(
        uvicorn.Config(
            _studio if studio else _embedded,
            factory=True,
            log_level="error",
            lifespan="on",
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
    )
    server.lower_priority = 0 if studio else LOWER_PRIORITY
    threading.Thread(target=_end_with_the_last, args=(door, Path(sys.argv[3]), server), daemon=True).start()
    server.run(sockets=[api])


def _embedded() -> Any:
    return _app(ephemeral=True)


def _studio() -> Any:
    return _app(ephemeral=False)


def _app(*, ephemeral: bool) -> Any:
    """
    Import and make Prefect's server, which takes seconds: a command may be gone before it is up.
    """
    settings.prepare_prefect()
    from prefect.server.api.server import create_app

    return create_app(ephemeral=ephemeral, final=True)


def _end_with_the_last(door: socket.socket, address: Path, server: uvicorn.Server) -> None:
    """
    End the server when no command is left, and its process where that takes too long.

    A server that is not up has nothing to write down: Prefect makes its tables in transactions, and goes on with them the
    next time.
    """
    waiting: list[socket.socket] = []  # closed by the end of the process, which is what the last command waits for
    try:
        _mind(door, address, waiting)
    finally:
        server.should_exit = True
        # By the kernel: a busy machine may keep this thread waiting for seconds.
        signal.setitimer(signal.ITIMER_REAL, END_SECONDS if server.started else AT_ONCE_SECONDS)
        threading.Event().wait()


def _mind(door: socket.socket, address: Path, waiting: list[socket.socket]) -> None:
    """
    Let commands in and out until none is left, then take the address away; those that left last are in *waiting*.
    """
    with selectors.DefaultSelector() as looks:
        looks.register(door, selectors.EVENT_READ, data=door)
        while True:
            for key, _ in looks.select():
                if key.data is door:
                    with contextlib.suppress(ConnectionAbortedError):
                        command, _ = door.accept()
                        looks.register(command, selectors.EVENT_READ, data=command)
                else:  # commands say nothing here: it has left, or it was killed
                    looks.unregister(key.data)
                    waiting.append(key.data)
            if len(looks.get_map()) > 1:
                for command in waiting:
                    command.close()
                waiting.clear()
                continue
            with turn(address):  # nobody can be on the way in
                if not looks.select(0):
                    _forget(address)
                    return


def _forget(address: Path) -> None:
    """
    Remove the address and the log, which nobody needs of a server that ends as it should.
    """
    for path in (address, address.with_suffix(".log")):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
