"""
Several hosts that record into one take store on a real S3 server, against a running sandbox: each byte is paid for once.
"""

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.narration import claims, ledger, recorder, sharing
from flows.narration.claims import Owner
from flows.narration.judge import Heard
from flows.narration.ledger import Account, Entry, Ledger, Outcome
from flows.narration.shared import UNSENT, SharedTakeStore
from flows.narration.speech import SAMPLE_RATE
from tests.bucket import Bucket
from tests.conftest import Sandbox
from tests.house import House
from tests.standing import ROOT

KEY = "ab" + "0" * 62
TONE = Heard(samples=(8000 * np.sin(np.arange(SAMPLE_RATE) / 20)).astype(np.int16), sample_rate=SAMPLE_RATE)
ACCOUNT = Account(run="dead", host="h", voice="v", model="s2.1-pro")
ENTRY = Entry(script="a.txt", line=1, take=KEY, attempt=1, size=10, usd=0.1)
Hosts = Callable[[int], list[House]]


@pytest.fixture
def hosts(bucket: Bucket, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """
    Houses on as many hosts, with the same scripts and voice, and one take store.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    monkeypatch.setattr(recorder, "LOOK_SECONDS", 0.05)

    def built(count: int) -> list[House]:
        """
        Build them.
        """
        found = []
        for number in range(count):
            folder = tmp_path / f"house-{number}"
            folder.mkdir()
            house = House(folder, sandbox)
            house.run_id = f"run-{number}"
            house.store = bucket.store(f"host-{number}")
            house.write(**{f"s{script}": _text(script) for script in range(3)})
            found.append(house)
        return found

    return built


def _text(script: int) -> str:
    return "\n\n".join(f"This is sentence {number} of script {script}." for number in range(8))


async def _voiced(houses: list[House]) -> None:
    from flows.narration.speech import Speech
    from tests.house import KEY as ACCOUNT_KEY

    async with Speech(key=ACCOUNT_KEY, base_url=houses[0].sandbox.url) as speech:
        voice = await houses[0]._made(speech)
    for house in houses:
        house.voice = voice


async def test_two_hosts_at_once_pay_once(hosts: Hosts, bucket: Bucket, sandbox: Sandbox) -> None:
    """
    Both end with every narration, each sentence was spoken once, and the ledgers together say what was billed.
    """
    sandbox.config(latency=0.1)
    houses = hosts(2)
    await _voiced(houses)

    ends = await asyncio.gather(*(house.run() for house in houses))

    assert [None, None] == [error for _, error in ends]
    assert {1} == set(Counter(sandbox.spoken()).values())
    assert 24 == len(sandbox.spoken())
    assert [24, 24] == [manifest.totals.segments for manifest, _ in ends]
    assert houses[0].billed() == sum(manifest.totals.bytes_billed for manifest, _ in ends)
    for house in houses:
        (total,) = ledger.summed(house.store.ledgers(), by=[])
        assert (24, house.billed()) == (total["taken"], total["bytes_billed"])
    assert [] == bucket.names("takes/claims/")[1:]  # but for what conditional writes are tried on


async def test_what_another_host_has_made_is_brought(hosts: Hosts, sandbox: Sandbox, bucket: Bucket) -> None:
    """
    It costs no request, one listing in 17 parts, and one read each.
    """
    first, second = hosts(2)
    await _voiced([first, second])
    await first.run()
    billed = first.billed()
    sandbox.forget()
    before = bucket.asked()

    manifest, error = await second.run()

    assert error is None
    assert [] == sandbox.spoken()
    assert (0, billed) == (manifest.totals.bytes_billed, manifest.totals.bytes_reused)
    asked = bucket.asked() - before
    assert asked["LIST"] <= 18
    assert asked["GET"] + asked["HEAD"] <= 2 * 24
    assert asked["PUT"] <= 3


async def test_operations_for_a_take(hosts: Hosts, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A claim, a look whether it is there by now, the take, and the claim's end: four for each that is paid for.
    """
    monkeypatch.setattr(sharing, "WAITING_SHARE", 10.0)  # a busy machine makes claims wait for so long that they are renewed
    (house,) = hosts(1)
    await _voiced([house])
    before = bucket.asked()

    await house.run()

    asked = bucket.asked() - before
    assert 2 * 24 <= asked["PUT"] <= 2 * 24 + 4
    assert 24 == asked["DELETE"]
    assert asked["GET"] + asked["HEAD"] <= 24 + 4
    assert asked["LIST"] <= 18


async def test_a_take_that_is_damaged_here_is_brought_again(hosts: Hosts, sandbox: Sandbox) -> None:
    """
    It is paid for.
    """
    (house,) = hosts(1)
    await _voiced([house])
    await house.run()
    sandbox.forget()
    (house.out / "s1.wav").unlink()
    (damaged := next(iter((house.store.folder).glob("??/*.flac")))).write_bytes(damaged.read_bytes()[:-99])

    _, error = await house.run()

    assert error is None
    assert [] == sandbox.spoken()


async def test_a_take_that_is_damaged_there_is_paid_once_by_all(hosts: Hosts, bucket: Bucket, sandbox: Sandbox) -> None:
    """
    Two hosts that have no copy yet meet it at the same moment: one records it anew, and both narrate what it recorded.
    """
    first, *others = hosts(3)
    await _voiced([first, *others])
    await first.run()
    told = {path: (first.out / path).read_bytes() for path in ("s0.wav", "s1.wav", "s2.wav")}
    text = "This is sentence 3 of script 1."
    name = first.flac(text).relative_to(first.store.folder)
    damaged = bytearray(bucket.get(f"takes/{name}"))
    damaged[-200] ^= 1
    bucket.put(f"takes/{name}", bytes(damaged))
    sandbox.forget()
    sandbox.config(latency=0.5)

    ends = await asyncio.gather(*(house.run() for house in others))

    assert [None, None] == [error for _, error in ends]
    assert [text] == sandbox.spoken()
    assert len(text) == sum(manifest.totals.bytes_billed for manifest, _ in ends)
    for house in others:
        assert told == {path: (house.out / path).read_bytes() for path in told}
    assert first.store.fault(name.stem) is None


KEEPS = """
import os, signal, sys
from pathlib import Path
from typing import Any
import numpy as np
from flows.narration.claims import Owner
from flows.narration.judge import Heard
from flows.narration.shared import SharedTakeStore
from flows.narration.storage import Place

class Dying(SharedTakeStore):
    def _send(self, key):
        os.kill(os.getpid(), signal.SIGKILL)

store = Dying(Place(sys.argv[1]), Path(sys.argv[2]), owner=Owner(Path(sys.argv[3])))
tone = (8000 * np.sin(np.arange(44100) / 20)).astype(np.int16)
assert store.claims.take(f"claims/{sys.argv[4]}", seconds=600, says={"take": sys.argv[4]})
store.keep(sys.argv[4], Heard(samples=tone, sample_rate=44100))
"""


def test_a_take_that_was_kept_and_not_sent_is_sent_by_the_next_run(bucket: Bucket) -> None:
    """
    Kill -9 between the disk and the storage: it is paid for, and whole on this host.
    """
    folder = bucket.folder / "a"
    command = [sys.executable, "-c", KEEPS, bucket.place().uri, str(folder / "takes"), str(folder / "owners"), KEY]
    assert -signal.SIGKILL == subprocess.run(command, cwd=ROOT, check=False).returncode
    assert [f"takes/claims/{KEY}"] == bucket.names()

    assert 1 == bucket.store("a").send_rest()

    assert f"takes/ab/{KEY}.flac" in bucket.names()
    assert bucket.store("b").covers(KEY)


async def test_runs_that_begin_together_do_not_fail_each_other(bucket: Bucket) -> None:
    """
    Each sends what is left of runs that died on this host, one of them first; what ended well leaves nothing to send.
    """
    for number in range(12):
        dead, life = _lives(bucket, "a")
        account = ACCOUNT._replace(run=f"dead-{number}")
        dead.ledger_folder(account).mkdir(parents=True)
        written = Ledger(dead.ledger_folder(account), account)
        dead.own_ledger(account)
        await written.enter(ENTRY)
        await written.close()
        life.end()
    stores = [bucket.store("a") for _ in range(3)]

    await asyncio.gather(*(asyncio.to_thread(store.send_rest) for store in stores))

    (total,) = ledger.summed(bucket.store("c").ledgers(), by=[])
    assert (12, 12) == (total["requests"], total["unknown"])
    account = ACCOUNT._replace(run="well")
    stores[0].ledger_folder(account).mkdir(parents=True)
    written = Ledger(stores[0].ledger_folder(account), account)
    share = sharing.Sharing(stores[0], account, deadline=5)
    await share.begin(written)
    await share.end()
    await written.close()
    assert [] == [*(stores[0].folder / "ledger").glob("*/owner")]


def test_a_take_that_is_being_written_keeps_its_mark(bucket: Bucket) -> None:
    """
    Another run on this host may begin at that moment.
    """
    store = bucket.store("a")
    mark = store.folder / UNSENT / KEY
    mark.parent.mkdir(parents=True)
    mark.touch()

    assert 0 == store.send_rest()
    assert mark.exists()
    os.utime(mark, (0, 0))
    assert 0 == store.send_rest()
    assert not mark.exists()


def _lives(bucket: Bucket, host: str) -> tuple[SharedTakeStore, Owner]:
    owner = Owner(bucket.folder / host / "owners")
    return bucket.store(host, owner=owner), owner


@pytest.mark.parametrize("same", [True, False], ids=["same host", "another host"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing came"])
async def test_who_takes_over_from_the_dead_settles_its_entry(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, same: bool, kept: bool
) -> None:
    """
    The claim says what the dead run's ledger does, which nobody else may ever see.
    """
    monkeypatch.setattr(claims, "SKEW_SECONDS", 0.0)  # the clocks of one machine agree
    dead, life = _lives(bucket, "a")
    dead.ledger_folder(ACCOUNT).mkdir(parents=True)
    entered = Ledger(dead.ledger_folder(ACCOUNT), ACCOUNT)
    dead.own_ledger(ACCOUNT)
    number = await entered.enter(ENTRY)
    assert dead.claims.take(f"claims/{KEY}", seconds=600 if same else 0.1, says=entered.said(number, ENTRY))
    if kept:
        dead.keep(KEY, TONE)
    await entered.close()
    life.end()
    await asyncio.sleep(0 if same else 0.15)  # until it expires

    other = bucket.store("a" if same else "b")
    account = ACCOUNT._replace(run="other")
    other.ledger_folder(account).mkdir(parents=True, exist_ok=True)
    written = Ledger(other.ledger_folder(account), account)
    share = sharing.Sharing(other, account, deadline=5)
    await share.begin(written)
    try:
        await share.claim(KEY, written.said(1, ENTRY))
    except sharing.AlreadyThere:
        assert kept
    await written.close()
    await share.end()

    (total,) = ledger.summed(bucket.store("c").ledgers(), by=[])
    assert (1, 1 if kept else 0, 0 if kept else 1) == (total["requests"], total["taken"], total["unknown"])


async def test_ledgers_are_merged_by_who_knows_best(tmp_path: Path) -> None:
    """
    A run knows best what became of its own requests; another that settled them knows better than nobody.
    """

    async def written(name: str, account: Account, *settled: Outcome | None) -> Ledger:
        """
        Write a ledger of so many requests.
        """
        (tmp_path / name).mkdir()
        made = Ledger(tmp_path / name, account)
        for outcome in settled:
            number = await made.enter(ENTRY)
            if outcome:
                await made.settle(number, outcome)
        return made

    first = await written("1", ACCOUNT._replace(run="one"), Outcome.TAKEN, None, None)
    second = await written("2", ACCOUNT._replace(run="two"), Outcome.REFUSED)
    for number in (1, 2):
        await second.inherit(first.said(number, ENTRY), Outcome.UNKNOWN)
    for made in (first, second):
        await made.close()
    ledger.settle_left(tmp_path / "1" / ledger.FILE, lambda _: Outcome.TAKEN)  # number 2 was taken over, and paid for again
    files = []
    for name, run in (("1", "one"), ("2", "two")):
        path = tmp_path / f"host-{run}-tag.sqlite"
        path.write_bytes((tmp_path / name / ledger.FILE).read_bytes())
        files.append(path)

    for order, folder in ((files, tmp_path / "a"), (files[::-1], tmp_path / "b")):
        folder.mkdir()
        ledger.merge(order, folder)
        (total,) = ledger.summed(folder, by=[])
        assert (4, 2, 1, 1) == tuple(total[name] for name in ("requests", "taken", "refused", "unknown"))


async def test_what_a_run_spent_on_each_host_is_known_to_the_next(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An attempt at it counts what those before it spent elsewhere, and what two of them tell of the same request once.
    """
    said: list[dict[str, Any]] = []
    for host, outcomes in {"a": (Outcome.TAKEN, None), "b": (Outcome.TAKEN, Outcome.REFUSED)}.items():
        monkeypatch.setattr(platform, "node", lambda host=host: host)
        store = bucket.store(host)
        folder = store.ledger_folder(ACCOUNT)
        folder.mkdir(parents=True)
        written = Ledger(folder, ACCOUNT)
        written.count_from(100 * len(said))
        for outcome in outcomes:
            number = await written.enter(ENTRY)
            said.append(written.said(number, ENTRY))
            if outcome:
                await written.settle(number, outcome)
        if host == "b":
            await written.inherit(said[1], Outcome.UNKNOWN)
        await written.close()
        store.send_ledger(folder)

    spent = {}
    for host in ("a", "b", "c"):
        monkeypatch.setattr(platform, "node", lambda host=host: host)
        spent[host] = [*bucket.store(host).spent_by(ACCOUNT.run)]

    assert {host: [pytest.approx(2 * ENTRY.usd), pytest.approx(3 * ENTRY.usd)] for host in "abc"} == spent
    assert (0, 0) == bucket.store("c").spent_by("another")


async def test_a_ledger_outlives_its_copy(bucket: Bucket) -> None:
    """
    The copies of a host were removed between two attempts at a run: what it sent of the first is not written over.
    """
    for _ in range(2):
        store = bucket.store("a")
        folder = store.ledger_folder(ACCOUNT)
        folder.mkdir(parents=True)
        share = sharing.Sharing(store, ACCOUNT, deadline=5)
        await share.prepare()
        written = Ledger(folder, ACCOUNT)
        await share.begin(written)
        await written.settle(await written.enter(ENTRY), Outcome.TAKEN)
        await written.close()
        await share.end()
        shutil.rmtree(store.folder)

    assert [pytest.approx(2 * ENTRY.usd)] * 2 == [*bucket.store("a").spent_by(ACCOUNT.run)]
    (total,) = ledger.summed(bucket.store("b").ledgers(), by=[])
    assert 2 == total["taken"]
