"""
PostgreSQL as Debian installs it, and a Prefect server on it: processes in a temporary folder, gone after the tests.

The bench has the same ones, without fixtures.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.standing import wait_for

ROOT = Path(__file__).parents[1]

USERS = ("postgres", "nobody")
"""Who runs it where the tests run as root, which it refuses to."""

START_SECONDS = 300


def _programs() -> Path:
    """
    Find the folder with initdb and postgres; skip where PostgreSQL is not installed, fail where it has to be.
    """
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or ([Path(found).resolve().parent] if found else [])
    if folders:
        return folders[-1]
    why = "PostgreSQL is not installed: apt-get install postgresql"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def _user() -> str | None:
    import pwd

    if os.getuid():
        return None
    there = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in USERS if user in there)


def free_port() -> int:
    """
    Pick a port that nobody listens at.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Running:
    """
    A server as a process: what it is reached at, its process, and what it wrote so far.
    """

    url: str
    pid: int
    log: Path


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Running]:
    """
    Run an empty database, reached at its address for SQLAlchemy; *durable*: what is committed is on the disk, as by default.
    """
    programs, user, port = _programs(), _user(), free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        more: dict[str, Any] = (
            {"user": user, "group": user if user != "nobody" else "nogroup", "extra_groups": []} if user else {}
        )
        made = subprocess.run(
            [str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", "prefect", "--auth", "trust",
             "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            cwd=folder, capture_output=True, text=True, check=False, **more,
        )  # fmt: skip
        assert 0 == made.returncode, made.stdout + made.stderr
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port),
                 "-c", f"fsync={'on' if durable else 'off'}"],
                cwd=folder, stdout=log, stderr=log, **more,
            )  # fmt: skip
        try:
            ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect"]
            wait_for(
                lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0 or None,
                what="PostgreSQL",
                seconds=START_SECONDS,
                every=0.2,
            )
            yield Running(f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres", process.pid, folder / "log")
        finally:
            process.terminate()  # waits for those connected
            process.send_signal(2)  # does not
            process.wait(timeout=60)


@contextmanager
def running_prefect(database: str, home: Path, **environment: str) -> Iterator[Running]:
    """
    Run a Prefect server on a database with the project's settings, reached at its API's address.
    """
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FISH_", "NARRATE_", "PREFECT_"))}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={
                **kept,
                "PREFECT_HOME": str(home),
                "PREFECT_SERVER_API_PORT": str(port),
                "PREFECT_API_DATABASE_CONNECTION_URL": database,
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "DO_NOT_TRACK": "1",
                **environment,
            },
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}/api"

    def healthy() -> bool | None:
        assert process.poll() is None, (home / "server.log").read_text()
        try:
            return httpx.get(f"{url}/health").is_success or None
        except httpx.TransportError:
            return None

    try:
        wait_for(healthy, what="the Prefect server on PostgreSQL", seconds=START_SECONDS, every=0.2)
        yield Running(url, process.pid, home / "server.log")
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """
    An empty database; yields its address for SQLAlchemy.
    """
    with running_postgres() as database:
        yield database.url


@pytest.fixture(scope="session")
def postgres_api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """
    A Prefect server on PostgreSQL with the project's settings; yields its API's address.
    """
    with running_prefect(postgres, tmp_path_factory.mktemp("prefect")) as server:
        yield server.url
