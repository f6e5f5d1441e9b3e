"""
The Markdown that scripts are written in: CommonMark with tables, struck-out text and footnotes, and rules of our own
against the loss of words.
"""

import re
from collections.abc import Callable
from functools import cache, partial
from itertools import islice

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, reference, table
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_inline import StateInline, escape, newline
from mdit_py_plugins.footnote import footnote_plugin

_URL = re.compile(r"(?:https?|ftp)://[!#$%&+\-,./0-9:;=?@A-Z^_a-z~]*[#$%&+\-/0-9=@A-Za-z]", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![A-Za-z0-9])(?:https?|ftp)\Z", re.IGNORECASE)
# "[Anna]: Yes" is a line of a play, although CommonMark takes it for the definition of a link to "Yes".
_LINE_OF_A_PLAY = re.compile(r"\[[^\]]*\]:\s*+(?![<#/.?]|[\w+.-]+:\S|[^\s/]+/|\w+\.\w)\S")
_DEEPEST = 36

MOST_BRACKETS = 10_000
"""Brackets that a stretch without an empty line may open: the parser needs the square of them, and 100,000 take minutes."""


@cache
def parser() -> MarkdownIt:
    """
    Return CommonMark with our extensions and our rules against the loss of words.
    """
    # From this nesting on the parser drops the text; _too_deep comes before it, as a list adds two levels at once.
    markdown = MarkdownIt("commonmark", {"store_labels": True, "maxNesting": _DEEPEST + 4})
    markdown.enable(["table", "strikethrough"]).disable("code").use(footnote_plugin)
    # The plugin's tail drops footnotes without a mark, and all but the last of those with one label.
    markdown.disable("footnote_tail")
    markdown.block.ruler.before("table", "too_deep", _too_deep)
    markdown.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    markdown.block.ruler.at("reference", _reference)
    markdown.inline.ruler.at("newline", partial(_counting, newline))
    markdown.inline.ruler.at("escape", partial(_counting, escape))
    markdown.inline.ruler.before("newline", "bare_url", _bare_url)
    return markdown


def thicket(text: str) -> int | None:
    """
    Return the line where a stretch begins that has more brackets than can be parsed in time.
    """
    line = 1
    for stretch in text.split("\n\n"):
        if stretch.count("[") > MOST_BRACKETS:
            return line
        line += stretch.count("\n") + 2
    return None


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
