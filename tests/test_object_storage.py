"""
Scripts, references, narrations and takes in object storage, by the command line: a real S3 server, several hosts.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote_plus

import mutagen
import pytest

from flows.narration.claims import Claims, Owner
from flows.narration.locks import RUN_LOCK
from tests.bookmaking import Epub, page
from tests.bucket import Bucket
from tests.conftest import Narrate, Sandbox, wait_for
from tests.listening import cover
from tests.standing import ask

SCRIPTS = {"one.txt": "The first sentence.\n\nThe second one.", "part-2/two.txt": "Another script, with one sentence."}

CLAIM = re.compile(r".*/claims/[0-9a-f]{64}")
"""Object that says that a request for a take is under way."""


def _put(bucket: Bucket, clip: Path) -> None:
    for name, text in SCRIPTS.items():
        bucket.put(f"scripts/{name}", text)
    bucket.put("voice/reference.wav", clip.read_bytes())


def _copies(bucket: Bucket, host: str) -> set[str]:
    """
    Name the takes that a host has copies of.
    """
    return {path.stem for path in bucket.folder.glob(f"{host}/narrate/takes/**/*.flac")}


@pytest.mark.long
def test_a_run_from_and_to_object_storage(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, clip: Path) -> None:
    """
    Scripts, reference, takes and narrations: all is there and nothing in the folder that it was started in; on another host,
    the same again sends nothing.
    """
    sandbox.config(training="at-once", concurrency_limit=5)
    _put(bucket, clip)
    uri = bucket.uri
    command = ["run", f"{uri}/scripts", "--reference", f"{uri}/voice/reference.wav", "--out", f"{uri}/out", "--json"]

    estimated = narrate("estimate", f"{uri}/scripts", "--out", f"{uri}/out", "--json", **bucket.host("a"))
    first = narrate(*command, **bucket.host("a"))
    assert 0 == first.code, first.err
    spoken = sandbox.spoken()
    sandbox.forget()
    again = narrate(*command, **bucket.host("b"))

    assert 0 == again.code, again.err
    assert (3, None) == (estimated.json["segments"], estimated.json["bytes_covered"])
    assert 3 == len(spoken)
    assert [] == sandbox.spoken()
    assert {"unchanged": 2, "narrated": 0} == {name: again.json["totals"][name] for name in ("unchanged", "narrated")}
    names = bucket.names("out/")
    assert {"out/one.mp3", "out/part-2/two.mp3", "out/run.json", "out/index.html"} <= set(names)
    assert again.json == json.loads(bucket.get("out/run.json"))
    assert 3 == sum(name.startswith("out/.takes/") and name.endswith(".flac") for name in names)
    covered = narrate("estimate", f"{uri}/scripts", "--out", f"{uri}/out", "--json", **bucket.host("c"))
    assert covered.json["bytes"] == covered.json["bytes_covered"]
    paid = narrate("ledger", "--takes", f"{uri}/out/.takes", "--json", **bucket.host("c"))
    assert 3 == paid.json["total"]["taken"]

    bucket.put("scripts/part-2/two.txt", "Another script, with another sentence.")
    changed = narrate(*command, **bucket.host("d"))
    assert 0 == changed.code, changed.err
    assert ["Another script, with another sentence."] == sandbox.spoken()
    assert ["unchanged", "narrated"] == [entry["state"] for entry in changed.json["scripts"]]
    assert b"The second one." in bucket.get("out/one.vtt")
    assert b"with another sentence." in bucket.get("out/part-2/two.vtt")
    assert 1 == len(_copies(bucket, "d"))
    assert ["home", "hosts"] == sorted(path.name for path in narrate.folder.iterdir() if path.name not in ("state", "cache"))


@pytest.mark.long
def test_what_is_not_ours_is_not_overwritten_in_object_storage(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str
) -> None:
    """
    Files of others where one of ours is to be are exit 2 before anything is sent: before the first run, and before a later one.
    """
    bucket.put("scripts/a.txt", "The only sentence.")
    uri = bucket.uri
    command = ["run", f"{uri}/scripts", "--voice-id", voice_id, "--out", f"{uri}/out"]
    for name in ("a.mp3", "index.html", "run.json", "a.vtt"):
        bucket.put(f"out/{name}", "mine")
        refused = narrate(*command, **bucket.host("a"))
        assert (2, b"mine") == (refused.code, bucket.get(f"out/{name}")), refused.err
        assert f"{uri}/out/{name} is there already" in refused.err
        bucket.place("out").remove(name)
    assert [] == sandbox.requests("/v1/tts")

    made = narrate(*command, **bucket.host("a"))
    assert 0 == made.code, made.err
    bucket.put("out/a.mp3", "mine")
    for host in "ab":
        refused = narrate(*command, **bucket.host(host))
        assert (2, b"mine") == (refused.code, bucket.get("out/a.mp3")), refused.err
    assert 1 == len(sandbox.spoken())


@pytest.mark.long
def test_an_out_among_its_scripts_is_left_out(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    As in a folder: one line says so, and nothing that was made is brought as if it were a script.
    """
    for name, text in SCRIPTS.items():
        bucket.put(f"book/{name}", text)
    uri = f"{bucket.uri}/book"
    command = ["run", uri, "--voice-id", voice_id, "--out", f"{uri}/audio", "--takes", f"{uri}/takes", "--json"]

    first = narrate(*command, **bucket.host("a"))
    again = narrate(*command, **bucket.host("a"))

    assert (0, 0) == (first.code, again.code), first.err + again.err
    assert [{"name": "audio", "reason": "the folder of the narrations"}] == again.json["left_out"]
    assert 2 == again.json["totals"]["unchanged"]
    brought = [path.name for path in bucket.folder.glob("a/narrate/brought/*/*/book/**/*") if path.is_file()]
    assert ["one.txt", "two.txt"] == sorted(brought)
    assert [] == [*bucket.folder.glob("a/narrate/folders/**/*.flac")]


@pytest.mark.long
def test_a_plan_and_a_cover_beside_a_book_in_object_storage(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str
) -> None:
    """
    The plan is written there, named after the book where there are others, and read from there with what it names.
    """
    uri = f"{bucket.uri}/books"
    for name in ("one", "two"):
        Epub(
            pages={"one.xhtml": page("<h1>Only</h1><p>The only sentence.</p>")},
            nav=[("Only", "one.xhtml")],
            metadata=f"<dc:title>{name}</dc:title><dc:language>en</dc:language><dc:identifier id='id'>{name}</dc:identifier>",
        ).write(narrate.folder / f"{name}.epub")
        bucket.put(f"books/{name}.epub", (narrate.folder / f"{name}.epub").read_bytes())
    bucket.put("books/front.png", cover())

    outline = narrate("book", uri, "--outline", "--write", **bucket.host("a"))
    assert 0 == outline.code, outline.err
    assert [f"Written: {uri}/{name}.toml" for name in ("one", "two")] == outline.err.splitlines()[-2:]
    assert 2 == narrate("book", f"{uri}/one.epub", "--outline", "--write", **bucket.host("b")).code
    plan = bucket.get("books/one.toml").decode()
    bucket.put("books/one.toml", f'cover = "front.png"\n{plan}')
    made = narrate("book", f"{uri}/one.epub", "--voice-id", voice_id, "--out", f"{bucket.uri}/out", **bucket.host("b"))

    assert 0 == made.code, made.err
    (m4b,) = [name for name in bucket.names("out/") if name.endswith(".m4b")]
    bucket.download("out", narrate.folder / "made")
    assert mutagen.File(narrate.folder / "made" / m4b.removeprefix("out/"))["covr"]
    bucket.place("books").remove("front.png")
    missing = narrate("book", f"{uri}/one.epub", "--voice-id", voice_id, "--out", f"{bucket.uri}/out", **bucket.host("b"))
    assert 2 == missing.code
    assert f"The cover {uri}/front.png cannot be read" in missing.err


@pytest.mark.long
def test_a_key_that_is_missing_is_told_there_unless_another_works_there(bare_narrate: Narrate, bucket: Bucket) -> None:
    """
    Exit 7, as in a folder; the manifest of a run that is at work is left as it is.
    """
    bucket.put("scripts/a.txt", "The only sentence.")
    command = ["run", f"{bucket.uri}/scripts", "--voice-id", "v", "--out", f"{bucket.uri}/out"]
    host = {**bucket.host("a"), "FISH_API_KEY": ""}

    assert 7 == bare_narrate(*command, **host).code
    assert "failed" == json.loads(bucket.get("out/run.json"))["state"]
    bucket.put("out/run.json", json.dumps({**json.loads(bucket.get("out/run.json")), "error": "of another run"}))
    claims = Claims(bucket.place("out"), owner=Owner(bucket.folder / "another"))
    assert claims.take(RUN_LOCK, seconds=600)
    assert 7 == bare_narrate(*command, **host).code
    assert "of another run" == json.loads(bucket.get("out/run.json"))["error"]


@pytest.mark.parametrize(
    ("takes", "environment", "said"),
    [
        ("s3://no-such-bucket-here/takes", {}, "no bucket"),
        pytest.param("s3://b/takes", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached", marks=pytest.mark.long),
        ("gs://b/takes", {}, "gcsfs"),
        ("ftp-like://b/takes", {}, "cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used(
    bare_narrate: Narrate, sandbox: Sandbox, bucket: Bucket, takes: str, environment: dict[str, str], said: str
) -> None:
    """
    Exit 2 and a sentence, before anything is sent.
    """
    (bare_narrate.folder / "a.txt").write_text("Hello.")

    done = bare_narrate("run", "a.txt", "--voice-id", "v", "--takes", takes, **{**bucket.host("a"), **environment})

    assert 2 == done.code
    assert said in done.err
    assert "Traceback" not in done.err
    assert [] == sandbox.requests()


@pytest.mark.long
def test_a_run_whose_narrations_cannot_be_sent_is_told_failed(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str, prefect_api: str
) -> None:
    """
    Who listens hears of no success: the bucket is gone before the narrations are there.
    """
    sandbox.config(latency=3.0)
    (narrate.folder / "a.txt").write_text("The only sentence.")
    run = narrate.start("run", "a.txt", "--voice-id", voice_id, "--out", f"{bucket.uri}/out", "--takes", "takes", "--json",
                        **bucket.host("a"))  # fmt: skip
    wait_for(lambda: sandbox.requests("/v1/tts") or None, what="a request", seconds=120)

    bucket.vanish()
    out, err = run.communicate(timeout=120)

    assert 3 == run.returncode, err
    assert "Traceback" not in err
    resource = {"resource": {"id": [f"narrate.run.{json.loads(out)['flow_run_id']}"]}}

    def failed() -> list[str] | None:
        """
        Look whether the server has written down that it failed.
        """
        answer = ask("POST", f"{prefect_api}/events/filter", json={"filter": resource}).raise_for_status()
        told = [event["event"] for event in answer.json()["events"]]
        return told if "narrate.run.failed" in told else None

    told = wait_for(failed, what="word of it", seconds=90)
    assert "narrate.run.completed" not in told


@pytest.mark.long
def test_a_book_and_a_retake_in_object_storage(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    The book is bound there, and a sentence of it recorded anew on another host.
    """
    bucket.put("books/small.md", "# Title\n\n## One\n\nThe first sentence.\n\n## Two\n\nThe second sentence.")
    uri = bucket.uri
    out = ["--out", f"{uri}/out", "--takes", f"{uri}/takes"]

    made = narrate("book", f"{uri}/books/small.md", "--voice-id", voice_id, *out, "--json", **bucket.host("a"))
    assert 0 == made.code, made.err
    (folder,) = {name.split("/")[1] for name in bucket.names("out/")}
    assert any(name.endswith(".m4b") for name in bucket.names("out/"))
    sandbox.forget()
    nowhere = narrate("retake", f"{uri}/out/{folder}", "--at", "nowhere:1", **bucket.host("b"))
    assert (2, False) == (nowhere.code, str(bucket.folder) in nowhere.err), nowhere.err
    retaken = narrate("retake", f"{uri}/out/{folder}", "--at", "1:1", **bucket.host("b"))

    assert 0 == retaken.code, retaken.err
    assert 1 == len(sandbox.spoken())
    assert f"out/{folder}/retakes.json" in bucket.names("out/")


@pytest.mark.long
def test_a_book_that_crosses_hosts_is_bound_on_any(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    Begun on one, bound on another, looked at on a third, mended on a fourth: nothing is paid twice, and of the takes of a
    chapter that is there a host brings those of a sample that it has to cut, and no others.
    """
    sandbox.config(concurrency_limit=20, faults=[{"kind": "status", "status": 400, "match": "poisoned"}])
    first = "\n\n".join(f"It was told {number} times, and it is told here again, slowly and at length." for number in range(40))
    bucket.put("books/small.md", f"# Title\n\n## One\n\n{first}\n\n## Two\n\nMorning came.\n\nIt was poisoned.")
    bucket.put("books/book.toml", "[sample]\nminutes = 1\n")
    uri = bucket.uri
    takes = ["--takes", f"{uri}/takes"]
    command = ["book", f"{uri}/books/small.md", "--voice-id", voice_id, "--out", f"{uri}/out", *takes, "--json"]

    begun = narrate(*command, **bucket.host("a"))
    assert 3 == begun.code, begun.err
    assert not any(name.endswith(".m4b") for name in bucket.names("out/"))
    sandbox.config(faults=[])
    sandbox.forget()
    bound = narrate(*command, **bucket.host("b"))

    assert 0 == bound.code, bound.err
    assert ["It was poisoned."] == sandbox.spoken()
    (folder,) = {name.split("/")[1] for name in bucket.names("out/")}
    names = bucket.names(f"out/{folder}/")
    assert [True] * 4 == [any(name.endswith(kind) for name in names) for kind in (".m4b", "Sample.mp3", ".epub", "index.html")]
    written = json.loads(bucket.get(f"out/{folder}/book.json"))
    one, two = ({place["take"] for place in chapter["segments"]} for chapter in written["chapters"][1:3])
    sample = next(file["seconds"] for file in written["files"] if file["role"] == "sample")
    length = next(file["seconds"] for file in written["files"] if file["file"].startswith("01"))
    assert length > 2 * sample > 110, "or the sample would be no cut"
    assert 0 < len(_copies(bucket, "b") & one) < 0.6 * len(one)
    assert two <= _copies(bucket, "b")

    sandbox.forget()
    looked = narrate(*command, **bucket.host("c"))
    assert 0 == looked.code, looked.err
    assert set() == _copies(bucket, "c")

    mended = narrate("retake", f"{uri}/out/{folder}", "--at", "2:2", **bucket.host("d"))
    assert 0 == mended.code, mended.err
    assert ["Morning came."] == sandbox.spoken()
    assert set() == _copies(bucket, "d") & one

    assert one <= _copies(bucket, "a")
    tidied = narrate("takes", "gc", f"{uri}/out", *takes, "--keep-gb", "0", **bucket.host("a"))
    assert 0 == tidied.code, tidied.err
    assert set() == _copies(bucket, "a")
    bucket.put("books/book.toml", "[sample]\nminutes = 2\n")
    longer = narrate(*command, **bucket.host("a"))
    assert 0 == longer.code, longer.err
    assert ["Morning came."] == sandbox.spoken()
    assert len(_copies(bucket, "b") & one) < len(_copies(bucket, "a") & one) < len(one)

    for copy in bucket.folder.glob("b/narrate/takes/**/*.flac"):
        data = bytearray(copy.read_bytes())
        data[-200] ^= 1
        copy.write_bytes(data)
    bucket.put("books/book.toml", "[sample]\nminutes = 1.5\n")
    healed = narrate(*command, **bucket.host("b"))
    assert 0 == healed.code, healed.err
    assert ["Morning came."] == sandbox.spoken()
    assert 0 == narrate("takes", "verify", *takes, **bucket.host("b")).code


@pytest.mark.long
def test_a_retake_on_each_of_two_hosts_at_once(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    One host is at work on its retake when another begins one: both are kept, each is paid once, and no later run undoes them.
    """
    sentences = {"one": "The first sentence.", "two": "The second sentence."}
    for name, text in sentences.items():
        bucket.put(f"scripts/{name}.txt", text)
    uri = bucket.uri
    command = ["run", f"{uri}/scripts", "--voice-id", voice_id, "--out", f"{uri}/out", "--json"]
    made = narrate(*command, **bucket.host("c"))
    assert 0 == made.code, made.err
    sandbox.forget()
    sandbox.config(latency=15)

    first = narrate.start("retake", f"{uri}/out", "--at", "one.txt:1", **bucket.host("a"))
    wait_for(lambda: [*filter(CLAIM.fullmatch, bucket.names("out/"))] or None, what="a request", seconds=60)
    second = narrate.start("retake", f"{uri}/out", "--at", "two.txt:1", **bucket.host("b"))
    ends = [run.communicate(timeout=120) for run in (first, second)]

    assert [0, 0] == [first.returncode, second.returncode], ends
    assert "Another run works in" in ends[1][1]
    asked = json.loads(bucket.get("out/retakes.json"))["retakes"]
    assert [("one.txt", 1), ("two.txt", 1)] == sorted((one["script"], one["number"]) for one in asked)
    assert sorted(sentences.values()) == sorted(sandbox.spoken())
    again = narrate(*command, **bucket.host("c"))
    assert {"unchanged": 2, "narrated": 0} == {name: again.json["totals"][name] for name in ("unchanged", "narrated")}
    assert 2 == len(sandbox.spoken())


@pytest.mark.long
def test_a_book_s_run_leaves_other_books_alone(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    Nothing of another book in the same OUT is asked for, brought or sent, not even what a run that died left unsent of it.
    """
    uri = bucket.uri
    for name, title in {"one": "First #1 [draft] 100%", "two": "Second"}.items():
        bucket.put(f"books/{name}.md", f"# {title}\n\n## Chapter\n\nThis is said in book {name}.")
    out = ["--voice-id", voice_id, "--out", f"{uri}/out"]
    first = narrate("book", f"{uri}/books/one.md", *out, **bucket.host("a"))
    assert 0 == first.code, first.err
    [folder] = {name.split("/")[1] for name in bucket.names("out/") if name.endswith(".m4b")}
    [left] = (bucket.folder / "a").rglob("*.m4b")
    left.write_bytes(b"of a run that died")
    sent = {name: bucket.get(name) for name in bucket.names(f"out/{folder}/")}
    begun = len(bucket.log.read_text())
    sandbox.forget()

    second = narrate("book", f"{uri}/books/two.md", *out, **bucket.host("a"))
    retaken = narrate("retake", f"{uri}/out/Second", "--at", "1:1", **bucket.host("b"))

    assert (0, 0) == (second.code, retaken.code), second.err + retaken.err
    asked = [line for line in unquote_plus(bucket.log.read_text()[begun:]).splitlines() if bucket.name in line]
    assert [] != [line for line in asked if "out/Second/" in line]
    assert [] == [line for line in asked if folder in line]
    assert sent == {name: bucket.get(name) for name in bucket.names(f"out/{folder}/")}
    assert [] == [*(bucket.folder / "b").rglob(f"*{folder.split()[0]}*")]
    assert not any("book one" in text for text in sandbox.spoken())


@pytest.mark.long
def test_two_hosts_of_which_one_is_killed(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, clip: Path) -> None:
    """
    They share a take store, scripts and a reference. One is killed in the middle: one voice is made, and the other pays again
    for no more than what was in flight or just being kept, once the claims of the dead have expired.
    """
    concurrency, deadline = 4, 10
    sandbox.config(training="at-once", concurrency_limit=2 * concurrency, latency=0.6)
    bucket.put("voice/reference.wav", clip.read_bytes())
    for script in range(6):
        sentences = [f"This is sentence {number} of script {script}." for number in range(10)]
        bucket.put(f"scripts/{script}.txt", "\n\n".join(sentences))
    uri = bucket.uri
    command = [
        "run", f"{uri}/scripts", "--reference", f"{uri}/voice/reference.wav", "--takes", f"{uri}/takes",
        "--concurrency", str(concurrency), "--deadline", str(deadline),
    ]  # fmt: skip
    killed = narrate.start(*command, "--out", f"{uri}/out-a", **bucket.host("a"))
    lives = narrate.start(*command, "--out", f"{uri}/out-b", **bucket.host("b"))
    wait_for(lambda: len(sandbox.spoken()) > 15 or None, what="work by both", seconds=120)

    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    died = time.monotonic()
    _, told = lives.communicate(timeout=300)

    assert 0 == lives.returncode, told
    assert time.monotonic() - died < 1.1 * deadline + 30 + 10 + 60
    counted = Counter(sandbox.spoken())
    assert 60 == len(counted)
    assert sum(counted.values()) - 60 <= 2 * concurrency
    assert 1 == len(sandbox.voices())
    again = narrate(*command, "--out", f"{uri}/out-a", "--json", **bucket.host("a"))
    assert 0 == again.code, again.err
    assert 60 == len(set(sandbox.spoken()))
    assert sum(counted.values()) == len(sandbox.spoken())
    # What the killed run had settled since it last sent its ledger is told by the next run on its host.
    total = narrate("ledger", "--takes", f"{uri}/takes", "--json", **bucket.host("c")).json["total"]
    assert 60 == total["taken"]
    assert total["unknown"] <= 3 * concurrency, total  # some stand there ahead of their turn, and never left


@pytest.mark.long
def test_two_hosts_that_meet_a_reference_at_the_same_moment(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, clip: Path
) -> None:
    """
    They make one voice, though the account lists it late.
    """
    sandbox.config(training="looks", seconds=1.0, concurrency_limit=10)
    (narrate.folder / "a.txt").write_text("Hello there.")
    command: list[str | Path] = ["run", "a.txt", "--reference", clip, "--takes", f"{bucket.uri}/takes", "--poll-interval", "1"]

    runs = [narrate.start(*command, "--out", f"out-{host}", **bucket.host(host)) for host in "abc"]
    ends = [run.communicate(timeout=240) for run in runs]

    assert [0, 0, 0] == [run.returncode for run in runs], ends
    assert 1 == len(sandbox.voices())
    assert 1 == len(sandbox.spoken())
