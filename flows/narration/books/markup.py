"""
Bytes → a tree of elements, hardened: the one door to lxml.

No entity is ever expanded, nothing is fetched, and nesting and sizes keep libxml2's limits. What is no well-formed XML is
read as browsers read HTML.
"""

import codecs
import html
import re
from collections.abc import Iterator, Sequence
from html.entities import html5

from lxml import etree
from lxml.html import HTMLParser

from flows.narration.errors import UsageError

Element = etree._Element

EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0?\0", "utf-16-le"),
    (b"\0<\0?", "utf-16-be"),
)
_DECLARED = re.compile(
    rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]+)|<meta[^>]{0,200}?\bcharset\s*=\s*["']?\s*([\w.:-]+)""", re.I
)
_PROLOGUE = re.compile(r"\A\s*<\?xml.*?\?>", re.DOTALL)
DOCTYPE = re.compile(
    r"""<!DOCTYPE(?:[^\[\]<>"']|"[^"]*"|'[^']*')*(?:\[(?:"[^"]*"|'[^']*'|<!--.*?-->|[^\]"'])*\]\s*)?>""", re.DOTALL | re.I
)
_ENTITY = re.compile(r"&([A-Za-z][\w.]*);")
_XML_ENTITIES = {"amp", "lt", "gt", "quot", "apos"}
BAD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_CLOSED = re.compile(r"""<([A-Za-z][\w:.-]*)((?:\s+[^\s"'<>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))?)*)\s*/>""")
_TAG = re.compile(r"<!--.*?-->|<(script|style|title)\b.*?</\1\s*>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}


class Unparsable(UsageError):
    """
    A document has no element in it at all.
    """


def decode(data: bytes, warnings: list[str], name: str) -> str:
    """
    Return the text of a document: as its mark, its declaration or UTF-8 say, or else as Windows-1252, with a warning.
    """
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")
    found = _DECLARED.search(data[:2048])
    declared = (found[1] or found[2]).decode("ascii", "replace") if found else ""
    for encoding in dict.fromkeys(filter(None, (marked, declared, "utf-8"))):
        try:
            return data.decode(encoding)
        except (LookupError, UnicodeError):
            continue
    warnings.append(f"{name} is not {declared or 'UTF-8'} as it says, and was read as Windows-1252.")
    return data.decode("cp1252", "replace")


def parse(data: bytes, name: str, warnings: list[str]) -> Element:
    """
    Parse a document of a book; `UsageError` where text would get lost, `Unparsable` where there is no element in it at all.
    """
    text = decode(data, warnings, name)
    if len(BAD.findall(text)) > len(text) / 200 + 4:
        raise Unparsable(f"{name} is no text.", "Take it out of the book's spine.")
    text = DOCTYPE.sub("", _PROLOGUE.sub("", BAD.sub(" ", text).removeprefix("\ufeff")), count=1)
    text = _ENTITY.sub(_entity, text)
    try:
        return _xml(text, recover=False)
    except (etree.XMLSyntaxError, ValueError):
        root = _soup(text)
    if root is None:
        raise Unparsable(f"{name} is no XML or HTML.", "Convert the book anew, or take that file out of it.")
    there, read = _letters(_TAG.sub("", text)), _letters("".join(_texts(root)))
    if read < there * 0.995 - 4:
        raise UsageError(f"{name} is broken: only {read:,} of its {there:,} letters can be read.", "Convert the book anew.")
    warnings.append(f"{name} is not well-formed, and was read as browsers do.")
    return root


def parse_package(data: bytes, name: str, warnings: list[str]) -> Element:
    """
    Parse a file about the book (container, package, NCX), mending what can be mended.
    """
    text = BAD.sub(" ", decode(data, warnings, name))
    text = _ENTITY.sub(_entity, DOCTYPE.sub("", _PROLOGUE.sub("", text.removeprefix("\ufeff")), count=1))
    try:
        return _xml(text, recover=False)
    except (etree.XMLSyntaxError, ValueError):
        warnings.append(f"{name} is not well-formed; what could be read of it was.")
    try:
        root: Element | None = _xml(text, recover=True)
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        raise UsageError(f"{name} is no XML.", "Convert the book anew.")
    return root


def serialized(root: Element) -> str:
    """
    Write a document as it was read, well-formed; its elements and texts are numbered as before.
    """
    if local(root) == "html" and not root.get("xmlns") and not str(root.tag).startswith("{"):
        root.set("xmlns", "http://www.w3.org/1999/xhtml")
    return '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n' + etree.tostring(
        root, encoding="unicode", with_tail=False
    )


def local(element: Element) -> str:
    """
    Return the name of an element, small and without its namespace.
    """
    return str(element.tag).rpartition("}")[2].rpartition(":")[2].lower()


def types(element: Element) -> frozenset[str]:
    """
    Return what an element says it is: its `epub:type` and its role, the latter without "doc-".
    """
    said = element.get(EPUB_TYPE) or element.get("epub:type") or ""
    role = element.get("role") or ""
    if not said and not role:
        return frozenset()
    return frozenset((*said.lower().split(), *(name.removeprefix("doc-") for name in role.lower().split())))


def find(root: Element, name: str) -> Iterator[Element]:
    """
    Give the elements called *name* below *root*, whatever their namespace.
    """
    return (element for element in root.iter() if local(element) == name)


def first(root: Element, name: str) -> Element | None:
    """
    Return the first element called *name*.
    """
    return next(find(root, name), None)


def words_of(element: Element) -> str:
    """
    Return all text in an element, its white space collapsed.
    """
    return " ".join("".join(map(str, element.itertext())).split())


def numbered(root: Element) -> dict[Element, int]:
    """
    Number the elements of a document in its order, the root being 0.
    """
    return {element: place for place, element in enumerate(root.iter())}


def text_node(elements: Sequence[Element], node: int) -> tuple[Element, bool]:
    """
    Return the element that text node *node* belongs to, and whether it is its tail: the text behind it.

    *elements* are those of a document in its order (`list(numbered(root))`). The text in the element of number n is node 2n,
    the text behind it is node 2n + 1.
    """
    return elements[node // 2], bool(node % 2)


def _texts(root: Element) -> Iterator[str]:
    """
    Give all text but that of scripts, styles and titles.
    """
    for element in root.iter():
        if local(element) not in ("script", "style", "title"):
            yield element.text or ""
        yield element.tail or ""


def _letters(text: str) -> int:
    """
    Count letters and figures.
    """
    return sum(map(str.isalnum, html.unescape(text)))


def _entity(entity: re.Match[str]) -> str:
    """
    Return what a named entity of HTML stands for; of others, which a hostile book may have declared, nothing is expanded.
    """
    if entity[1] in _XML_ENTITIES:
        return entity[0]
    return html.escape(html5[f"{entity[1]};"]) if f"{entity[1]};" in html5 else f"&amp;{entity[1]};"


def _xml(text: str, *, recover: bool) -> Element:
    """
    Parse XML with nothing switched on that reaches out.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        recover=recover,
        encoding="utf-8",
    )
    return etree.fromstring(text.encode(), parser)


def _soup(text: str) -> Element | None:
    """
    Parse HTML as it comes; an element that XML closes at once ("<a id='x'/>") would swallow what follows.
    """
    text = _CLOSED.sub(lambda tag: tag[0] if tag[1].lower() in _VOID else f"<{tag[1]}{tag[2]}></{tag[1]}>", text)
    parser = HTMLParser(remove_comments=True, remove_pis=True, no_network=True, huge_tree=False, encoding="utf-8")
    try:
        return etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, etree.ParserError, ValueError):
        return None
