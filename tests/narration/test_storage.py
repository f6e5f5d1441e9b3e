"""
Places in object storage, against a real S3 server: what is there, what a write depends on, and what is said where it fails.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.narration.errors import ExitCode, UsageError
from flows.narration.storage import Place, is_remote
from tests.bucket import Bucket


@pytest.mark.parametrize(
    ("uri", "remote"),
    [("data/audio", False), ("/srv/x", False), ("file:///srv/x", False), ("C:\\x", False), ("s3://b/x", True)],
)
def test_what_is_a_place_elsewhere(uri: str, remote: bool) -> None:
    """
    A path stays one, whatever it looks like.
    """
    assert remote == is_remote(uri)


def test_objects_are_written_listed_read_and_removed(bucket: Bucket) -> None:
    """
    What is not there is `None`, not an error.
    """
    place = bucket.place("x")
    assert {} == place.listing()

    tag = place.write("a/b.txt", b"one")
    bucket.put("xy.txt", "of another folder")

    there = place.look("a/b.txt")
    assert there is not None
    assert (3, tag) == there[:2]
    assert there.written == pytest.approx(time.time(), abs=60)
    assert {"a/b.txt": there} == place.listing() == place.listing("a/")
    assert ["a/"] == [*place.top()]
    assert ["x/", "xy.txt"] == sorted(Place(bucket.uri).top())
    assert {} == place.listing("b")
    assert b"one" == place.read("a/b.txt")
    place.remove("a/b.txt")
    place.remove("a/b.txt")
    assert place.look("a/b.txt") is None
    assert place.read("a/b.txt") is None


def test_files_go_and_come_whole(bucket: Bucket, tmp_path: Path) -> None:
    """
    Names that are not plain survive, and where there is no object, no file is left.
    """
    place, name = bucket.place("x"), "Größe & co/100 % [a] #1.mp3"
    (tmp_path / "in").write_bytes(b"x" * 100_000)

    place.send(tmp_path / "in", name)

    assert place.fetch(name, tmp_path / "out" / "file")
    assert b"x" * 100_000 == (tmp_path / "out" / "file").read_bytes()
    assert not place.fetch("nothing", tmp_path / "out" / "other")
    assert ["file"] == [path.name for path in (tmp_path / "out").iterdir()]


def test_of_many_who_create_one_does(bucket: Bucket) -> None:
    """
    A claim is one's own.
    """
    place = bucket.place()
    with ThreadPoolExecutor(16) as threads:
        tags = [*threads.map(lambda number: place.create("claim", b"%d" % number), range(16))]

    assert 1 == sum(tag is not None for tag in tags)
    assert b"%d" % next(number for number, tag in enumerate(tags) if tag) == place.read("claim")


def test_of_many_who_swap_one_does(bucket: Bucket) -> None:
    """
    A claim that has expired is taken over once.
    """
    place = bucket.place()
    before = place.write("claim", b"old")
    with ThreadPoolExecutor(16) as threads:
        tags = [*threads.map(lambda number: place.swap("claim", b"%d" % number, tag=before), range(16))]

    assert 1 == sum(tag is not None for tag in tags)
    assert place.swap("gone", b"x", tag=before) is None


def test_a_storage_whose_writes_are_conditional_is_taken(bucket: Bucket) -> None:
    """
    Also the second time.
    """
    bucket.place().require_conditions("c")
    bucket.place().require_conditions("c")


class _Overwrites(Place):
    def create(self, name: str, content: bytes) -> str | None:
        return self.write(name, content)


class _SwapsAnything(Place):
    def swap(self, name: str, content: bytes, *, tag: str) -> str | None:
        return self.write(name, content)


@pytest.mark.parametrize(("careless", "kind"), [(_Overwrites, "If-None-Match"), (_SwapsAnything, "If-Match")])
def test_a_storage_that_ignores_conditions_is_refused(bucket: Bucket, careless: type[Place], kind: str) -> None:
    """
    Some servers that speak S3 do: two workers would both pay. None from PyPI can be started that way, hence the subclasses.
    """
    with pytest.raises(UsageError, match=rf"takes no conditional writes \({kind}\)"):
        careless(f"{bucket.uri}/takes").require_conditions("c")


def test_a_missing_bucket_is_named(bucket: Bucket) -> None:
    """
    Nothing is created by accident.
    """
    with pytest.raises(UsageError, match="no bucket nowhere-at-all") as refused:
        Place("s3://nowhere-at-all/x").reach()

    assert ExitCode.USAGE == refused.value.exit_code


@pytest.mark.parametrize(("uri", "mend"), [("gs://b/x", "gcsfs"), ("az://b/x", "adlfs"), ("nonsense://b", "folder")])
def test_a_missing_package_is_named(uri: str, mend: str) -> None:
    """
    What to install is said.
    """
    with pytest.raises(UsageError) as refused:
        Place(uri)

    assert mend in str(refused.value)
