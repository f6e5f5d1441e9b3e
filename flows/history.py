"""
Prefect's embedded server as a process of its own: `python -m flows.history FD`, listening at the socket FD.

Prefect would start the same server by itself, but imports all of it into the command (100 MB) and leaves it running when the
command is killed. This one ends when its standard input closes, which happens however its command ends.
"""

import os
import socket
import sys
import threading

import uvicorn

from flows import settings

LOWER_PRIORITY = 10


class _Server(uvicorn.Server):
    """
    A server that steps back once it is up: writing history down must not keep requests waiting.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        os.nice(LOWER_PRIORITY)


def main() -> None:
    """
    Serve Prefect's API until standard input closes.
    """
    settings.prepare_prefect()
    from prefect.server.api.server import create_app

    listener = socket.socket(fileno=int(sys.argv[1]))
    server = _Server(uvicorn.Config(create_app(ephemeral=True, final=True), log_level="error", lifespan="on"))
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    server.run(sockets=[listener])


def _end_with_input(server: uvicorn.Server) -> None:
    while os.read(0, 1024):
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
