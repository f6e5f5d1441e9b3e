"""
Workers on two hosts: scripts, takes and narrations on S3, one limit of the account, and one of the hosts dies.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bucket import Bucket
from tests.conftest import Narrate, Sandbox, wait_for
from tests.fleet import CRASHED_SECONDS, FINAL, LIMIT, Fleet, killed
from tests.test_account_limit import BACK_SECONDS, START_SECONDS

pytestmark = pytest.mark.alone

SCRIPTS, SENTENCES = 20, 4

DEADLINE = 20.0
"""Seconds a request may take here: what a dead host had in flight is waited for 1.1 times as long, and 40 s more."""

HOSTS = "ab"


def _sentences(script: int) -> list[str]:
    return [f"This is sentence {number} of script {script}, and it is said once." for number in range(SENTENCES)]


ALL = {text for script in range(SCRIPTS) for text in _sentences(script)}


@dataclass(frozen=True)
class Hosts:
    """
    Workers on hosts of their own, and scripts for them all in a *bucket*.
    """

    fleet: Fleet
    bucket: Bucket

    def work(self, host: str) -> int:
        """
        Start the worker of a host, which has one run at once; return its process group.
        """
        return self.fleet.work(HOSTS.index(host), self.bucket.host(host), runs=1).pid

    def begin(self, out: str, voice: dict[str, Any]) -> str:
        """
        Begin a run over all scripts into a folder of its own.
        """
        uri = self.bucket.uri
        return self.fleet.begin("narrate/narrate", {
            "scripts": {"scripts": f"{uri}/scripts"},
            "voice": voice,
            "output": {"out": f"{uri}/{out}", "takes": f"{uri}/takes"},
            "limits": {"concurrency": LIMIT, "account_limit": "account", "deadline": DEADLINE},
        })  # fmt: skip

    def manifest(self, out: str) -> Any:
        """
        Read the manifest of a run.
        """
        return json.loads(self.bucket.get(f"{out}/run.json"))


@pytest.fixture
def hosts(fleet: Fleet, bucket: Bucket) -> Hosts:
    """
    Scripts in which no sentence comes twice.
    """
    for script in range(SCRIPTS):
        bucket.put(f"scripts/{script}.txt", "\n\n".join(_sentences(script)))
    return Hosts(fleet, bucket)


def _said_well(sandbox: Sandbox) -> Counter[str]:
    """
    Count what was said, where never more than the limit was in flight and nothing was refused.
    """
    rows = sandbox.requests("/v1/tts")
    assert max(row["in_flight"] for row in rows) <= LIMIT, rows
    assert {200} == {row["status"] for row in rows if row["status"] is not None}
    said = Counter(row["text"] for row in rows if row["status"] == 200)
    assert set(said) <= ALL
    return said


def _parent(pid: int) -> int:
    """
    Tell which process started another.
    """
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.long
def test_two_runs_on_two_hosts_are_billed_once(hosts: Hosts, sandbox: Sandbox, voice_id: str, narrate: Narrate) -> None:
    """
    Over the same folder at the same moment: both have every narration, and the ledger of all hosts has each sentence once.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=0.5)
    fleet = hosts.fleet
    for host in HOSTS:
        hosts.work(host)
    runs = [hosts.begin(f"out-{host}", {"voice_id": voice_id}) for host in HOSTS]

    ends = [fleet.ended(run) for run in runs]

    assert ["COMPLETED"] * 2 == [end["state_type"] for end in ends], fleet.logs()
    assert dict.fromkeys(ALL, 1) == _said_well(sandbox)
    totals = [hosts.manifest(f"out-{host}")["totals"] for host in HOSTS]
    assert [SCRIPTS] * 2 == [total["narrated"] for total in totals]
    assert len(ALL) == sum(total["requests"] for total in totals)
    assert 0 == fleet.slots_taken()
    ledger = narrate("ledger", "--takes", f"{hosts.bucket.uri}/takes", "--json", **hosts.bucket.host("c"))
    assert (len(ALL), 0) == (ledger.json["total"]["taken"], ledger.json["total"]["unknown"]), ledger.err
    narrations = {out: [name for name in hosts.bucket.names(f"{out}/") if name.endswith(".mp3")] for out in ("out-a", "out-b")}
    assert [SCRIPTS] * 2 == [len(names) for names in narrations.values()]


@pytest.mark.long
def test_a_host_that_dies_loses_nothing(hosts: Hosts, sandbox: Sandbox, voice_id: str) -> None:
    """
    Its worker and the run on it are killed: the other run ends well, its slots come back, the dead run is told Crashed, and
    begun again it pays for nothing. Only what was in flight or being kept on the dead host may be paid for twice.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=3.0)
    fleet = hosts.fleet
    workers = {hosts.work(host): host for host in HOSTS}
    dying, lives = (hosts.begin(f"out-{host}", {"voice_id": voice_id}) for host in HOSTS)

    def at_work() -> int | None:
        """
        Return the process of the first run once both are under way.
        """
        runs = [fleet.run(run) for run in (dying, lives)]
        assert not any(run["state_type"] in FINAL for run in runs), fleet.logs()
        both = all(run["state_type"] == "RUNNING" for run in runs) and len(sandbox.spoken()) >= LIMIT
        return int(runs[0]["infrastructure_pid"]) if both else None

    first = wait_for(at_work, what="two runs at work", seconds=START_SECONDS, every=0.2)
    worker = _parent(first)
    killed(worker)
    killed(first)
    died = time.monotonic()
    sandbox.config(latency=0.5)
    ended = fleet.ended(lives)

    assert "COMPLETED" == ended["state_type"], fleet.logs()
    said = _said_well(sandbox)
    assert ALL == set(said)
    assert sum(said.values()) - len(ALL) <= 2 * LIMIT
    left = max(0.5, BACK_SECONDS - (time.monotonic() - died))
    wait_for(lambda: fleet.slots_taken() == 0 or None, what="all slots back", seconds=left, every=0.2)
    assert "CRASHED" == fleet.ended(dying, seconds=CRASHED_SECONDS)["state_type"]
    hosts.work(workers[worker])
    again = fleet.ended(hosts.begin("out-a", {"voice_id": voice_id}))
    assert "COMPLETED" == again["state_type"], fleet.logs()
    assert said == _said_well(sandbox)
    totals = hosts.manifest("out-a")["totals"]
    assert (SCRIPTS, 0) == (totals["narrated"] + totals["unchanged"], totals["requests"])
