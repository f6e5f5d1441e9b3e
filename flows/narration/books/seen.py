"""
What the rules ask of an element: marks of notes, numbers, contents, code.
"""

import re
from typing import NamedTuple

from flows.narration.books.markup import Element, local, types, words_of


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


def look(element: Element) -> Seen:
    """
    See an element as the rules do.
    """
    classes = element.get("class")
    return Seen(element, local(element), types(element), frozenset(classes.lower().split()) if classes else frozenset())


_NUMBER = re.compile(r"\W*(?:p|pg|page|s|seite)?\W*(?:\d{1,5}|[ivxlcdm]{1,9})\W*", re.IGNORECASE)
_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[*∗†‡§¶#]{1,4}|[a-z])[\])]?", re.IGNORECASE)
_SIGN = re.compile(r"[\[(].*[\])]|[*∗†‡§¶]+")
_NUMBERING = re.compile(r"[\W\d_]*(?:[ivxlc]{1,8}|page|chapter)?[\W\d_]*", re.IGNORECASE)
NOTES = ("footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes")
NOTE_CLASSES = ("footnote", "footnotes", "endnote", "endnotes", "rearnotes", "footnote-list", "footnotetext")
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
BLOCKS = frozenset(
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
MUTE = frozenset(
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
MEDIA = frozenset(
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
SCENE = re.compile(r"(?:scene|section|thought|context|text)[-_]?break|transition|ornament|asterism")
STANZAS = ("linegroup", "stanza", "lg", "verse-group", "strophe", "poetry-stanza")


def is_hidden(seen: Seen) -> bool:
    """
    Tell whether a reader would not see it.
    """
    style = seen.style()
    hidden = seen.element.get("hidden") is not None or seen.element.get("aria-hidden") == "true"
    return hidden or "display:none" in style or "visibility:hidden" in style


def is_number(seen: Seen) -> bool:
    """
    Tell whether it numbers pages or lines: called so, and nothing but a number.
    """
    if seen.says("pagebreak", "page-list"):
        return True
    named = any(re.fullmatch(r"(?:page|pg|line)[-_]?(?:num(?:ber)?|no|break)?s?|[lp]num", name) for name in seen.classes)
    return named and seen.tag != "body" and (not (text := words_of(seen.element)) or bool(_NUMBER.fullmatch(text)))


def is_noteref(seen: Seen) -> bool:
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
    while local(element) not in BLOCKS:
        before, parent = element.getprevious(), element.getparent()
        while before is not None:
            if local(before) in BLOCKS | {"br"}:
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


def is_listing(seen: Seen) -> bool:
    """
    Tell whether a list or a table below the word "Contents" is them: a link into the book in almost every row.
    """
    if seen.tag not in ("ol", "ul", "dl", "table"):
        return False
    links = sum(local(part) == "a" and "://" not in (part.get("href") or "://") for part in seen.element.iter())
    rows = sum(local(part) in ("li", "tr", "dt") for part in seen.element.iter())
    return links > 1 and links >= 0.8 * rows


def is_contents(seen: Seen) -> bool:
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


def is_code(seen: Seen) -> bool:
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


def is_heading(seen: Seen) -> bool:
    """
    Tell whether it is a heading: by its name, its role, or a title in parts.
    """
    if re.fullmatch("h[1-6]|bridgehead", seen.tag) or seen.says("heading"):
        return True
    parts = seen.says("title", "subtitle", "ordinal", "bridgehead", "fulltitle", "label") and seen.tag in ("p", "div", "header")
    parent = seen.element.getparent()
    return parts or (seen.tag == "p" and parent is not None and local(parent) == "hgroup")
