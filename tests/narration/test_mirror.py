"""
Folders in object storage, worked on as folders: brought, sent, and nothing of it twice.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.narration.errors import UsageError
from flows.narration.mirror import RECORDS, Mirror, mirror_of
from tests.bucket import Bucket


def _mirror(bucket: Bucket, host: str = "a") -> Mirror:
    return Mirror(f"{bucket.uri}/out", bucket.folder / host / "out")


def _files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_is_made_on_one_host_is_there_on_another(bucket: Bucket) -> None:
    """
    File by file, and what is taken away as well.
    """
    one, other = _mirror(bucket), _mirror(bucket, "b")
    one.pull()
    (one.folder / "part").mkdir()
    (one.folder / "part" / "a.txt").write_text("A")
    (one.folder / "b.txt").write_text("B")
    (one.folder / "run.json").write_text("{}")
    one.push()
    other.pull()
    assert {"part/a.txt": "A", "b.txt": "B", "run.json": "{}"} == _files(other.folder)

    (other.folder / "part" / "a.txt").write_text("AA")
    (other.folder / "b.txt").unlink()
    other.push()
    one.pull()

    assert {"part/a.txt": "AA", "run.json": "{}"} == _files(one.folder)


def test_nothing_goes_or_comes_twice(bucket: Bucket) -> None:
    """
    A folder that is as it was costs one listing.
    """
    one = _mirror(bucket)
    one.pull()
    (one.folder / "a.txt").write_text("A")
    one.push()
    before = bucket.asked()

    one.push()
    one.pull()
    _mirror(bucket).pull()

    assert {"LIST": 2} == bucket.asked() - before


def test_records_that_were_looked_at_are_not_taken_for_changed_here(bucket: Bucket) -> None:
    """
    Who only looked at them has the newer ones of another host the next time, narrations and all; the others are not brought.
    """
    one, other = _mirror(bucket), _mirror(bucket, "b")
    other.folder.mkdir(parents=True)
    for name in ("retakes.json", "run.json", "a.mp3"):
        (other.folder / name).write_text("one")
    other.push()
    one.pull(only=RECORDS)
    assert {"retakes.json": "one", "run.json": "one"} == _files(one.folder)
    (other.folder / "retakes.json").write_text("two")
    other.push()

    one.pull()

    assert {"retakes.json": "two", "run.json": "one", "a.mp3": "one"} == _files(one.folder)
    one.push()
    assert b"two" == bucket.get("out/retakes.json")


def test_no_host_s_retakes_are_lost(bucket: Bucket) -> None:
    """
    They are there before they are here, and what a dead command left here unsent does not take the place of what is there.
    """
    one, other = _mirror(bucket), _mirror(bucket, "b")
    one.put("retakes.json", "one")
    assert (b"one", {"retakes.json": "one"}) == (bucket.get("out/retakes.json"), _files(one.folder))
    other.pull()
    (other.folder / "retakes.json").write_text("one, and other's")
    one.put("retakes.json", "one, two")

    other.pull()
    other.push()

    assert (b"one, two", {"retakes.json": "one, two"}) == (bucket.get("out/retakes.json"), _files(other.folder))
    before = bucket.asked()
    one.pull()
    one.push()
    assert {"LIST": 1} == bucket.asked() - before


@pytest.mark.asyncio
async def test_who_only_looks_leaves_a_copy_alone_that_a_run_works_on(bucket: Bucket) -> None:
    """
    What the run took away does not come back, and what it remembers is its own; afterwards it is brought as ever.
    """
    one, looker, other = _mirror(bucket), _mirror(bucket), _mirror(bucket, "b")
    bucket.put("out/old.mp3", "old")
    async with one.to_itself(say=lambda _: None):
        (one.folder / "old.mp3").unlink()
        before = bucket.asked()
        looker.pull(to_look=True)
        assert {} == bucket.asked() - before
        assert {} == _files(one.folder)
        one.push()
    bucket.put("out/new.mp3", "new")

    looker.pull(to_look=True)
    other.pull()

    assert {"new.mp3": "new"} == _files(one.folder) == _files(other.folder)


def test_what_any_run_may_add_is_brought_and_sent_along(bucket: Bucket) -> None:
    """
    A book's run has but its own folder, and besides that the references of all.
    """
    bucket.put("out/.voice/a.wav", "a")
    bucket.put("out/Another/a.mp3", "a")
    copy = bucket.folder / "a" / "out"
    one = Mirror(f"{bucket.uri}/out/Book", bucket.folder / "a" / "Book")
    one.along = Mirror(f"{bucket.uri}/out/.voice", copy / ".voice", beside=copy.with_name("out.voice"))

    one.pull()
    (one.folder / "b.mp3").write_text("b")
    (copy / ".voice" / "b.wav").write_text("b")
    one.push()

    assert {".voice/a.wav": "a", ".voice/b.wav": "b"} == _files(copy)
    assert ["out/.voice/a.wav", "out/.voice/b.wav", "out/Another/a.mp3", "out/Book/b.mp3"] == bucket.names()


def test_the_manifest_goes_last(bucket: Bucket) -> None:
    """
    Who finds it finds all that it names.
    """
    one = _mirror(bucket)
    one.pull()
    for name in ("a.txt", "run.json", "z.txt"):
        (one.folder / name).write_text(name)

    one.push(soon=True)
    assert ["out/a.txt", "out/z.txt"] == bucket.names()
    one.push()

    assert ["out/a.txt", "out/run.json", "out/z.txt"] == bucket.names()


def test_what_a_dead_run_left_unsent_is_sent(bucket: Bucket) -> None:
    """
    What is here and was never sent is no reason to bring what was there before.
    """
    _unsent(bucket)

    next_run = _mirror(bucket)
    next_run.pull()
    next_run.push()

    assert (b"made anew", b"new") == (bucket.get("out/a.txt"), bucket.get("out/b.txt"))


def _unsent(bucket: Bucket) -> Mirror:
    """
    Make a file anew that is there as it was before, and another that was never there.
    """
    one = _mirror(bucket)
    one.pull()
    (one.folder / "a.txt").write_text("before")
    one.push()
    (one.folder / "a.txt").write_text("made anew")
    (one.folder / "b.txt").write_text("new")
    return one


def test_who_lost_the_lease_sends_nothing(bucket: Bucket) -> None:
    """
    Another run may be at work there by now.
    """
    one = _mirror(bucket)
    one.pull()
    (one.folder / "a.txt").write_text("A")
    one.allowed = lambda: False

    with pytest.raises(PermissionError, match="another run"):
        one.push()
    assert [] == bucket.names()


def test_a_copy_that_is_gone_takes_nothing_away(bucket: Bucket) -> None:
    """
    Somebody may clean the cache.
    """
    one = _mirror(bucket)
    one.pull()
    (one.folder / "a.txt").write_text("A")
    one.push()
    shutil.rmtree(one.folder)

    with pytest.raises(FileNotFoundError):
        one.push()
    one.pull()

    assert {"a.txt": "A"} == _files(one.folder)


def test_no_object_leads_out_of_the_folder(bucket: Bucket, tmp_path: Path) -> None:
    """
    An object may have any name.
    """
    place = bucket.place("out")
    for name in (
        "../evil.txt",
        "a/../../evil.txt",
        "a//b.txt",
        ".takes/ab/x.flac",
        ".run.lock",
        f".{'0' * 32}.part",
        "fine.txt",
    ):
        place.write(name, b"x")
    one = _mirror(bucket)

    one.pull()

    assert {"fine.txt": "x"} == _files(one.folder)
    assert [] == [*tmp_path.rglob("evil.txt")]


def test_a_folder_on_this_machine_has_no_mirror(tmp_path: Path) -> None:
    """
    A mounted path is one.
    """
    assert mirror_of(str(tmp_path)) is None


def test_what_changed_here_and_there_is_taken_from_there(bucket: Bucket) -> None:
    """
    A run of this host died before it sent what it had made, and one of another host made it anew.
    """
    one, other = _mirror(bucket), _mirror(bucket, "b")
    one.pull()
    (one.folder / "a.txt").write_text("before")
    one.push()
    (one.folder / "a.txt").write_text("made here, and never sent")
    other.pull()
    (other.folder / "a.txt").write_text("made there since")
    other.push()

    one.pull()
    one.push()

    assert (b"made there since", {"a.txt": "made there since"}) == (bucket.get("out/a.txt"), _files(one.folder))


class _Killed(BaseException):
    """
    Stands for the death of the process at that moment.
    """


def test_a_push_that_was_killed_brings_nothing_back(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What it had sent, and another host has made anew since, is not taken for something that was made here since.
    """
    one, other = _mirror(bucket), _mirror(bucket, "b")
    one.pull()
    for name in ("b.txt", "c.txt"):
        (one.folder / name).write_text("one")
    write = one._write

    def dies(known: dict[str, list[object]]) -> None:
        """
        Write what is being sent, and nothing after that.
        """
        write(known)
        monkeypatch.setattr(one, "_write", lambda _: (_ for _ in ()).throw(_Killed))

    monkeypatch.setattr(one, "_write", dies)
    with pytest.raises(_Killed):
        one.push()
    assert ["out/b.txt", "out/c.txt"] == bucket.names()
    other.pull()
    (other.folder / "b.txt").write_text("other")
    other.push()

    next_run = _mirror(bucket)
    next_run.pull()
    next_run.push()

    assert {"b.txt": "other", "c.txt": "one"} == _files(next_run.folder)
    assert ["out/b.txt", "out/c.txt"] == bucket.names()


def test_a_file_that_was_being_sent_is_kept_here(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Killed before it was there, what was made anew here is not taken for older than what it was to replace, and what is new is
    not taken for gone.
    """
    one = _unsent(bucket)

    def dies(_: str) -> list[object]:
        """
        Be killed.
        """
        raise _Killed

    monkeypatch.setattr(one, "_send", dies)
    monkeypatch.setattr(one, "_write", _once(one._write))
    with pytest.raises(_Killed):
        one.push()

    next_run = _mirror(bucket)
    next_run.pull()
    next_run.push()

    assert {"a.txt": "made anew", "b.txt": "new"} == _files(next_run.folder)
    assert (b"made anew", b"new") == (bucket.get("out/a.txt"), bucket.get("out/b.txt"))


def _once(write: Callable[[dict[str, list[object]]], None]) -> Callable[[dict[str, list[object]]], None]:
    """
    Write once, and be dead afterwards.
    """
    written: list[object] = []

    def writes(known: dict[str, list[object]]) -> None:
        if written:
            raise _Killed
        written.append(known)
        write(known)

    return writes


def test_what_is_gone_here_does_not_come_back(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A run is killed before it has taken away there what it took away here: the next one does.
    """
    one = _mirror(bucket)
    one.pull()
    for name in ("old.txt", "kept.txt"):
        (one.folder / name).write_text("one")
    one.push()
    (one.folder / "old.txt").unlink()

    def dies(_: str) -> None:
        """
        Be killed.
        """
        raise _Killed

    with monkeypatch.context() as dying:
        dying.setattr(one.place, "remove", dies)
        with pytest.raises(_Killed):
            one.push()

    next_run = _mirror(bucket)
    next_run.pull()
    assert {"kept.txt": "one"} == _files(next_run.folder)
    next_run.push()
    assert ["out/kept.txt"] == bucket.names()


def test_a_pull_that_was_killed_brings_nothing_back(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What it had brought, and somebody takes away there, is not taken for something that was made here.
    """
    for name in ("old.txt", "kept.txt"):
        bucket.put(f"out/{name}", "one")
    one = _mirror(bucket)
    monkeypatch.setattr(one, "_write", _once(one._write))
    with pytest.raises(_Killed):
        one.pull()
    assert 2 == len(_files(one.folder))
    bucket.place("out").remove("old.txt")

    next_run = _mirror(bucket)
    next_run.pull()
    next_run.push()

    assert ["out/kept.txt"] == bucket.names()


def test_a_record_is_sent_after_what_it_proves(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    And what is no more is taken away before: another host that sees a new record sees all that belongs to it.
    """
    one = _mirror(bucket)
    one.pull()
    names = (".segments/a.json", "a.mp3", "z.vtt", "part/book.json", "run.json")
    for name in (*names, "old.txt"):
        (one.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (one.folder / name).write_text("one")
    one.push()
    for name in names:
        (one.folder / name).write_text("two, and longer")
    (one.folder / "old.txt").unlink()
    send, remove = one._send, one.place.remove
    order: list[str] = []

    def sends(name: str) -> list[object]:
        """
        Write down that it is sent.
        """
        order.append(name)
        return send(name)

    def removes(name: str) -> None:
        """
        Write down that it is removed.
        """
        order.append(name)
        remove(name)

    monkeypatch.setattr(one, "_send", sends)
    monkeypatch.setattr(one.place, "remove", removes)

    one.push()

    assert "old.txt" == order[0]
    assert {"a.mp3", "z.vtt"} == set(order[1:3])
    assert {".segments/a.json", "part/book.json"} == set(order[3:5])
    assert ["run.json"] == order[5:]


def test_records_that_are_gone_there_are_gone_here(bucket: Bucket) -> None:
    """
    Also for who only looks.
    """
    for name in ("retakes.json", "a.mp3"):
        bucket.put(f"out/{name}", "one")
    one = _mirror(bucket)
    one.pull()
    bucket.place("out").remove("retakes.json")
    bucket.place("out").remove("a.mp3")

    one.pull(only=RECORDS)

    assert {"a.mp3": "one"} == _files(one.folder)


def test_a_push_that_fails_is_gone_on_with(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What could not be sent is sent by the next one, whatever was marked.
    """
    one = _mirror(bucket)
    one.pull()
    for name in ("a.txt", "b.txt"):
        (one.folder / name).write_text(name)
    send = one._send

    def fails(name: str) -> list[object]:
        """
        Send but one.
        """
        if name == "a.txt":
            raise OSError(None, "the storage is away", name)
        return send(name)

    monkeypatch.setattr(one, "_send", fails)
    with pytest.raises(OSError, match="away"):
        one.push()

    again = _mirror(bucket)
    again.pull()
    again.push()

    assert ["out/a.txt", "out/b.txt"] == bucket.names()


def test_a_take_store_in_the_folder_is_none_of_it(bucket: Bucket) -> None:
    """
    It is not brought a second time, nor taken away there when it is gone here.
    """
    key = "ab" + "0" * 62
    there = [
        f"out/takes/ab/{key}.flac",
        f"out/takes/ab/{key}-words.json",
        f"out/takes/claims/{key}",
        "out/takes/ledger/h-r.sqlite",
    ]
    for name in (*there, "out/a.mp3"):
        bucket.put(name, "x")
    one = _mirror(bucket)

    one.pull()
    one.push()

    assert {"a.mp3": "x"} == _files(one.folder)
    assert {*there, "out/a.mp3"} == set(bucket.names())


@pytest.mark.parametrize(("name", "why"), [("a?versionId=3.mp3", "versionId"), ("ä" * 120 + "/" + "ö" * 500, "1024 bytes")])
def test_a_name_that_no_object_can_have_is_refused(bucket: Bucket, name: str, why: str) -> None:
    """
    Before anything is paid for.
    """
    with pytest.raises(UsageError, match=why):
        _mirror(bucket).refuse(["fine.mp3", name])


def test_a_damaged_memory_costs_no_more_than_bringing_all(bucket: Bucket) -> None:
    """
    It is never the only witness.
    """
    one = _mirror(bucket)
    one.pull()
    (one.folder / "a.txt").write_text("A")
    one.push()
    memory = one.folder.parent / "out.json"
    assert ["a.txt"] == [*json.loads(memory.read_text())]
    memory.write_text("{")

    one.pull()

    assert {"a.txt": "A"} == _files(one.folder)
