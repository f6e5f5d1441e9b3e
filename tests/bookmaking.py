"""
Small books made for tests: EPUBs of any shape, and Word files.
"""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from xml.sax.saxutils import quoteattr

CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OPS/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
XMLNS = 'xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"'
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc33"
    "0000000049454e44ae426082"
)
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def page(body: str, *, title: str = "", attributes: str = "") -> str:
    """
    Return a document of an EPUB.
    """
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f"<html {XMLNS}><head><title>{title}</title></head><body {attributes}>{body}</body></html>"
    )


@dataclass
class Epub:
    """
    An EPUB to be: *pages* by name in the order of the spine, *nav* and *ncx* as (title, href) or (title, href, below).

    *files* are further entries by their whole path, which win over those that are made; `None` leaves one out.
    """

    pages: Mapping[str, str | bytes]
    nav: Iterable[tuple] | None = ()  # type: ignore[type-arg]
    ncx: Iterable[tuple] | None = None  # type: ignore[type-arg]
    landmarks: Mapping[str, str] = field(default_factory=dict)
    guide: Mapping[str, str] = field(default_factory=dict)
    metadata: str = (
        "<dc:title>A Small Book</dc:title><dc:creator>Ada Author</dc:creator><dc:language>en</dc:language>"
        '<dc:identifier id="id">urn:uuid:1</dc:identifier><dc:publisher>Nobody</dc:publisher><dc:date>2026-01-02</dc:date>'
    )
    spine: Iterable[str] | None = None
    cover: bool = False
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    mimetype_first: bool = True

    def write(self, path: Path) -> Path:
        """
        Write it to *path*.
        """
        made: dict[str, str | bytes | None] = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
        made |= {"OPS/package.opf": self.package()} | {f"OPS/{name}": text for name, text in self.pages.items()}
        if self.nav is not None:
            made["OPS/nav.xhtml"] = self.navigation()
        if self.ncx is not None:
            made["OPS/toc.ncx"] = f"<ncx><navMap>{points(self.ncx)}</navMap></ncx>"
        if self.cover:
            made["OPS/cover.png"] = PIXEL
        made |= self.files
        names = sorted(made, key=lambda name: (name != "mimetype") == self.mimetype_first)
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                if (data := made[name]) is not None:
                    archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else None)
        return path

    def package(self) -> str:
        """
        Return the package document.
        """
        items = [
            f'<item id={quoteattr(name)} href={quoteattr(name)} media-type="application/xhtml+xml"/>' for name in self.pages
        ]
        items += ['<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'] * (
            self.nav is not None
        )
        items += ['<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'] * (self.ncx is not None)
        items += ['<item id="cover" href="cover.png" media-type="image/png" properties="cover-image"/>'] * self.cover
        spine = "".join(f"<itemref idref={quoteattr(name)}/>" for name in (self.pages if self.spine is None else self.spine))
        toc = ' toc="ncx"' if self.ncx is not None else ""
        guide = "".join(f'<reference type="{kind}" title="x" href="{href}"/>' for href, kind in self.guide.items())
        return (
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/" version="3.0" '
            f'unique-identifier="id"><metadata>{self.metadata}</metadata><manifest>{"".join(items)}</manifest>'
            f"<spine{toc}>{spine}</spine><guide>{guide}</guide></package>"
        )

    def navigation(self) -> str:
        """
        Return the navigation document.
        """
        marks = "".join(f'<li><a epub:type="{kind}" href="{href}">{kind}</a></li>' for href, kind in self.landmarks.items())
        marks = f'<nav epub:type="landmarks"><ol>{marks}</ol></nav>' if marks else ""
        return page(f'<nav epub:type="toc"><h1>Contents</h1><ol>{listed(self.nav or ())}</ol></nav>{marks}')


def listed(entries: Iterable[tuple]) -> str:  # type: ignore[type-arg]
    """
    Write entries of a navigation as a list; one without a place is no link.
    """
    rows = ""
    for title, href, *below in entries:
        label = f"<a href={quoteattr(href)}>{escape(title)}</a>" if href else f"<span>{escape(title)}</span>"
        rows += f"<li>{label}{f'<ol>{listed(below[0])}</ol>' if below else ''}</li>"
    return rows


def points(entries: Iterable[tuple]) -> str:  # type: ignore[type-arg]
    """
    Write entries of an NCX.
    """
    rows = ""
    for title, href, *below in entries:
        rows += f"<navPoint><navLabel><text>{escape(title)}</text></navLabel><content src={quoteattr(href)}/>"
        rows += f"{points(below[0]) if below else ''}</navPoint>"
    return rows


def docx(path: Path, body: str, *, styles: str | None = None) -> Path:
    """
    Write a Word file with this XML in its body.
    """
    styles = (
        styles
        if styles is not None
        else "".join(f'<w:style w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>' for level in (1, 2))
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>")
        archive.writestr("word/styles.xml", f"<w:styles {W}>{styles}</w:styles>")
        archive.writestr(
            "docProps/core.xml",
            '<c:coreProperties xmlns:c="c" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Memo</dc:title>'
            "<dc:creator>Ada Author</dc:creator></c:coreProperties>",
        )
    return path
