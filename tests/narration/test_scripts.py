"""
Folders and files → ordered scripts, and the clean text of each.
"""

import codecs
import os
from pathlib import Path

import pytest

from flows.narration.errors import ScriptUnreadable, UsageError
from flows.narration.scripts import LeftOut, clean, find_scripts, read_script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    An empty folder for scripts, with room beside it.
    """
    path = tmp_path / "scripts"
    path.mkdir()
    return path


def write(folder: Path, *names: str) -> None:
    """
    Write small scripts, with their folders.
    """
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Words.\n", encoding="utf-8")


def listed(folder: Path, out: Path | None = None) -> tuple[list[str], list[LeftOut]]:
    """
    Return the names of the scripts in a folder, and what is left out.
    """
    listing = find_scripts(folder, out=out or folder.parent / "out", suffix="mp3")
    return [script.name for script in listing.scripts], list(listing.left_out)


def test_natural_order_of_whole_paths(folder: Path) -> None:
    """
    Chapter 2 comes before chapter 10, in every part, whatever the case of the letters.
    """
    write(folder, "part-10/1.txt", "part-2/chapter-10.md", "part-2/chapter-2.TXT", "Part-1/b.txt", "part-1/a.txt")
    names, left_out = listed(folder)
    assert names == ["part-1/a.txt", "Part-1/b.txt", "part-2/chapter-2.TXT", "part-2/chapter-10.md", "part-10/1.txt"]
    assert left_out == []


@pytest.mark.parametrize("suffix", ["mp3", ".mp3"])
def test_audio_mirrors_the_script(folder: Path, suffix: str) -> None:
    """
    A narration has its script's path, with the suffix of what is made.
    """
    write(folder, "part-1/chapter.02.txt")
    (script,) = find_scripts(folder, out=folder / "out", suffix=suffix).scripts
    assert (script.audio, script.path) == ("part-1/chapter.02.mp3", folder / "part-1/chapter.02.txt")


def test_left_out_is_listed_with_the_reason(folder: Path) -> None:
    """
    Hidden files, READMEs, other kinds, OUT itself and links that lead out are no scripts.
    """
    write(folder, "a.txt", ".hidden.txt", ".git/x.txt", "readme.MD", "deep/README.md", "cover.png", "out/old.txt")
    write(folder.parent, "elsewhere/b.txt")
    (folder / "away.txt").symlink_to(folder.parent / "elsewhere" / "b.txt")
    (folder / "away").symlink_to(folder.parent / "elsewhere")
    names, left_out = listed(folder, folder / "out")
    assert names == ["a.txt"]
    assert {left.name: left.reason for left in left_out} == {
        ".git": "hidden",
        ".hidden.txt": "hidden",
        "readme.MD": "README.md is about the scripts, and no script",
        "deep/README.md": "README.md is about the scripts, and no script",
        "cover.png": "not a .txt or .md file",
        "out": "the folder of the narrations",
        "away.txt": "a link that leads out of the folder",
        "away": "a link that leads out of the folder",
    }


def test_narrations_may_lie_beside_their_scripts(folder: Path) -> None:
    """
    Where OUT is SCRIPTS, its scripts are still scripts, and its takes are hidden.
    """
    write(folder, "a.txt", ".takes/ab/x.txt")
    (folder / "a.mp3").touch()
    names, left_out = listed(folder, folder)
    assert names == ["a.txt"]
    assert [left.name for left in left_out] == [".takes", "a.mp3"]


def test_links_inside_neither_hang_nor_double(folder: Path) -> None:
    """
    A loop ends, a linked folder is walked once, and a link to a file is a script of its own.
    """
    write(folder, "part/a.txt", ".drafts/b.txt")
    (folder / "part" / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "part")
    (folder / "b.txt").symlink_to(folder / ".drafts" / "b.txt")
    names, left_out = listed(folder)
    assert names == ["b.txt", "part/a.txt"]
    assert [left.name for left in left_out] == [".drafts", "again", "part/loop"]


def test_one_file(folder: Path) -> None:
    """
    A script that is named outright has its folder for a root, and may have any name.
    """
    write(folder, "README.md", "other.txt")
    listing = find_scripts(folder / "README.md", out=folder, suffix="wav")
    assert listing.root == folder
    assert [(script.name, script.audio) for script in listing.scripts] == [("README.md", "README.wav")]


def test_two_scripts_with_one_narration(folder: Path) -> None:
    """
    Both are named, before anything is overwritten.
    """
    write(folder, "part/a.txt", "part/a.md")
    with pytest.raises(UsageError, match=r"part/a\.md and part/a\.txt would both become part/a\.mp3"):
        listed(folder)


def test_no_script(folder: Path) -> None:
    """
    A missing path, an empty folder, and a file of another kind are three facts.
    """
    (folder / "x.pdf").touch()
    with pytest.raises(UsageError, match="does not exist"):
        listed(folder / "nowhere")
    with pytest.raises(UsageError, match="no script in"):
        listed(folder)
    with pytest.raises(UsageError, match="is no script"):
        listed(folder / "x.pdf")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"a\nb.txt", r"a\\nb\.txt is a file name with control characters"),
        (b"\x1b[31mred.txt", r"\\x1b\[31mred\.txt is"),
        (b"\xff.txt", r"\\udcff\.txt is"),
        (b"d\xff/b.txt", r"d\\udcff/b\.txt is"),
        ("a\u2028b.txt".encode(), r"a\\u2028b\.txt is"),
    ],
)
def test_a_name_that_no_line_can_hold_is_refused(folder: Path, name: bytes, told: str) -> None:
    """
    In the log, the report and the manifest it would forge lines, or could not be written at all.
    """
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_text("Words.\n")

    with pytest.raises(UsageError, match=told):
        listed(folder)


def test_what_is_left_out_is_listed_under_a_name_that_can_be_written(folder: Path) -> None:
    """
    Whatever lies among the scripts, a run does not end because of its name.
    """
    write(folder, "a.txt")
    for name in (b"x\xff.pdf", b".h\xff", b"y\n14:00 ERROR.pdf", b"z\x1b[2J.pdf"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()

    _, left_out = listed(folder)

    assert {r".h\udcff", r"x\udcff.pdf", r"y\n14:00 ERROR.pdf", r"z\x1b[2J.pdf"} == {left.name for left in left_out}


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000 + "x", "a\0b"])
def test_a_path_that_is_none_is_told(folder: Path, path: str) -> None:
    """
    A text in place of a path, most often.
    """
    with pytest.raises(UsageError, match="cannot be reached") as refused:
        listed(folder / path)

    assert len(refused.value.fact) < 300


def test_a_folder_too_deep_to_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Such folders can be made step by step, and read no other way.
    """
    write(folder, "a.txt")
    monkeypatch.chdir(folder)
    for _ in range(22):
        Path("d" * 200).mkdir()
        monkeypatch.chdir("d" * 200)

    with pytest.raises(UsageError, match="cannot be read: File name too long"):
        listed(folder)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to(path.parent / "gone.txt"), lambda path: path.symlink_to(path)]
)
def test_a_script_that_cannot_be_read_is_not_passed_over(folder: Path, make: object) -> None:
    """
    A pipe, a dangling link or a link to itself with a script's name stops the run: a chapter would be missing.
    """
    assert callable(make)
    write(folder, "a.txt")
    make(folder / "b.txt")
    with pytest.raises(UsageError, match=r"b\.txt is not a regular file"):
        listed(folder)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("asked", [None, "cp1252"])
def test_byte_order_marks(tmp_path: Path, mark: bytes, encoding: str, asked: str | None) -> None:
    """
    What the mark says is true, even where another encoding is asked for.
    """
    path = tmp_path / "a.txt"
    path.write_bytes(mark + "Ünï 😀\r\nfin".encode(encoding))
    assert read_script(path, encoding=asked if mark else None) == "Ünï 😀\nfin"


def test_another_encoding(tmp_path: Path) -> None:
    """
    What is not UTF-8 names the place and the way out, which works.
    """
    path = tmp_path / "a.txt"
    path.write_bytes("one\r\ntwo\rcafé".encode("cp1252"))
    with pytest.raises(ScriptUnreadable, match=r"not utf-8 text: line 3, byte 13 \(0xE9\).*--encoding cp1252"):
        read_script(path)
    assert read_script(path, encoding="cp1252") == "one\ntwo\ncafé"
    with pytest.raises(UsageError, match="klingon"):
        read_script(path, encoding="klingon")
    with pytest.raises(UsageError, match="--encoding"):
        read_script(path, encoding="a\0b")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("ab\n".encode("utf-16-le"), "line 1, byte 2 is NUL"),
        (b"a\nb\0", "line 2, byte 4 is NUL"),
        (codecs.BOM_UTF8 + b"a\n\xff", r"line 2, byte 6 \(0xFF\)"),
        (b"\x89PNG\r\n", r"line 1, byte 1 \(0x89\)"),
    ],
)
def test_what_is_not_text(tmp_path: Path, data: bytes, place: str) -> None:
    """
    UTF-16 without a mark and binaries are refused with the place.
    """
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    with pytest.raises(ScriptUnreadable, match=place):
        read_script(path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """
    A file over the limit, as one of 2 GB, is not read to its end.
    """
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(ScriptUnreadable, match="larger than 20 MB"):
        read_script(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a\x0bb\x0cc\x85d\u2028e\u2029f", "a\u2028b\u2028c\u2028d\u2028e\u2029f"),
        ("so\u00adft \ufeffjoi\u2060ner", "soft joiner"),
        ("a\x07b\x9fc\td", "a b c\td"),
        ("foo\u200bbar\u200b", "foo bar "),
        ("สวัสดี\u200bชาว\u200b\u200bโลก", "สวัสดี\u200bชาว\u200b\u200bโลก"),
        ("👨\u200d👩 می\u200cخواهم e\u0301", "👨\u200d👩 می\u200cخواهم e\u0301"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    """
    Breaks are told apart, what nobody reads vanishes, no two words are glued, nothing is normalised.
    """
    assert clean(text) == expected
    assert clean(expected) == expected
