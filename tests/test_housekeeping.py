"""
The commands that tidy up, as a person types them: in folders, and in a bucket of a real S3 server.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen

import httpx
import numpy as np
import platformdirs
import pytest

from flows import remote
from flows.narration.alignment import Word
from flows.narration.claims import Owner
from flows.narration.judge import Heard
from flows.narration.mirror import Mirror
from flows.narration.shared import UNSENT, SharedTakeStore, cache_folder
from flows.narration.speech import SAMPLE_RATE
from flows.narration.storage import Place
from flows.narration.tidying import RUNS, TIDYING
from tests.bucket import Bucket
from tests.conftest import KEY, Narrate, Sandbox, wait_for
from tests.house import House

DAY = 24 * 3600

TONE = Heard(samples=(8000 * np.sin(np.arange(SAMPLE_RATE) / 20)).astype(np.int16), sample_rate=SAMPLE_RATE)


class Shelf:
    """
    An OUT with its take store: a folder, whose takes can be made 100 days old.
    """

    out, old, older = "out", "90d", "101d"

    def __init__(self, folder: Path) -> None:
        self.here: dict[str, str] = {}
        self.elsewhere: dict[str, str] = {}
        self._out = folder / self.out

    def takes(self) -> Sequence[str]:
        """
        Name the files of sound in the store.
        """
        return sorted(path.relative_to(self._out).as_posix() for path in self._out.glob(".takes/??/*.flac"))

    def age(self) -> None:
        """
        Make them old.
        """
        then = time.time() - 100 * DAY
        for take in self.takes():
            os.utime(self._out / take, (then, then))

    def read(self, name: str) -> bytes:
        """
        Read a file.
        """
        return (self._out / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """
        Write one.
        """
        (self._out / name).write_bytes(content)

    def remove(self, name: str) -> None:
        """
        Remove one.
        """
        (self._out / name).unlink()


class RemoteShelf(Shelf):
    """
    The same in a bucket, whose objects are as old as they are.
    """

    old, older = "0h", "1h"

    def __init__(self, bucket: Bucket) -> None:
        self.out, self.here, self.elsewhere = f"{bucket.uri}/out", bucket.host("a"), bucket.host("b")
        self._place = Place(self.out)
        self.read, self.write, self.remove = self._place.read, self._place.write, self._place.remove  # type: ignore[assignment]

    def takes(self) -> Sequence[str]:
        """
        As above.
        """
        return sorted(name for name in self._place.listing(".takes/") if name.endswith(".flac"))

    def age(self) -> None:
        """
        They are older than no time at all.
        """


@pytest.fixture(params=["folder", "bucket"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """
    One on a disk, and one in a bucket.
    """
    return RemoteShelf(request.getfixturevalue("bucket")) if request.param == "bucket" else Shelf(tmp_path)


@pytest.mark.long
def test_takes_are_checked_and_only_what_nothing_needs_goes(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, shelf: Shelf
) -> None:
    """
    A sentence that was rewritten leaves a take behind: it goes, and the next run sends nothing. A damaged take is named.
    """
    scripts, out = narrate.folder / "scripts", ("--out", shelf.out)
    scripts.mkdir()
    command = ["run", "scripts", "--voice-id", voice_id, *out]
    for last in ("This was the end.", "This is the end."):
        (scripts / "one.txt").write_text(f"This stays.\n\n{last}")
        assert 0 == narrate(*command, **shelf.here).code
    shelf.age()
    sent = len(sandbox.spoken())
    assert 3 == len(shelf.takes()) == sent
    gc = ("takes", "gc", shelf.out, *out, "--json", "--older-than")

    whole = narrate("takes", "verify", *out, "--json", **shelf.here)
    nothing = narrate(*gc, shelf.older, **shelf.here)
    before = narrate(*gc, shelf.old, "--dry-run", **shelf.here)
    assert 3 == len(shelf.takes())
    removed = narrate(*gc, shelf.old, **shelf.here)

    assert (0, {"takes": 3, "damaged": {}}) == (whole.code, whole.json)
    assert [] == nothing.json["removed"]
    assert 1 == len(before.json["removed"]) == len(removed.json["removed"])
    assert 2 == len(shelf.takes())
    shelf.remove("one.mp3")
    assert 0 == narrate(*command, **shelf.elsewhere).code
    assert sent == len(sandbox.spoken())

    [first, *_] = shelf.takes()
    content = bytearray(shelf.read(first))
    content[-20] ^= 1
    shelf.write(first, bytes(content))
    broken = narrate("takes", "verify", *out, **shelf.here)
    assert 3 == broken.code
    assert Path(first).stem in broken.out
    assert "1 take of 2" in broken.err


def _store(bucket: Bucket) -> SharedTakeStore:
    """
    The store `takes` in the bucket, and its copies on host `a`, as commands have them there.
    """
    cache = bucket.folder / "a" / "narrate"
    folder = cache / cache_folder(f"{bucket.uri}/takes", "takes").relative_to(platformdirs.user_cache_path("narrate"))
    return SharedTakeStore(bucket.place(), folder, owner=Owner(cache / "owners"))


def _keep(store: SharedTakeStore, letter: str) -> str:
    """
    Keep a take that has the times of its words; return its key.
    """
    key = f"{letter * 64}-words"
    store.keep(key, TONE, words=[Word(at=0, start=0.0, end=0.5)])
    return key


def _names(key: str) -> list[str]:
    return [f"takes/{key[:2]}/{key}.flac", f"takes/{key[:2]}/{key}.json"]


def _records(bucket: Bucket, out: str, *keys: str) -> None:
    """
    Write down in the bucket that a folder there needs takes.
    """
    bucket.put(f"{out}/run.json", '{"schema": 0, "totals": {}, "scripts": []}')
    bucket.put(f"{out}/.segments/part/one.json", " ".join(keys))


def test_a_store_in_a_bucket_is_verified_object_by_object(bare_narrate: Narrate, bucket: Bucket) -> None:
    """
    Whatever copies there are on this host.
    """
    store = _store(bucket)
    whole, torn, wordless, strange = (_keep(store, letter) for letter in "abcd")
    verify = ("takes", "verify", "--takes", f"{bucket.uri}/takes")
    (store.folder / whole[:2] / f"{whole}.flac").write_bytes(b"a damaged copy")
    well = bare_narrate(*verify, "--json", **bucket.host("a"))
    bucket.put(_names(torn)[0], bucket.get(_names(torn)[0])[:-99])
    bucket.put(_names(strange)[0], b"no sound at all")
    bucket.place().remove(f"{wordless[:2]}/{wordless}.json")

    found = bare_narrate(*verify, "--json", **bucket.host("a"))

    assert (0, {"takes": 4, "damaged": {}}) == (well.code, well.json)
    assert 3 == found.code
    assert 4 == found.json["takes"]
    assert [torn, wordless, strange] == list(found.json["damaged"])
    assert f"The take {wordless} has no words that can be read." == found.json["damaged"][wordless]
    assert f"3 takes of 4 in {bucket.uri}/takes cannot be used." in found.err


@pytest.mark.long
def test_what_no_out_needs_goes_from_a_bucket(bare_narrate: Narrate, bucket: Bucket) -> None:
    """
    With its words and its copy here; OUT may be here or there. What the storage may not have stays, and so does a ledger.
    """
    store = _store(bucket)
    there, here, old, unsent = (_keep(store, letter) for letter in "abcd")
    (store.folder / UNSENT / unsent).touch()
    for name in _names(unsent):
        bucket.place("").remove(name)
    bucket.put("takes/ledger/a-run.sqlite", "")
    _records(bucket, "out", there)
    (bare_narrate.folder / "local").mkdir()
    (bare_narrate.folder / "local/run.json").write_text(here)
    gc = ("takes", "gc", f"{bucket.uri}/out", "local", "--takes", f"{bucket.uri}/takes", "--json")

    young = bare_narrate(*gc, "--older-than", "1h", "--keep-gb", "1", **bucket.host("a"))
    dry = bare_narrate(*gc, "--keep-gb", "0", "--dry-run", **bucket.host("a"))
    done = bare_narrate(*gc, "--older-than", "0h", **bucket.host("a"))

    assert [] == young.json["removed"]
    assert [old] == [take["key"] for take in dry.json["removed"]] == [take["key"] for take in done.json["removed"]]
    assert done.json["bytes"] == sum(path.stat().st_size for path in (store.folder / "dd").iterdir())  # as large as its like
    assert sorted([*_names(there), *_names(here), "takes/ledger/a-run.sqlite"]) == bucket.names("takes/")
    assert "2 copied takes removed from this host's cache" in done.err
    assert [unsent] == [path.stem for path in store.folder.glob("??/*.flac")]


@pytest.mark.parametrize(
    ("out", "takes", "said"),
    [
        ("s3://{}/out", "s3://{}/none", "There is no take store at s3://{}/none"),
        ("s3://{}/nowhere", "s3://{}/takes", "holds neither run.json nor book.json"),
    ],
)
def test_a_gc_in_a_bucket_that_is_refused(bare_narrate: Narrate, bucket: Bucket, out: str, takes: str, said: str) -> None:
    """
    Nothing is removed where it is not known what is needed.
    """
    key = _keep(_store(bucket), "a")
    _records(bucket, "out", key)

    out, takes, said = (text.format(bucket.name) for text in (out, takes, said))
    done = bare_narrate("takes", "gc", out, "--takes", takes, "--older-than", "0h", **bucket.host("a"))

    assert 2 == done.code
    assert said in done.err
    assert set(_names(key)) <= set(bucket.names())
    assert [] == bucket.names("takes/claims/")


def _says(process: "Popen[str]", what: str) -> None:
    """
    Wait until a command says something on standard error.
    """
    assert process.stderr is not None
    told = []
    while line := process.stderr.readline():
        told.append(line)
        if what in line:
            return
    raise AssertionError(f"It ended without {what!r}: {''.join(told)}")


@pytest.mark.parametrize("shared", [False, True], ids=["folder", "bucket"])
async def test_what_a_run_wrote_is_there_before_a_gc_looks(house: House, bucket: Bucket, shared: bool) -> None:
    """
    OUT in a bucket is sent before the takes are let go of, wherever they are.
    """
    house.write(one="The first sentence.")
    mirror = Mirror(f"{bucket.uri}/out", bucket.folder / "out")
    mirror.pull()
    order = house.production(mirror=mirror, store=bucket.store() if shared else house.store).order

    async with remote.takes_of(order, say=lambda _: None):
        (mirror.folder / "one.json").write_text("{}")
        assert shared == bool(bucket.names(f"takes/{RUNS}"))

    assert ["out/one.json"] == bucket.names()


@pytest.mark.long
def test_a_gc_waits_for_a_run_and_a_run_for_a_gc(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    Whoever comes second waits, and says so; what the first run recorded is needed when the gc looks, and stays.
    """
    sandbox.config(latency=20)
    uri = bucket.uri
    _records(bucket, "out")
    old = _keep(_store(bucket), "a")
    for name, text in {"one/a.txt": "The first sentence.", "one/b.txt": "And another.", "two/c.txt": "The last one."}.items():
        (narrate.folder / name).parent.mkdir(exist_ok=True)
        (narrate.folder / name).write_text(text)
    command = ("--voice-id", voice_id, "--takes", f"{uri}/takes", "--out")
    first = narrate.start("run", "one", *command, f"{uri}/out", **bucket.host("a"))
    wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=120)

    gc = narrate.start(
        "takes", "gc", f"{uri}/out", "--takes", f"{uri}/takes", "--older-than", "0h", "--json", **bucket.host("b")
    )
    _says(gc, "A run has the store; waiting")
    second = narrate.start("run", "two", *command, "out-2", **bucket.host("c"))
    _says(second, "is being tidied up; waiting")
    assert first.poll() is None
    sandbox.config(latency=0)

    assert 0 == first.wait(timeout=120)
    out, err = gc.communicate(timeout=120)
    assert 0 == gc.returncode, err
    assert old in out
    assert 0 == second.wait(timeout=120)
    assert 3 == len(sandbox.spoken())
    assert 3 == sum(name.endswith(".flac") for name in bucket.names("takes/"))
    assert [] == [name for name in bucket.names("takes/claims/") if not name.endswith(".conditions")]
    for process in (first, second):
        process.communicate()


@pytest.mark.long
def test_a_gc_and_a_run_that_are_killed_keep_nobody_waiting(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str
) -> None:
    """
    On the same host whoever waits goes on at once; whatever the dead left is no harm to the next.
    """
    sandbox.config(latency=60)
    uri = bucket.uri
    key = _keep(_store(bucket), "a")
    _records(bucket, "out", key)
    for name, text in {"one.txt": "The first sentence.", "two.txt": "The second one."}.items():
        (narrate.folder / name).write_text(text)
    command = ("--voice-id", voice_id, "--takes", f"{uri}/takes", "--out")
    gc = ("takes", "gc", f"{uri}/out", "--takes", f"{uri}/takes", "--older-than", "0h")
    run = narrate.start("run", "one.txt", *command, "out-1", **bucket.host("a"))
    wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=120)
    killed = narrate.start(*gc, **bucket.host("a"))
    _says(killed, "A run has the store; waiting")
    second = narrate.start("run", "two.txt", *command, "out-2", **bucket.host("a"))
    _says(second, "is being tidied up; waiting")

    killed.kill()
    killed.communicate()
    sandbox.config(latency=0)
    began = time.monotonic()
    assert 0 == second.wait(timeout=120)
    waited = time.monotonic() - began
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = narrate(*gc, **bucket.host("a"))

    assert waited < 50
    assert 0 == done.code, done.err
    assert "waiting" not in done.err
    assert set(_names(key)) <= set(bucket.names("takes/"))
    assert [] == bucket.names(f"takes/{RUNS}") + bucket.names(f"takes/{TIDYING}")
    second.communicate()


def test_gc_without_a_measure_and_without_a_store_is_refused(bare_narrate: Narrate) -> None:
    """
    Nothing is removed by default.
    """
    assert 2 == bare_narrate("takes", "gc", "out").code
    missing = bare_narrate("takes", "verify", "--takes", "nowhere")
    assert 2 == missing.code
    assert "There is no take store at nowhere" in missing.err


@pytest.mark.long
@pytest.mark.parametrize("remote", [False, True], ids=["folder", "bucket"])
def test_voices_that_no_folder_names_are_deleted(
    bare_narrate: Narrate, sandbox: Sandbox, request: pytest.FixtureRequest, remote: bool
) -> None:
    """
    After a look: a dry run deletes none, and where nobody can be asked it takes --yes.
    """
    sandbox.config(training="at-once")
    clip = (Path(__file__).parents[1] / "data/reference.wav").read_bytes()

    def made(title: str, *tags: str) -> str:
        """
        Make a voice.
        """
        answer = httpx.post(
            f"{sandbox.url}/model",
            data={"type": "tts", "title": title, "train_mode": "fast", "visibility": "private", "tags": list(tags)},
            files={"voices": clip},
            headers={"Authorization": f"Bearer {KEY}"},
        )
        return str(answer.raise_for_status().json()["_id"])

    named, orphan, foreign = made("Named", "narrate"), made("Orphan", "narrate"), made("Foreign")
    out, written, there = ".", f'{{"voice": {{"id": "{named}"}}}}', {}
    if remote:
        bucket: Bucket = request.getfixturevalue("bucket")
        bucket.put("out/run.json", written)
        out, there = f"{bucket.uri}/out", bucket.host("a")
    else:
        (bare_narrate.folder / "run.json").write_text(written)
    prune = ("voices", "prune", out, "--older-than", "0h")

    young = bare_narrate("voices", "prune", out, "--json", "--dry-run", **there)
    dry = bare_narrate(*prune, "--json", "--dry-run", **there)
    unasked = bare_narrate(*prune, **there)
    done = bare_narrate(*prune, "--yes", **there)

    assert [] == young.json
    assert [orphan] == [voice["id"] for voice in dry.json]
    assert 2 == unasked.code
    assert (0, f"Deleted {orphan}.\n") == (done.code, done.err)
    assert {named, foreign} == {voice["_id"] for voice in sandbox.voices()}
