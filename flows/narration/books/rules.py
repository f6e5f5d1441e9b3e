"""
How a narrator treats what stands in a book: one table, the first rule that applies wins.
"""

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from flows.narration.books.markup import Element, local, types, words_of
from flows.narration.books.stretches import ADDRESS


class Treatment(Enum):
    """
    What is done with an element.
    """

    MUTE = auto()
    NOTED = auto()
    LEFT = auto()
    PICTURE = auto()
    FORMULA = auto()
    LINES = auto()
    READING = auto()
    TABLE = auto()
    LINE_BREAK = auto()
    SCENE_BREAK = auto()
    HEADING = auto()
    STANZA = auto()
    BLOCK = auto()
    STRUCK = auto()
    ADDRESS = auto()
    WITHIN = auto()


class Seen(NamedTuple):
    """
    An element as the rules look at it.
    """

    element: Element
    tag: str
    types: frozenset[str]
    classes: frozenset[str]

    def style(self) -> str:
        """
        Return its own style without blanks.
        """
        return "".join((self.element.get("style") or "").lower().split())

    def says(self, *names: str) -> bool:
        """
        Tell whether its types name one of these.
        """
        return not self.types.isdisjoint(names)

    def called(self, *names: str) -> bool:
        """
        Tell whether its classes name one of these.
        """
        return not self.classes.isdisjoint(names)


class Rule(NamedTuple):
    """
    A rule: its name (for what is left out, also the name in a plan), what it says, when it applies, and what is done.
    """

    name: str
    says: str
    applies: Callable[[Seen], bool]
    treatment: Treatment


_NUMBER = re.compile(r"\W*(?:p|pg|page|s|seite)?\W*(?:\d{1,5}|[ivxlcdm]{1,9})\W*", re.IGNORECASE)
_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[*∗†‡§¶#]{1,4}|[a-z])[\])]?", re.IGNORECASE)
_SIGN = re.compile(r"[\[(].*[\])]|[*∗†‡§¶]+")
_NUMBERING = re.compile(r"[\W\d_]*(?:[ivxlc]{1,8}|page|chapter)?[\W\d_]*", re.IGNORECASE)
_NOTES = ("footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes")
_NOTE_CLASSES = ("footnote", "footnotes", "endnote", "endnotes", "rearnotes", "footnote-list", "footnotetext")
_CODE_CLASSES = (
    "highlight",
    "programlisting",
    "sourcecode",
    "code",
    "listing",
    "literal-block",
    "screen",
    "codehilite",
    "prettyprint",
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "ol",
        "optgroup",
        "option",
        "p",
        "section",
        "summary",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
        "level",
        "level1",
        "level2",
        "level3",
        "book",
        "bodymatter",
        "frontmatter",
        "rearmatter",
        "linegroup",
        "line",
    ]
)
_MUTE = frozenset(
    [
        "head",
        "script",
        "style",
        "template",
        "noscript",
        "link",
        "meta",
        "title",
        "rp",
        "param",
        "source",
        "track",
        "col",
        "colgroup",
        "datalist",
        "base",
    ]
)
_MEDIA = frozenset(
    [
        "audio",
        "video",
        "iframe",
        "object",
        "embed",
        "canvas",
        "map",
        "input",
        "button",
        "select",
        "textarea",
        "progress",
        "meter",
    ]
)
_SCENE = re.compile(r"(?:scene|section|thought|context|text)[-_]?break|transition|ornament|asterism")
_STANZAS = ("linegroup", "stanza", "lg", "verse-group", "strophe", "poetry-stanza")


def _is_hidden(seen: Seen) -> bool:
    """
    Tell whether a reader would not see it.
    """
    style = seen.style()
    hidden = seen.element.get("hidden") is not None or seen.element.get("aria-hidden") == "true"
    return hidden or "display:none" in style or "visibility:hidden" in style


def _is_number(seen: Seen) -> bool:
    """
    Tell whether it numbers pages or lines: called so, and nothing but a number.
    """
    if seen.says("pagebreak", "page-list"):
        return True
    named = any(re.fullmatch(r"(?:page|pg|line)[-_]?(?:num(?:ber)?|no|break)?s?|[lp]num", name) for name in seen.classes)
    return named and seen.tag != "body" and (not (text := words_of(seen.element)) or bool(_NUMBER.fullmatch(text)))


def _is_noteref(seen: Seen) -> bool:
    """
    Tell whether it is the mark of a note: says so, or is a raised or bracketed sign that links within the book.
    """
    if seen.says("noteref", "annoref"):
        return True
    if seen.tag not in ("a", "sup"):
        return False
    link = seen.element if seen.tag == "a" else next((part for part in seen.element.iter() if local(part) == "a"), None)
    text = words_of(seen.element)
    if link is None or "#" not in (link.get("href") or "") or not _MARK.fullmatch(text) or "://" in (link.get("href") or ""):
        return False
    raised = seen.tag == "sup" or any(local(part) == "sup" for part in seen.element)
    before = _text_before(link)
    glued = bool(before) and not before[-1].isspace() and before[-1] not in "([{/-–—"
    named = seen.called("noteref", "footnote-reference", "fnref", "footnote-ref", "fnanchor")
    return raised or glued or named or bool(_SIGN.fullmatch(text))


def opens_block(element: Element) -> bool:
    """
    Tell whether no text stands before an element in its block.
    """
    return not _text_before(element).strip()


def _text_before(element: Element) -> str:
    """
    Return the last piece of text before an element in its block, "" where it begins its block.
    """
    while local(element) not in _BLOCKS:
        before, parent = element.getprevious(), element.getparent()
        while before is not None:
            if local(before) in _BLOCKS | {"br"}:
                return before.tail or ""
            if text := before.tail or "".join(map(str, before.itertext())):
                return text
            before = before.getprevious()
        if parent is None:
            break
        if parent.text:
            return parent.text
        element = parent
    return ""


def _is_contents(seen: Seen) -> bool:
    """
    Tell whether a list or a table has nothing but links into the book, and the numbers of what they lead to.
    """
    if seen.tag not in ("ol", "ul", "dl", "table") or "href" not in {
        name for part in seen.element.iter("{*}a") for name in part.attrib
    }:
        return False
    links = [part for part in seen.element.iter() if local(part) == "a"]
    inner = all("://" not in (link.get("href") or "") and not (link.get("href") or "").startswith("mailto:") for link in links)
    if len(links) < 2 or not inner:
        return False
    within = {part for link in links for part in link.iter()}
    beside = [part.text or "" for part in seen.element.iter() if part not in within]
    beside += [part.tail or "" for part in seen.element.iterdescendants() if part not in within or part in links]
    return all(_NUMBERING.fullmatch(text) for text in beside)


def _is_code(seen: Seen) -> bool:
    """
    Tell whether it is a listing of code.
    """
    if seen.tag == "pre":
        return seen.called(*_CODE_CLASSES) or any(local(part) in ("code", "samp", "kbd") for part in seen.element)
    return (
        seen.tag in ("div", "figure")
        and seen.called(*_CODE_CLASSES)
        and any(local(part) == "pre" for part in seen.element.iter())
    )


def _is_heading(seen: Seen) -> bool:
    """
    Tell whether it is a heading: by its name, its role, or a title in parts.
    """
    if re.fullmatch("h[1-6]|bridgehead", seen.tag) or seen.says("heading"):
        return True
    parts = seen.says("title", "subtitle", "ordinal", "bridgehead", "fulltitle", "label") and seen.tag in ("p", "div", "header")
    parent = seen.element.getparent()
    return parts or (seen.tag == "p" and parent is not None and local(parent) == "hgroup")


_T = Treatment
RULES: tuple[Rule, ...] = (
    Rule(
        "mute",
        "What no page shows is dropped: scripts, styles, heads, the brackets around ruby.",
        lambda s: s.tag in _MUTE,
        _T.MUTE,
    ),
    Rule("hidden", "What is hidden (hidden, aria-hidden, display: none) is left out and noted.", _is_hidden, _T.NOTED),
    Rule("number", "The numbers of pages and lines are dropped.", _is_number, _T.MUTE),
    Rule("address", "An address printed behind its link is dropped.", lambda s: s.called("link-target"), _T.MUTE),
    Rule(
        "noteref",
        "The mark of a note is dropped: so called, or a raised, bracketed or glued sign that links within the book.",
        _is_noteref,
        _T.MUTE,
    ),
    Rule(
        "backlink",
        "A link from a note back to its mark is dropped.",
        lambda s: s.says("backlink", "referrer") or s.called("fn-backref", "footnote-back", "footnote-backref"),
        _T.MUTE,
    ),
    Rule(
        "notes",
        "Footnotes and endnotes are left out.",
        lambda s: (
            s.says(*_NOTES)
            or (s.called(*_NOTE_CLASSES) and s.tag in ("aside", "section", "div", "ol", "ul", "dl", "p", "table"))
        ),
        _T.LEFT,
    ),
    Rule(
        "contents",
        "A table of contents is left out: so called, or a list or table of nothing but links into the book.",
        lambda s: s.tag == "nav" or s.says("toc", "toc-brief", "landmarks", "loi", "lot", "lov", "loa") or _is_contents(s),
        _T.LEFT,
    ),
    Rule("licence", "Project Gutenberg's head and licence are left out.", lambda s: s.called("pg-boilerplate"), _T.LEFT),
    Rule("code", "A listing of code is left out; code within a sentence is spoken.", _is_code, _T.LEFT),
    Rule("asides", "What stands aside from the text (aside) is left out.", lambda s: s.tag == "aside", _T.LEFT),
    Rule(
        "picture",
        "A picture within a paragraph is spoken by its alt text, as it stands for text; one that stands alone is left out and "
        "noted. Its caption is spoken.",
        lambda s: s.tag in ("img", "svg", "image"),
        _T.PICTURE,
    ),
    Rule(
        "formula",
        "A formula is spoken by its alt text, and without one left out and noted.",
        lambda s: s.tag == "math",
        _T.FORMULA,
    ),
    Rule("media", "Sounds, films, frames and forms are left out and noted.", lambda s: s.tag in _MEDIA, _T.NOTED),
    Rule(
        "lines",
        "Preformatted text that is no code (verse, a letter) is spoken, its lines kept apart.",
        lambda s: s.tag == "pre",
        _T.LINES,
    ),
    Rule(
        "ruby",
        "Of ruby the base is spoken, as it is the text and a voice reads it in context; a plan may choose the reading.",
        lambda s: s.tag in ("rt", "rtc"),
        _T.READING,
    ),
    Rule(
        "table",
        "A table is read row by row, a comma between its cells; one that only lays out a page is read as text.",
        lambda s: s.tag == "table",
        _T.TABLE,
    ),
    Rule("break", "A line break parts words, and keeps lines of verse apart.", lambda s: s.tag == "br", _T.LINE_BREAK),
    Rule(
        "scene",
        "A rule, an empty element called a break, and a row of ornaments are scene breaks.",
        lambda s: s.tag == "hr" or (any(map(_SCENE.fullmatch, s.classes)) and not words_of(s.element)),
        _T.SCENE_BREAK,
    ),
    Rule("heading", "Headings, titles in parts and headings of groups are headings.", _is_heading, _T.HEADING),
    Rule(
        "stanza",
        "A stanza is one paragraph, whatever its lines are made of.",
        lambda s: s.called(*_STANZAS) or s.tag in ("linegroup", "lg"),
        _T.STANZA,
    ),
    Rule(
        "block",
        "Blocks part paragraphs; an item of a numbered list is spoken with its number.",
        lambda s: s.tag in _BLOCKS,
        _T.BLOCK,
    ),
    Rule("struck", "What is struck out is spoken and noted.", lambda s: s.tag in ("del", "s", "strike"), _T.STRUCK),
    Rule(
        "host",
        "A link that shows its own address is spoken by the name of its host.",
        lambda s: s.tag == "a" and not len(s.element) and bool(ADDRESS.fullmatch(s.element.text or "")),
        _T.ADDRESS,
    ),
    Rule("within", "All else stands within words, and neither parts nor joins them.", lambda s: True, _T.WITHIN),
)
"""
The rules, in the order in which they are asked.
"""


def look(element: Element) -> Seen:
    """
    See an element as the rules do.
    """
    classes = element.get("class")
    return Seen(element, local(element), types(element), frozenset(classes.lower().split()) if classes else frozenset())


def rule_for(seen: Seen) -> Rule:
    """
    Return the first rule that applies.
    """
    return next(rule for rule in RULES if rule.applies(seen))
