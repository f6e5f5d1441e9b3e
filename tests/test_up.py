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
from tests.postgres import free_port
from tests.receiver import receiving
from tests.standing import ask
from tests.studio import END_SECONDS, FINAL, PARAGRAPHS, Up, studios
from tests.test_stopping import suspended

pytestmark = pytest.mark.alone


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


def _folder(person: Narrate, name: str) -> dict[str, Any]:
    """
    Write a script in a folder of that name, and tell the parameters of a run that narrates it into another.
    """
    folder = person.folder / "data" / name
    folder.mkdir()
    (folder / "script.txt").write_text("\n\n".join(f"In {name} it is number {number}." for number in range(PARAGRAPHS)))
    return {"scripts": {"scripts": f"data/{name}"}, "output": {"out": f"data/{name}-audio"}, "limits": {"concurrency": 2}}


def _asked(sandbox: Sandbox, name: str) -> list[str]:
    """
    Tell what was asked for of that folder's script, whatever became of it.
    """
    return [row["text"] for row in sandbox.requests("/v1/tts") if f" {name} " in row["text"]]


def _in_flight(sandbox: Sandbox, *names: str) -> None:
    """
    Wait until runs of those folders have requests in flight that take ten seconds.
    """
    wait_for(lambda: all(len(_asked(sandbox, name)) > 3 for name in names) or None, what="takes", seconds=120)
    sandbox.config(latency=10.0)
    before = {name: len(_asked(sandbox, name)) for name in names}
    wait_for(lambda: all(len(_asked(sandbox, name)) > before[name] for name in names) or None, what="requests")


def _set(url: str, run: str, **state: Any) -> None:
    ask("POST", f"{url}/api/flow_runs/{run}/set_state", json={"state": state, "force": True}).raise_for_status()


def _cancel(url: str, run: str) -> None:
    _set(url, run, type="CANCELLING", name="Cancelling")


def _suspend(url: str, run: str) -> None:
    _set(url, run, **suspended())


def _resume(url: str, run: str) -> None:
    assert "ACCEPT" == ask("POST", f"{url}/api/flow_runs/{run}/resume", json={}).raise_for_status().json()["status"]


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

    assert {"narrate", "nightly", "audiobook", "clone-voice", "library"} == set(_deployments(url))
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
    assert {"narrate", "nightly", "audiobook", "clone-voice", "library"} == set(_deployments(url))
    automations = ask("POST", f"{url}/api/automations/filter", json={}).raise_for_status().json()
    assert {"narrate-crashed", "narrate-approval-late"} == {automation["name"] for automation in automations}


@pytest.mark.long
def test_the_second_signal_ends_runs_and_the_next_up_goes_on_with_them(up: Up, person: Narrate, sandbox: Sandbox) -> None:
    """
    Nothing is sent twice, and it is the same run that completes. What a person suspended or cancelled stays so, while its
    process still waits for what is in flight; one that was deleted is no matter.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=8)
    studio = up()
    url = studio.url()
    names = ("run", "suspended", "cancelled", "deleted")
    run, suspended, cancelled, deleted = (_run(url, parameters=_folder(person, name)) for name in names)
    _in_flight(sandbox, *names)

    _suspend(url, suspended)
    _cancel(url, cancelled)
    studio.signal(signal.SIGTERM)
    studio.hears("waiting for 4 under way")
    ask("DELETE", f"{url}/api/flow_runs/{deleted}").raise_for_status()
    studio.signal_until(signal.SIGTERM, "Ending 4")

    assert 130 == studio.ended(), studio.said
    assert "Traceback" not in studio.said
    _silent(url)
    sent = {name: _asked(sandbox, name) for name in names}
    assert len(sent["run"]) < PARAGRAPHS
    sandbox.config(latency=0.0)
    again = up()
    url = again.url()
    assert "COMPLETED" == _final(url, run), again.said
    assert PARAGRAPHS == len(_asked(sandbox, "run")) == len(set(_asked(sandbox, "run")))
    assert ("PAUSED", "CANCELLED") == (_state(url, suspended), _state(url, cancelled))
    for name in ("suspended", "cancelled"):
        assert sent[name] == _asked(sandbox, name)


@pytest.mark.long
def test_what_a_killed_studio_ran_goes_on_with_the_next(up: Up, person: Narrate, sandbox: Sandbox) -> None:
    """
    After kill -9 of all its processes the server is gone in seconds; at most what was in flight is sent again. What a person
    was cancelling is cancelled. Who listens is told of the other.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=4)
    with receiving() as receiver:
        studio = up()
        url = studio.url()
        alerted = person("alerts", "install", "--webhook", receiver.url, PREFECT_API_URL=f"{url}/api")
        assert 0 == alerted.code, alerted.err
        names = ("run", "cancelled")
        run, cancelled = (_run(url, parameters=_folder(person, name)) for name in names)
        _in_flight(sandbox, *names)
        pids = [int(ask("GET", f"{url}/api/flow_runs/{each}").json()["infrastructure_pid"]) for each in (run, cancelled)]

        _cancel(url, cancelled)
        studio.signal(signal.SIGKILL)
        for pid in pids:
            os.killpg(pid, signal.SIGKILL)

        _silent(url)
        sent = _asked(sandbox, "cancelled")
        sandbox.config(latency=0.0)
        again = up()
        url = again.url()
        assert "COMPLETED" == _final(url, run), again.said
        assert 1 == again.said.count("was under way when the last studio ended"), again.said
        assert PARAGRAPHS <= len(_asked(sandbox, "run")) <= PARAGRAPHS + 4
        assert ("CANCELLED", sent) == (_state(url, cancelled), _asked(sandbox, "cancelled"))
        told = wait_for(
            lambda: [each for each in receiver.told if each["type"] == "narrate.run.taken-up"] or None,
            what="word of it",
            seconds=60,
        )
    assert ["The studio that ran it is gone; what was recorded is kept."] == [each["data"]["message"] for each in told]


@pytest.mark.long
def test_a_studio_whose_server_is_killed_ends_and_says_so(up: Up, person: Narrate, sandbox: Sandbox) -> None:
    """
    Whoever keeps it running starts it again, and the next one goes on with what was under way; nothing is paid twice.
    """
    sandbox.config(training="at-once", latency=0.5, concurrency_limit=4)
    port = ("--port", str(free_port()))
    studio = up(*port)
    url = studio.url()
    run = _run(url, parameters=_folder(person, "run"))
    _in_flight(sandbox, "run")
    listed = subprocess.run(["ps", "-A", "-ww", "-o", "ppid=,pid=,args="], capture_output=True, text=True, check=True).stdout
    mine = [line.split() for line in listed.splitlines() if "flows.history" in line]
    (server,) = [int(pid) for parent, pid, *_ in mine if int(parent) == studio.process.pid]

    os.kill(server, signal.SIGKILL)

    assert 8 == studio.process.wait(timeout=END_SECONDS), studio.said
    assert "Prefect's server is gone." in studio.said
    sandbox.config(latency=0.0)
    again = up(*port)
    assert "COMPLETED" == _final(again.url(), run), again.said
    assert PARAGRAPHS <= len(_asked(sandbox, "run")) <= PARAGRAPHS + 4


@pytest.mark.long
def test_a_run_that_is_resumed_at_once_goes_on(up: Up, person: Narrate, prefect_api: str, sandbox: Sandbox) -> None:
    """
    Whether its process has heard that it was suspended and waits for what is in flight, or not: nothing is sent twice.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=4)
    person.environment["PREFECT_API_URL"] = prefect_api
    studio = up()
    url = studio.url()
    names = ("waiting", "resumed")
    waiting, resumed = (_run(url, parameters=_folder(person, name)) for name in names)
    _in_flight(sandbox, *names)

    _suspend(url, waiting)
    _suspend(url, resumed)
    _resume(url, resumed)
    wait_for(lambda: "Nothing more is sent" in _logs(url, waiting) or None, what="its log", seconds=10)
    _resume(url, waiting)
    sandbox.config(latency=0.0)

    assert ("COMPLETED", "COMPLETED") == (_final(url, waiting), _final(url, resumed)), studio.said
    for name in names:
        assert PARAGRAPHS == len(_asked(sandbox, name)) == len(set(_asked(sandbox, name)))
    studio.signal(signal.SIGINT)
    assert 0 == studio.ended(), studio.said


def _logs(url: str, run: str) -> str:
    rows = ask("POST", f"{url}/api/logs/filter", json={"logs": {"flow_run_id": {"any_": [run]}}}).raise_for_status().json()
    return " ".join(row["message"] for row in rows)


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
def test_up_finds_the_server_that_is_configured(
    up: Up, person: Narrate, prefect_api: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    """
    It works beside it, alone on its machine, and leaves it standing; the first signal waits for a library and all of its books.
    """
    sandbox.config(training="at-once")
    person.environment["PREFECT_API_URL"] = prefect_api
    studio = up("--health-port", str(port := _free_port()))
    url = studio.url()

    assert prefect_api == f"{url}/api"
    assert "was there" in studio.said
    assert httpx.get(f"http://127.0.0.1:{port}/health").is_success
    assert "COMPLETED" == _final(url, _run(url)), studio.said
    refused = _elsewhere(person, tmp_path)("up", "--port", "0")
    assert (2, "") == (refused.code, refused.out)
    assert f"A studio is up already, in {person.folder}" in refused.err

    sandbox.config(latency=1.0)
    for book in ("one", "two"):
        (person.folder / f"data/books/{book}").mkdir(parents=True)
        (person.folder / f"data/books/{book}/chapter.txt").write_text(f"It is the {book} book.")
    books = {"books": ["data/books"], "kind": "narrate", "at_once": 1}
    library = _run(url, "library", parameters={"books": books, "output": {"out": "data/library"}})
    wait_for(lambda: "It is the one book." in sandbox.spoken() or None, what="the first book", seconds=60)
    studio.signal(signal.SIGTERM)
    studio.hears("Taking no new runs")
    late = _run(url)
    assert 0 == studio.ended(), studio.said
    assert ask("GET", f"{prefect_api}/health").is_success
    assert ("COMPLETED", "SCHEDULED") == (_state(url, library), _state(url, late))
    assert "It is the two book." in sandbox.spoken()
    ask("DELETE", f"{url}/api/flow_runs/{late}").raise_for_status()


def _elsewhere(person: Narrate, tmp_path: Path) -> Narrate:
    """
    The same person in another folder.
    """
    other = Narrate(folder=tmp_path / "other", environment=person.environment)
    other.folder.mkdir()
    return other


@pytest.mark.long
def test_what_people_decided_outlives_the_studio(up: Up, person: Narrate, tmp_path: Path) -> None:
    """
    What was switched off, added or paused stays so, also where a studio was killed that had just deployed; the folder is not
    changed under a studio that is up.
    """
    studio = up()
    url = studio.url()
    nightly = f"{url}/api/deployments/{_deployments(url)['nightly']['id']}/schedules"
    [every_night] = ask("GET", nightly).raise_for_status().json()
    ask("PATCH", f"{nightly}/{every_night['id']}", json={"active": False}).raise_for_status()
    at_noon = {"schedule": {"cron": "0 12 1 1 *", "timezone": "Etc/UTC"}, "active": True}
    ask("POST", nightly, json=[at_noon, {**at_noon, "slug": "again"}]).raise_for_status()
    edited = {**_deployments(url)["nightly"]["parameters"], "limits": {"budget": 2}}
    ask("PATCH", nightly.removesuffix("/schedules"), json={"parameters": edited}).raise_for_status()
    paused = f"{url}/api/deployments/{_deployments(url)['narrate']['id']}"
    ask("PATCH", paused, json={"paused": True}).raise_for_status()

    refused = _elsewhere(person, tmp_path)("up", "--port", "0")

    assert (2, "") == (refused.code, refused.out)
    assert f"A studio is up already, in {person.folder}" in refused.err
    studio.signal(signal.SIGINT)
    assert 0 == studio.ended(), studio.said
    shutil.rmtree(person.folder / "data/scripts")
    killed = up()
    killed.hears("its UI is at")
    url = killed.said.split("its UI is at ")[1].split()[0].removesuffix(".")
    wait_for(lambda: not _deployments(url)["narrate"]["paused"] or None, what="the deployment", seconds=END_SECONDS)
    killed.signal(signal.SIGKILL)
    _silent(url)
    again = up()
    url = again.url()
    nightly = f"{url}/api/deployments/{_deployments(url)['nightly']['id']}/schedules"
    kept = {row["schedule"]["cron"]: row["active"] for row in ask("GET", nightly).raise_for_status().json()}
    assert {"0 2 * * *": False, "0 12 1 1 *": True} == kept
    assert "A schedule of nightly stays switched off." in again.said
    assert "A schedule of nightly that the file does not have was removed (again, 0 12 1 1 *)." in again.said
    assert "Parameters of nightly are the file's; on the server were others: limits." in again.said
    assert _deployments(url)["narrate"]["paused"]
    assert "is not there yet: data/scripts, data/books." in again.said


def test_a_file_that_cannot_be_read_is_told(person: Narrate) -> None:
    """
    What came with Narrate is not deployed in its place.
    """
    (person.folder / "prefect.yaml").write_text("name: narrate\ndeployments: [\n")

    done = person("up", "--port", "0")

    assert (2, "") == (done.code, done.out)
    assert "prefect.yaml cannot be read" in done.err
    assert "line 3" in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen at any port")
def test_a_port_that_one_may_not_listen_at_is_told(person: Narrate) -> None:
    """
    It is the port that is wrong, not the folder that Prefect's server keeps its database in.
    """
    done = person("up", "--port", "80")

    assert (2, "") == (done.code, done.out)
    assert "Port 80 cannot be listened at" in done.err
    assert "PREFECT_HOME" not in done.err


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
        assert {"narrate", "nightly", "audiobook", "clone-voice", "library"} == set(_deployments(url))
        assert str(installed / "flows/prefect.yaml") in studio.said
        assert "COMPLETED" == _final(url, _run(url)), studio.said
        assert "COMPLETED" == _final(url, _run(url, "clone-voice")), studio.said
        studio.signal(signal.SIGINT)
        assert 0 == studio.ended(), studio.said

    assert (person.folder / "data/audio/long.mp3").is_file()
    assert 1 == len(sandbox.voices())
