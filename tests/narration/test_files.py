"""
Files that are replaced: the order in which things reach the disk, and what is left when they do not.
"""

import os
from pathlib import Path

import pytest

from flows.narration.errors import UsageError
from flows.narration.files import replacing, require_writable


def test_the_content_reaches_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In any other order a power cut leaves an empty file by the right name.
    """
    target = tmp_path / "new" / "a.txt"
    told: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        told.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def noted_replace(source: Path, to: Path) -> None:
        told.append(("content", Path(source).read_text()))
        told.append(("rename", str(to)))
        rename(source, to)

    monkeypatch.setattr("os.fsync", noted_fsync)  # what reached a disk shows only after a power cut
    monkeypatch.setattr("os.replace", noted_replace)  # as above

    with replacing(target) as temporary:
        temporary.write_text("whole")

    order = (("fsync", temporary), ("content", "whole"), ("rename", target), ("fsync", target.parent))
    assert [(what, str(where)) for what, where in order] == told
    assert temporary.parent == target.parent
    assert [target] == list(target.parent.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    """
    Whenever it strikes: before anything was written, or in the middle.
    """
    target = tmp_path / "a.txt"
    target.write_text("before")

    def broken(content: str) -> None:
        with replacing(target) as temporary:
            if content:
                temporary.write_text(content)
            raise error

    for content in ("", "half"):
        with pytest.raises(type(error)):
            broken(content)

    assert [target] == list(tmp_path.iterdir())
    assert "before" == target.read_text()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    """
    It must not pass for a file that was replaced.
    """
    (tmp_path / "a.txt").write_text("before")

    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass

    assert "before" == (tmp_path / "a.txt").read_text()


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """
    The later one wins, whole.
    """
    with replacing(tmp_path / "a.txt") as one, replacing(tmp_path / "a.txt") as two:
        one.write_text("one")
        two.write_text("two")

    assert ["a.txt"] == [path.name for path in tmp_path.iterdir()]
    assert "one" == (tmp_path / "a.txt").read_text()


def test_a_folder_that_no_system_can_have_is_refused() -> None:
    """
    Before anything is paid for.
    """
    with pytest.raises(UsageError, match="cannot be written to"):
        require_writable(Path("a\0b"))
