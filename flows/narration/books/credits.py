"""
What is said before and after a book, in its language.
"""

from flows.narration.books.model import Book
from flows.narration.books.plan import BookPlan

_OPENING = {
    "en": ("{title}", ", written by {authors}", ", narrated by {narrator}, with a synthetic voice.", ", narrated with a synthetic voice."),
    "de": ("{title}", ", geschrieben von {authors}", ", gelesen von {narrator}, mit einer synthetischen Stimme.", ", gelesen mit einer synthetischen Stimme."),
    "fr": ("{title}", ", écrit par {authors}", ", lu par {narrator}, avec une voix de synthèse.", ", lu avec une voix de synthèse."),
    "es": ("{title}", ", escrito por {authors}", ", narrado por {narrator}, con una voz sintética.", ", narrado con una voz sintética."),
    "it": ("{title}", ", scritto da {authors}", ", letto da {narrator}, con una voce sintetica.", ", letto con una voce sintetica."),
    "ja": ("{title}", "。著者、{authors}", "。朗読、{narrator}。合成音声でお送りします。", "。合成音声でお送りします。"),
}  # fmt: skip
_CLOSING = {
    "en": ("This was {title}", ", written by {authors}", ", narrated by {narrator}, with a synthetic voice. The end.", ", narrated with a synthetic voice. The end."),
    "de": ("Das war {title}", ", geschrieben von {authors}", ", gelesen von {narrator}, mit einer synthetischen Stimme. Ende.", ", gelesen mit einer synthetischen Stimme. Ende."),
    "fr": ("C’était {title}", ", écrit par {authors}", ", lu par {narrator}, avec une voix de synthèse. Fin.", ", lu avec une voix de synthèse. Fin."),
    "es": ("Esto ha sido {title}", ", escrito por {authors}", ", narrado por {narrator}, con una voz sintética. Fin.", ", narrado con una voz sintética. Fin."),
    "it": ("Questo era {title}", ", scritto da {authors}", ", letto da {narrator}, con una voce sintetica. Fine.", ", letto con una voce sintetica. Fine."),
    "ja": ("{title}", "。著者、{authors}", "。朗読、{narrator}。合成音声でお送りしました。終わり。", "。合成音声でお送りしました。終わり。"),
}  # fmt: skip
_AND = {"en": " and ", "de": " und ", "fr": " et ", "es": " y ", "it": " e ", "ja": "、"}


def opening(book: Book, plan: BookPlan) -> str | None:
    """
    Return the opening credits, `None` where there are none.
    """
    return _worded(book, plan.credits.opening, _OPENING)


def closing(book: Book, plan: BookPlan) -> str | None:
    """
    Return the closing credits, `None` where there are none.
    """
    return _worded(book, plan.credits.closing, _CLOSING)


def _worded(book: Book, wording: str | bool, usual: dict[str, tuple[str, str, str, str]]) -> str | None:
    """
    Return the words that were chosen, or the usual ones: in English where the book's language has none.
    """
    if isinstance(wording, str):
        return wording.strip() or None
    if not wording:
        return None
    language = book.language.replace("_", "-").partition("-")[0].lower()
    language = language if language in usual else "en"
    title, authors, narrator, nobody = usual[language]
    words = title + (authors if book.authors else "") + (narrator if book.narrator else nobody)
    named = book.authors
    both = _AND[language].join(filter(None, (", ".join(named[:-1]), named[-1]))) if named else ""
    return words.format(title=book.title.rstrip("."), authors=both, narrator=book.narrator)
