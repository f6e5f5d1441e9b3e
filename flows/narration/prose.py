"""
Text → prose: the headings, paragraphs and scene breaks of a script, as a reader would read them aloud.

The text is a clean one (`scripts.clean`). What is left out or read otherwise than it is written becomes a note, so that
no word disappears in silence. CommonMark itself drops some; the rules at the end of this file keep them.
"""

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference, table
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_inline import StateInline, escape, newline
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin

from flows.narration.scripts import clean


class BlockKind(StrEnum):
    """
    What a stretch of prose is.
    """

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    SCENE_BREAK = "scene_break"


@dataclass(frozen=True, slots=True)
class Block:
    """
    One stretch of prose, its white space collapsed; the text of a scene break is the row that stands for it.
    """

    kind: BlockKind
    text: str
    line: int
    turns: tuple[tuple[int, int], ...] = ()
    """
    Where the later lines of the script begin in *text*: (offset, line).
    """

    def line_at(self, offset: int) -> int:
        """
        Return the line of the script on which the character at *offset* stands.
        """
        turn = bisect_right(self.turns, offset, key=lambda turn: turn[0])
        return self.turns[turn - 1][1] if turn else self.line


@dataclass(frozen=True, slots=True)
class Note:
    """
    Something in the script that is not read as it is written.
    """

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Prose:
    """
    A script as it is read; *title* is what it calls itself.
    """

    title: str | None
    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]


def plain(text: str) -> Prose:
    """
    Read a plain text: blank lines part paragraphs, rows of ornaments are scene breaks, all else is read as it is.
    """
    draft = _Draft()
    draft.paragraphs(_rows(text))
    return Prose(None, tuple(draft.blocks), tuple(draft.notes))


def markdown(text: str) -> Prose:
    """
    Read CommonMark with tables, struck-out text, footnotes and front matter: no asterisks, no URLs, but every word.

    Footnotes come last, in the order of their marks; only there do line numbers step back. Indented code is read as
    paragraphs, since in a script an indented line is a line of verse or a typist's habit.
    """
    return _Reader(text).prose()


def excerpt(text: str) -> str:
    """
    Quote the beginning of *text* for a note.
    """
    text = " ".join(text[:300].split())
    return f'"{text}"' if len(text) <= 60 else f'"{text[:59]}…"'


class _Row(NamedTuple):
    """
    What one line of the script gives to a paragraph; a *hard* row is kept apart from the next one in every language.
    """

    line: int
    text: str
    hard: bool = False


# Rows of ornaments are scene breaks; rows of other signs without letters (emoji, "?!") are not spoken, and noted.
_ORNAMENTS = re.compile(r"[\s*\-_=~#+.·•⁂❦❧☙※◇◆○●□■★☆✦✧✳–—―…/\\|]+")
_SPOKEN = re.compile(r"[^\W_]")
_URL = re.compile(r"(?:https?|ftp)://[!#$%&+\-,./0-9:;=?@A-Z^_a-z~]*[#$%&+\-/0-9=@A-Za-z]", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![A-Za-z0-9])(?:https?|ftp)\Z", re.IGNORECASE)
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
# "[Anna]: Yes" is a line of a play, although CommonMark takes it for the definition of a link to "Yes".
_LINE_OF_A_PLAY = re.compile(r"\[[^\]]*\]:\s*+(?![<#/.?]|[\w+.-]+:\S|[^\s/]+/|\w+\.\w)\S")
_DEEPEST = 36


class _Draft:
    """
    Prose in the making.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.notes: list[Note] = []

    def note(self, line: int, what: str) -> None:
        """
        Put down what is not read as it is written.
        """
        self.notes.append(Note(line, what))

    def paragraphs(self, rows: Iterable[_Row]) -> None:
        """
        Add paragraphs parted by blank rows and by rows of ornaments.
        """
        paragraph: list[_Row] = []
        for row in rows:
            if _ORNAMENTS.fullmatch(row.text or " "):
                self.add(paragraph)
                self.add([row])
                paragraph = []
            else:
                paragraph.append(row)
        self.add(paragraph)

    def add(self, rows: Iterable[_Row], kind: BlockKind = BlockKind.PARAGRAPH) -> None:
        """
        Add one block; without any letter or digit it is a scene break, or else not spoken and noted.
        """
        full = [row._replace(text=text) for row in rows if (text := " ".join(row.text.split()))]
        if not full:
            return
        text, turns = _joined(full)
        if _SPOKEN.search(text):
            self.blocks.append(Block(kind, text, full[0].line, turns))
        elif _ORNAMENTS.fullmatch(text):
            self.blocks.append(Block(BlockKind.SCENE_BREAK, text, full[0].line))
        else:
            self.note(full[0].line, f"not spoken, as there is no word in it: {excerpt(text)}")


class _Reader:
    """
    Reads the tokens of CommonMark in order into drafts: the main one, and one for each footnote.
    """

    def __init__(self, text: str) -> None:
        rows = list(_rows(text))
        self.lines = [row.line for row in rows]
        self.draft = self.main = _Draft()
        self.footnotes: list[tuple[float, _Draft]] = []
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
        for token in _parser().parse(source, self.env):
            self.read(token, token.map[0] if token.map else 0)

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
                    self.emit([_Row(self.line(row), text)])
            case "html_block":
                self.html_block(token.content, at)
            case "hr":
                self.flush()
                self.draft.add([_Row(self.line(at), token.markup[1:])])
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

    def emit(self, rows: list[_Row]) -> None:
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
            self.emit([_Row(self.line(self.item_at), "")])
        self.item_at = -1

    def table_row(self) -> None:
        """
        Add a row of a table, cell after cell.
        """
        cells = self.cells or []
        self.cells = None
        for source in self.beyond:
            children = _parser().parseInline(source, self.env)[0].children or []
            cells.append(" ".join(row.text for row in self.inline(children, self.row_at)).strip())
        self.emit([_Row(self.line(self.row_at), ", ".join(filter(None, cells)))])

    def footnote(self, label: str, at: int) -> None:
        """
        Collect a footnote in a draft of its own; one without a mark is read last.
        """
        self.flush()
        order: int = self.env["footnotes"]["refs"].get(f":{label}", -1)
        self.draft = _Draft()
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
        rows = _rows("".join([*pieces, content[end:]]))
        self.draft.paragraphs(_Row(self.line(at + row.line - 1), clean(html.unescape(row.text))) for row in rows)

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

    def inline(self, tokens: Iterable[Token], at: int) -> list[_Row]:
        """
        Return the rows of a paragraph that begins in row *at*.
        """
        rows = [_Row(self.line(at), "")]
        texts: list[str] = []
        muted = url = ""
        for token in _flat(tokens):
            text = ""
            match token.type:
                case "softbreak" | "hardbreak":
                    rows[-1] = _Row(rows[-1].line, clean("".join(texts)), token.type == "hardbreak")
                    rows.append(_Row(self.line(at + token.meta["line"]), ""))
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
            main, self.draft = self.draft, _Draft()
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


def _rows(text: str) -> Iterator[_Row]:
    """
    Give the rows of a clean text with their lines; a paragraph separator is a blank row.
    """
    for line, row in enumerate(text.split("\n"), 1):
        for part in row.replace("\u2029", "\u2028\u2028").split("\u2028"):
            yield _Row(line, part)


def _joined(rows: list[_Row]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """
    Join the rows of a paragraph: with a space, but with nothing where Chinese or Japanese runs on.
    """
    pieces = [rows[0].text]
    turns: list[tuple[int, int]] = []
    length = len(rows[0].text)
    for before, row in zip(rows, islice(rows, 1, None), strict=False):
        if before.hard or not (runs_on(before.text[-1]) and runs_on(row.text[0])):
            pieces.append(" ")
            length += 1
        if row.line != before.line:
            turns.append((length, row.line))
        pieces.append(row.text)
        length += len(row.text)
    return "".join(pieces), tuple(turns)


def runs_on(letter: str) -> bool:
    """
    Tell whether a line that ends or begins with *letter* is joined to the next without a space.
    """
    return unicodedata.east_asian_width(letter) in "WF" and not unicodedata.name(letter, "").startswith("HANGUL")


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


@cache
def _parser() -> MarkdownIt:
    """
    Return CommonMark with our extensions and our rules against the loss of words.
    """
    # From this nesting on the parser drops the text; _too_deep comes before it, as a list adds two levels at once.
    parser = MarkdownIt("commonmark", {"store_labels": True, "maxNesting": _DEEPEST + 4})
    parser.enable(["table", "strikethrough"]).disable("code").use(footnote_plugin)
    # The plugin's tail drops footnotes without a mark, and all but the last of those with one label.
    parser.disable("footnote_tail")
    parser.block.ruler.before("table", "too_deep", _too_deep)
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.block.ruler.at("reference", _reference)
    parser.inline.ruler.at("newline", partial(_counting, newline))
    parser.inline.ruler.at("escape", partial(_counting, escape))
    parser.inline.ruler.before("newline", "bare_url", _bare_url)
    return parser


def _too_deep(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """
    Read a row that is nested too deep for the parser as a paragraph, with its marks.
    """
    if silent or state.level < _DEEPEST:
        return False
    state.push("paragraph_open", "p", 1)
    token = state.push("inline", "", 0)
    token.content = state.getLines(start, start + 1, state.blkIndent, False).strip()
    token.map = [start, start + 1]
    token.children = []
    state.push("paragraph_close", "p", -1)
    state.line = start + 1
    return True


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """
    Keep the cells of a row beyond the last column, which CommonMark's tables drop.
    """
    first = len(state.tokens)
    if not table(state, start, end, silent):
        return False
    tokens = state.tokens[first:]
    columns = sum(token.type == "th_open" for token in tokens)
    for token in tokens:
        if token.type == "tr_open" and token.map:
            at = token.map[0]
            row = state.src[state.bMarks[at] + state.tShift[at] : state.eMarks[at]].strip()
            token.meta["beyond"] = escapedSplit(row.removeprefix("|"))[columns:]
    return True


def _reference(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """
    Leave a line of a play to be a paragraph.
    """
    row = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    return not _LINE_OF_A_PLAY.match(row) and reference(state, start, end, silent)


def _counting(rule: Callable[[StateInline, bool], bool], state: StateInline, silent: bool) -> bool:
    """
    Count the line of every break, as code, links and comments may hold breaks without a token.
    """
    at = state.pos
    if not rule(state, silent):
        return False
    if not silent and state.tokens and state.tokens[-1].type.endswith("break") and not state.pending:
        counted = next((token for token in islice(reversed(state.tokens), 1, None) if "line" in token.meta), None)
        before, line = (counted.meta["at"], counted.meta["line"]) if counted else (0, 0)
        at = state.src.index("\n", at) + 1
        state.tokens[-1].meta = {"at": at, "line": line + state.src.count("\n", before, at)}
    return True


def _bare_url(state: StateInline, silent: bool) -> bool:
    """
    Take a URL in running text for a link before its underscores are taken for emphasis.
    """
    scheme = _SCHEME.search(state.src, max(0, state.pos - 5), state.pos) if state.src[state.pos] == ":" else None
    url = _URL.match(state.src, scheme.start(), state.posMax) if scheme else None
    if not scheme or not url or not (silent or state.pending.endswith(scheme[0])):
        return False
    if not silent:
        state.pending = state.pending[: -len(scheme[0])]
        state.push("link_open", "a", 1).markup = "autolink"
        state.push("text", "", 0).content = url[0]
        state.push("link_close", "a", -1).markup = "autolink"
    state.pos = url.end()
    return True
