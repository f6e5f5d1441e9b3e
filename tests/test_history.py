"""
The embedded Prefect server: shared by commands, never outliving the last of them, and never mistaken for another program.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import cached_property
from pathlib import Path

import pytest

from tests.conftest import KEY, Narrate, Sandbox, wait_for

pytestmark = pytest.mark.long  # each starts an embedded server or several, ten seconds of CPU each

END_SECONDS = 10
"""How long the server may outlive its last command."""

PATIENCE_SECONDS = 240
"""How long a busy machine may take to start a server and two commands."""

JOIN_SECONDS = 5
"""How long it may take to join a server: 0.2 s on a quiet machine, where a start of one's own takes seconds."""

ENTER = """
import sys, time
import prefect
from flows import settings, studio
settings.prepare_prefect()
prefect.__version__ = sys.argv[1] or prefect.__version__
from prefect.settings import get_current_settings
begun = time.monotonic()
wait = studio.keep_history()
if sys.argv[2] == "up":
    wait()
print(get_current_settings().api.url, time.monotonic() - begun, flush=True)
sys.stdin.read()
"""
"""What every command does before it runs a flow; then it stays inside until its standard input ends."""


class Inside:
    """
    A command that enters a server, started where there is none.
    """

    def __init__(self, narrate: Narrate, *, version: str = "", up: bool = False, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", ENTER, version, "up" if up else ""],
            env={**narrate.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @cached_property
    def told(self) -> tuple[str, float]:
        """
        The server's address, and the seconds it took to be there, *up* where that was asked for.
        """
        assert self.process.stdout is not None
        url, seconds = self.process.stdout.readline().split()
        return url, float(seconds)

    def kill(self) -> None:
        """
        Kill it, so that it says nothing any more.
        """
        self.process.kill()
        self.process.communicate(timeout=10)


def _servers(home: Path) -> list[int]:
    """
    The processes of embedded servers for *home*.
    """
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "flows.history" in line and f"{home}/" in line]


def _gone(home: Path, *, since: float) -> None:
    """
    Wait for the end of every server of *home*; it must come within 10 s of *since*.
    """
    wait_for(lambda: not _servers(home) or None, what="the server's end", seconds=END_SECONDS - (time.monotonic() - since))


def _states(home: Path, table: str) -> list[str]:
    """
    States of what is in a table of the database of *home*.
    """
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return [state for (state,) in database.execute(f"SELECT state_type FROM {table}")]  # noqa: S608  # our own words


def _scripts(folder: Path, *, name: str, count: int) -> Path:
    (folder / name).mkdir()
    for place in range(count):
        (folder / name / f"{place}.txt").write_text(f"This is {name} {place}.\n")
    return folder / name


@pytest.fixture
def home(bare_narrate: Narrate) -> Path:
    """
    Prefect's folder.
    """
    return Path(bare_narrate.environment["PREFECT_HOME"])


def test_commands_at_once_share_a_server(bare_narrate: Narrate, sandbox: Sandbox, voice_id: str, home: Path) -> None:
    """
    It outlives those that end or are killed before the last, and a signal to everyone; it ends with the last, interrupted here.
    """
    sandbox.config(latency=0.5)
    long, brief = (_scripts(bare_narrate.folder, name=name, count=count) for name, count in (("long", 200), ("brief", 1)))
    lasts = bare_narrate.start("run", long, "--voice-id", voice_id, "--out", "out", "--concurrency", "1")
    ends = bare_narrate.start("run", brief, "--voice-id", voice_id, "--out", "another")

    _, err = ends.communicate(timeout=PATIENCE_SECONDS)
    assert (0, None) == (ends.returncode, lasts.poll()), err
    [server] = _servers(home)
    killed = Inside(bare_narrate, up=True)
    assert killed.told[1] < JOIN_SECONDS
    assert [server] == _servers(home)
    killed.kill()
    os.kill(server, signal.SIGTERM)
    already = len(sandbox.spoken())
    wait_for(lambda: len(sandbox.spoken()) > already + 1 or None, what="two more takes", seconds=PATIENCE_SECONDS)
    lasts.send_signal(signal.SIGINT)
    _, err = lasts.communicate(timeout=PATIENCE_SECONDS)

    assert 130 == lasts.returncode, err
    assert [] == _servers(home)  # the last to leave waits for its end
    assert ["CANCELLED", "COMPLETED"] == sorted(_states(home, "flow_run"))
    assert {"narrate-history.lock", "narrate-runs.lock"} == {path.name for path in home.glob("narrate-*.*")}


def test_the_server_ends_with_a_killed_command(bare_narrate: Narrate, sandbox: Sandbox, voice_id: str, home: Path) -> None:
    """
    The next command tells Crashed of its run; what that had finished stays finished.
    """
    sandbox.config(latency=1)
    scripts = _scripts(bare_narrate.folder, name="scripts", count=60)
    command = ("run", scripts, "--voice-id", voice_id, "--out", "out")
    process = bare_narrate.start(*command, "--concurrency", "1")
    wait_for(lambda: len(sandbox.spoken()) >= 3 or None, what="the third take", seconds=PATIENCE_SECONDS)
    assert 1 == len(_servers(home))

    process.kill()
    died = time.monotonic()
    process.communicate(timeout=30)

    _gone(home, since=died)
    assert ["RUNNING"] == _states(home, "flow_run")
    sandbox.config(latency=0)
    done = bare_narrate(*command)
    assert 0 == done.code, done.err
    assert [] == _servers(home)
    assert ["COMPLETED", "CRASHED"] == sorted(_states(home, "flow_run"))
    assert {"COMPLETED", "CRASHED"} == set(_states(home, "task_run"))


def test_a_command_killed_while_the_server_starts(bare_narrate: Narrate, home: Path) -> None:
    """
    The server ends all the same.
    """
    inside = Inside(bare_narrate)
    assert inside.told
    assert 1 == len(_servers(home))

    inside.kill()

    _gone(home, since=time.monotonic())


def test_an_address_whose_server_was_killed_is_not_believed(bare_narrate: Narrate, home: Path) -> None:
    """
    Another program listens at its ports by now, and says nothing: a command starts a server of its own, at once.
    """
    first = Inside(bare_narrate)
    assert first.told
    [address], [server] = home.glob("narrate-history-*.json"), _servers(home)
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not _servers(home) or None, what="the server's end")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        taken = {"url": f"http://127.0.0.1:{port}/api", "door": port}
        assert set(taken) == set(json.loads(address.read_text()))
        address.write_text(json.dumps(taken))

        second = Inside(bare_narrate)

        url, seconds = second.told
    assert seconds < JOIN_SECONDS
    assert url == json.loads(address.read_text())["url"] != taken["url"]
    for inside in (first, second):
        inside.kill()
    _gone(home, since=time.monotonic())


def test_only_commands_of_a_kind_share_a_server(bare_narrate: Narrate, home: Path) -> None:
    """
    Another database, another version of Prefect: another server, also where all come at once.
    """
    database = f"sqlite+aiosqlite:///{home}/another.db"
    alike = [Inside(bare_narrate), Inside(bare_narrate)]
    others = [Inside(bare_narrate, PREFECT_API_DATABASE_CONNECTION_URL=database), Inside(bare_narrate, version="3.99.0")]

    assert alike[0].told[0] == alike[1].told[0]
    assert 3 == len({inside.told[0] for inside in (*alike, *others)}) == len(_servers(home))

    for inside in (*alike, *others):
        inside.kill()
    _gone(home, since=time.monotonic())


@pytest.mark.parametrize("hindrance", ["a file in its place", "a lock that is a folder"])
def test_a_home_that_cannot_be_written_to_ends_with_2(bare_narrate: Narrate, sandbox: Sandbox, hindrance: str) -> None:
    """
    It is told in a sentence, and nothing is sent.
    """
    scripts = _scripts(bare_narrate.folder, name="scripts", count=1)
    home = bare_narrate.folder / "home"
    if "file" in hindrance:
        home.write_text("")
    else:
        (home / "narrate-history.lock").mkdir(parents=True)

    done = bare_narrate("run", scripts, "--voice-id", "ada", "--out", "out")

    assert 2 == done.code, done.err
    assert str(home) in done.err
    assert "Traceback" not in done.err
    assert KEY not in done.err
    assert [] == sandbox.requests()
