"""
The standing Prefect server: the first test that needs it starts it, and pytest ends it when all of its processes are done.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
START_SECONDS = 300
END_SECONDS = 30
HOME = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

Found = TypeVar("Found")


BUSY = 503
"""What a Prefect server answers while its database is locked."""


def ask(method: str, url: str, **more: Any) -> httpx.Response:
    """
    Ask a Prefect server; one that is busy is asked again, as Prefect's own clients do.
    """
    reads = method == "GET" or url.endswith("/filter")

    def asked() -> httpx.Response | None:
        try:
            answer = httpx.request(method, url, timeout=30, **more)
        except httpx.ReadTimeout:
            if reads:
                return None
            raise
        return None if answer.status_code == BUSY else answer

    return wait_for(asked, what=f"an answer to {method} {url}", seconds=120)


def wait_for(look: Callable[[], Found | None], *, what: str, seconds: float = 30, every: float = 0.05) -> Found:
    """
    Look *every* so many seconds until there is something, with a deadline.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(every)
    return found


def pytest_configure(config: pytest.Config) -> None:
    """
    Make a home for the server, once for all processes of pytest's; let what is started here hear Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell started with &
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        config.stash[HOME] = tempfile.TemporaryDirectory(prefix="prefect-", ignore_cleanup_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """
    Tell another process of pytest's where that home is.
    """
    node.workerinput["prefect_home"] = node.config.stash[HOME].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """
    End the server.
    """
    if HOME in config.stash:
        pid, port = (Path(config.stash[HOME].name) / name for name in ("server.pid", "server.port"))
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
            url = _url(port)
            wait_for(lambda: not _healthy(url) or None, what="the end of the Prefect server", seconds=END_SECONDS)
        config.stash[HOME].cleanup()


def home(config: pytest.Config) -> Path:
    """
    Tell where the server keeps its database and its log.
    """
    return Path(config.workerinput["prefect_home"] if hasattr(config, "workerinput") else config.stash[HOME].name)


def server(folder: Path, environment: dict[str, str]) -> str:
    """
    Start the server, or find the one that another process of pytest's has started, and tell its API's address.
    """
    pid, port = folder / "server.pid", folder / "server.port"
    with FileLock(folder / "server.lock", timeout=START_SECONDS):
        if not pid.exists():
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port.write_text(str(probe.getsockname()[1]))
            with (folder / "server.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port.read_text()],
                    cwd=ROOT,
                    env={
                        **environment,
                        "PREFECT_HOME": str(folder),
                        "PREFECT_SERVER_API_PORT": port.read_text(),
                        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
                    },
                    stdout=log,
                    stderr=log,
                )
            pid.write_text(str(process.pid))
        url = _url(port)
        wait_for(lambda: _healthy(url), what="the Prefect server", seconds=START_SECONDS)
    return url


def _url(port: Path) -> str:
    return f"http://127.0.0.1:{port.read_text()}/api"


def _healthy(url: str) -> bool | None:
    try:
        return httpx.get(f"{url}/health").is_success or None
    except httpx.TransportError:
        return None
