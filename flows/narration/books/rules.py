"""
How a narrator treats what stands in a book: one table, the first rule that applies wins.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from flows.narration.books.markup import local, words_of
from flows.narration.books.seen import (
    BLOCKS,
    MEDIA,
    MUTE,
    NOTE_CLASSES,
    NOTES,
    SCENE,
    STANZAS,
    Seen,
    is_code,
    is_contents,
    is_heading,
    is_hidden,
    is_noteref,
    is_number,
)
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


class Rule(NamedTuple):
    """
    A rule: its name (for what is left out, also the name in a plan), what it says, when it applies, and what is done.
    """

    name: str
    says: str
    applies: Callable[[Seen], bool]
    treatment: Treatment


_T = Treatment
RULES: tuple[Rule, ...] = (
    Rule(
        "mute",
        "What no page shows is dropped: scripts, styles, heads, the brackets around ruby.",
        lambda s: s.tag in MUTE,
        _T.MUTE,
    ),
    Rule("hidden", "What is hidden (hidden, aria-hidden, display: none) is left out and noted.", is_hidden, _T.NOTED),
    Rule("number", "The numbers of pages and lines are dropped.", is_number, _T.MUTE),
    Rule("address", "An address printed behind its link is dropped.", lambda s: s.called("link-target"), _T.MUTE),
    Rule(
        "noteref",
        "The mark of a note is dropped: so called, or a raised, bracketed or glued sign that links within the book.",
        is_noteref,
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
            s.says(*NOTES) or (s.called(*NOTE_CLASSES) and s.tag in ("aside", "section", "div", "ol", "ul", "dl", "p", "table"))
        ),
        _T.LEFT,
    ),
    Rule(
        "contents",
        "A table of contents is left out: so called, or a list or table of nothing but links into the book.",
        lambda s: s.tag == "nav" or s.says("toc", "toc-brief", "landmarks", "loi", "lot", "lov", "loa") or is_contents(s),
        _T.LEFT,
    ),
    Rule("licence", "Project Gutenberg's head and licence are left out.", lambda s: s.called("pg-boilerplate"), _T.LEFT),
    Rule("code", "A listing of code is left out; code within a sentence is spoken.", is_code, _T.LEFT),
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
    Rule("media", "Sounds, films, frames and forms are left out and noted.", lambda s: s.tag in MEDIA, _T.NOTED),
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
        lambda s: s.tag == "hr" or (any(map(SCENE.fullmatch, s.classes)) and not words_of(s.element)),
        _T.SCENE_BREAK,
    ),
    Rule("heading", "Headings, titles in parts and headings of groups are headings.", is_heading, _T.HEADING),
    Rule(
        "stanza",
        "A stanza is one paragraph, whatever its lines are made of.",
        lambda s: s.called(*STANZAS) or s.tag in ("linegroup", "lg"),
        _T.STANZA,
    ),
    Rule(
        "block",
        "Blocks part paragraphs; an item of a numbered list is spoken with its number.",
        lambda s: s.tag in BLOCKS,
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


_PLAIN = frozenset(("p", "i", "b", "em", "strong", "span", "br", "li", "td", "th", "tr", "blockquote", "section", "ruby", "rt"))
_known: dict[str, Rule] = {}


def rule_for(seen: Seen) -> Rule:
    """
    Return the first rule that applies; for an element that says nothing but its name, it is known.
    """
    if seen.element.attrib or seen.tag not in _PLAIN:
        return next(rule for rule in RULES if rule.applies(seen))
    parent = seen.element.getparent()
    key = "hgroup" if seen.tag == "p" and parent is not None and local(parent) == "hgroup" else seen.tag
    if key not in _known:
        _known[key] = next(rule for rule in RULES if rule.applies(seen))
    return _known[key]
