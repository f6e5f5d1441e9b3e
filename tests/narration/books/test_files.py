"""
Books that are no EPUB: plain text, Markdown, HTML, Word, and folders of chapters.
"""

import random
from pathlib import Path

import pytest

from flows.narration.books import Book, read_book
from flows.narration.books.model import count_words
from flows.narration.errors import UsageError
from flows.narration.prose import BlockKind
from tests.bookmaking import PIXEL, docx, page

GUTENBERG = """The Project Gutenberg EBook of A Small Book

Title: A Small Book

Author: Ada Author
Language: English

*** START OF THE PROJECT GUTENBERG EBOOK A SMALL BOOK ***

A SMALL BOOK

by Ada Author


CONTENTS

CHAPTER I. Dawn
CHAPTER II. Dusk


CHAPTER I.
Dawn

The sun rose, and
so did he.

    * * *

Chapter and verse he knew.

CHAPTER II. Dusk

The sun set. I
was there.

*** END OF THE PROJECT GUTENBERG EBOOK A SMALL BOOK ***

Licence to all.
"""


def read(path: Path, text: str | bytes) -> Book:
    """
    Write and read a book.
    """
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_book(path)


def told(book: Book) -> dict[str, list[str]]:
    """
    Return what is spoken, block by block.
    """
    return {chapter.title: [block.text for block in chapter.prose.blocks] for chapter in book.chapters}


def test_a_text_of_gutenberg_s(tmp_path: Path) -> None:
    """
    Its frame and its contents are left out and listed, its head read.
    """
    book = read(tmp_path / "b.txt", GUTENBERG)

    assert list(told(book)) == ["CHAPTER I. Dawn", "CHAPTER II. Dusk"]
    assert told(book)["CHAPTER I. Dawn"] == [
        "CHAPTER I. Dawn",
        "The sun rose, and so did he.",
        "* * *",
        "Chapter and verse he knew.",
    ]
    assert (book.title, book.authors, book.language) == ("A Small Book", ("Ada Author",), "en")
    assert [left.why for left in book.left_out] == [
        "a licence, a title page, which the opening credits stand for, a table of contents",
        "a licence",
    ]
    assert [block.line for block in book.chapters[0].prose.blocks] == [21, 24, 27, 29]
    assert book.chapters[0].prose.blocks[1].line_at(20) == 25


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Chapter 1\n\nA.\n\nChapter 2\n\nB.", ["Chapter 1", "Chapter 2"]),
        ("CHAPTER ONE. THE DAWN\n\nA.\n\nCHAPTER TWENTY-ONE\n\nB.", ["CHAPTER ONE. THE DAWN", "CHAPTER TWENTY-ONE"]),
        ("I.\n\nA.\n\nII.\n\nI came.\n\nIII. The End\n\nC.", ["I.", "II.", "III. The End"]),
        ("PART ONE\n\nCHAPTER 1\n\nA.\n\nPART TWO\n\nCHAPTER 2\n\nB.", ["CHAPTER 1", "CHAPTER 2"]),
        ("PROLOGUE\n\nA.\n\nChapter the First\n\nB.\n\nEpilogue\n\nC.", ["PROLOGUE", "Chapter the First", "Epilogue"]),
        ("第一章　夜明け\n\nあ。\n\n第二章\n\nい。\n\n第十二回 終\n\nう。", ["第一章 夜明け", "第二章", "第十二回 終"]),
        ("第一章 夜明け\n　あ。\n　い。\n第二章\n　う。", ["第一章 夜明け", "第二章"]),
        ("Kapitel 1\n\nA.\n\nKapitel 2: Das Ende\n\nB.", ["Kapitel 1", "Kapitel 2: Das Ende"]),
        ("CHAPTER I\n\nTHE DAWN\n\nA.\n\nCHAPTER II\n\nTHE DUSK\n\nB.", ["CHAPTER I THE DAWN", "CHAPTER II THE DUSK"]),
        ("Chapter 1 was long.\n\nChapter 2 is where it began, and it went on.", ["b"]),
    ],
)
def test_headings_of_plain_texts(tmp_path: Path, text: str, titles: list[str]) -> None:
    """
    As books write them, and not as sentences begin.
    """
    assert [chapter.title for chapter in read(tmp_path / "b.txt", text).chapters] == titles


def test_a_part_of_a_plain_text_is_spoken(tmp_path: Path) -> None:
    """
    Before its first chapter.
    """
    book = read(tmp_path / "b.txt", "PART ONE\n\nCHAPTER 1\n\nA.\n\nCHAPTER 2\n\nB.")

    assert told(book) == {"CHAPTER 1": ["PART ONE", "CHAPTER 1", "A."], "CHAPTER 2": ["CHAPTER 2", "B."]}


def test_a_text_without_headings_is_one_chapter(tmp_path: Path) -> None:
    """
    With a warning; its beginning is not spoken twice.
    """
    book = read(tmp_path / "b.txt", "Once upon a time.\n\nThe end.")

    assert [block.text for block in book.chapters[0].prose.blocks] == ["Once upon a time.", "The end."]
    assert "one chapter" in book.warnings[0]
    assert book.title == "b"


def test_markdown(tmp_path: Path) -> None:
    """
    The topmost level with several headings; footnotes are left out.
    """
    text = "# My Book\n\nFor you.\n\n## One\n\nA[^1].\n\n### Deeper\n\nB.\n\nTwo\n---\n\nC.\n\n[^1]: A note.\n"

    book = read(tmp_path / "b.md", text)

    assert told(book) == {"My Book": ["My Book", "For you."], "One": ["One", "A.", "Deeper", "B."], "Two": ["Two", "C."]}
    assert book.title == "My Book"
    assert [(left.source, left.words) for left in book.left_out] == [("b.md#:notes", 2)]


def test_markdown_with_parts_and_front_matter(tmp_path: Path) -> None:
    """
    A title in front, parts above chapters.
    """
    text = "---\ntitle: My Book\n---\n\n# Part One\n\n## One\n\nA.\n\n## Two\n\nB.\n\n# Part Two\n\n## Three\n\nC.\n"

    book = read(tmp_path / "b.md", text)

    assert told(book) == {"One": ["Part One", "One", "A."], "Two": ["Two", "B."], "Three": ["Part Two", "Three", "C."]}
    assert book.title == "My Book"


def test_html(tmp_path: Path) -> None:
    """
    By its headings, with the rules of an EPUB's documents.
    """
    head = "<!doctype html><html lang=de><title>Mein Buch</title><meta name=author content='Ada'>"
    text = f"{head}<h1>Eins<h1><p>A<p>B<h1>Zwei</h1>C<br>D"

    book = read(tmp_path / "b.html", text)

    assert told(book) == {"Eins": ["Eins", "A", "B"], "Zwei": ["Zwei", "C D"]}
    assert (book.title, book.language, book.authors) == ("Mein Buch", "de", ("Ada",))


def test_xhtml(tmp_path: Path) -> None:
    """
    As it stands in an EPUB.
    """
    assert told(read(tmp_path / "b.xhtml", page("<h2>One</h2><p>A.</p><h2>Two</h2><p>B.</p>"))) == {
        "One": ["One", "A."],
        "Two": ["Two", "B."],
    }


def test_word(tmp_path: Path) -> None:
    """
    Inserted text, content controls, breaks and tables are read; deleted text is not.
    """

    def paragraph(text: str, style: str = "") -> str:
        look = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{look}{text}</w:p>"

    def run(text: str) -> str:
        return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'

    body = (
        paragraph(run("On") + run("e"), "Heading1")
        + paragraph(
            run("He said ") + f"<w:ins>{run('quietly ')}</w:ins><w:del><w:r><w:delText>x</w:delText></w:r></w:del>" + run("no.")
        )
        + f"<w:sdt><w:sdtContent>{paragraph(run('Within.'))}</w:sdtContent></w:sdt>"
        + paragraph(run("Line") + "<w:r><w:br/></w:r>" + run("break") + "<w:r><w:footnoteReference w:id='1'/></w:r>")
        + f"<w:tbl><w:tr><w:tc>{paragraph(run('A'))}</w:tc><w:tc>{paragraph(run('B'))}</w:tc></w:tr></w:tbl>"
        + paragraph(run("Two"), "Heading1")
        + paragraph(run("* * *"))
        + paragraph(run("End."))
    )

    book = read_book(docx(tmp_path / "b.docx", body))

    assert told(book) == {
        "One": ["One", "He said quietly no.", "Within.", "Line break", "A, B"],
        "Two": ["Two", "* * *", "End."],
    }
    assert (book.title, book.authors) == ("Memo", ("Ada Author",))
    assert "1 footnotes" in book.warnings[0]


def test_a_folder_of_chapters(tmp_path: Path) -> None:
    """
    In natural order, each file a chapter, whatever it is written in.
    """
    (tmp_path / "sub").mkdir()
    files = {
        "10 - last.txt": "Ten.",
        "2.md": "# Two\n\nB.\n\n## Deeper\n\nC.",
        "1.html": "<h1>One</h1><p>A.",
        "README.md": "Not me.",
        ".hidden.txt": "Nor me.",
        "notes.pdf": "x",
        "sub/3.txt": "Three.",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "cover.png").write_bytes(PIXEL)

    book = read_book(tmp_path)

    assert [(chapter.source, chapter.title) for chapter in book.chapters] == [
        ("1.html", "One"),
        ("2.md", "Two"),
        ("10 - last.txt", "last"),
        ("sub/3.txt", "3"),
    ]
    assert told(book)["last"] == ["Ten."]
    assert book.cover is not None


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("b.pdf", b"%PDF", "is no book"),
        ("b.docx", b"PK", "no zip file"),
        ("b.txt", b"\xff\xfe\xfd", "not|UTF"),
        ("b.txt", b"", "nothing to speak"),
        ("b.html", b"", "no XML or HTML|nothing to speak"),
        ("b.md", b"\n---\n", "nothing to speak"),
    ],
)
def test_what_is_no_book_is_refused(tmp_path: Path, name: str, data: bytes, match: str) -> None:
    """
    With a sentence.
    """
    with pytest.raises(UsageError, match=match) as refused:
        read(tmp_path / name, data)
    assert refused.value.exit_code == 2


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    """
    Neither a missing file nor an empty folder is a book.
    """
    with pytest.raises(UsageError, match="does not exist"):
        read_book(tmp_path / "b.epub")
    with pytest.raises(UsageError, match="no chapter"):
        read_book(tmp_path)


def test_lines_of_verse_are_counted(tmp_path: Path) -> None:
    """
    So that a place names a line.
    """
    book = read(tmp_path / "b.html", "<h1>Song</h1><p>One,<br>two;<br>three.</p><p>Four.</p>")

    blocks = book.chapters[0].prose.blocks
    assert [(block.kind, block.line) for block in blocks] == [
        (BlockKind.HEADING, 1),
        (BlockKind.PARAGRAPH, 2),
        (BlockKind.PARAGRAPH, 5),
    ]
    assert blocks[1].line_at(blocks[1].text.index("three")) == 4


PIECES = (
    "CHAPTER I",
    "CHAPTER II. Dusk",
    "words here.",
    "I.",
    "III. Go",
    "CONTENTS",
    "PART ONE",
    "PROLOGUE",
    "THE DAWN",
    "第一章 夜",
    "by Ada",
    "*** START OF THE PROJECT GUTENBERG X",
    "*** END OF THE PROJECT GUTENBERG X",
)


def test_no_word_of_a_plain_text_disappears(tmp_path: Path) -> None:
    """
    However headings, contents and frames follow each other: what is not spoken is listed.
    """
    chance = random.Random(4)
    for _ in range(200):
        text = "".join(chance.choice(PIECES) + chance.choice(("\n", "\n\n")) for _ in range(chance.randrange(1, 25)))
        try:
            book = read(tmp_path / "b.txt", text)
        except UsageError:
            continue
        words = sum(chapter.words for chapter in book.chapters) + sum(left.words for left in book.left_out)
        assert words == count_words(text), text
