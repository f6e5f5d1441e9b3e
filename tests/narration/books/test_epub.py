"""
EPUBs: order, titles, parts, what is left out; and books that are broken, or made to break a reader.
"""

import io
import struct
import time
import zipfile
from pathlib import Path

import pytest

from flows.narration.books import Book, BookPlan, read_book
from flows.narration.books.archive import resolve
from flows.narration.errors import UsageError
from tests.bookmaking import Epub, page

LONG = "<p>It was a dark and stormy night.</p>"


def read(tmp_path: Path, epub: Epub, plan: BookPlan | None = None) -> Book:
    """
    Write and read a book.
    """
    return read_book(epub.write(tmp_path / "book.epub"), plan)


def told(book: Book) -> dict[str, list[str]]:
    """
    Return what is spoken, block by block.
    """
    return {chapter.title: [block.text for block in chapter.prose.blocks] for chapter in book.chapters}


def two(tmp_path: Path, **changed: object) -> Book:
    """
    Read a book of two chapters with something changed.
    """
    pages = {"a.xhtml": page("<h1>One</h1><p>First.</p>"), "b.xhtml": page("<h1>Two</h1><p>Second.</p>")}
    given: dict = {"pages": pages, "nav": [("One", "a.xhtml"), ("Two", "b.xhtml")]} | changed  # type: ignore[type-arg]
    return read(tmp_path, Epub(**given))


def test_a_plain_book(tmp_path: Path) -> None:
    """
    What it says of itself comes along.
    """
    book = two(tmp_path, cover=True)

    assert told(book) == {"One": ["One", "First."], "Two": ["Two", "Second."]}
    assert (book.title, book.authors, book.language) == ("A Small Book", ("Ada Author",), "en")
    assert (book.publisher, book.date, book.identifier) == ("Nobody", "2026-01-02", "urn:uuid:1")
    assert book.cover is not None
    assert book.cover.media_type == "image/png"
    assert [chapter.name for chapter in book.chapters] == ["01 - One", "02 - Two"]
    assert [chapter.source for chapter in book.chapters] == ["OPS/a.xhtml", "OPS/b.xhtml"]
    assert [chapter.words for chapter in book.chapters] == [2, 2]
    assert not book.warnings
    assert not book.left_out


def test_the_spine_gives_the_order_and_the_ncx_the_titles(tmp_path: Path) -> None:
    """
    As EPUB 2 has them.
    """
    book = two(tmp_path, nav=None, ncx=[("Eins", "a.xhtml"), ("Zwei", "b.xhtml")], spine=["b.xhtml", "a.xhtml"])

    assert told(book) == {"Zwei": ["Zwei", "Two", "Second."], "Eins": ["Eins", "One", "First."]}


def test_headings_tell_chapters_where_nothing_else_does(tmp_path: Path) -> None:
    """
    And a document without one continues the chapter before.
    """
    pages = {"a.xhtml": page("<h1>One</h1><p>A.</p>"), "b.xhtml": page("<p>B.</p>"), "c.xhtml": page("<h1>Two</h1><p>C.</p>")}

    book = read(tmp_path, Epub(pages, nav=None))

    assert told(book) == {"One": ["One", "A.", "B."], "Two": ["Two", "C."]}
    assert "no navigation" in book.warnings[0]


def test_one_document_is_parted_at_its_anchors(tmp_path: Path) -> None:
    """
    Also where the anchor stands within a heading, or is a name.
    """
    body = (
        '<h1 id="t">A Small Book</h1><h2 id="one">One</h2><p>A.</p><h2><a id="two"/>Two</h2><p>B.</p><a name="three"/>'
        "<div><h2>Three</h2><p>C.</p></div>"
    )
    nav = [("One", "a.xhtml#one"), ("Two", "a.xhtml#two"), ("Three", "a.xhtml#three")]

    book = read(tmp_path, Epub({"a.xhtml": page(body)}, nav=nav))

    assert told(book) == {"One": ["One", "A."], "Two": ["Two", "B."], "Three": ["Three", "C."]}
    assert [left.why for left in book.left_out] == ["a title page, which the opening credits stand for"]


def test_sections_of_a_chapter_are_none_unless_a_plan_wants_them(tmp_path: Path) -> None:
    """
    The first level of the navigation, where the second stays within its document.
    """
    body = '<h1>One</h1><section id="i"><h2>I</h2><p>A.</p></section><section id="ii"><h2>II</h2><p>B.</p></section>'
    pages = {"a.xhtml": page(body), "b.xhtml": page("<h1>Two</h1><p>C.</p>"), "c.xhtml": page("<h1>Three</h1><p>D.</p>")}
    nav = [("One", "a.xhtml", [("I", "a.xhtml#i"), ("II", "a.xhtml#ii")]), ("Two", "b.xhtml"), ("Three", "c.xhtml")]

    assert list(told(read(tmp_path, Epub(pages, nav=nav)))) == ["One", "Two", "Three"]

    deeper = told(read(tmp_path, Epub(pages, nav=nav), BookPlan(depth=2)))
    assert deeper == {"I": ["One", "I", "A."], "II": ["II", "B."], "Two": ["Two", "C."], "Three": ["Three", "D."]}


def test_a_part_is_spoken_before_its_first_chapter(tmp_path: Path) -> None:
    """
    And is a chapter of its own where it has text.
    """
    pages = {
        "p1.xhtml": page("<h1>Part One</h1>"),
        "a.xhtml": page("<h2>Dawn</h2><p>A.</p>"),
        "b.xhtml": page("<h2>Noon</h2><p>B.</p>"),
        "p2.xhtml": page("<h1>Part Two</h1><p>In which night falls.</p>"),
        "c.xhtml": page("<h2>Dusk</h2><p>C.</p>"),
        "d.xhtml": page("<h2>Night</h2><p>D.</p>"),
    }
    nav = [
        ("Part One", "p1.xhtml", [("Dawn", "a.xhtml"), ("Noon", "b.xhtml")]),
        ("Part Two", "p2.xhtml", [("Dusk", "c.xhtml")]),
        ("Part Three", "", [("Night", "d.xhtml")]),
    ]

    assert told(read(tmp_path, Epub(pages, nav=nav))) == {
        "Dawn": ["Part One", "Dawn", "A."],
        "Noon": ["Noon", "B."],
        "Part Two": ["Part Two", "In which night falls."],
        "Dusk": ["Dusk", "C."],
        "Night": ["Part Three", "Night", "D."],
    }


@pytest.mark.parametrize(
    ("title", "body", "begins"),
    [
        ("Chapter 1: Dawn", "<h1>Chapter I</h1><h2>Dawn</h2><p>A.</p>", ["Chapter I", "Dawn", "A."]),
        ("Chapter One", "<h1>CHAPTER 1.</h1><p>A.</p>", ["CHAPTER 1.", "A."]),
        ("Dawn", "<h1>3. Dawn</h1><p>A.</p>", ["3. Dawn", "A."]),
        ("1. Dawn", "<h1>Dawn</h1><p>A.</p>", ["Dawn", "A."]),
        ("Dawn", "<p class='t'>DAWN</p><p>Dawn came early that day.</p>", ["DAWN", "Dawn came early that day."]),
        (
            "Dawn",
            "<p>The dawn came early, and with it the first of the ships that they had feared so long.</p>",
            ["Dawn", None],
        ),
        ("Dawn", "<h1>Night</h1><p>A.</p>", ["Dawn", "Night", "A."]),
        ("第一章 夜明け", "<h1>第一章</h1><h2>夜明け</h2><p>あ。</p>", ["第一章", "夜明け", "あ。"]),
    ],
)
def test_a_title_is_spoken_once(tmp_path: Path, title: str, body: str, begins: list[str | None]) -> None:
    """
    However the text writes it.
    """
    said = told(read(tmp_path, Epub({"a.xhtml": page(body)}, nav=[(title, "a.xhtml")])))[title]

    assert [text if want else None for text, want in zip(said, begins, strict=True)] == begins


def test_matter_is_left_out_and_can_be_brought_in(tmp_path: Path) -> None:
    """
    By semantics, landmarks, guide, and by well-known titles and names; a preface is none of it.
    """
    pages = {
        "cover.xhtml": page("<p>Front</p>", attributes='epub:type="cover"'),
        "t.xhtml": page("<h1>A Small Book</h1>", attributes='epub:type="titlepage"'),
        "front.xhtml": page('<section epub:type="dedication"><p>For you.</p></section>', attributes='epub:type="frontmatter"'),
        "pre.xhtml": page("<h1>Preface</h1><p>P.</p>", attributes='epub:type="frontmatter preface"'),
        "a.xhtml": page("<h1>One</h1><p>A.</p>", attributes='epub:type="bodymatter chapter"'),
        "x.xhtml": page("<h1>Where from</h1><p>X.</p>"),
        "g.xhtml": page("<h1>Words</h1><p>G.</p>"),
        "ack.xhtml": page("<h1>Acknowledgements</h1><p>K.</p>"),
        "copyright.xhtml": page("<p>All rights reserved.</p>"),
    }
    nav = [
        ("Preface", "pre.xhtml"),
        ("One", "a.xhtml"),
        ("Where from", "x.xhtml"),
        ("Words", "g.xhtml"),
        ("Acknowledgements", "ack.xhtml"),
    ]
    epub = Epub(pages, nav=nav, landmarks={"x.xhtml": "backmatter bibliography"}, guide={"g.xhtml": "glossary"})

    book = read(tmp_path, epub)

    assert list(told(book)) == ["For you.", "Preface", "One"]
    assert {left.href: left.why for left in book.left_out} == {
        "OPS/cover.xhtml": "a cover",
        "OPS/t.xhtml": "a title page, which the opening credits stand for",
        "OPS/x.xhtml": "a bibliography",
        "OPS/g.xhtml": "a glossary",
        "OPS/ack.xhtml": "acknowledgements",
        "OPS/copyright.xhtml": "copyright and imprint",
    }
    wanted = BookPlan.model_validate({"chapters": [{"source": left.source} for left in book.left_out]})
    assert sum(chapter.words for chapter in read(tmp_path, epub, wanted).chapters) == sum(
        chapter.words for chapter in book.chapters
    ) + sum(left.words for left in book.left_out)


def test_notes_in_a_document_of_their_own(tmp_path: Path) -> None:
    """
    What the marks lead to is left out there, too.
    """
    pages = {
        "a.xhtml": page('<h1>One</h1><p>A<a epub:type="noteref" href="n.xhtml#n1">1</a>.</p>'),
        "n.xhtml": page('<h1>Remarks</h1><p id="n1">A note.</p><p>Kept.</p>'),
    }

    book = read(tmp_path, Epub(pages, nav=[("One", "a.xhtml"), ("Remarks", "n.xhtml")]))

    assert told(book) == {"One": ["One", "A."], "Remarks": ["Remarks", "Kept."]}
    assert [(left.source, left.words) for left in book.left_out] == [("OPS/n.xhtml#:notes", 2)]


BROKEN: dict[str, tuple[dict, str]] = {  # type: ignore[type-arg]
    "no mimetype": ({"files": {"mimetype": None}}, "no mimetype"),
    "mimetype not first": ({"mimetype_first": False}, "not its first entry"),
    "another mimetype": ({"files": {"mimetype": "text/plain"}}, "mimetype is not"),
    "no container": ({"files": {"META-INF/container.xml": None}}, "container does not say"),
    "a missing document": (
        {"files": {"OPS/c.xhtml": None}, "spine": ["a.xhtml", "c.xhtml", "b.xhtml"]},
        "manifest does not have",
    ),
    "an entry that leads nowhere": (
        {"nav": [("One", "a.xhtml"), ("Two", "b.xhtml"), ("Three", "c.xhtml")]},
        "not in the reading order",
    ),
    "a fragment that is not there": ({"nav": [("One", "a.xhtml#x"), ("Two", "b.xhtml")]}, "which is not there"),
    "a document twice": ({"spine": ["a.xhtml", "b.xhtml", "a.xhtml"]}, "spine twice"),
    "no spine": ({"spine": []}, "no spine"),
    "a package that lists nothing": (
        {"files": {"OPS/package.opf": "<package><metadata/>", "OPS/nav.xhtml": None, "OPS/b2.xhtml": None}},
        "or by their names",
    ),
    "no navigation": ({"files": {"OPS/nav.xhtml": None}}, "navigation, is missing"),
    "tag soup": (
        {"files": {"OPS/a.xhtml": "<html><head><title/></head><body><h1>One</h1><p>First.<br><a id='x'/></body>"}},
        "not well-formed",
    ),
    "another encoding": (
        {"files": {"OPS/a.xhtml": page("<h1>One</h1><p>First.</p><p hidden=''>né</p>").encode("cp1252")}},
        "Windows-1252",
    ),
    "an absolute path": ({"nav": [("One", "/OPS/a.xhtml"), ("Two", "../../../OPS/b.xhtml")]}, ""),
    "a path of other case": ({"nav": [("One", "A.XHTML"), ("Two", "b%2Exhtml")]}, ""),
    "utf-16": ({"files": {"OPS/a.xhtml": page("<h1>One</h1><p>First.</p>").replace("utf-8", "utf-16").encode("utf-16")}}, ""),
    "an entity of its own": (
        {
            "files": {
                "OPS/a.xhtml": "<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
                + page("<h1>One</h1><p>First.</p>")[39:]
            }
        },
        "",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_book_is_read_as_far_as_can_be(tmp_path: Path, name: str) -> None:
    """
    With a warning that says what is odd.
    """
    changed, warning = BROKEN[name]

    book = two(tmp_path, **changed)

    assert told(book) == {"One": ["One", "First."], "Two": ["Two", "Second."]}
    assert warning in " ".join(book.warnings)
    assert bool(book.warnings) == bool(warning)


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    """
    Neither a billion laughs nor a file of the machine's.
    """
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<!DOCTYPE html [<!ENTITY l0 "ha">{laughs}<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    body = f'{doctype}<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>One</h1><p>First &l9; &f; end.</p></body></html>'
    began = time.monotonic()

    book = two(tmp_path, files={"OPS/a.xhtml": body})

    assert told(book)["One"][1] == "First &l9; &f; end."
    assert time.monotonic() - began < 2


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    """
    Before it is unpacked, whatever its header says.
    """
    with pytest.raises(UsageError, match="unpacks to"):
        two(tmp_path, files={"OPS/a.xhtml": b"<p>" + b" " * 30_000_000})


def test_a_bomb_with_a_lying_header_does_no_harm(tmp_path: Path) -> None:
    """
    No more is unpacked than is said.
    """
    path = Epub({"a.xhtml": page("<h1>One</h1><p>First.</p>"), "b.xhtml": page("<h1>Two</h1>" + LONG * 50_000)}, nav=()).write(
        tmp_path / "book.epub"
    )
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        size = archive.getinfo("OPS/b.xhtml").file_size
    path.write_bytes(bytes(data).replace(struct.pack("<L", size), struct.pack("<L", 1000)))

    book = read_book(path)

    assert "cannot be unpacked" in " ".join(book.warnings)


def test_a_locked_book_is_refused(tmp_path: Path) -> None:
    """
    With the name of what is locked; obfuscated fonts are no lock.
    """

    def lock(algorithm: str, href: str) -> str:
        return (
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:e="http://www.w3.org/2001/04/xmlenc#">'
            f'<e:EncryptedData><e:EncryptionMethod Algorithm="{algorithm}"/><e:CipherData><e:CipherReference URI="{href}"/>'
            "</e:CipherData></e:EncryptedData></encryption>"
        )

    with pytest.raises(UsageError, match=r"locked \(DRM\): OPS/a.xhtml") as refused:
        two(tmp_path, files={"META-INF/encryption.xml": lock("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OPS/a.xhtml")})
    assert refused.value.exit_code == 2

    two(tmp_path, files={"META-INF/encryption.xml": lock("http://www.idpf.org/2008/embedding", "OPS/font.otf")})


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "no zip file"),
        (b"MZ not a zip", "no zip file"),
        (b"PK\x03\x04 broken", "no zip file"),
        (b"PK\x05\x06" + b"\0" * 18, "no EPUB"),
    ],
)
def test_what_is_no_epub_is_refused(tmp_path: Path, data: bytes, match: str) -> None:
    """
    With its name.
    """
    path = tmp_path / "book.epub"
    path.write_bytes(data)

    with pytest.raises(UsageError, match=match) as refused:
        read_book(path)

    assert str(path) in str(refused.value)


def test_what_is_no_text_is_not_spoken(tmp_path: Path) -> None:
    """
    A picture that the spine takes for a document.
    """
    pages: dict[str, str | bytes] = {"a.xhtml": page("<h1>One</h1><p>A.</p>")}
    pages |= {"b.xhtml": b"\x89PNG\r\n" + bytes(range(256)) * 100}

    book = read(tmp_path, Epub(pages, nav=[("One", "a.xhtml")]))

    assert told(book) == {"One": ["One", "A."]}
    assert "OPS/b.xhtml is no text." in book.warnings


def test_an_epub_of_gutenberg_s(tmp_path: Path) -> None:
    """
    Frame, title page, contents and page numbers are left out; a line break in a heading parts words.
    """
    frame = '<section class="pg-boilerplate" id="{}"><p>Licence.</p></section>'
    rows = "".join(f'<tr><td><a href="b.xhtml#c{n}">CHAPTER {n}.</a></td><td>The {n}th</td></tr>' for n in (1, 2))
    front = f"{frame.format('pg-header')}<h1>A Small Book</h1><h2>by Ada Author</h2><h2>Contents</h2><table>{rows}</table>"
    word = '<p>Wo<span class="pagenum">{1}</span>rd.</p>'
    chapters = "".join(f'<div><h2><a id="c{n}"/>CHAPTER {n}.<br/>The {n}th</h2>{word}</div>' for n in (1, 2))
    ncx = [
        ("A Small Book", "a.xhtml"),
        ("CHAPTER 1. The 1th", "b.xhtml#c1"),
        ("CHAPTER 2. The 2th", "b.xhtml#c2"),
        ("THE FULL PROJECT GUTENBERG LICENSE", "b.xhtml#pg-footer"),
    ]

    book = read(
        tmp_path, Epub({"a.xhtml": page(front), "b.xhtml": page(chapters + frame.format("pg-footer"))}, nav=None, ncx=ncx)
    )

    assert told(book) == {f"CHAPTER {n}. The {n}th": [f"CHAPTER {n}. The {n}th", "Word."] for n in (1, 2)}
    assert [left.words for left in book.left_out] == [16, 1]


def test_a_navigation_with_one_entry_tells_no_chapters(tmp_path: Path) -> None:
    """
    The headings do.
    """
    body = "<h1>A Small Book</h1><h2>One</h2><p>A.</p><h2>Two</h2><p>B.</p>"

    assert told(read(tmp_path, Epub({"index.xhtml": page(body)}, nav=[("Start", "index.xhtml")]))) == {
        "One": ["One", "A."],
        "Two": ["Two", "B."],
    }


@pytest.mark.parametrize("body", ["", "<p> </p>", "<p>* * *</p>", '<img src="x.png" alt="A picture"/>'])
def test_an_empty_book_is_refused(tmp_path: Path, body: str) -> None:
    """
    There is nothing to pay for.
    """
    with pytest.raises(UsageError, match="nothing to speak"):
        read(tmp_path, Epub({"a.xhtml": page(body)}, nav=[]))


def test_names_that_do_not_say_they_are_utf_8(tmp_path: Path) -> None:
    """
    As some tools write them; and an entry with a lock of the zip file's own is refused.
    """
    path = Epub({"é.xhtml": page("<h1>One</h1><p>A.</p>")}, nav=[("One", "é.xhtml")]).write(tmp_path / "book.epub")
    data = path.read_bytes()
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        parts = data.split(mark)
        data = mark.join(
            part[: flags - 4] + b"\x00\x00" + part[flags - 2 :] if place else part for place, part in enumerate(parts)
        )
    path.write_bytes(data)

    assert told(read_book(path)) == {"One": ["One", "A."]}

    parts = data.split(b"PK\x01\x02")
    path.write_bytes(
        b"PK\x01\x02".join(part[:4] + b"\x01\x00" + part[6:] if place else part for place, part in enumerate(parts))
    )
    with pytest.raises(UsageError, match="is encrypted"):
        read_book(path)


def test_duplicated_entries_are_told(tmp_path: Path) -> None:
    """
    The last one is read, as unzip does.
    """
    path = Epub({"a.xhtml": page("<h1>One</h1><p>Old.</p>")}, nav=[("One", "a.xhtml")]).write(tmp_path / "book.epub")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("OPS/a.xhtml", page("<h1>One</h1><p>New.</p>"))

    book = read_book(path)

    assert told(book) == {"One": ["One", "New."]}
    assert "twice" in book.warnings[0]


def _took(tmp_path: Path, *, documents: int, chapters: int) -> float:
    """
    The seconds of CPU that it takes to read so many documents with so many chapters in each.
    """
    pages, nav = {}, []
    for document in range(documents):
        numbers = range(document * chapters, (document + 1) * chapters)
        body = "".join(f'<h2 id="c{number}">Chapter {number}</h2>{LONG}' for number in numbers)
        pages[f"d{document}.xhtml"] = page(body)
        nav += [(f"Chapter {number}", f"d{document}.xhtml#c{number}") for number in numbers]
    book = Epub(pages, nav=nav)
    began = time.process_time()

    read_in = read(tmp_path, book)

    assert [f"Chapter {number}" for number in range(documents * chapters)] == [one.title for one in read_in.chapters]
    return time.process_time() - began


def test_thousands_of_documents(tmp_path: Path) -> None:
    """
    Time grows with their number, and not faster: ten times as many take ten times as long, not a hundred times.
    """
    few = _took(tmp_path, documents=300, chapters=1)

    assert _took(tmp_path, documents=3_000, chapters=1) < 30 * few


def test_one_document_with_thousands_of_chapters(tmp_path: Path) -> None:
    """
    As above, within one document.
    """
    few = _took(tmp_path, documents=1, chapters=300)

    assert _took(tmp_path, documents=1, chapters=3_000) < 30 * few


def test_deep_nesting_is_read_or_refused(tmp_path: Path) -> None:
    """
    The reader does not fall over.
    """

    def nested(depth: int) -> Book:
        body = "<h1>One</h1>" + "<div>" * depth + "Deep." + "</div>" * depth + "<p>After.</p>"
        return two(tmp_path, files={"OPS/a.xhtml": page(body)})

    assert told(nested(200))["One"] == ["One", "Deep.", "After."]
    with pytest.raises(UsageError, match=r"OPS/a\.xhtml is broken: only 3 of its 12 letters"):
        nested(300)


@pytest.mark.parametrize(
    ("base", "href", "found"),
    [
        ("OPS/a.xhtml", "b.xhtml#x", ("OPS/b.xhtml", "x")),
        ("OPS/a.xhtml", "#x", ("OPS/a.xhtml", "x")),
        ("OPS/t/a.xhtml", "../../../../etc/passwd", ("etc/passwd", "")),
        ("OPS/a.xhtml", "/etc/passwd", ("etc/passwd", "")),
        ("OPS/a.xhtml", "file:///etc/passwd", ("", "")),
        ("OPS/a.xhtml", "http://x.y/z", ("", "")),
        ("OPS/a.xhtml", "t\\b%20c.xhtml", ("OPS/t/b c.xhtml", "")),
        ("OPS/a.xhtml", "http://[", ("", "")),
    ],
)
def test_a_path_stays_within_the_book(base: str, href: str, found: tuple[str, str]) -> None:
    """
    Whatever it says.
    """
    assert resolve(base, href) == found
