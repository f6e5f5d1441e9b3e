"""
A watched folder: what lands in it is narrated by a deployment, once it has settled.
"""

import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows.endings import CODE
from flows.watch import COLLISION, passes
from tests.bucket import Bucket
from tests.conftest import Narrate, Sandbox, wait_for
from tests.deployed import Deployed, deployed
from tests.standing import ask

pytestmark = pytest.mark.alone


@pytest.fixture
def office(narrate: Narrate, sandbox: Sandbox, clip: Path) -> Iterator[Deployed]:
    """
    A deployment with a worker, and one script to narrate.
    """
    sandbox.config(training="at-once")
    with deployed(narrate, name="watched", clip=clip) as made:
        made.write(one="The lamps are lit.")
        yield made


class _Watch:
    """
    A watching command, and what it said.
    """

    def __init__(self, narrate: Narrate, folder: Path | str) -> None:
        self.lines: list[str] = []
        self._process = narrate.start("watch", folder, "--deployment", "narrate/watched", "--settle", "1")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def ends(self, count: int) -> list[str]:
        """
        Wait until it told of *count* ends.
        """

        def look() -> list[str] | None:
            told = [line for line in self.lines if line.startswith(("completed", "failed", "cancelled"))]
            return told if len(told) >= count else None

        return wait_for(look, what=f"{count} runs at their end", seconds=300)

    def stop(self) -> int:
        """
        Stop it by Ctrl-C, and return its exit code.
        """
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(timeout=60)
        finally:
            self._reader.join(timeout=5)
            if self._process.poll() is None:
                self._process.kill()


@pytest.mark.parametrize(
    ("state", "code", "again"),
    [
        (Completed(), 0, False),
        (Failed(), 8, True),
        (Failed(), 7, True),
        (Failed(), 2, True),
        (Failed(), 3, False),
        (Failed(), 6, False),
        (Failed(message="Nobody resumed it in time."), None, False),
        (Crashed(), None, True),
        (Crashed(), 130, True),  # of an attempt before, which the studio ended and put back
        (Cancelled(message=COLLISION), None, True),
        (Cancelled(message="Ada said no."), 130, False),
    ],
)
def test_what_may_pass_is_tried_again(state: State[Any], code: int | None, again: bool) -> None:
    """
    A run that may pay twice, or ask a person who said no, is none of those.
    """
    labels = {} if code is None else {CODE: code}

    assert again == passes(FlowRun(flow_id=uuid4(), state=state, labels=labels))


@pytest.mark.long
def test_what_could_not_be_narrated_is_tried_again(
    narrate: Narrate, office: Deployed, sandbox: Sandbox, prefect_api: str
) -> None:
    """
    The service is away, then another run has the only place: each is said in a line, and what landed is narrated at last, once.
    """
    deployed = f"{prefect_api}/deployments/{office.id}"
    given = {**ask("GET", deployed).raise_for_status().json()["parameters"], "limits": {"patience": 1}}
    alone = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    ask("PATCH", deployed, json={"parameters": given, **alone}).raise_for_status()
    place = {"names": [f"deployment:{office.id}"], "slots": 1}
    sandbox.config(faults=[{"kind": "status", "status": 503, "path": "/"}])
    watch = _Watch(narrate, office.folder / "scripts")
    watch.ends(1)
    sandbox.config(faults=[])
    ask("POST", f"{prefect_api}/v2/concurrency_limits/increment", json=place).raise_for_status()
    watch.ends(2)
    ask("POST", f"{prefect_api}/v2/concurrency_limits/decrement", json=place).raise_for_status()
    ends = watch.ends(3)
    watch.stop()

    assert ["failed", "cancelled", "completed"] == [end.split()[0] for end in ends], watch.lines
    waits = [line for line in watch.lines if "tried again" in line]
    assert ["it is tried again in 30 s", "it is tried again in 60 s"] == [line.partition(",")[0] for line in waits]
    assert len(ends) + len(waits) + 3 == len(watch.lines), watch.lines
    assert ["The lamps are lit."] == sandbox.spoken()


@pytest.mark.long
def test_what_lands_is_narrated(narrate: Narrate, office: Deployed, sandbox: Sandbox) -> None:
    """
    The first look narrates what is there, a change narrates what is new, in a folder that took its place, too, and what changed
    unwatched is found by the next.
    """
    watch = _Watch(narrate, office.folder / "scripts")
    watch.ends(1)
    assert ["The lamps are lit."] == sandbox.spoken()
    office.write(two="Nobody came.")
    watch.ends(2)
    assert ["The lamps are lit.", "Nobody came."] == sandbox.spoken()
    scripts, new = office.folder / "scripts", office.folder / "new"
    shutil.copytree(scripts, new)
    shutil.rmtree(scripts)
    new.rename(scripts)
    office.write(replaced="Another folder came.")
    watch.ends(3)
    office.write(there="It is watched as well.")
    watch.ends(4)
    said = ["The lamps are lit.", "Nobody came.", "Another folder came.", "It is watched as well."]
    assert said == sandbox.spoken()
    code = watch.stop()
    office.write(three="It rained.")

    watch = _Watch(narrate, office.folder / "scripts")
    ends = watch.ends(1)
    watch.stop()

    assert 130 == code
    assert ["completed narrate scripts as Ada"] == ends
    assert [*said, "It rained."] == sandbox.spoken()


@pytest.mark.long
def test_what_lands_in_a_bucket_is_narrated(bucket: Bucket, narrate: Narrate, office: Deployed, sandbox: Sandbox) -> None:
    """
    As in a folder: what is there, what comes, and nothing twice.
    """
    bucket.put("in/one.txt", "The lamps are lit.")
    bucket.put("in/.hidden/no.txt", "Never said.")
    watch = _Watch(narrate, f"{bucket.uri}/in")
    watch.ends(1)
    assert ["The lamps are lit."] == sandbox.spoken()
    bucket.put("in/two.txt", "Nobody came.")
    watch.ends(2)
    watch.stop()

    assert ["The lamps are lit.", "Nobody came."] == sandbox.spoken()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scripts", "--deployment", "narrate/none-such"], "no deployment “narrate/none-such”"),
        (["scripts", "--settle", "0"], "no number of seconds"),
    ],
)
def test_what_cannot_be_watched_is_refused(narrate: Narrate, arguments: list[str], said: str) -> None:
    """
    Exit 2, with a sentence.
    """
    (narrate.folder / "scripts").mkdir()

    done = narrate("watch", *arguments)

    assert 2 == done.code
    assert said in done.err
