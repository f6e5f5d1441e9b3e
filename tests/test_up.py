"""
`narrate up` as a person runs it: from nothing to a run started through the API, and what Ctrl-C, twice, and kill -9 leave.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.commands import parser
from tests.conftest import ROOT, Narrate, Sandbox, wait_for
from tests.standing import ask
from tests.studio import END_SECONDS, FINAL, PARAGRAPHS, Up, studios


def _deployments(url: str) -> dict[str, Any]:
    rows = ask("POST", f"{url}/api/deployments/filter", json={}).raise_for_status().json()
    return {row["name"]: row for row in rows}


def _run(url: str, name: str = "narrate", **more: Any) -> str:
    """
    Start a run through the API, as the UI does, and return its id.
    """
    deployment = _deployments(url)[name]["id"]
    asked = {"state": {"type": "SCHEDULED"}, **more}
    made = ask("POST", f"{url}/api/deployments/{deployment}/create_flow_run", json=asked)
    return str(made.raise_for_status().json()["id"])


def _state(url: str, run: str) -> str:
    return str(ask("GET", f"{url}/api/flow_runs/{run}").raise_for_status().json()["state"]["type"])


def _final(url: str, run: str) -> str:
    """
    Wait for the end of a run.
    """

    def look() -> str | None:
        state = _state(url, run)
        return state if state in FINAL else None

    return wait_for(look, what="the end of the run", seconds=END_SECONDS)


def _silent(url: str) -> None:
    """
    Wait until no server answers there.
    """

    def look() -> bool | None:
        try:
            httpx.get(f"{url}/api/health")
        except httpx.TransportError:
            return True
        return None

    wait_for(look, what="the server's end", seconds=15)


@pytest.mark.long
def test_a_run_that_is_started_in_the_ui_completes(up: Up, person: Narrate, sandbox: Sandbox) -> None:
    """
    Within a minute all is there; paths mean the folder, the UI finds its API, the first Ctrl-C waits for what is under way.
    """
    sandbox.config(training="at-once")
    begun = time.monotonic()
    studio = up()
    url = studio.url()
    print(f"ready after {time.monotonic() - begun:.1f} s")

    assert {"narrate", "nightly", "audiobook", "clone-voice"} == set(_deployments(url))
    assert f"{url}/api" == httpx.get(f"{url}/ui-settings").raise_for_status().json()["api_url"]
    assert "<html" in httpx.get(url, follow_redirects=True, headers={"Accept": "text/html"}).text.lower()
    begun = time.monotonic()
    assert "COMPLETED" == _final(url, _run(url)), studio.said
    print(f"completed after {time.monotonic() - begun:.1f} s")
    assert (person.folder / "data/audio/long.mp3").is_file()
    assert PARAGRAPHS == len(sandbox.spoken())
    assert "COMPLETED" == _final(url, _run(url, "audiobook")), studio.said
    assert ["scripts.m4b"] == [path.name for path in (person.folder / "data/audio").glob("*/*.m4b")]

    sandbox.forget()
    sandbox.config(latency=1.0)
    (person.folder / "data/scripts/long.txt").write_text("\n\n".join(f"Now paragraph {number}." for number in range(20)))
    last = _run(url)
    wait_for(lambda: sandbox.spoken() or None, what="a take", seconds=60)
    studio.signal(signal.SIGINT)
    studio.hears("waiting for 1 under way")
    late = _run(url, "clone-voice")
    assert 0 == studio.ended(), studio.said
    _silent(url)

    assert [f"ready {url}\n"] == studio.out
    assert "Traceback" not in studio.said
    again = up()
    url = again.url()
    assert ("COMPLETED", "COMPLETED") == (_state(url, last), _final(url, late)), again.said
    assert {"narrate", "nightly", "audiobook", "clone-voice"} == set(_deployments(url))
    automations = ask("POST", f"{url}/api/automations/filter", json={}).raise_for_status().json()
    assert {"narrate-crashed", "narrate-approval-late"} == {automation["name"] for automation in automations}


@pytest.mark.long
def test_the_second_signal_ends_runs_and_the_next_up_goes_on_with_them(up: Up, sandbox: Sandbox) -> None:
    """
    Nothing is sent twice, and it is the same run that completes.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=2)
    studio = up()
    url = studio.url()
    run = _run(url)
    wait_for(lambda: len(sandbox.spoken()) > 3 or None, what="takes", seconds=60)

    studio.signal(signal.SIGTERM)
    studio.hears("waiting for 1 under way")
    time.sleep(0.6)  # closer together they would count as one
    studio.signal(signal.SIGTERM)

    assert 130 == studio.ended(), studio.said
    assert "Traceback" not in studio.said
    _silent(url)
    sent = len(sandbox.spoken())
    assert sent < PARAGRAPHS
    sandbox.config(latency=0.0)
    again = up()
    url = again.url()
    assert "COMPLETED" == _final(url, run), again.said
    assert PARAGRAPHS == len(sandbox.spoken()) == len(set(sandbox.spoken()))


@pytest.mark.long
def test_what_a_killed_studio_ran_goes_on_with_the_next(up: Up, sandbox: Sandbox) -> None:
    """
    After kill -9 of all its processes the server is gone in seconds; at most what was in flight is sent again.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=2)
    studio = up()
    url = studio.url()
    run = _run(url)
    wait_for(lambda: len(sandbox.spoken()) > 3 or None, what="takes", seconds=60)
    pid = int(ask("GET", f"{url}/api/flow_runs/{run}").json()["infrastructure_pid"])

    studio.signal(signal.SIGKILL)
    os.killpg(pid, signal.SIGKILL)

    _silent(url)
    sandbox.config(latency=0.0)
    again = up()
    url = again.url()
    assert "COMPLETED" == _final(url, run), again.said
    assert "was under way when the last studio ended" in again.said
    assert PARAGRAPHS <= len(sandbox.spoken()) <= PARAGRAPHS + 2


@pytest.mark.long
def test_a_command_joins_the_studio(up: Up, person: Narrate, sandbox: Sandbox) -> None:
    """
    Where no server is configured, runs of the command line are seen in the UI of the studio that is up.
    """
    sandbox.config(training="at-once")
    url = up().url()

    done = person("run", "data/scripts", "--reference", "data/reference.wav", "--out", "out", "--json")

    assert 0 == done.code, done.err
    assert "COMPLETED" == _state(url, done.json["flow_run_id"])


@pytest.mark.long
def test_up_finds_the_server_that_is_configured(up: Up, person: Narrate, prefect_api: str, sandbox: Sandbox) -> None:
    """
    It works beside it, and leaves it standing.
    """
    sandbox.config(training="at-once")
    person.environment["PREFECT_API_URL"] = prefect_api
    studio = up("--health-port", str(port := _free_port()))
    url = studio.url()

    assert prefect_api == f"{url}/api"
    assert "was there" in studio.said
    assert httpx.get(f"http://127.0.0.1:{port}/health").is_success
    assert "COMPLETED" == _final(url, _run(url)), studio.said
    studio.signal(signal.SIGTERM)
    assert 0 == studio.ended(), studio.said
    assert ask("GET", f"{prefect_api}/health").is_success


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_told(person: Narrate) -> None:
    """
    By something that is no Prefect server.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        with _web(port):
            done = person("up", "--port", str(port))

    assert (2, "") == (done.code, done.out)
    assert f"Port {port} is taken" in done.err
    assert "Traceback" not in done.err


@contextmanager
def _web(port: int) -> Iterator[None]:
    """
    Another program that answers at *port*.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def look() -> bool | None:
        try:
            return bool(httpx.get(f"http://127.0.0.1:{port}"))
        except httpx.TransportError:
            return None

    try:
        wait_for(look, what="the other program")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("port", ["-1", "65536", "four"])
def test_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    It is refused with the range.
    """
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["up", f"--port={port}"])

    assert 2 == ended.value.code
    assert "from 0 to 65535" in capsys.readouterr().err


@pytest.mark.long
def test_an_installed_wheel_works_in_any_folder(person: Narrate, sandbox: Sandbox, tmp_path: Path) -> None:
    """
    The deployments come with it; there is no checkout, and the folder is where scripts and narrations are.
    """
    sandbox.config(training="at-once")
    source, installed = tmp_path / "source", tmp_path / "installed"
    kept = shutil.ignore_patterns("__pycache__", ".*", "demo", "audio", "dist", "build")
    shutil.copytree(ROOT, source, ignore=kept)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", installed, source], check=True, timeout=120)
    shutil.rmtree(source)
    person.environment["PYTHONPATH"] = str(installed)

    with studios(person, tmp_path / "up.log") as start:
        studio = start("--port", "0")
        url = studio.url()
        assert {"narrate", "nightly", "audiobook", "clone-voice"} == set(_deployments(url))
        assert str(installed / "flows/prefect.yaml") in studio.said
        assert "COMPLETED" == _final(url, _run(url)), studio.said
        assert "COMPLETED" == _final(url, _run(url, "clone-voice")), studio.said
        studio.signal(signal.SIGINT)
        assert 0 == studio.ended(), studio.said

    assert (person.folder / "data/audio/long.mp3").is_file()
    assert 1 == len(sandbox.voices())
