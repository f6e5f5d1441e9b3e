"""
What was made in a studio's folder, served to browsers on this machine, so that run pages can link it.

Only folders that a run made or is making (they hold `run.json`, `book.json` or its lock), and in them only files of the kinds
that are there to be listened to, looked at or read; nothing that begins with a dot, and nothing to who asks for another host's
name.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from flows import settings
from flows.narration.locks import RUN_LOCK
from flows.narration.manifest import BOOK, RUN
from flows.studio import LOOPBACK

SHOWN = {".mp3", ".m4b", ".wav", ".flac", ".opus", ".vtt", ".srt", ".html", ".epub", ".jpg", ".jpeg", ".png"}

END_SECONDS = 5.0
"""How long a listener is waited for at the end."""


class _Made(StaticFiles):
    """
    The files of runs in a folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder)
        self._folder = folder

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """
        Find a file that may be shown.
        """
        return super().lookup_path(path) if _is_made(PurePosixPath(path), self._folder) else ("", None)


def _is_made(path: PurePosixPath, folder: Path) -> bool:
    if path.suffix.lower() not in SHOWN or any(part.startswith(".") for part in path.parts):
        return False
    return any((folder / above / record).is_file() for above in path.parents for record in (RUN, BOOK, RUN_LOCK))


@contextmanager
def for_runs(*, port: int, say: Callable[[str], None]) -> Iterator[None]:
    """
    Serve what the runs of a studio make in this folder while the block runs, and have their pages link it.
    """
    with serving(Path.cwd(), port=port) as address:
        if port and urlsplit(address).port != port:
            say(f"Port {port} cannot be had: links in the pages of earlier runs do not lead here.")
        settings.use_served(Path.cwd(), address)
        say(f"What is made here is served at {address}, to this machine's browsers, and linked in run pages.")
        yield


@contextmanager
def serving(folder: Path, *, port: int) -> Iterator[str]:
    """
    Serve what was made in *folder* while the block runs, and yield the address; a *port* that is taken gives way to another.
    """
    with _listener(port) as listener:
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])
        app = Starlette(routes=[Mount("/", _Made(folder.resolve()))], middleware=[hosts])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="serving")
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(END_SECONDS)


def _listener(port: int) -> socket.socket:
    with suppress(OSError):
        return socket.create_server((LOOPBACK, port))
    return socket.create_server((LOOPBACK, 0))
