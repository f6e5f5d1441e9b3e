"""
What is read from object storage as files here: whole, as it is now, and nothing of it left out in silence.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.narration.brought import books_beside, bring_beside, brought, put_beside, told_of
from flows.narration.errors import StorageAway, UsageError
from flows.narration.storage import Place
from tests.bucket import Bucket
from tests.standing import ROOT


def _files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_on_this_machine_is_left_as_it_is(tmp_path: Path) -> None:
    """
    A mounted path is one.
    """
    assert tmp_path == brought(str(tmp_path)) == brought(tmp_path.as_uri())


def test_a_folder_to_read_is_brought_up_to_date(bucket: Bucket) -> None:
    """
    Under its own name; what is gone there goes here.
    """
    bucket.put("scripts/a.txt", "A")
    bucket.put("scripts/part/b.txt", "B")
    folder = brought(f"{bucket.uri}/scripts")
    assert ("scripts", {"a.txt": "A", "part/b.txt": "B"}) == (folder.name, _files(folder))

    bucket.put("scripts/a.txt", "AA")
    bucket.place("scripts").remove("part/b.txt")

    assert {"a.txt": "AA"} == _files(brought(f"{bucket.uri}/scripts/"))


def test_a_file_to_read_is_brought_with_what_belongs_to_it(bucket: Bucket) -> None:
    """
    A book has its plan beside it, a recording its transcript.
    """
    for name in ("book.epub", "book.toml", "reference.txt", "another.epub"):
        bucket.put(f"books/{name}", name)

    path = brought(f"{bucket.uri}/books/book.epub")

    assert "book.epub" == path.read_text()
    assert {"book.epub", "book.toml", "reference.txt"} == {one.name for one in path.parent.glob("[!.]*")}
    bucket.place("books").remove("book.toml")
    brought(f"{bucket.uri}/books/book.epub")
    assert not (path.parent / "book.toml").exists()


def test_a_plan_for_one_book_is_none_of_two(bucket: Bucket) -> None:
    """
    It is of the book that lies there alone; where there are others each has one of its name.
    """
    for name in ("one.epub", "book.toml", "one.toml"):
        bucket.put(f"books/{name}", name)
    uri = f"{bucket.uri}/books/one.epub"
    assert {"one.epub", "book.toml", "one.toml"} == {one.name for one in brought(uri).parent.glob("[!.]*")}
    assert [] == books_beside(uri)
    bucket.put("books/two.docx", "two")

    assert {"one.epub", "one.toml"} == {one.name for one in brought(uri).parent.glob("[!.]*")}
    assert ["two.docx"] == books_beside(uri)


def test_what_a_plan_names_is_brought_as_well(bucket: Bucket) -> None:
    """
    As it is now; no name leads out of the folder.
    """
    for name in ("one.epub", "art/front.jpg"):
        bucket.put(f"books/{name}", name)
    uri = f"{bucket.uri}/books/one.epub"
    folder = brought(uri).parent

    for name in ("art/front.jpg", "missing.jpg", "../one.epub", "/etc/hostname", ".", "", "art", "x" * 256):
        bring_beside(uri, name)

    assert "art/front.jpg" == (folder / "art/front.jpg").read_text()
    bucket.put("books/art/front.jpg", "another")
    bring_beside(uri, "art/front.jpg")
    assert "another" == (folder / "art/front.jpg").read_text()


@pytest.mark.parametrize("book", ["one.epub", "chapters"])
def test_a_plan_is_written_where_the_book_is(bucket: Bucket, book: str) -> None:
    """
    Beside a file, in a folder; what is there already is left.
    """
    bucket.put("books/one.epub", "one")
    bucket.put("books/chapters/1.txt", "chapter")
    uri = f"{bucket.uri}/books/{book}"
    brought(uri)
    name = "books/book.toml" if book == "one.epub" else "books/chapters/book.toml"

    assert f"{bucket.uri}/{name}" == put_beside(uri, "book.toml", "a plan")
    assert b"a plan" == bucket.get(name)
    assert put_beside(uri, "book.toml", "another plan") is None
    assert b"a plan" == bucket.get(name)


@pytest.mark.parametrize("path", ["nothing.txt", "nothing/"])
def test_what_is_not_there_is_named(bucket: Bucket, path: str) -> None:
    """
    An empty folder in object storage is none.
    """
    with pytest.raises(UsageError, match="nothing"):
        brought(f"{bucket.uri}/{path}")


def test_a_reading_that_was_broken_off_leaves_nothing_stale(bucket: Bucket) -> None:
    """
    What came before it broke, and was changed or taken away there since, is brought as it is by then.
    """
    for name in ("a.txt", "b.txt"):
        bucket.put(f"scripts/{name}", "one")
    uri = f"{bucket.uri}/scripts"
    brought(uri)
    for name in ("a.txt", "b.txt"):
        bucket.put(f"scripts/{name}", "two")
    assert b"killed" == subprocess.run([sys.executable, "-c", DIES, uri], cwd=ROOT, capture_output=True, check=False).stdout
    bucket.put("scripts/a.txt", "three")
    bucket.place("scripts").remove("b.txt")

    assert {"a.txt": "three"} == _files(brought(uri))


DIES = """
import os, sys
from flows.narration import brought
from flows.narration.brought import brought as bring

def dies(memory, known):
    print("killed", end="", flush=True)
    os.kill(os.getpid(), 9)

brought._remember = dies
bring(sys.argv[1])
"""
"""Brings, and is killed before it is remembered."""


def test_a_copy_that_somebody_changed_is_made_what_is_there(bucket: Bucket) -> None:
    """
    It is nobody's to write to.
    """
    bucket.put("scripts/a.txt", "A")
    uri = f"{bucket.uri}/scripts"
    copy = brought(uri)
    (copy / "a.txt").write_text("B, and longer")
    (copy / "b.txt").write_text("B")

    assert {"a.txt": "A"} == _files(brought(uri))


def test_a_file_becomes_a_folder_and_back(bucket: Bucket) -> None:
    """
    Also an object that marks a folder is none of its files.
    """
    uri = f"{bucket.uri}/scripts"
    bucket.put("scripts/x", "file")
    assert {"x": "file"} == _files(brought(uri))
    bucket.put("scripts/x", "")
    bucket.put("scripts/x/a.txt", "A")
    assert {"x/a.txt": "A"} == _files(brought(uri))
    bucket.place("scripts").remove("x/a.txt")
    bucket.put("scripts/x", "file again")

    assert {"x": "file again"} == _files(brought(uri))


@pytest.mark.parametrize("name", ["part//b.txt", "../b.txt", "part/./b.txt", "x" * 256, "a.txt/b.txt", "what?versionId=3.txt"])
def test_what_cannot_be_a_file_here_is_named(bucket: Bucket, name: str) -> None:
    """
    It would be words that nobody hears, and nobody misses.
    """
    bucket.put("scripts/a.txt", "A")
    place = Place(bucket.uri)
    place._files.call_s3(
        "put_object", Bucket=bucket.name, Key=f"scripts/{name}", Body=b"B"
    )  # past what s3fs takes for a version

    with pytest.raises(UsageError, match=re.escape(name)):
        brought(f"{bucket.uri}/scripts")


def test_marks_of_folders_are_nothing(bucket: Bucket) -> None:
    """
    Consoles of storages make a folder by an empty object, also that which is read.
    """
    place = Place(bucket.uri)
    for name in ("scripts/", "scripts/part/", "scripts/empty/"):
        place._files.call_s3("put_object", Bucket=bucket.name, Key=name, Body=b"")  # s3fs writes no such object
    bucket.put("scripts/part/a.txt", "A")

    assert {"part/a.txt": "A"} == _files(brought(f"{bucket.uri}/scripts"))


def test_a_copy_lies_in_a_folder_of_the_same_name(bucket: Bucket) -> None:
    """
    It may be that of an album.
    """
    bucket.put("My Novel/a.txt", "A")

    assert ("My Novel", "a.txt") == brought(f"{bucket.uri}/My Novel/a.txt").parts[-2:]


def test_what_was_a_file_may_become_a_folder_and_back(bucket: Bucket) -> None:
    """
    Under one URI.
    """
    uri = f"{bucket.uri}/x"
    for _ in range(2):
        bucket.put("x", "file")
        assert "file" == brought(uri).read_text()
        bucket.place("").remove("x")
        bucket.put("x/a.txt", "A")
        assert {"a.txt": "A"} == _files(brought(uri))
        bucket.place("").remove("x/a.txt")


def test_names_that_only_look_odd_are_brought(bucket: Bucket) -> None:
    """
    As folders here have them.
    """
    names = ["back\\slash.txt", "a b.txt", "50%.txt", "a#b?.txt", "ä/日本.txt", "a..txt", "a:b.txt"]
    for name in names:
        bucket.put(f"scripts/{name}", name)

    assert {name: name for name in names} == _files(brought(f"{bucket.uri}/scripts"))


def test_of_what_nobody_reads_only_the_names_come(bucket: Bucket) -> None:
    """
    Hidden objects, and those of OUT and of the take store below the scripts.
    """
    for name in ("a.txt", ".hidden.txt", ".takes/ab/x.flac", "audio/a.mp3", "audio/b/b.mp3", "takes/ab/x.flac"):
        bucket.put(f"scripts/{name}", "content")
    uri = f"{bucket.uri}/scripts"

    copy = brought(uri, apart=(f"{uri}/audio", f"{uri}/takes/", f"{uri}/", f"{bucket.uri}/elsewhere"))

    assert {"a.txt": "content", ".hidden.txt": ""} == _files(copy)
    assert [".takes", "audio", "takes"] == sorted(path.name for path in copy.iterdir() if path.is_dir())


def test_what_is_refused_names_the_uri(bucket: Bucket) -> None:
    """
    Nobody knows of the copy.
    """
    bucket.put("scripts/a.txt", "A")
    uri = f"{bucket.uri}/scripts/"
    with pytest.raises(UsageError) as refused, told_of(uri):
        raise UsageError(f"{brought(uri)}/a.txt is bad.", "Mend it.")

    assert f"{bucket.uri}/scripts/a.txt is bad. Mend it." == str(refused.value)


def test_a_bucket_is_a_folder(bucket: Bucket) -> None:
    """
    It has none above it.
    """
    bucket.put("a.txt", "A")

    assert {"a.txt": "A"} == _files(brought(bucket.uri)) == _files(brought(f"{bucket.uri}/"))


@pytest.mark.parametrize("uri", ["s3://", "s3:///", "http://127.0.0.1:9/x"])
def test_what_is_no_storage_is_refused(uri: str) -> None:
    """
    In a sentence.
    """
    with pytest.raises(UsageError, match=r"bucket|web"):
        brought(uri)


def test_a_storage_that_is_away_is_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What was brought before is not taken for what is there.
    """
    bucket.put("scripts/a.txt", "A")
    brought(f"{bucket.uri}/scripts")

    def away(*_: object) -> None:
        """
        Be away.
        """
        raise OSError(None, "it is away")

    monkeypatch.setattr(Place, "listing", away)
    with pytest.raises(StorageAway, match="it is away"):
        brought(f"{bucket.uri}/scripts")
