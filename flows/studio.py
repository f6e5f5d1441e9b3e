"""
Servers as processes: the sandbox of `narrate demo`, Prefect's embedded server, and the server of `narrate up`.
"""

import atexit
import contextlib
import errno
import fcntl
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx
from filelock import FileLock

from flows import settings
from flows.narration.errors import ServiceUnavailable, UsageError
from flows.narration.files import require_writable

STOP_SECONDS = 10
HISTORY_SECONDS = 120
REACH_SECONDS = 30
TURN_SECONDS = 30
LOOK_SECONDS = 0.1

SAID = 2000
"""Characters that are quoted of what a process said last."""

STUDIO = "narrate-studio"
"""How the file begins that has the address of a studio's server."""

LOOPBACK = "127.0.0.1"


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
    See to it that Prefect keeps the run history: on the server that is configured, or on an embedded one, joined or started.

    Call before the flows are imported, and what is returned before they run: it waits until the server answers.
    """
    import prefect
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    set_to = get_current_settings()
    standing, home = set_to.api.url, set_to.home
    if standing:
        _require_address(standing)
        return _then_settle(lambda: _reach(standing), home=home, keeper=standing)
    require_writable(home)
    database = _database()
    kind = _digest(database, prefect.__version__)
    try:
        history = History(home / f"narrate-history-{kind}.json", rather=home / f"{STUDIO}-{kind}.json")
    except OSError as error:
        raise _not_started(home, error) from error
    settings.use_prefect_api(history.url)
    refresh_global_settings_context()
    return _then_settle(history.wait, home=home, keeper=database)


@dataclass(frozen=True)
class Standing:
    """
    The Prefect server that a studio works with.
    """

    ui: str
    """Address of its UI."""

    started: bool
    """Whether it was started for this studio, and ends with it."""

    here: bool
    """Whether it is on this machine."""

    joined: bool
    """Whether it is another studio's."""

    wait: Callable[[], None]
    """Returns when it answers."""

    gone: Callable[[], bool] = lambda: False
    """Tells whether its process has ended, as far as that can be known; of a server elsewhere it cannot."""


def stand(*, port: int) -> Standing:
    """
    Find the Prefect server that a studio is to work with, or start one at *port*, and have this process use it.

    It is the server that is configured, one that another studio has started, or one that stands at *port* already.
    """
    import prefect
    from prefect.settings import get_current_settings

    set_to = get_current_settings()
    configured, home = set_to.api.url, set_to.home
    if configured and not (_here(configured, port) and not _answers(configured)):
        _require_address(configured)
        ui, here = set_to.ui_url or configured.removesuffix("/api"), _here(configured)
        return Standing(ui=ui, started=False, here=here, joined=False, wait=lambda: _reach(configured))
    require_writable(home)
    try:
        history = History(home / f"{STUDIO}-{_digest(_database(), prefect.__version__)}.json", port=port, studio=True)
    except OSError as error:
        if error.errno == errno.EACCES and error.filename is None:
            raise UsageError(
                f"Port {port} cannot be listened at: {error.strerror}.", "Choose another --port, from 1024; 0 picks one."
            ) from error
        if error.errno != errno.EADDRINUSE:
            raise _not_started(home, error) from error
        return _at_port(port)
    port = urlsplit(history.url).port or port
    return _use(port, started=history.mine, joined=not history.mine, wait=history.wait, gone=history.gone)


def _at_port(port: int) -> Standing:
    """
    Use the Prefect server that listens at *port*; `UsageError` where something else does.
    """
    if not _answers(f"http://{LOOPBACK}:{port}/api"):
        raise UsageError(f"Port {port} is taken by another program.", "Choose another --port; 0 picks one that is free.")
    return _use(port, started=False, joined=False, wait=lambda: None)


def _use(
    port: int, *, started: bool, joined: bool, wait: Callable[[], None], gone: Callable[[], bool] = lambda: False
) -> Standing:
    from prefect.context import refresh_global_settings_context

    settings.use_studio(host=LOOPBACK, port=port)
    refresh_global_settings_context()
    return Standing(ui=f"http://{LOOPBACK}:{port}", started=started, here=True, joined=joined, wait=wait, gone=gone)


def _here(url: str, port: int | None = None) -> bool:
    """
    Tell whether *url* is on this machine, at *port* where one is given.
    """
    try:
        parts = urlsplit(url)
        return parts.hostname in (LOOPBACK, "localhost") and port in (None, parts.port)
    except ValueError:
        return False


def _answers(url: str) -> bool:
    """
    Tell whether a Prefect server answers at *url*.
    """
    try:
        answer = httpx.get(f"{url}/health", timeout=REACH_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return answer.is_success and answer.text.strip() == "true"


def deploy(file: Path) -> None:
    """
    Put the deployments that *file* describes on the server, as `prefect deploy` does.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603  # our own command
    if done.returncode:
        said = (done.stdout + done.stderr)[-SAID:].strip()
        raise UsageError(f"Prefect could not put what {file} describes on the server:\n{said}")


def _require_address(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"PREFECT_API_URL is {url!r}, which is no address.", "It looks like http://127.0.0.1:4200/api.")


def _database() -> str:
    from prefect.settings import get_current_settings

    url = get_current_settings().server.database.connection_url
    return url.get_secret_value() if url else ""


def _not_started(home: Path, error: OSError) -> UsageError:
    return UsageError(
        f"Prefect's server, which keeps the run history, cannot be started in {home}: {error}.",
        "Set PREFECT_HOME to a folder of your own.",
    )


def require_server() -> None:
    """
    Raise `UsageError` where no standing server is configured, and `ServiceUnavailable` where it does not answer.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        raise UsageError(
            "No Prefect server is configured.",
            "Set PREFECT_API_URL to that of the one your worker uses, such as http://127.0.0.1:4200/api.",
        )
    _reach(url)


def _then_settle(wait: Callable[[], None], *, home: Path, keeper: str) -> Callable[[], None]:
    """
    Have runs marked from now on, and once Prefect answers tell it of those whose process is gone.
    """
    from flows import marks

    mine = marks.Marks(home / "narrate-runs", keeper=_digest(keeper))
    marks.current.set(mine)

    def ready() -> None:
        wait()
        mine.settle()

    return ready


def _digest(*parts: str) -> str:
    """
    Name what belongs together, on this machine: another's server is out of reach, and so are its locks on some file systems.
    """
    return hashlib.sha256("\n".join((socket.gethostname(), *parts)).encode()).hexdigest()[:16]


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


def turn(address: Path) -> FileLock:
    """
    A lock for those who look for an embedded server, start or end one: they do so in turn.
    """
    return FileLock(address.with_name("narrate-history.lock"), timeout=TURN_SECONDS)


class History:
    """
    Prefect's embedded server: the one that another command started, or else one started now, ahead of need.

    It takes about ten seconds to come up. Commands that look for it at the same *address*, a file, share it; it ends with the
    last of them. The server's process holds a lock on that file from its birth to its death, so that the address of one that
    was killed is never believed. One that is at the address *rather* is shared in its place. For a *studio* the server also
    has its UI and its clock.
    """

    def __init__(self, address: Path, *, rather: Path | None = None, port: int = 0, studio: bool = False) -> None:
        self._address = address
        with turn(address):
            found = (rather and _found(rather)) or _found(address)
            self.url, self._door = found or self._started(port, studio=studio)
        self.mine = not found
        # Registered before Prefect's own hooks, so it runs after them, when all they had to say has been sent.
        atexit.register(self.stop)

    def _started(self, port: int, *, studio: bool) -> tuple[str, socket.socket]:
        """
        Start a server and enter it: while its process comes up, connections wait at its sockets.
        """
        self._address.unlink(missing_ok=True)
        with (
            self._address.open("x") as file,
            # Kept from the screen: a server that ends while a connection is open says so at length.
            self._address.with_suffix(".log").open("wb") as log,
            socket.create_server((LOOPBACK, port)) as api,
            socket.create_server((LOOPBACK, 0)) as door,
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            url = f"http://{LOOPBACK}:{api.getsockname()[1]}/api"
            json.dump({"url": url, "door": door.getsockname()[1]}, file)
            file.flush()
            inside = socket.create_connection(door.getsockname())
            if studio:
                settings.use_studio(host=LOOPBACK, port=api.getsockname()[1])
            ends = [str(api.fileno()), str(door.fileno()), str(self._address)]
            subprocess.Popen(  # noqa: S603  # our own command
                [sys.executable, "-m", "flows.history", *ends, *(["studio"] if studio else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[api.fileno(), door.fileno(), file.fileno()],  # with the last it inherits the lock
                start_new_session=True,  # Ctrl-C ends the run, which the server then still has to write down
            )
        return url, inside

    def wait(self) -> None:
        """
        Return when it answers.
        """
        deadline = time.monotonic() + HISTORY_SECONDS
        while time.monotonic() < deadline and not self.gone():
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=HISTORY_SECONDS).is_success:
                    return
            time.sleep(LOOK_SECONDS)
        said = ""
        with contextlib.suppress(OSError):
            said = self._address.with_suffix(".log").read_text(errors="replace")[-SAID:]
        raise ServiceUnavailable(f"Prefect's server, which keeps the run history, did not start:\n{said}")

    def gone(self) -> bool:
        """
        Tell whether its process has ended, which closes the door.
        """
        self._door.setblocking(False)
        try:
            return not self._door.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stop(self) -> None:
        """
        Leave, now that everything was said to it; the last to leave waits until it is written down.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C has nothing left to interrupt
        with contextlib.suppress(OSError), self._door:
            self._door.settimeout(STOP_SECONDS)
            self._door.shutdown(socket.SHUT_WR)
            self._door.recv(1)


def _found(address: Path) -> tuple[str, socket.socket] | None:
    """
    Enter the server whose address is in that file.
    """
    with contextlib.suppress(OSError, ValueError), address.open() as file:
        if _held(file):
            told = json.load(file)
            return str(told["url"]), socket.create_connection((LOOPBACK, told["door"]), timeout=STOP_SECONDS)
    return None


def _held(file: IO[str]) -> bool:
    """
    Tell whether a living process has locked *file*.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _ended(process: "subprocess.Popen[str]") -> None:
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
