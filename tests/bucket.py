"""
The standing S3 server: the first test that needs it starts it, and pytest ends it when all of its processes are done.

It is moto's, from PyPI, as a process of its own (`tests.s3_server`): of those there it is the one that honours `If-None-Match`
and `If-Match` on writes, which claims lean on.
"""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from filelock import FileLock

from flows.narration.claims import Owner
from flows.narration.shared import SharedTakeStore
from flows.narration.storage import Place
from tests import standing
from tests.standing import ROOT, wait_for

START_SECONDS = 120


def server(folder: Path) -> str:
    """
    Start the server, or find the one that another process of pytest's has started, and tell its address.
    """
    pid, port = folder / "s3.pid", folder / "s3.port"
    with FileLock(folder / "s3.lock", timeout=START_SECONDS):
        if not pid.exists():
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port.write_text(str(probe.getsockname()[1]))
            with (folder / "s3.log").open("wb") as log:
                command = [sys.executable, "-m", "tests.s3_server", port.read_text()]
                process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            pid.write_text(str(process.pid))
        url = f"http://127.0.0.1:{port.read_text()}"
        wait_for(lambda: _answers(url), what="the S3 server", seconds=START_SECONDS)
    return url


def _answers(url: str) -> bool | None:
    try:
        return httpx.get(url, timeout=10).is_success or None
    except httpx.TransportError:
        return None


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """
    End the server.
    """
    if standing.HOME in config.stash:
        pid = Path(config.stash[standing.HOME].name) / "s3.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)


@dataclass(frozen=True)
class Bucket:
    """
    A bucket of a test's own at *url*, and folders for hosts that use it.
    """

    name: str
    url: str
    folder: Path
    log: Path

    @property
    def uri(self) -> str:
        """
        What options call it.
        """
        return f"s3://{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        """
        What tells boto where it is.
        """
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def host(self, name: str) -> dict[str, str]:
        """
        Return the environment of commands on a host of its own, as far as files tell.
        """
        return {
            **self.environment,
            "XDG_CACHE_HOME": str(self.folder / name),
            "XDG_STATE_HOME": str(self.folder / f"{name}-state"),
        }

    def place(self, path: str = "takes") -> Place:
        """
        Open a folder in it.
        """
        return Place(f"{self.uri}/{path}")

    def store(self, host: str = "a", *, owner: Owner | None = None) -> SharedTakeStore:
        """
        Open the take store `takes` on a host.
        """
        folder = self.folder / host
        return SharedTakeStore(self.place(), folder / "takes", owner=owner or Owner(folder / "owners"))

    def put(self, name: str, content: bytes | str) -> None:
        """
        Write an object, past the store and the mirror.
        """
        Place(self.uri).write(name, content.encode() if isinstance(content, str) else content)

    def get(self, name: str) -> bytes:
        """
        Read an object.
        """
        content = Place(self.uri).read(name)
        assert content is not None
        return content

    def download(self, prefix: str, folder: Path) -> None:
        """
        Write its objects in *prefix* to a folder.
        """
        for name in self.names(f"{prefix}/"):
            path = folder / name.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(name))

    def names(self, prefix: str = "") -> list[str]:
        """
        Name its objects.
        """
        return sorted(Place(self.uri).listing(prefix))

    def vanish(self) -> None:
        """
        Be taken away, with all that is there.
        """
        place = Place(self.uri)
        while names := self.names():  # a run at work may write meanwhile
            for name in names:
                place.remove(name)
            if httpx.delete(f"{self.url}/{self.name}").is_success:
                return

    def asked(self) -> Counter[str]:
        """
        Count the requests for it so far by method; a listing is `LIST`.
        """
        lines = [line.split(" ") for line in self.log.read_text().splitlines() if f" /{self.name}" in line]
        return Counter("LIST" if "list-type" in line[-1] else line[0] for line in lines)


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> Callable[[], tuple[str, Path]]:
    """
    One standing S3 server for all tests that need one.
    """
    folder = standing.home(request.config)
    return lambda: (server(folder), folder / "s3.log")


@pytest.fixture
def bucket(s3_server: Callable[[], tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """
    An empty bucket.
    """
    url, log = s3_server()
    made = Bucket(name=f"b-{uuid4().hex}", url=url, folder=tmp_path / "hosts", log=log)
    httpx.put(f"{url}/{made.name}").raise_for_status()
    for name, value in {**made.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return made
