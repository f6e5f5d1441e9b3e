"""
The deployments of prefect.yaml: put on a server, run by a worker, started by hand and by the clock.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from tests.conftest import KEY, ROOT, Narrate, Sandbox, wait_for
from tests.deployed import events, logged
from tests.receiver import receiving
from tests.searching import BLOCK_SECRET, found, written
from tests.standing import ask
from tests.test_stopping import assert_no_beat_after_its_last_event, suspended

pytestmark = pytest.mark.alone

SAVE = "from flows.credentials import FishAudioCredentials as C; C(api_key=input(), base_url=input()).save('fish-audio')"
"""How README says to make the block, but for a key that is typed rather than written down."""

SCHEDULED_SECONDS = 180

CRASHED_SECONDS = 180
"""Three beats of 30 s missed, up to one more until the first is, and the turns in which the server looks."""

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """
    A checkout of its own, so that nothing is written into this one.
    """
    folder = tmp_path / "checkout"
    for name in ("flows", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("demo", "audio", "__pycache__"))
    for name in ("prefect.yaml", "prefect-docker.yaml", "prefect.toml", "automation.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def prefect(narrate: Narrate, checkout: Path) -> Narrate:
    """
    The environment of a person in the checkout, whose account is the sandbox's.
    """
    more = {"PYTHONPATH": str(checkout), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    return Narrate(folder=checkout, environment={**narrate.environment, **more})


def _prefect(person: Narrate, *arguments: str) -> str:
    """
    Run a command of Prefect's, and return what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=person.folder,
        env=person.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def _deploy(person: Narrate, kind: str = "process", file: str = "prefect.yaml") -> None:
    """
    Put the deployments on the server as README says.
    """
    made = person("setup", "--type", kind)
    assert 0 == made.code, made.err
    _prefect(person, "deploy", "--all", "--no-prompt", "--prefect-file", file)


@pytest.fixture
def worker(prefect: Narrate) -> Iterator[Path]:
    """
    The deployments and a process worker, started as README says; yields the file its log goes to.
    """
    _deploy(prefect)
    log = prefect.folder / "worker.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "narrate"],
            cwd=prefect.folder,
            env=prefect.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        (prefect.folder / "worker.pid").write_text(str(process.pid))
        try:
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):  # a test has killed it
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:  # it looks at the server once more, which takes as long as that is busy
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def block(prefect: Narrate, sandbox: Sandbox, prefect_api: str) -> Iterator[None]:
    """
    The block that the deployments name, with the only key that the sandbox takes.
    """
    sandbox.config(keys=[BLOCK_SECRET])
    subprocess.run(
        [sys.executable, "-c", SAVE],
        cwd=prefect.folder,
        env=prefect.environment,
        input=f"{BLOCK_SECRET}\n{sandbox.url}\n",
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=60,
    )
    yield
    path = f"{prefect_api}/block_types/slug/fish-audio-credentials/block_documents/name/fish-audio"
    saved = ask("GET", path).raise_for_status().json()
    ask("DELETE", f"{prefect_api}/block_documents/{saved['id']}").raise_for_status()


def _deployment(api: str, name: str) -> Any:
    return ask("GET", f"{api}/deployments/name/{name}").raise_for_status().json()


def _runs(api: str, deployment: str, tag: str) -> Any:
    ours = {"deployments": {"id": {"any_": [_deployment(api, deployment)["id"]]}}, "flow_runs": {"tags": {"all_": [tag]}}}
    return ask("POST", f"{api}/flow_runs/filter", json=ours).raise_for_status().json()


def _ended(api: str, deployment: str, tag: str = "by-test", *, seconds: float = 90) -> Any:
    """
    Wait for the only run of a deployment, and return it at its end.
    """

    def look() -> Any | None:
        return next((row for row in _runs(api, deployment, tag) if row["state_type"] in FINAL), None)

    return wait_for(look, what=f"the end of {deployment}", seconds=seconds)


@pytest.mark.usefixtures("block")
def test_deployments_run(prefect: Narrate, sandbox: Sandbox, prefect_api: str, prefect_home: Path, worker: Path) -> None:
    """
    A run started by hand, one started by the clock and the voice by itself end Completed; the second narration pays nothing.

    The key comes from the block, and stays there.
    """
    sandbox.config(training="at-once")

    _prefect(prefect, "deployment", "run", "narrate/narrate", "--tag", "by-test")
    by_hand = _ended(prefect_api, "narrate/narrate")
    sent = len(sandbox.spoken())
    _prefect(prefect, "deployment", "run", "narrate/nightly", "--tag", "by-test", "--start-in", "1 second")
    _prefect(prefect, "deployment", "run", "clone-voice/clone-voice", "--tag", "by-test")
    by_clock, voice = _ended(prefect_api, "narrate/nightly"), _ended(prefect_api, "clone-voice/clone-voice")

    ends = {run["name"]: run["state_type"] for run in (by_hand, by_clock, voice)}
    assert {"narrate scripts as Demo": "COMPLETED", "clone Demo": "COMPLETED"} == ends, worker.read_text()
    assert "COMPLETED" == by_hand["state_type"]
    out = prefect.folder / "data/audio"
    assert 5 == len(list(out.rglob("*.mp3")))
    assert sent == len(sandbox.spoken()) > 0
    account = {"Authorization": f"Bearer {BLOCK_SECRET}"}
    assert 1 == httpx.get(f"{sandbox.url}/model", params={"self": True}, headers=account).raise_for_status().json()["total"]
    assert {} == written(prefect.folder) | written(prefect_home)
    assert [] == found(str([by_hand, by_clock, voice]).encode())
    assert KEY not in worker.read_text() + str([by_hand["parameters"], by_clock["parameters"], voice["parameters"]])


@pytest.mark.long
def test_what_narrates_nothing_is_told_as_well(prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path) -> None:
    """
    A voice that cannot be made, and parameters that do not fit: each is Failed, in a sentence, and whoever listens hears of it.

    A name that was typed in the form is the run's.
    """
    sandbox.config(training="at-once")
    amiss = {
        "clone-voice/clone-voice": {"reference": ["nowhere.wav"]},
        "narrate/narrate": {"reference": ["data/reference.wav"], "voice_id": "ada"},
    }
    with receiving() as receiver:
        assert 0 == prefect("alerts", "install", "--webhook", receiver.url).code
        try:
            for name, voice in amiss.items():
                deployed = _deployment(prefect_api, name)
                body = {"name": "My Tuesday Run", "parameters": {**deployed["parameters"], "voice": voice}, "tags": ["amiss"]}
                ask("POST", f"{prefect_api}/deployments/{deployed['id']}/create_flow_run", json=body).raise_for_status()
            ended = [_ended(prefect_api, name, "amiss") for name in amiss]
            wait_for(lambda: len(receiver.told) >= len(amiss) or None, what="the messages", seconds=60)
        finally:
            assert 0 == prefect("alerts", "remove").code

    assert [("My Tuesday Run", "FAILED")] * 2 == [(run["name"], run["state_type"]) for run in ended], worker.read_text()
    told = {message["subject"]: message for message in receiver.told}
    assert {"My Tuesday Run: failed", "My Tuesday Run: refused"} == set(told)
    assert "nowhere.wav" in told["My Tuesday Run: failed"]["data"]["message"]
    assert "clear one of the two" in ended[1]["state"]["message"]
    failed = "\n".join(logged(prefect_api, ended[0]["id"]))
    assert "nowhere.wav" in failed
    assert "Traceback" not in failed
    assert [] == sandbox.requests()


@pytest.mark.long
def test_a_run_that_was_suspended_goes_on_where_it_was(
    prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path
) -> None:
    """
    Suspend ends its process, Resume starts another; nothing is sent between the two, and nothing twice. It says what it spent
    in both.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=2)
    _prefect(prefect, "deployment", "run", "narrate/narrate", "--tag", "to-suspend", "--param", 'limits={"budget": 5}')
    wait_for(lambda: len(sandbox.spoken()) > 3 or None, what="takes", seconds=90)
    [run] = _runs(prefect_api, "narrate/narrate", "to-suspend")

    to_suspend = {"state": suspended(), "force": True}
    ask("POST", f"{prefect_api}/flow_runs/{run['id']}/set_state", json=to_suspend).raise_for_status()
    wait_for(lambda: "is paused" in worker.read_text() or None, what="the end of its process", seconds=30)
    sent = sandbox.spoken()
    sandbox.config(latency=0.0)
    assert "Suspended" == ask("GET", f"{prefect_api}/flow_runs/{run['id']}").json()["state"]["name"]
    ask("POST", f"{prefect_api}/flow_runs/{run['id']}/resume", json={}).raise_for_status()

    ended = _ended(prefect_api, "narrate/narrate", "to-suspend")
    assert "COMPLETED" == ended["state_type"], worker.read_text()
    billed = sum(float(row["cost_usd"]) for row in sandbox.requests("/v1/tts") if row["billed"])
    assert [pytest.approx(billed)] * 2 == [ended["labels"][name] for name in ("narrate.usd", "narrate.usd_at_most")]
    assert len(sent) < len(sandbox.spoken()) == len(set(sandbox.spoken()))


@pytest.mark.long
def test_a_nightly_run_waits_for_its_turn(prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path) -> None:
    """
    One that comes while another is under way is neither lost nor beside it: it begins after that, and finds all recorded.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=1)
    _prefect(prefect, "deployment", "run", "narrate/nightly", "--tag", "first-night")
    wait_for(lambda: len(sandbox.spoken()) > 1 or None, what="takes", seconds=90)
    _prefect(prefect, "deployment", "run", "narrate/nightly", "--tag", "second-night")
    wait_for(
        lambda: (
            [
                run
                for run in _runs(prefect_api, "narrate/nightly", "second-night")
                if run["state_name"] == "AwaitingConcurrencySlot"
            ]
            or None
        ),
        what="the second to wait",
        seconds=90,
    )
    sandbox.config(latency=0.0)

    ends = [_ended(prefect_api, "narrate/nightly", tag, seconds=180) for tag in ("first-night", "second-night")]

    assert ["COMPLETED", "COMPLETED"] == [run["state_type"] for run in ends], worker.read_text()
    assert ends[0]["end_time"] <= ends[1]["start_time"]
    assert len(sandbox.spoken()) == len(set(sandbox.spoken())) > 1


@pytest.mark.long
def test_a_voice_in_the_making_is_suspended_and_cancelled(
    prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path
) -> None:
    """
    Suspend ends its process, Resume goes on with the same voice, and Cancel is told to whoever listens.
    """
    sandbox.config(training="never")
    _prefect(prefect, "deployment", "run", "clone-voice/clone-voice", "--tag", "to-stop")
    wait_for(lambda: sandbox.requests("/model/") or None, what="a look at the voice", seconds=90)
    [run] = _runs(prefect_api, "clone-voice/clone-voice", "to-stop")
    state = f"{prefect_api}/flow_runs/{run['id']}/set_state"

    ask("POST", state, json={"state": suspended(), "force": True}).raise_for_status()
    assert_no_beat_after_its_last_event(prefect_api, run["id"])
    looks = len(sandbox.requests("/model/"))
    assert "Suspended" == ask("GET", f"{prefect_api}/flow_runs/{run['id']}").json()["state"]["name"]
    ask("POST", f"{prefect_api}/flow_runs/{run['id']}/resume", json={}).raise_for_status()
    wait_for(lambda: len(sandbox.requests("/model/")) > looks or None, what="another look at the voice", seconds=90)
    ask("POST", state, json={"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}).raise_for_status()

    assert "CANCELLED" == _ended(prefect_api, "clone-voice/clone-voice", "to-stop")["state_type"], worker.read_text()
    told = [event["event"] for event in events(prefect_api, run["id"], name="narrate.run.", count=2)]
    assert ["narrate.run.suspended", "narrate.run.cancelled"] == told
    assert 1 == len([row for row in sandbox.requests("/model") if row["method"] == "POST"])


@pytest.mark.long
def test_a_run_whose_machine_died_is_told_crashed(prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path) -> None:
    """
    Worker and run are killed, so that nobody can tell; the automation misses the heart's beats, and the next run goes on.
    """
    sandbox.config(training="at-once", latency=1.0, concurrency_limit=1)
    _prefect(prefect, "deployment", "run", "narrate/narrate", "--tag", "to-kill")
    wait_for(lambda: len(sandbox.spoken()) > 3 or None, what="takes", seconds=90)
    [run] = _runs(prefect_api, "narrate/narrate", "to-kill")

    for pid in (int((worker.parent / "worker.pid").read_text()), int(run["infrastructure_pid"])):
        os.killpg(pid, signal.SIGKILL)
    sent = len(sandbox.spoken())

    killed = time.monotonic()
    crashed = _ended(prefect_api, "narrate/narrate", "to-kill", seconds=CRASHED_SECONDS)
    print(f"Crashed {time.monotonic() - killed:.0f} s after")
    assert "CRASHED" == crashed["state_type"]
    assert "no heartbeat" in crashed["state"]["message"]
    sandbox.config(latency=0.0)
    done = prefect("run", "data/scripts", "--reference", "data/reference.wav", "--voice-title", "Demo")
    assert 0 == done.code, done.err
    assert len(set(sandbox.spoken())) <= len(sandbox.spoken()) <= len(set(sandbox.spoken())) + 1
    assert sent < len(sandbox.spoken())


@pytest.mark.long
@pytest.mark.usefixtures("block")
def test_a_schedule_narrates_what_changed_twice_in_a_row(
    prefect: Narrate, sandbox: Sandbox, prefect_api: str, worker: Path
) -> None:
    """
    With a schedule a minute ahead runs happen by themselves: the first narrates the folder, the next the script that came.
    """
    sandbox.config(training="at-once")
    plan = (prefect.folder / "prefect.yaml").read_text().replace("0 2 * * *", "* * * * *")
    (prefect.folder / "every-minute.yaml").write_text(plan)
    _prefect(prefect, "deploy", "--all", "--no-prompt", "--prefect-file", "every-minute.yaml")

    def completed(after: str) -> Any | None:
        """
        Look for a scheduled run that began after that time and has narrated all there is.
        """
        rows = _runs(prefect_api, "narrate/nightly", "nightly")
        return next(
            (row for row in rows if row["auto_scheduled"] and row["state_type"] == "COMPLETED" and row["start_time"] > after),
            None,
        )

    try:
        wait_for(lambda: completed(""), what="the first scheduled run", seconds=SCHEDULED_SECONDS)
        sent = sandbox.spoken()
        assert len(sent) == len(set(sent)) > 0, worker.read_text()
        (prefect.folder / "data/scripts/late.txt").write_text("This came in the evening.")
        came = datetime.now(UTC).isoformat()
        wait_for(lambda: completed(came), what="the second scheduled run", seconds=SCHEDULED_SECONDS)
        assert ["This came in the evening."] == sandbox.spoken()[len(sent) :], worker.read_text()
    finally:
        _deploy(prefect)


@pytest.mark.long
def test_the_clock_makes_runs(prefect: Narrate, prefect_api: str) -> None:
    """
    The server's scheduler turns the cron line into runs; with SQLAlchemy 2.1 it fails at every turn, and nothing runs at night.
    """
    _deploy(prefect)
    ours = {"deployments": {"id": {"any_": [_deployment(prefect_api, "narrate/nightly")["id"]]}}}

    def look() -> list[str] | None:
        rows = ask("POST", f"{prefect_api}/flow_runs/filter", json=ours).raise_for_status().json()
        due = [row for row in rows if row["auto_scheduled"] and row["state_type"] == "SCHEDULED"]  # none that has run
        return [row["expected_start_time"] for row in due] or None

    assert all("T02:00:00" in time for time in wait_for(look, what="a scheduled run", seconds=60))


def test_deployments_explain_themselves(prefect: Narrate, prefect_api: str) -> None:
    """
    Each field of the form says what it is, closed sets are lists to choose from, and nothing asks for a key.
    """
    _deploy(prefect)

    by_hand, nightly = (_deployment(prefect_api, f"narrate/{name}") for name in ("narrate", "nightly"))

    schema = by_hand["parameter_openapi_schema"]
    assert {"scripts", "voice", "speech", "output", "limits"} == set(schema["properties"])
    groups = schema["definitions"]
    knobs = {name: knob for group in groups.values() for name, knob in group["properties"].items()}
    told = {name: knob.get("description") for name, knob in knobs.items()}
    for name, group in schema["properties"].items():
        told[name] = group.get("description") or groups[group["$ref"].rpartition("/")[2]].get("description")
    assert [] == [name for name, description in told.items() if not description]
    assert ["s2.1-pro", "s2.1-pro-free", "s2-pro"] == knobs["model"]["enum"]
    assert ["mp3", "wav", "flac", "opus"] == knobs["format"]["enum"]
    assert (0.5, 2.0) == (knobs["speed"]["minimum"], knobs["speed"]["maximum"])
    assert [] == [name for name in knobs if "key" in name]
    assert [True] == [schedule["active"] for schedule in nightly["schedules"]]
    assert [] == by_hand["schedules"]


@pytest.mark.long
def test_setup_changes_nothing_the_second_time(prefect: Narrate, prefect_api: str) -> None:
    """
    What a person turned off stays off, and what is there is told.
    """
    first = prefect("setup")
    made = _automations(prefect_api)
    try:
        _enable(prefect_api, made, enabled=False)
        second = prefect("setup")
        left = _automations(prefect_api)
    finally:
        _enable(prefect_api, made, enabled=True)

    assert [0, 0] == [first.code, second.code], first.err + second.err
    assert {(each["id"], False) for each in made} == {(each["id"], each["enabled"]) for each in left} != set()
    assert [each["trigger"] for each in made] == [each["trigger"] for each in left]
    assert "The work pool narrate is there." in second.err
    assert "The automation narrate-crashed is there." in second.err
    assert "prefect deploy --all --no-prompt --prefect-file prefect.yaml" in second.err
    assert "" == first.out + second.out


def _enable(api: str, automations: Any, *, enabled: bool) -> None:
    for each in automations:
        ask("PATCH", f"{api}/automations/{each['id']}", json={"enabled": enabled}).raise_for_status()


def _automations(api: str) -> Any:
    """
    Ours, of which tests in two processes of pytest's may have made two.
    """
    ours = {"automations": {"name": {"any_": ["narrate-crashed"]}}, "sort": "CREATED_DESC"}
    return ask("POST", f"{api}/automations/filter", json=ours).raise_for_status().json()


def test_a_pool_of_another_type_is_told(prefect: Narrate, prefect_api: str) -> None:
    """
    It is left alone.
    """
    pool = f"{prefect_api}/work_pools"
    ask("DELETE", f"{pool}/narrate-docker")
    ask("POST", f"{pool}/", json={"name": "narrate-docker", "type": "kubernetes"}).raise_for_status()

    done = prefect("setup", "--type", "docker")

    assert 2 == done.code
    assert "is of type kubernetes" in done.err
    assert "kubernetes" == ask("GET", f"{pool}/narrate-docker").json()["type"]
    ask("DELETE", f"{pool}/narrate-docker").raise_for_status()


@pytest.mark.long
def test_a_docker_pool_takes_the_same_deployments(prefect: Narrate, prefect_api: str) -> None:
    """
    They differ in where they run; their job variables are what the pool's form takes. No container is started here.
    """
    names = ("narrate/narrate", "narrate/nightly", "clone-voice/clone-voice")
    _deploy(prefect)
    here = [_deployment(prefect_api, name) for name in names]

    _deploy(prefect, "docker", "prefect-docker.yaml")

    there = [_deployment(prefect_api, name) for name in names]
    assert [_alike(each) for each in here] == [_alike(each) for each in there]
    assert {"narrate-docker"} == {each["work_pool_name"] for each in there}
    step = "prefect.deployments.steps.set_working_directory"
    assert [{step: {"directory": "/studio"}}] == there[0]["pull_steps"]
    assert [{step: {"directory": str(prefect.folder)}}] == here[0]["pull_steps"]
    pool = ask("GET", f"{prefect_api}/work_pools/narrate-docker").raise_for_status().json()
    form = pool["base_job_template"]["variables"]
    for each in there:
        assert set(each["job_variables"]) <= set(form["properties"])
        jsonschema.validate(each["job_variables"], form)
    for each in there:
        ask("DELETE", f"{prefect_api}/deployments/{each['id']}").raise_for_status()


def _alike(deployment: dict[str, Any]) -> dict[str, Any]:
    """
    What must not depend on where a deployment runs.
    """
    names = ("name", "description", "version", "tags", "entrypoint", "parameters", "concurrency_limit", "concurrency_options")
    clock = ("schedule", "active", "slug")
    return {
        **{name: deployment[name] for name in names},
        "schedules": [{part: schedule[part] for part in clock} for schedule in deployment["schedules"]],
    }


def test_deployments_say_which_version_they_are() -> None:
    """
    The project's own, in both files; and the image is named after it.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in ("prefect.yaml", "prefect-docker.yaml"):
        deployments = yaml.safe_load((ROOT / name).read_text())["deployments"]
        assert {version} == {each["version"] for each in deployments}
    assert {f"narrate:{version}"} == {each["work_pool"]["job_variables"]["image"] for each in deployments}
