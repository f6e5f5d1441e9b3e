"""
What the contenders meet: the stand-in service and one standing Prefect server, each as a process of its own.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import httpx

from bench.measure import cpu_seconds
from bench.service import CONTROL, Journal, Terms

ROOT = Path(__file__).parents[1]
START_SECONDS = 120
STOP_SECONDS = 30


@dataclass(frozen=True)
class Stage:
    """
    Addresses of the two and a client for the service, the process of Prefect's server, and a folder for all that is made.
    """

    client: httpx.Client
    service: str
    prefect: str
    prefect_pid: int
    folder: Path

    def set(self, terms: Terms) -> None:
        """
        Give the service new terms; it forgets what was.
        """
        self.client.put(CONTROL, json=asdict(terms)).raise_for_status()

    def journal(self) -> Journal:
        """
        What the service was asked since.
        """
        return Journal(**self.client.get(CONTROL).raise_for_status().json())

    @property
    def prefect_cpu(self) -> float:
        """
        CPU seconds that Prefect's server took so far.
        """
        return cpu_seconds(self.prefect_pid)[0]

    def environment(self, **more: str) -> dict[str, str]:
        """
        Take the bench's own environment, without what would point a contender elsewhere.
        """
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FISH_", "NARRATE_", "PREFECT_"))}
        quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1"}
        home = str(self.folder / "prefect")
        return {**kept, **quiet, "FISH_API_KEY": "bench", "FISH_BASE_URL": self.service, "PREFECT_HOME": home, **more}


@contextmanager
def stage() -> Iterator[Stage]:
    """
    Set it up, and clear it away.
    """
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        service() as address,
        httpx.Client(base_url=address) as client,
    ):
        bare = Stage(client=client, service=address, prefect="", prefect_pid=0, folder=Path(folder))
        with _prefect(bare) as (prefect, pid):
            yield replace(bare, prefect=prefect, prefect_pid=pid)


@contextmanager
def service() -> Iterator[str]:
    """
    Run the stand-in service, and yield its address.
    """
    process = subprocess.Popen([sys.executable, "-m", "bench.service"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - asked for as a pipe
        said = process.stdout.readline()
        if not said.startswith("ready "):
            raise SystemExit("the stand-in service did not start")
        yield said.split()[1]
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


@contextmanager
def _prefect(bare: Stage) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    # With a home of its own: its database is not the one that an embedded server would keep.
    environment = bare.environment(PREFECT_HOME=str(bare.folder / "server"), PREFECT_SERVER_API_PORT=str(port))
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/api"
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit("Prefect's server did not start")
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
