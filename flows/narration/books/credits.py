"""
What is said before and after a book, in its language.
"""

from typing import NamedTuple

from flows.narration.books.model import Book
from flows.narration.books.plan import BookPlan


class _Wording(NamedTuple):
    """
    How a language says it.
    """

    written: str
    narrated: str
    spoken: str
    this_was: str
    end: str
    both: str


_WORDINGS = {
    "en": _Wording(
        ", written by {authors}",
        ", narrated by {narrator}, with a synthetic voice.",
        ", narrated with a synthetic voice.",
        "This was {title}",
        " The end.",
        " and ",
    ),
    "de": _Wording(
        ", geschrieben von {authors}",
        ", gelesen von {narrator}, mit einer synthetischen Stimme.",
        ", gelesen mit einer synthetischen Stimme.",
        "Das war {title}",
        " Ende.",
        " und ",
    ),
    "fr": _Wording(
        ", écrit par {authors}",
        ", lu par {narrator}, avec une voix de synthèse.",
        ", lu avec une voix de synthèse.",
        "C’était {title}",
        " Fin.",
        " et ",
    ),
    "es": _Wording(
        ", escrito por {authors}",
        ", narrado por {narrator}, con una voz sintética.",
        ", narrado con una voz sintética.",
        "Esto ha sido {title}",
        " Fin.",
        " y ",
    ),
    "it": _Wording(
        ", scritto da {authors}",
        ", letto da {narrator}, con una voce sintetica.",
        ", letto con una voce sintetica.",
        "Questo era {title}",
        " Fine.",
        " e ",
    ),
    "ja": _Wording(
        "。著者、{authors}",
        "。朗読、{narrator}。合成音声による朗読です。",
        "。合成音声による朗読です。",
        "{title}",
        "おわり。",
        "、",
    ),
}


def opening(book: Book, plan: BookPlan) -> str | None:
    """
    Return the opening credits, `None` where there are none.
    """
    return _worded(plan.credits.opening, _usual(book, "{title}", ""))


def closing(book: Book, plan: BookPlan) -> str | None:
    """
    Return the closing credits, `None` where there are none.
    """
    wording = _wording(book)
    return _worded(plan.credits.closing, _usual(book, wording.this_was, wording.end))


def _worded(wanted: str | bool, usual: str) -> str | None:
    """
    Return the words that were chosen, or the usual ones.
    """
    if isinstance(wanted, str):
        return wanted.strip() or None
    return usual if wanted else None


def _wording(book: Book) -> _Wording:
    """
    Return how the book's language says it: as English does where it is not known here.
    """
    return _WORDINGS.get(book.language.replace("_", "-").partition("-")[0].lower(), _WORDINGS["en"])


def _usual(book: Book, title: str, end: str) -> str:
    """
    Say title, authors and narrator, and that the voice is synthetic.
    """
    wording = _wording(book)
    first, last = ", ".join(book.authors[:-1]), "".join(book.authors[-1:])
    words = title + (wording.written if last else "") + (wording.narrated if book.narrator else wording.spoken) + end
    authors = f"{first}{wording.both}{last}" if first else last
    return words.format(title=book.title.rstrip("."), authors=authors, narrator=book.narrator)
