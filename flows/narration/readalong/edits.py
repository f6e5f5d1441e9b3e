"""
A document of a book as it was written, to be changed in a few places and nowhere else: where each letter stands in its source.
"""

import html
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from html.entities import html5

from flows.narration.books.markup import BAD, DOCTYPE

_TOKEN = re.compile(
    rf"""(?P<doctype>{DOCTYPE.pattern})|(?P<quiet><!--.*?-->|<\?.*?\?>)|<!\[CDATA\[(?P<cdata>.*?)\]\]>
    |</(?P<close>[^\s>]+)\s*>
    |<(?P<open>[^\s<>/!?="']+)(?P<attributes>(?:\s+[^\s=<>/"']+\s*=\s*(?:"[^"]*"|'[^']*'))*)\s*(?P<empty>/?)>
    |&(?P<entity>\#?\w[\w.]*);|(?P<text>[^<&]+)|(?P<odd>.)""".replace("\n    ", ""),
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""\s+([^\s=<>/"']+)\s*=\s*("[^"]*"|'[^']*')""")
_LINE = re.compile(r"\r\n?")
_XML = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


@dataclass(frozen=True, slots=True)
class Attribute:
    """
    An attribute: its value, and the slice of the source that it takes with the white space before it.
    """

    value: str
    first: int
    last: int


@dataclass(slots=True)
class Tag:
    """
    A tag: its slice of the source, the element it begins, and the tag that ends this or, of one that ends it, begins it.
    """

    first: int
    last: int
    name: str
    number: int
    kind: str
    text: str
    parent: "Tag | None" = None
    other: "Tag | None" = None

    @property
    def local(self) -> str:
        """
        Its name, small and without a prefix.
        """
        return self.name.rpartition(":")[2].lower()

    @property
    def prefix(self) -> str:
        """
        The prefix of its name with the colon; none for most.
        """
        return self.name[: self.name.rfind(":") + 1]

    @property
    def inside(self) -> int:
        """
        Where an attribute can be put in.
        """
        return self.first + len(self.text.rstrip("/> \t\r\n"))

    @property
    def attributes(self) -> dict[str, Attribute]:
        """
        Its attributes.
        """
        return {
            found[1]: Attribute(html.unescape(found[2][1:-1]), self.first + found.start(), self.first + found.end())
            for found in _ATTRIBUTE.finditer(self.text)
        }

    def get(self, name: str) -> str:
        """
        Return the value of an attribute, "" where there is none.
        """
        found = self.attributes.get(name)
        return found.value if found else ""


@dataclass(slots=True)
class _Piece:
    """
    A stretch of a text node: *at* in the node, *first* in the source; one that is no entity is as long here as there.
    """

    at: int
    length: int
    first: int
    size: int


@dataclass
class Written:
    """
    The source of a document. Text nodes are numbered as by `markup.text_node`.
    """

    source: str
    tags: list[Tag] = field(default_factory=list)
    nodes: dict[int, list[_Piece]] = field(default_factory=dict)
    entities: list[tuple[int, int, str]] = field(default_factory=list)
    doctype: tuple[int, int] | None = None
    edits: list[tuple[int, int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        stack: list[Tag] = []
        count = 0
        node = -1
        for token in _TOKEN.finditer(self.source):
            first, last = token.span()
            if token["open"] is not None:
                tag = Tag(first, last, token["open"], count, "empty" if token["empty"] else "open", token[0])
                tag.parent = stack[-1] if stack else None
                self.tags.append(tag)
                node = 2 * count + (1 if token["empty"] else 0)
                if not token["empty"]:
                    stack.append(tag)
                count += 1
            elif token["close"] is not None:
                tag = Tag(first, last, token["close"], -1, "close", token[0])
                if stack:
                    opened = stack.pop()
                    tag.other, opened.other, tag.number = opened, tag, opened.number
                    tag.parent = opened.parent
                    node = 2 * opened.number + 1
                self.tags.append(tag)
            elif token["doctype"] is not None:
                self.doctype = self.doctype or (first, last)
            elif token["quiet"] is None and stack:
                self._text(token, node)

    def _text(self, token: re.Match[str], node: int) -> None:
        pieces = self.nodes.setdefault(node, [])
        at = pieces[-1].at + pieces[-1].length if pieces else 0
        if name := token["entity"]:
            value = _XML.get(name) or (html.unescape(token[0]) if name[0] == "#" else html5.get(f"{name};", ""))
            if value:
                pieces.append(_Piece(at, len(value), token.start(), len(token[0])))
                if name[0] != "#" and name not in _XML:
                    self.entities.append((token.start(), token.end(), value))
                return
        first, last = token.span("cdata") if token["cdata"] is not None else token.span()
        for line in (*_LINE.finditer(self.source, first, last), None):
            end = line.start() if line else last
            if end > first:
                pieces.append(_Piece(at, end - first, first, end - first))
                at += end - first
            if line:
                pieces.append(_Piece(at, 1, line.start(), line.end() - line.start()))
                at, first = at + 1, line.end()

    def text(self, node: int) -> str:
        """
        Return a text node as it is read.
        """
        return "".join(self._said(piece) for piece in self.nodes.get(node, ()))

    def _said(self, piece: _Piece) -> str:
        source = self.source[piece.first : piece.first + piece.size]
        if source[0] == "&" and piece.size > 1 and source[-1] == ";":
            return _XML.get(source[1:-1]) or html.unescape(source)
        return "\n" if source[0] == "\r" else BAD.sub(" ", source)

    def place(self, node: int, first: int, last: int) -> tuple[int, int] | None:
        """
        Return the slice of the source that a slice of a text node is; `None` where it is not there.
        """
        pieces = self.nodes.get(node, [])
        low = bisect_right(pieces, first, key=lambda one: one.at) - 1
        high = bisect_left(pieces, last, key=lambda one: one.at) - 1
        if low < 0 or not low <= high or last > pieces[high].at + pieces[high].length:
            return None
        start, end = pieces[low], pieces[high]
        begins = start.first if start.size != start.length else start.first + first - start.at
        ends = end.first + end.size if end.size != end.length else end.first + last - end.at
        return begins, ends

    @cached_property
    def begins(self) -> list[int]:
        """
        Where each tag begins.
        """
        return [tag.first for tag in self.tags]

    def between(self, first: int, last: int) -> list[Tag]:
        """
        Return the tags in a slice of the source.
        """
        return self.tags[bisect_left(self.begins, first) : bisect_left(self.begins, last)]

    def around(self, at: int) -> Tag | None:
        """
        Return the tag that begins the element in which *at* is.
        """
        place = bisect_left(self.begins, at) - 1
        if place < 0:
            return None
        tag = self.tags[place]
        return tag if tag.kind == "open" else tag.parent

    def first(self, name: str) -> Tag | None:
        """
        Return the tag that begins the first element called *name*.
        """
        return next((tag for tag in self.tags if tag.local == name and tag.kind != "close"), None)

    def put(self, at: int, text: str, *, early: bool = False) -> None:
        """
        Put *text* in at a place of the source; *early* before what else is put in there.
        """
        self.edits.append((at, 0 if early else 1, at, text))

    def replace(self, first: int, last: int, text: str) -> None:
        """
        Put *text* in the place of a slice of the source.
        """
        self.edits.append((first, 2, last, text))

    def changed(self) -> str:
        """
        Return the source with all that was put in.
        """
        pieces: list[str] = []
        at = 0
        for first, _, last, text in sorted(self.edits, key=lambda edit: edit[:2]):
            pieces += [self.source[at:first], text]
            at = max(at, last)
        return "".join([*pieces, self.source[at:]])
