"""
Markdown → prose: no asterisks, no URLs, but every word.

CommonMark itself drops some words; the parser is the one of `dialect`, whose rules keep them.
"""

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from markdown_it.token import Token

from flows.narration.dialect import parser
from flows.narration.prose import BlockKind, Draft, Prose, Row, excerpt, rows_of
from flows.narration.scripts import clean

_HOST = re.compile(r"[a-z]+://(?:[^/?#]*@)?(?:www\.)?([^/?#:]+)", re.IGNORECASE)
_HTML = re.compile(
    r"(?P<mute><!--.*?(?:-->|\Z)|<(?P<name>script|style)\b.*?(?:</(?P=name)\s*>|\Z)|<[?!].*?(?:>|\Z))"
    r"""|</?(?P<tag>[a-z][\w-]*+)(?:"[^"]*"|'[^']*'|[^'"<>])*+>""",
    re.IGNORECASE | re.DOTALL,
)
_WITHIN_WORDS = re.compile(
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|rp|rt|ruby|s|samp|small|span|"
    "strike|strong|sub|sup|time|tt|u|var|wbr"
)
_BETWEEN_WORDS = re.compile(
    "address|article|aside|audio|blockquote|body|br|button|caption|center|col|colgroup|dd|details|dialog|div|dl|dt|"
    "figcaption|figure|footer|form|h[1-6]|head|header|hr|html|iframe|img|input|li|link|main|meta|nav|ol|option|p|picture|"
    "pre|script|section|select|source|style|summary|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
_ALT = re.compile(r"""\salt\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_BOX = re.compile(r"\A\s*\[[ xX]\](?=\s)")
_FRONT_LINE = re.compile(r"\w[\w .-]*:(?:\s.*)?|\s*|\s+\S.*|- .*|#.*")
_FRONT_TITLE = re.compile(r"(?m)^title:\s*+([^\s>|].*)$", re.IGNORECASE)


def markdown(text: str) -> Prose:
    """
    Read CommonMark with tables, struck-out text, footnotes and front matter: no asterisks, no URLs, but every word.

    Footnotes come last, in the order of their marks; only there do line numbers step back. Indented code is read as
    paragraphs, since in a script an indented line is a line of verse or a typist's habit.
    """
    return _Reader(text).prose()


class _Reader:
    """
    Reads the tokens of CommonMark in order into drafts: the main one, and one for each footnote.
    """

    def __init__(self, text: str) -> None:
        rows = list(rows_of(text))
        self.lines = [row.line for row in rows]
        self.draft = self.main = Draft()
        self.footnotes: list[tuple[float, Draft]] = []
        self.env: dict[str, Any] = {}
        self.labels: set[str] = set()
        self.kind = BlockKind.PARAGRAPH
        self.counters: list[tuple[str, int]] = []
        self.number = ""
        self.item_at = -1
        self.cells: list[str] | None = None
        self.beyond: list[str] = []
        self.row_at = 0
        self.title, skipped = _front_matter([row.text for row in rows])
        if skipped:
            self.draft.note(1, f"left out: the front matter, lines 1 to {self.lines[skipped - 1]}")
        source = "\n".join("" if at < skipped else row.text for at, row in enumerate(rows))
        tokens = parser().parse(source, self.env)
        contents = range(0)
        for place, token in enumerate(tokens):
            at = token.map[0] if token.map else 0
            if place not in contents and (contents := range(place, _contents_end(tokens, place))):
                self.draft.note(self.line(at), "left out: a table of contents, a list of nothing but links into the script")
            if place not in contents:
                self.read(token, at)

    def prose(self) -> Prose:
        """
        Return what was read, the footnotes at the end in the order of their marks.
        """
        for label, link in self.env.get("references", {}).items():
            if label not in self.labels:
                self.main.note(self.line(link["map"][0]), f"left out: a link that is not used, {link['href']}")
        for link in self.env.get("duplicate_refs", []):
            self.main.note(self.line(link["map"][0]), f"left out: a link that is defined already, {link['href']}")
        drafts = [self.main, *(draft for _, draft in sorted(self.footnotes, key=lambda entry: entry[0]))]
        blocks = tuple(block for draft in drafts for block in draft.blocks)
        notes = sorted((note for draft in drafts for note in draft.notes), key=lambda note: note.line)
        heading = next((block.text for block in self.main.blocks if block.kind is BlockKind.HEADING), None)
        return Prose(self.title or heading, blocks, tuple(notes))

    def line(self, at: int) -> int:
        """
        Return the script's line of a row that the parser counted.
        """
        return self.lines[min(at, len(self.lines) - 1)]

    def read(self, token: Token, at: int) -> None:
        """
        Read one token of the document, which begins in row *at*.
        """
        match token.type:
            case "inline" if self.cells is not None:
                self.cells.append(" ".join(row.text for row in self.inline(token.children or [], at)).strip())
            case "inline":
                self.emit(self.inline(token.children or [], at))
            case "heading_open":
                self.kind = BlockKind.HEADING
            case "heading_close":
                self.kind = BlockKind.PARAGRAPH
            case "fence":
                if token.info.strip():
                    self.draft.note(self.line(at), f"left out: the name of a code block, {excerpt(token.info)}")
                for row, text in enumerate(token.content.split("\n"), at + 1):
                    self.emit([Row(self.line(row), text)])
            case "html_block":
                self.html_block(token.content, at)
            case "hr":
                self.flush()
                self.draft.add([Row(self.line(at), token.markup[1:])])
            case "tr_open":
                self.cells, self.beyond, self.row_at = [], token.meta.get("beyond", []), at
            case "tr_close":
                self.table_row()
            case "footnote_reference_open":
                self.footnote(token.meta["label"], at)
            case "footnote_reference_close":
                self.draft = self.main
            case _:
                self.list_token(token, at)

    def list_token(self, token: Token, at: int) -> None:
        """
        Keep the number of an item for the text that follows: as written, or counted up where each is written "1.".
        """
        match token.type:
            case "ordered_list_open" | "bullet_list_open":
                self.counters.append(("", 0))
            case "ordered_list_close" | "bullet_list_close":
                self.counters.pop()
            case "list_item_open":
                self.item_at = at
                if token.info:
                    written, count = self.counters[-1]
                    counting = token.info == written and written in ("0", "1")
                    count = count + 1 if counting else int(token.info)
                    self.counters[-1] = (token.info, count)
                    self.number += f"{count if counting else token.info}{token.markup} "
            case "list_item_close":
                self.flush()

    def emit(self, rows: list[Row]) -> None:
        """
        Add a block, with the number of the item that it opens and without its box.
        """
        if rows and self.item_at >= 0:
            rows[0] = rows[0]._replace(text=self.number + _BOX.sub("", rows[0].text))
            self.number, self.item_at = "", -1
        self.draft.add(rows, self.kind)

    def flush(self) -> None:
        """
        Say the number of an item that has no text: CommonMark takes a paragraph "1984." for one.
        """
        if self.number:
            self.emit([Row(self.line(self.item_at), "")])
        self.item_at = -1

    def table_row(self) -> None:
        """
        Add a row of a table, cell after cell.
        """
        cells = self.cells or []
        self.cells = None
        for source in self.beyond:
            children = parser().parseInline(source, self.env)[0].children or []
            cells.append(" ".join(row.text for row in self.inline(children, self.row_at)).strip())
        self.emit([Row(self.line(self.row_at), ", ".join(filter(None, cells)))])

    def footnote(self, label: str, at: int) -> None:
        """
        Collect a footnote in a draft of its own; one without a mark is read last.
        """
        self.flush()
        order: int = self.env["footnotes"]["refs"].get(f":{label}", -1)
        self.draft = Draft()
        self.footnotes.append((order if order >= 0 else float("inf"), self.draft))
        if order < 0:
            self.draft.note(self.line(at), f"read at the end: footnote {excerpt(label)}, which has no mark in the text")

    def html_block(self, content: str, at: int) -> None:
        """
        Read what stands between the tags; tags of blocks part paragraphs.
        """
        self.flush()
        pieces: list[str] = []
        line, end = at, 0
        for tag in _HTML.finditer(content):
            before, inside = content[end : tag.start()], tag[0].count("\n")
            line += before.count("\n")
            text = self.tag(tag, self.line(line))
            pieces += before, text, "\n" * (inside - text.count("\n"))
            line, end = line + inside, tag.end()
        rows = rows_of("".join([*pieces, content[end:]]))
        self.draft.paragraphs(Row(self.line(at + row.line - 1), clean(html.unescape(row.text))) for row in rows)

    def tag(self, tag: re.Match[str], line: int) -> str:
        """
        Return what a tag means to a reader: a pause, a gap between words, or nothing.
        """
        name = (tag["tag"] or "").lower()
        known = _WITHIN_WORDS.fullmatch(name) or _BETWEEN_WORDS.fullmatch(name)
        if tag[0].startswith("<!--") and not tag[0].endswith("-->"):
            # It would go on to the end of the script.
            self.draft.note(line, "read although it follows the mark of a comment, as the comment is never closed")
            return tag[0][4:]
        if not known:
            # A comment, a style, but also "<sigh>".
            words = len(tag[0].split())
            self.draft.note(line, f"left out: {excerpt(tag[0])}" + (f" ({words} words)" if words > 9 else ""))
        if name == "img" and (alt := _ALT.search(tag[0])):
            return f" {alt[1] or alt[2] or ''} "
        if name == "hr":
            return "\u2029* * *\u2029"
        if tag["mute"] or _WITHIN_WORDS.fullmatch(name):
            return ""
        return "\u2029" if known and name != "br" else " "

    def inline(self, tokens: Iterable[Token], at: int) -> list[Row]:
        """
        Return the rows of a paragraph that begins in row *at*.
        """
        rows = [Row(self.line(at), "")]
        texts: list[str] = []
        muted = url = ""
        for token in _flat(tokens):
            text = ""
            match token.type:
                case "softbreak" | "hardbreak":
                    rows[-1] = Row(rows[-1].line, clean("".join(texts)), token.type == "hardbreak")
                    rows.append(Row(self.line(at + token.meta["line"]), ""))
                    texts.clear()
                case "html_inline":
                    text, muted = self.inline_tag(token.content, muted, rows[-1].line)
                case "link_open":
                    self.labels.add(token.meta.get("label", ""))
                    url = token.markup
                case "link_close":
                    url = ""
                case "footnote_ref":
                    self.inline_footnote(token.meta["id"], at)
                case "s_open":
                    self.draft.note(rows[-1].line, "spoken although it is struck out")
                case _ if not muted:
                    text = self.host(token.content, rows[-1].line) if url == "autolink" else token.content
            texts.append(text)
        rows[-1] = rows[-1]._replace(text=clean("".join(texts)))
        return rows

    def inline_tag(self, content: str, muted: str, line: int) -> tuple[str, str]:
        """
        Return what a tag in a paragraph means, and which tag's text is muted from here on.
        """
        tag = _HTML.match(content)
        if not tag or muted:
            return "", "" if tag and (tag["tag"] or "").lower() == muted else muted
        text = self.tag(tag, line)
        return " " if "\u2029" in text else html.unescape(text), (tag["name"] or "").lower()

    def inline_footnote(self, number: int, at: int) -> None:
        """
        Collect the text of a footnote that stands where its mark is; of others, drop the mark.
        """
        if tokens := self.env["footnotes"]["list"][number].get("tokens"):
            main, self.draft = self.draft, Draft()
            self.footnotes.append((number, self.draft))
            self.draft.add(self.inline(tokens, at))
            self.draft = main

    def host(self, url: str, line: int) -> str:
        """
        Return what is spoken for a URL: the name of its host.
        """
        if not (host := _HOST.match(url)):
            return url
        self.draft.note(line, f"spoken as {excerpt(host[1])}: {url}")
        return host[1]


def _contents_end(tokens: list[Token], place: int) -> int:
    """
    Return where the table of contents that begins at *place* ends: a list of nothing but links into the script itself.
    """
    first = tokens[place]
    if not first.type.endswith("_list_open"):
        return place
    closing = first.type.replace("_open", "_close")
    end = next(at for at in range(place, len(tokens)) if (tokens[at].type, tokens[at].level) == (closing, first.level))
    texts = [token for token in tokens[place:end] if token.type in ("inline", "fence", "html_block")]
    return end + 1 if len(texts) > 1 and all(map(_is_jump, texts)) else place


def _is_jump(text: Token) -> bool:
    """
    Tell whether a text is one link to a heading of the same script.
    """
    parts = [part for part in text.children or [] if part.type != "text" or part.content.strip()]
    links = [part.type for part in parts if part.type in ("link_open", "link_close")]
    return (
        len(parts) > 2
        and links == ["link_open", "link_close"]
        and parts[-1].type == "link_close"
        and str(parts[0].attrGet("href") or "").startswith("#")
    )


def _flat(tokens: Iterable[Token]) -> Iterator[Token]:
    """
    Give inline tokens, with the text of an image in the image's place.
    """
    for token in tokens:
        if token.type != "image":
            yield token
            continue
        yield Token("link_open", "", 1, meta=token.meta)
        for inner in _flat(token.children or []):
            yield Token("text", "", 0, content=" ") if inner.type in ("softbreak", "hardbreak") else inner
        yield Token("link_close", "", -1)


def _front_matter(rows: list[str]) -> tuple[str | None, int]:
    """
    Return the title in the front matter, and how many rows the front matter has.

    Prose between two scene breaks is not front matter, so every row has to look like YAML, and the first like a key.
    """
    if rows[0].rstrip() != "---" or len(rows) < 3 or ":" not in rows[1]:
        return None, 0
    for at, row in enumerate(rows[1:], 1):
        if row.rstrip() in ("---", "..."):
            title = _FRONT_TITLE.search("\n".join(rows[1:at]))
            return (title[1].strip().strip("\"'") or None) if title else None, at + 1
        if not _FRONT_LINE.fullmatch(row):
            break
    return None, 0
