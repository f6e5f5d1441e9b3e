"""
Servers and workers as processes: the sandbox of `narrate demo`, and Prefect's embedded server.
"""

import atexit
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from flows import settings
from flows.narration.errors import ServiceUnavailable, UsageError
from flows.narration.files import require_writable

STOP_SECONDS = 10
HISTORY_SECONDS = 120
REACH_SECONDS = 30


@contextmanager
def sandbox(*, voice: str, state: Path) -> Iterator[str]:
    """
    Run the sandbox as a process of its own while the block runs, and yield its address; its voices live on in *state*.
    """
    command = [sys.executable, "-m", "flows", "sandbox", "--port", "0", "--voice", voice, "--state", str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True)  # noqa: S603  # our own command
    try:
        yield _address(process)
    finally:
        process.terminate()
        _ended(process)


def _address(process: "subprocess.Popen[str]") -> str:
    """
    Read the line `ready URL`, or tell that the process ended without it.
    """
    for line in process.stdout or ():
        if line.startswith("ready "):
            return line.split()[1]
    raise ServiceUnavailable("The sandbox did not start.", "`narrate sandbox` by itself shows why.")


def keep_history() -> Callable[[], None]:
    """
    See to it that Prefect keeps the run history: on the server that is configured, or on an embedded one that is started now.

    Call before the flows are imported, and what is returned before they run: it waits until the server answers.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    standing, home = get_current_settings().api.url, get_current_settings().home
    if standing:
        if not standing.startswith(("http://", "https://")):
            raise UsageError(
                f"PREFECT_API_URL is {standing!r}, which is no address.", "It looks like http://127.0.0.1:4200/api."
            )
        return lambda: _reach(standing)
    require_writable(home)
    history = History()
    settings.use_prefect_api(history.url)
    refresh_global_settings_context()
    return history.wait


def _reach(url: str) -> None:
    """
    Tell in a sentence that a configured Prefect server is not there.
    """
    try:
        httpx.get(f"{url}/health", timeout=REACH_SECONDS)
    except httpx.TransportError as error:
        raise ServiceUnavailable(
            f"The Prefect server at {url} does not answer ({error}).",
            "Start it, or unset PREFECT_API_URL to keep the run history without one.",
        ) from error


class History:
    """
    Prefect's embedded server, started ahead of need: it takes about ten seconds to come up.
    """

    def __init__(self) -> None:
        # Kept from the screen: a server that ends while a connection is open says so at length.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "flows.history", str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C ends the run, which the server then still has to write down
            )
        # Registered before Prefect's own hooks, so it runs after them, when all they had to say has been sent.
        atexit.register(self.stop)

    def wait(self) -> None:
        """
        Return when it answers.
        """
        deadline = time.monotonic() + HISTORY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=HISTORY_SECONDS).is_success:
                    return
        self._log.seek(0)
        said = self._log.read()[-2000:].decode(errors="replace")
        raise ServiceUnavailable(f"Prefect's embedded server, which keeps the run history, did not start:\n{said}")

    def stop(self) -> None:
        """
        End it once everything was said to it.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to interrupt
        if self._process.stdin is not None:
            self._process.stdin.close()
        _ended(self._process)


def _ended(process: "subprocess.Popen[Any]") -> None:
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
