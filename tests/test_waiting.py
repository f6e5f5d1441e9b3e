"""
Runs that have to wait for another in the same OUT: what they go by afterwards, by the command line.
"""

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from flows.narration.claims import Claims, Owner
from flows.narration.storage import Place
from tests.bucket import Bucket
from tests.conftest import COMMAND_SECONDS, Narrate, Sandbox, wait_for
from tests.standing import ask
from tests.test_object_storage import CLAIM


@contextmanager
def _waiting(process: "subprocess.Popen[str]") -> Iterator[list[str]]:
    """
    Hand over what the *process* says as it comes, once it has said that it waits; at the end it has ended.
    """
    said: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)  # noqa: PERF402 (each as it comes)

    with ThreadPoolExecutor() as readers:
        heard = readers.submit(listen)
        try:
            wait_for(
                lambda: any("waiting until it is done" in line for line in said) or None,
                what="it waits",
                seconds=COMMAND_SECONDS,
            )
            yield said
            heard.result(timeout=COMMAND_SECONDS)
        finally:
            process.kill()


@pytest.mark.long
def test_a_run_that_waited_narrates_what_there_is_by_then(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    Texts of before, which nobody wants any more, are not paid for; a script that is new is narrated.
    """
    scripts, out = narrate.folder / "scripts", narrate.folder / "out"
    scripts.mkdir()
    out.mkdir()
    (scripts / "a.txt").write_text("As it was.")
    (scripts / "b.txt").write_text("As it always is.")
    with FileLock(out / ".run.lock") as another:
        process = narrate.start("run", scripts, "--voice-id", voice_id, "--out", out, "--json")
        with _waiting(process) as said:
            (scripts / "a.txt").write_text("As it is by now.")
            (scripts / "c.txt").write_text("What is new.")
            another.release()

    assert 0 == process.wait(), said
    assert ["As it always is.", "As it is by now.", "What is new."] == sorted(sandbox.spoken())
    again = narrate("run", scripts, "--voice-id", voice_id, "--out", out, "--json")
    assert (3, 3) == (again.json["totals"]["unchanged"], len(sandbox.spoken()))


@pytest.mark.long
def test_a_book_that_waited_goes_by_what_it_is_by_then(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    Another text is made; another title is another folder's, which the run has not to itself: that is refused, and nothing sent.
    """
    book = narrate.folder / "small.md"
    text = "# A Small Book\n\n## One\n\nThe first sentence.\n"
    book.write_text(text)
    command: list[str | Path] = ["book", book, "--voice-id", voice_id, "--out", "out", "--json"]
    made = narrate(*command)
    assert 0 == made.code, made.err
    [folder] = {path.parent for path in (narrate.folder / "out").glob("*/book.json")}
    sandbox.forget()

    ends = []
    for changed in (text.replace("first", "only"), text.replace("Small", "Great")):
        with FileLock(folder / ".run.lock") as another:
            process = narrate.start(*command)
            with _waiting(process) as said:
                book.write_text(changed)
                another.release()
        ends.append((process.wait(), "".join(said)))

    assert [0, 2] == [code for code, _ in ends], ends
    assert ["The only sentence."] == sandbox.spoken()
    assert "A Great Book by now. Run it once more." in " ".join(ends[1][1].split())
    assert "Traceback" not in ends[1][1]


@pytest.mark.long
def test_a_run_that_waited_for_another_host(narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str) -> None:
    """
    So it is where scripts and OUT are in object storage, and the other run is on another host.
    """
    bucket.put("scripts/a.txt", "As it was.")
    command = ["run", f"{bucket.uri}/scripts", "--voice-id", voice_id, "--out", f"{bucket.uri}/out", "--json"]
    sandbox.config(latency=30)

    first = narrate.start(*command, **bucket.host("a"))
    wait_for(lambda: [*filter(CLAIM.fullmatch, bucket.names("out/"))] or None, what="a request", seconds=COMMAND_SECONDS)
    second = narrate.start(*command, **bucket.host("b"))
    with _waiting(second) as said:
        bucket.put("scripts/a.txt", "As it is by now.")
        sandbox.config(latency=0)

    assert (0, 0) == (first.wait(timeout=COMMAND_SECONDS), second.wait()), said
    assert ["As it was.", "As it is by now."] == sandbox.spoken()
    assert b"As it is by now." in bucket.get("out/a.vtt")


@pytest.mark.long
@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_a_run_that_waits_is_cancelled(
    narrate: Narrate, sandbox: Sandbox, bucket: Bucket, voice_id: str, prefect_api: str, where: str
) -> None:
    """
    Ctrl-C: 130 and Cancelled, in a sentence; nothing was sent, and OUT, which is another run's, is as it was.
    """
    (narrate.folder / "a.txt").write_text("A sentence.")
    sandbox.forget()
    out = f"{bucket.uri}/out" if where == "bucket" else str(narrate.folder / "out")
    with ExitStack() as another:
        if where == "bucket":
            other = Claims(Place(out), owner=Owner(narrate.folder / "owners"))
            assert other.take(".run.lock", seconds=300)
        else:
            Path(out).mkdir()
            another.enter_context(FileLock(Path(out) / ".run.lock"))
        process = narrate.start("run", "a.txt", "--voice-id", voice_id, "--out", out, "--json", **bucket.host("a"))
        with _waiting(process) as said:
            process.send_signal(signal.SIGINT)

    assert process.stdout is not None
    manifest = json.loads(process.stdout.read())
    assert 130 == process.wait(), said
    assert "Traceback" not in "".join(said)
    assert [] == sandbox.requests()
    assert "cancelled" == manifest["state"]
    run = ask("GET", f"{prefect_api}/flow_runs/{manifest['flow_run_id']}").raise_for_status().json()
    assert ("CANCELLED", 130) == (run["state_type"], run["labels"]["narrate.exit"])
    assert not (Path(out) / "run.json").exists()
    assert [] == [name for name in bucket.names("out/") if not name.endswith(".run.lock")]
