"""
The sandbox, a Prefect server and the command line as tests use them: real processes, reached as users reach them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import standing
from tests.house import KEY, House
from tests.standing import pytest_configure, pytest_configure_node, pytest_unconfigure, wait_for

pytest_plugins = ["tests.studio", "tests.bucket", "tests.postgres", "tests.fleet"]

__all__ = ["KEY", "pytest_configure", "pytest_configure_node", "pytest_unconfigure", "wait_for"]

ROOT = Path(__file__).parents[1]
COMMAND_SECONDS = 120


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Let the contract be held against the hosted API.
    """
    parser.addoption("--live", action="store_true", help="ask the hosted API as well, with the key in FISH_API_KEY")


@dataclass(frozen=True)
class Sandbox:
    """
    A running sandbox: where it is, its knobs, and what it was asked.
    """

    url: str

    def config(self, **knobs: Any) -> None:
        """
        Turn knobs.
        """
        httpx.patch(f"{self.url}/_config", json=knobs).raise_for_status()

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """
        What it was asked, in order; only paths that begin with *path*.
        """
        rows = httpx.get(f"{self.url}/_config/requests").raise_for_status().json()
        return [row for row in rows if row["path"].startswith(path)]

    def spoken(self) -> list[str]:
        """
        The texts it spoke, in the order they came.
        """
        return [row["text"] for row in self.requests("/v1/tts") if row["status"] == 200]

    def voices(self) -> list[dict[str, Any]]:
        """
        The voices of the account.
        """
        listing = httpx.get(
            f"{self.url}/model", params={"self": True, "page_size": 100}, headers={"Authorization": f"Bearer {KEY}"}
        )
        items: list[dict[str, Any]] = listing.raise_for_status().json()["items"]
        return items

    def forget(self) -> None:
        """
        Empty the journal.
        """
        httpx.delete(f"{self.url}/_config/requests").raise_for_status()


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What this machine remembers of voices: of each test's own.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Sandbox]:
    command = [sys.executable, "-m", "flows", "sandbox", "--port", "0", "--voice", "quick"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()
    assert ready.startswith("ready "), ready
    try:
        yield Sandbox(ready.split()[1])
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def sandbox(_sandbox: Sandbox) -> Sandbox:
    """
    A sandbox with its defaults, no voices and an empty journal; no voice speaks before it is trained.
    """
    httpx.post(f"{_sandbox.url}/_config/reset").raise_for_status()
    _sandbox.config(early="refuse")
    return _sandbox


@pytest.fixture(scope="session")
def prefect_home(request: pytest.FixtureRequest) -> Path:
    """
    Where the standing Prefect server keeps its database and its log.
    """
    return standing.home(request.config)


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path) -> str:
    """
    One standing Prefect server for all tests that need one, in whichever process of pytest's they run.
    """
    return standing.server(prefect_home, _environment())


def _environment(**more: str) -> dict[str, str]:
    """
    The environment of a command: this one's, without what would point it at a real account or server.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FISH_", "NARRATE_", "PREFECT_"))}
    return {**kept, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", **more}


@dataclass(frozen=True)
class Done:
    """
    How a command ended.
    """

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """
        What it printed, as JSON.
        """
        return json.loads(self.out)


@dataclass(frozen=True)
class Narrate:
    """
    The command line, started as a process in *folder* against a sandbox and a Prefect server.
    """

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str | Path, **environment: str) -> Done:
        """
        Run a command to its end.
        """
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=COMMAND_SECONDS)
        return Done(code=process.returncode, out=out, err=err)

    def start(self, *arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
        """
        Start a command.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def bare_narrate(tmp_path: Path, sandbox: Sandbox) -> Narrate:
    """
    The command line where no Prefect server is configured.
    """
    home = tmp_path / "home"
    return Narrate(
        folder=tmp_path,
        environment=_environment(FISH_API_KEY=KEY, FISH_BASE_URL=sandbox.url, PREFECT_HOME=str(home), PYTHONPATH=str(ROOT)),
    )


@pytest.fixture
def narrate(bare_narrate: Narrate, prefect_api: str) -> Narrate:
    """
    The command line against the standing Prefect server.
    """
    return Narrate(folder=bare_narrate.folder, environment={**bare_narrate.environment, "PREFECT_API_URL": prefect_api})


@pytest.fixture
def voice_id(sandbox: Sandbox, clip: Path) -> str:
    """
    A trained voice of the account that Narrate did not make; the journal is empty.
    """
    sandbox.config(training="at-once")
    made = httpx.post(
        f"{sandbox.url}/model",
        data={"type": "tts", "title": "Ada", "train_mode": "fast", "visibility": "private"},
        files={"voices": clip.read_bytes()},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    sandbox.forget()
    return str(made.raise_for_status().json()["_id"])


@pytest.fixture
def clip() -> Path:
    """
    A recording that makes a good reference.
    """
    return ROOT / "data" / "reference.wav"


@pytest.fixture
def house(tmp_path: Path, sandbox: Sandbox) -> House:
    """
    An empty house and a sandbox whose voices are trained at once.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    return House(tmp_path, sandbox)
