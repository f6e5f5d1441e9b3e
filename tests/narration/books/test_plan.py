"""
The plan of a book: what it changes, how it is written, how it is refused; credits and outline.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.narration.books import BookPlan, closing, opening, outline, read_book, read_plan, table, write_plan
from flows.narration.errors import UsageError
from flows.narration.segments import Cutting
from tests.bookmaking import PIXEL, Epub, page


def epub(tmp_path: Path) -> Path:
    """
    Write a book with some of everything.
    """
    pages = {
        "cover.xhtml": page("<p>Front</p>", attributes='epub:type="cover"'),
        "a.xhtml": page("<h1>I</h1><p>First.</p><aside>Box.</aside>"),
        "b.xhtml": page("<h1>II</h1><p>Second.</p>"),
        "dedication.xhtml": page("<p>For you and me.</p>"),
    }
    return Epub(
        pages, nav=[("I", "a.xhtml"), ('“II” #\\"', "b.xhtml")], spine=["cover.xhtml", "dedication.xhtml", "a.xhtml", "b.xhtml"]
    ).write(tmp_path / "book.epub")


def plan(**said: object) -> BookPlan:
    """
    Return a plan that says this.
    """
    return BookPlan.model_validate(said)


def test_a_plan_that_is_written_changes_nothing(tmp_path: Path) -> None:
    """
    What is read with it is what was read without; written again, it is the same.
    """
    path = epub(tmp_path)
    book = read_book(path)
    (tmp_path / "book.toml").write_text(write_plan(book), "utf-8")

    again = read_plan(tmp_path / "book.toml")

    assert read_book(path, again) == book
    assert write_plan(read_book(path, again), again) == (tmp_path / "book.toml").read_text("utf-8")
    assert [(chapter.source, chapter.include) for chapter in again.chapters] == [
        ("OPS/dedication.xhtml", True),
        ("OPS/a.xhtml", True),
        ("OPS/b.xhtml", True),
        ("OPS/cover.xhtml", False),
        ("OPS/a.xhtml#:asides", False),
    ]


def test_a_plan_that_says_everything_comes_back(tmp_path: Path) -> None:
    """
    All keys are written and read.
    """
    whole = plan(
        title="T", authors=["A", "B"], narrator="N", language="de", publisher="P", date="2026",
        cover="c.png", profile="acx", depth=2,
        ruby="reading", credits={"opening": "Hello.", "closing": False}, sample={"chapter": "x", "start": 1.5, "minutes": 2},
        voice={"id": "v", "title": "t", "reference": ["a.wav"], "transcript": "…"},
        chapters=[{"source": "OPS/a.xhtml", "title": 'q"\\'}],
    )  # fmt: skip
    (tmp_path / "c.png").write_bytes(PIXEL)
    book = read_book(epub(tmp_path), whole.model_copy(update={"depth": None}))

    (tmp_path / "book.toml").write_text(write_plan(book, whole), "utf-8")
    again = read_plan(tmp_path / "book.toml")

    assert again.model_copy(update={"chapters": ()}) == whole.model_copy(update={"chapters": ()})
    assert book.cover is not None
    assert book.cover.data == PIXEL
    assert read_book(epub(tmp_path), again).chapters == book.chapters
    no_sample = whole.model_copy(update={"sample": False})
    (tmp_path / "book.toml").write_text(write_plan(book, no_sample), "utf-8")
    assert read_plan(tmp_path / "book.toml").sample is False


def test_a_plan_chooses_and_renames(tmp_path: Path) -> None:
    """
    A new title takes the place of the old one.
    """
    wanted = plan(
        title="Another",
        authors=["Bo"],
        chapters=[
            {"source": "OPS/a.xhtml", "title": "The First"},
            {"source": "OPS/b.xhtml", "include": False},
            {"source": "OPS/cover.xhtml"},
        ],
    )

    book = read_book(epub(tmp_path), wanted)

    assert (book.title, book.authors) == ("Another", ("Bo",))
    assert [[block.text for block in chapter.prose.blocks] for chapter in book.chapters] == [
        ["Front"],
        ["For you and me."],
        ["The First", "First."],
    ]
    assert [(left.source, left.why) for left in book.left_out] == [
        ("OPS/a.xhtml#:asides", "text that stands aside"),
        ("OPS/b.xhtml", "left out by the plan"),
    ]


def test_a_chapter_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    """
    Before anything is paid for.
    """
    with pytest.raises(UsageError, match=r"“c\.xhtml”, which is not in the book.*“OPS/a\.xhtml”") as refused:
        read_book(epub(tmp_path), plan(chapters=[{"source": "c.xhtml"}]))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = 3", r"line 1: title is wrong"),
        ('title = "T"\n\ntitel = "x"', r"line 3: titel is no key of a plan"),
        ('[credits]\nopening = true\nmiddle = "x"', r"line 3: credits\.middle is no key"),
        ("[sample]\nminutes = 9", r"line 2: sample\.minutes is wrong: .*5"),
        ('[[chapters]]\nsource = "a"\n[[chapters]]\nsource = "b"\ninclude = "no"', r"line 5: chapters\.1\.include is wrong"),
        ("title = \n", r"is no TOML: .*line 1"),
        ('ruby = "both"', r"line 1: ruby is wrong"),
        ("[[chapters]]\ntitle = 'x'", r"chapters\.0\.source is wrong: Field required"),
    ],
)
def test_a_plan_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """
    With the file, the key and its line.
    """
    path = tmp_path / "book.toml"
    path.write_text(text)

    with pytest.raises(UsageError, match=told) as refused:
        read_plan(path)

    assert str(path) in str(refused.value)


def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """
    Missing, or no text.
    """
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "book.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_plan(tmp_path / "book.toml")


def test_a_date_may_be_written_as_one(tmp_path: Path) -> None:
    """
    As TOML has dates.
    """
    (tmp_path / "book.toml").write_text("date = 2026-01-02")

    assert read_plan(tmp_path / "book.toml").date == "2026-01-02"


@pytest.mark.parametrize(
    ("language", "authors", "narrator", "first", "last"),
    [
        (
            "en-GB",
            ("Ada", "Bo", "Cy"),
            "Nan",
            "T, written by Ada, Bo and Cy, narrated by Nan, with a synthetic voice.",
            "The end.",
        ),
        ("de", ("Ada", "Bo"), "", "T, geschrieben von Ada und Bo, gelesen mit einer synthetischen Stimme.", "Ende."),
        ("fr", ("Ada",), "Nan", "T, écrit par Ada, lu par Nan, avec une voix de synthèse.", "Fin."),
        ("es", ("Ada",), "Nan", "T, escrito por Ada, narrado por Nan, con una voz sintética.", "Fin."),
        ("ja_JP", ("夏目 漱石",), "", "T。著者、夏目 漱石。合成音声による朗読です。", "おわり。"),
        ("fi", (), "", "T, narrated with a synthetic voice.", "The end."),
    ],
)
def test_credits(tmp_path: Path, language: str, authors: tuple[str, ...], narrator: str, first: str, last: str) -> None:
    """
    In the book's language, or in English; they never hide that the voice is synthetic.
    """
    book = replace(read_book(epub(tmp_path)), title="T", language=language, authors=authors, narrator=narrator)

    assert opening(book, BookPlan()) == first
    assert (closing(book, BookPlan()) or "").endswith(last)
    assert opening(book, plan(credits={"opening": "Mine {title}."})) == "Mine {title}."
    assert opening(book, plan(credits={"opening": False})) is None
    assert closing(book, plan(credits={"closing": False})) is None


def test_the_outline_says_what_it_comes_to(tmp_path: Path) -> None:
    """
    Words, minutes, bytes and USD; what is left out, and how it comes in.
    """
    book = read_book(epub(tmp_path))

    said = outline(book, cutting=Cutting(), model="s2.1-pro")

    assert [(row["title"], row["words"]) for row in said["chapters"]] == [("For you and me.", 4), ("I", 2), ('“II” #\\"', 2)]
    assert said["bytes"] == sum(row["bytes"] for row in said["chapters"])
    assert said["usd"] == pytest.approx(said["bytes"] * 15e-6, abs=1e-6)
    assert said["left_out"][0]["how"] == 'In book.toml, set include = true for source = "OPS/cover.xhtml".'
    written = table(said)
    assert "A Small Book by Ada Author (en)" in written
    assert "a cover, 1 words" in written
