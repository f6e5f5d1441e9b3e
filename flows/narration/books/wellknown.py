"""
Front and back matter: what books, and those who make them, call it.
"""

import re
from collections.abc import Iterable

WHY = {
    "covers": "a cover",
    "titlepage": "a title page, which the opening credits stand for",
    "copyright": "copyright and imprint",
    "index": "an index",
    "bibliography": "a bibliography",
    "glossary": "a glossary",
    "errata": "errata",
    "thanks": "acknowledgements",
    "frontmatter": "front matter",
    "backmatter": "back matter",
    "advertisement": "advertising",
    "contents": "a table of contents",
    "notes": "notes",
    "licence": "a licence",
    "code": "listings of code",
    "asides": "text that stands aside",
    "linear": "not part of the reading order",
    "plan": "left out by the plan",
    "empty": "no words in it",
}
"""
Why something is left out, by the name that a plan may bring it in by.
"""

LEFT_TYPES = {
    "cover": "covers",
    "titlepage": "titlepage",
    "halftitlepage": "titlepage",
    "halftitle": "titlepage",
    "copyright-page": "copyright",
    "imprint": "copyright",
    "imprimatur": "copyright",
    "colophon": "copyright",
    "other-credits": "copyright",
    "seriespage": "copyright",
    "index": "index",
    "bibliography": "bibliography",
    "glossary": "glossary",
    "errata": "errata",
    "contributors": "thanks",
    "acknowledgments": "thanks",
    "acknowledgements": "thanks",
    "frontmatter": "frontmatter",
    "backmatter": "backmatter",
    "adcard": "advertisement",
    "promotionalcopy": "advertisement",
}
"""
What a book may call a part of itself (`epub:type`) that a narrator does not read, and the name of the reason.
"""

GENERIC_TYPES = frozenset(("frontmatter", "backmatter"))
"""
Those that what stands within them may contradict.
"""

KEPT_TYPES = frozenset(
    (
        "bodymatter",
        "part",
        "volume",
        "division",
        "chapter",
        "subchapter",
        "prologue",
        "epilogue",
        "preface",
        "foreword",
        "introduction",
        "preamble",
        "dedication",
        "epigraph",
        "afterword",
        "conclusion",
        "appendix",
        "z3998:poem",
        "z3998:fiction",
        "z3998:drama",
        "se:short-story",
    )
)
"""
What it may call a part that is read, also between parts that are not.
"""

_TITLES = {
    "covers": r"(?:front |back )?cover(?: page)?|表紙|umschlag|couverture|cubierta|copertina",
    "titlepage": r"(?:half[- ]?)?title[- ]?page|half[- ]?title|titelseite|titelblatt|page de titre|portada",
    "copyright": r"(?:un)?copyright\b.*|imprint|impressum|colophon|奥付|版权页?|版權頁?|mentions légales|legal notice|"
    r"about this (?:e-?)?book",
    "contents": r"(?:table of )?contents|toc|inhalt(?:sverzeichnis)?|sommaire|table des matières|índice|indice|contenido|"
    r"目次|目录|目錄|list of (?:illustrations|figures|tables|maps)|illustrations",
    "index": r"(?:general |subject )?index|register|索引",
    "bibliography": r"bibliography|references|works cited|further reading|literatur(?:verzeichnis)?|bibliographie|bibliografía|"
    r"参考文献",
    "notes": r"(?:end|foot)?notes|anmerkungen|fußnoten|endnoten|notas|transcriber[’']?s? notes?|注釈?",
    "thanks": r"acknowledge?ments?|danksagung|remerciements|agradecimientos|謝辞",
    "advertisement": r"also by\b.*|other books by\b.*|books by\b.*|about the (?:author|publisher)|newsletter|advertisements?",
    "licence": r"(?:the )?full project gutenberg.*|project gutenberg.*licen[sc]e|license|licence",
}
_WELL_KNOWN = {why: re.compile(rf"\W*(?:{titles})\W*", re.IGNORECASE) for why, titles in _TITLES.items()}
_FILES = {
    "covers": r"(?:front|back)?cover(?:[-_]?page)?",
    "titlepage": r"(?:half)?[-_]?title[-_]?page|half[-_]?title",
    "copyright": r"(?:un)?copyright(?:[-_]?page)?|imprint|colophon|impressum",
    "contents": r"toc|nav|contents|table[-_]?of[-_]?contents|inhalt(?:sverzeichnis)?",
    "index": r"(?:gen)?index",
}
_KNOWN_FILES = {why: re.compile(rf"(?:\d+[-_])?(?:{names})\d*", re.IGNORECASE) for why, names in _FILES.items()}
_GUIDE = {
    "cover": "covers",
    "title-page": "titlepage",
    "titlepage": "titlepage",
    "halftitlepage": "titlepage",
    "toc": "contents",
    "loi": "contents",
    "lot": "contents",
    "copyright-page": "copyright",
    "copyright": "copyright",
    "colophon": "copyright",
    "imprint": "copyright",
    "other-credits": "copyright",
    "index": "index",
    "bibliography": "bibliography",
    "glossary": "glossary",
    "notes": "notes",
    "footnotes": "notes",
    "endnotes": "notes",
    "rearnotes": "notes",
    "acknowledgements": "thanks",
    "acknowledgments": "thanks",
}
_LONG = {"index", "bibliography", "notes", "licence"}
"""What may be long and is none the less what its title says."""

MOST_WORDS = 3_000
"""Words from which on something is no cover, title page or the like, whatever its title says."""

MOST_WORDS_OF_A_FILE = 600
"""Words from which on the name of a file says nothing: many a book is called index.xhtml."""


def matter(types: frozenset[str]) -> tuple[str, bool]:
    """
    Return why what has these types is left out ("" where it is not), and whether they say so at all; the specific wins.
    """
    specific = sorted(types & (LEFT_TYPES.keys() - GENERIC_TYPES))
    if types & KEPT_TYPES and not specific:
        return "", True
    known = specific or sorted(types & GENERIC_TYPES)
    return (LEFT_TYPES[known[0]], True) if known else ("", False)


def guided(types: Iterable[str]) -> str:
    """
    Return why a place that landmarks or guide call so is left out, "" where it is not.
    """
    return next((_GUIDE[name] for name in types if name in _GUIDE), "")


def called(title: str, words: int) -> str:
    """
    Return why so many words with this title are left out, "" where nothing is known of it.
    """
    why = next((why for why, titles in _WELL_KNOWN.items() if titles.fullmatch(title.strip())), "")
    return why if words <= MOST_WORDS or why in _LONG else ""


def filed(href: str, words: int) -> str:
    """
    Return why a document with this name and so many words is left out, "" where nothing is known of it.
    """
    stem = href.rpartition("/")[2].rpartition(".")[0]
    why = next((why for why, names in _KNOWN_FILES.items() if names.fullmatch(stem)), "")
    return why if words <= MOST_WORDS_OF_A_FILE else ""
