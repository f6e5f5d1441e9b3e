"""
One limit of the account for several runs: slots leased from a Prefect global concurrency limit.
"""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.account_limit import ASK_SECONDS, LEASE_SECONDS
from tests.conftest import Narrate, Sandbox, wait_for
from tests.delaying import delaying
from tests.standing import ask

pytestmark = pytest.mark.alone

LIMIT = 5

START_SECONDS = 180
"""How long a busy machine may take until a run sends; a quiet one takes 5 s."""

QUIET_SECONDS = 15
"""After which nothing more is sent: a slow server gives a slot back, and refuses the next, in less."""

FULL = 0.5
"""Share of what five slots could do that they do at the least, on a busy machine, with what Prefect and requests take."""

BACK_SECONDS = 80
"""Within which slots come back whose holder was killed: a lease of 60 s, 15 more until the server looks, and its answer."""


class Limit:
    """
    A global concurrency limit of the Prefect server at *api*.
    """

    def __init__(self, api: str, name: str, limit: int) -> None:
        self.name, self._url = name, f"{api}/v2/concurrency_limits"
        ask("POST", f"{self._url}/", json={"name": name, "limit": limit}).raise_for_status()

    @property
    def taken(self) -> int:
        """
        How many slots are taken.
        """
        return int(ask("GET", f"{self._url}/{self.name}").raise_for_status().json()["active_slots"])

    def delete(self) -> None:
        """
        Remove it.
        """
        ask("DELETE", f"{self._url}/{self.name}").raise_for_status()


@pytest.fixture
def limit(prefect_api: str, tmp_path: Path) -> Iterator[Limit]:
    """
    A limit of this test's own.
    """
    made = Limit(prefect_api, f"account-{tmp_path.name}", LIMIT)
    yield made
    made.delete()


def _scripts(folder: Path, name: str, *, segments: int) -> Path:
    """
    Write a folder with one script; no sentence is in another run's.
    """
    (folder / name).mkdir()
    text = "\n\n".join(f"This is sentence {number} of {name}, said once." for number in range(segments))
    (folder / name / "script.txt").write_text(text)
    return folder / name


def _command(folder: Path, name: str, voice_id: str, limit: str) -> list[str | Path]:
    return ["run", folder / name, "--voice-id", voice_id, "--out", folder / f"out-{name}", "--account-limit", limit, "--json"]


def _most(rows: list[dict[str, Any]]) -> int:
    return max(int(row["in_flight"]) for row in rows)


def test_a_limit_that_is_not_there_is_told(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    Nothing was sent, and the command that makes it is said.
    """
    _scripts(narrate.folder, "one", segments=2)

    done = narrate(*_command(narrate.folder, "one", voice_id, "nobody-made-it"))

    assert 2 == done.code, done.err
    assert "prefect gcl create 'nobody-made-it' --limit 5" in done.err
    assert [] == sandbox.requests("/v1/tts")


def test_a_run_sends_on_leased_slots_and_gives_them_back(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, prefect_api: str, tmp_path: Path
) -> None:
    """
    It asks for more than the limit has, and no more are in flight than that; at its end none is taken.
    """
    small = Limit(prefect_api, f"small-{tmp_path.name}", 2)
    sandbox.config(concurrency_limit=2, latency=0.1)
    _scripts(narrate.folder, "one", segments=12)

    done = narrate(*_command(narrate.folder, "one", voice_id, small.name), "--concurrency", "5")

    rows = sandbox.requests("/v1/tts")
    assert 0 == done.code, done.err
    assert {200} == {row["status"] for row in rows}
    assert 2 == _most(rows)
    assert 12 == len(rows)
    assert 0 == small.taken
    small.delete()


def _running(process: "subprocess.Popen[str]") -> None:
    assert process.poll() is None, process.communicate()


@pytest.mark.long
def test_two_runs_share_one_limit(narrate: Narrate, sandbox: Sandbox, voice_id: str, limit: Limit) -> None:
    """
    A second run has its share within two minutes; never more than the limit in flight, none refused, and hardly a slot idle.
    """
    latency, first_alone, both, judged = 1.0, 20.0, 120.0, 60.0  # two minutes from its start, of which the last is judged
    sandbox.config(concurrency_limit=LIMIT, latency=latency)
    for name in ("first", "second"):
        _scripts(narrate.folder, name, segments=1000)
    processes = []
    try:
        processes.append(narrate.start(*_command(narrate.folder, "first", voice_id, limit.name)))
        wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=START_SECONDS)
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() - begun > first_alone or None, what="a while", seconds=2 * first_alone)
        processes.append(narrate.start(*_command(narrate.folder, "second", voice_id, limit.name)))
        second = time.monotonic()
        wait_for(lambda: time.monotonic() - second > both or None, what="a while", seconds=2 * both, every=1)
        for process in processes:
            _running(process)
        ended = time.monotonic()
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)

    rows = [row for row in sandbox.requests("/v1/tts") if row["status"] is not None]
    assert _most(rows) <= LIMIT
    assert {200} == {row["status"] for row in rows}
    alone = [row for row in rows if row["finished"] <= second and row["started"] >= begun + 2]
    together = [row for row in rows if second + 20 <= row["started"] and row["finished"] <= ended]
    rate_alone = len(alone) / (second - begun - 2)
    rate_together = len(together) / (ended - second - 20)
    begun_second = min(row["started"] for row in rows if "second" in row["text"]) - second
    shares = {name: _share([row for row in rows if row["started"] >= ended - judged], name) for name in ("first", "second")}
    print(f"alone {rate_alone:.2f}/s, together {rate_together:.2f}/s, ideal {LIMIT / latency:.2f}/s")
    print(f"second run's first request after {begun_second:.0f} s; shares of the last {judged:.0f} s: {shares}")
    assert min(shares.values()) > 0.25
    assert rate_together > 0.8 * rate_alone > FULL * LIMIT / latency
    assert 0 == limit.taken


def _share(rows: list[dict[str, Any]], name: str) -> float:
    return round(sum(name in row["text"] for row in rows) / len(rows), 2)


@pytest.mark.long
def test_slots_of_a_run_that_was_killed_come_back(narrate: Narrate, sandbox: Sandbox, voice_id: str, limit: Limit) -> None:
    """
    Within `BACK_SECONDS`; a run that waits for them goes on by itself and says what it waits for.
    """
    sandbox.config(concurrency_limit=LIMIT, latency=0.5)
    _scripts(narrate.folder, "first", segments=1000)
    _scripts(narrate.folder, "second", segments=10)
    first = narrate.start(*_command(narrate.folder, "first", voice_id, limit.name))
    try:
        wait_for(lambda: len(sandbox.requests("/v1/tts")) > 3 * LIMIT or None, what="requests", seconds=START_SECONDS)
        wait_for(lambda: limit.taken == LIMIT or None, what="all slots taken", seconds=START_SECONDS)
    finally:
        first.kill()
        first.communicate()
    killed = time.monotonic()

    done = narrate(*_command(narrate.folder, "second", voice_id, limit.name))

    assert 0 == done.code, done.err
    assert "waiting for the first" in done.err
    begun = min(row["started"] for row in sandbox.requests("/v1/tts") if "second" in row["text"]) - killed
    wait_for(lambda: limit.taken == 0 or None, what="all slots back", seconds=BACK_SECONDS)
    print(f"slots were back after {begun:.0f} s, all after {time.monotonic() - killed:.0f} s")
    assert begun < BACK_SECONDS
    assert 10 == json.loads(done.out)["totals"]["segments"]


@pytest.mark.long
def test_a_limit_that_is_gone_stops_the_sending_and_not_the_run(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, prefect_api: str, tmp_path: Path
) -> None:
    """
    Leases cannot be had: once a stretch is over nothing is sent; when the limit is there again the run goes on to its end.
    """
    there = Limit(prefect_api, f"gone-{tmp_path.name}", 1)
    sandbox.config(concurrency_limit=1, latency=0.5)
    _scripts(narrate.folder, "one", segments=150)
    run = narrate.start(*_command(narrate.folder, "one", voice_id, there.name), "--concurrency", "1")
    try:
        wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=START_SECONDS)
        there.delete()

        def still() -> int | None:
            """
            How many were sent, when none was for a while.
            """
            rows = sandbox.requests("/v1/tts")
            return len(rows) if time.monotonic() - rows[-1]["started"] > QUIET_SECONDS else None

        sent = wait_for(still, what="the end of sending", seconds=150, every=0.5)
        _running(run)
        assert sent < 150
        again = Limit(prefect_api, there.name, 1)
        out, err = run.communicate(timeout=150)
    finally:
        run.kill()

    assert 0 == run.returncode, err
    assert "is gone. Nothing is sent until it is there again." in err
    assert 150 == json.loads(out)["totals"]["requests"]
    again.delete()


@pytest.mark.long
def test_a_slot_that_is_granted_too_late_is_given_back(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, prefect_api: str, tmp_path: Path
) -> None:
    """
    Nobody waits for it any more; the run has the next one soon, and not when the lost lease would have run out.
    """
    only = Limit(prefect_api, f"late-{tmp_path.name}", 1)
    _scripts(narrate.folder, "one", segments=3)

    begun = time.monotonic()
    with delaying(prefect_api, to=b"increment-with-lease", seconds=ASK_SECONDS + 2) as api:
        done = narrate(*_command(narrate.folder, "one", voice_id, only.name), PREFECT_API_URL=api)

    assert 0 == done.code, done.err
    assert "can be leased, and without one nothing is sent" in done.err
    print(f"it took {time.monotonic() - begun:.0f} s")
    assert 3 == len(sandbox.requests("/v1/tts"))
    assert time.monotonic() - begun < LEASE_SECONDS
    assert 0 == only.taken
    only.delete()
