"""
Many books as one piece of work: which they are, what each may cost of one budget, and what a person reads at the end.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from natsort import natsorted

from flows.narration.ending import ENDS
from flows.narration.errors import (
    ExitCode,
    Interrupted,
    KeyRefused,
    MoneyError,
    NarrateError,
    ScriptsFailed,
    ServiceUnavailable,
    UsageError,
    VoiceFailed,
    VoiceTimeout,
    reaching,
)
from flows.narration.manifest import BOOK
from flows.narration.report import counted, escaped
from flows.narration.storage import Place, is_bucket, is_remote, within
from flows.narration.suffixes import CHAPTERS, NO_CHAPTERS, WHOLE
from flows.narration.takes import local_folder

SHOWN = 5
"""Names that are told at most where one is too many."""

ERRORS: dict[int, type[NarrateError]] = {
    ExitCode.INTERRUPTED: Interrupted,
    ExitCode.USAGE: UsageError,
    ExitCode.KEY: KeyRefused,
    ExitCode.MONEY: MoneyError,
    ExitCode.SERVICE: ServiceUnavailable,
    ExitCode.VOICE: VoiceFailed,
    ExitCode.VOICE_TIMEOUT: VoiceTimeout,
}
"""What a library ends with when the worst of its books ended with that code; with any other, `ScriptsFailed`."""

HOPELESS = (ExitCode.KEY, ExitCode.SERVICE)
"""What a book ends with that the next would end with as well: no more are begun."""


ROUNDING = 1e-9
"""USD that a share is rounded up by, so that a budget that is enough to the last byte is enough when it is divided."""


@dataclass
class Row:
    """
    How one *book* went: in which *state* its run ended, what it took (as far as that is known), and with what exit code.

    *usd* is what it paid; *usd_at_most* also what it may have paid, and `None` where nobody can say.
    """

    book: str
    state: str = "not begun"
    minutes: float = 0.0
    usd: float = 0.0
    usd_at_most: float | None = 0.0
    code: int | None = None
    error: str = ""
    url: str = ""

    @property
    def done(self) -> bool:
        """
        Whether all of it is narrated.
        """
        return self.code == ExitCode.OK


@dataclass
class Purse:
    """
    One *budget* in USD for many books, `None` without limit: what is granted and what is spent never come to more.
    """

    budget: float | None
    spent: float = 0.0
    granted: dict[str, float] = field(default_factory=dict)

    def grant(self, book: str, *, needs: float, later: float) -> float | None:
        """
        Grant *book*, which *needs* so many USD by its estimate, its share of what is left, while those *later* need theirs.
        """
        if self.budget is None:
            return None
        share = self.left * needs / (needs + later) if needs + later else self.left
        self.granted[book] = share
        return share + ROUNDING

    @property
    def left(self) -> float:
        """
        USD that are neither spent nor granted.
        """
        return inf if self.budget is None else max(0.0, self.budget - self.spent - sum(self.granted.values()))

    def is_hopeless(self, row: Row) -> bool:
        """
        Tell whether the next book would end as this one. One that came to the end of its share is no matter of the others',
        while there is anything left; without a budget it is the account that has no more.
        """
        return row.code in HOPELESS or (row.code == ExitCode.MONEY and (self.budget is None or self.left <= ROUNDING))

    def reserve(self, book: str, usd: float) -> None:
        """
        Learn what a run that was begun before may spend, or has spent: until it is settled that is no other's.
        """
        self.granted[book] = usd

    def settle(self, book: str, usd: float | None) -> None:
        """
        Learn what was spent at most; all that was granted, where that is not known.
        """
        granted = self.granted.pop(book, 0.0)
        self.spent += granted if usd is None else usd


def books_of(
    places: Sequence[str], *, books_among: Callable[[Iterable[str]], Sequence[str]], apart: Collection[str] = ()
) -> dict[str, str]:
    """
    Name all books that *places* (paths and URIs) stand for, in order; what is at the places *apart* is none.

    A folder that holds nothing but folders stands for each of these; another for those of its files that *books_among* picks,
    or, where there are none, for itself. Raises `UsageError` for what is not there, for two of one name, and where texts lie
    beside whole books: they would be left out.
    """
    found: dict[str, str] = {}
    for place in places:
        for book in _books(place, books_among, [_whole(each) for each in apart]):
            last = book.rstrip("/").rsplit("/", 1)[-1]
            name = Path(last).stem if Path(last).suffix.lower() in WHOLE + CHAPTERS else last
            if found.setdefault(name, book) != book:
                raise UsageError(
                    f"{found[name]} and {book} have one name, so their runs could not be told apart.", "Rename one."
                )
    if not found:
        raise UsageError(f"There is no book in {', '.join(places)}.", "Name books, folders of scripts, or folders of these.")
    return found


def holds(place: str, other: str) -> bool:
    """
    Say whether *other* lies in *place*, both paths or URIs.
    """
    return _whole(other).startswith(f"{_whole(place)}/")


def _whole(place: str) -> str:
    """
    Write a path or a URI as it is compared.
    """
    return place.rstrip("/") if is_remote(place) else str(local_folder(place).resolve())


def _books(place: str, books_among: Callable[[Iterable[str]], Sequence[str]], apart: Sequence[str]) -> Iterable[str]:
    inside = _inside_there(place) if is_remote(place) else _inside_here(place)
    if inside is None:
        return [place]
    inside = {name: is_folder for name, is_folder in inside.items() if _whole(within(place, name)) not in apart}
    if inside and all(inside.values()):
        return [within(place, name) for name in natsorted(inside)]
    books = books_among(name for name, is_folder in inside.items() if not is_folder)
    if books:
        look = _inside_there if is_remote(place) else _inside_here
        folders = {name: look(within(place, name)) or () for name, is_folder in inside.items() if is_folder}
        refuse_left_out(place, (name for name in inside if name not in folders), folders)
    return [within(place, name) for name in books] or [place]


def books_among(names: Iterable[str]) -> list[str]:
    """
    Of the *names* in one folder, return those that are whole books, in natural order.
    """
    return natsorted(name for name in names if name.lower().endswith(WHOLE) and not name.startswith("."))


def refuse_left_out(place: str, names: Iterable[str], folders: Mapping[str, Iterable[str]]) -> None:
    """
    Raise `UsageError` where other texts lie among the *names* in a folder of whole books, or books in *folders* in it.
    """
    left = [name for name in names if name.lower().endswith(CHAPTERS) and name.lower() not in NO_CHAPTERS]
    for folder, inside in ((folder, list(inside)) for folder, inside in folders.items()):
        if BOOK in inside:  # made here of one of the books
            continue
        left += [
            f"{folder}/{name}" for name in inside if name.lower().endswith(WHOLE + CHAPTERS) and name.lower() not in NO_CHAPTERS
        ]
    if left:
        shown = ", ".join(natsorted(left)[:SHOWN]) + (" …" if len(left) > SHOWN else "")
        raise UsageError(
            f"{place} holds whole books and other texts, which would be left out: {shown}.",
            "Name each book, or keep elsewhere what is none.",
        )


def _inside_here(place: str) -> dict[str, bool] | None:
    """
    Tell what is in a folder, and of each whether it is a folder; `None` for a file.
    """
    path = local_folder(place)
    if not path.exists():
        raise UsageError(f"{place} is not there.", "Paths are relative to the folder that the worker runs in.")
    if not path.is_dir():
        return None
    return {entry.name: entry.is_dir() for entry in path.iterdir() if not entry.name.startswith(".")}


def _inside_there(uri: str) -> dict[str, bool] | None:
    """
    Tell the same of a place in object storage.
    """
    above, name = uri.rstrip("/").rsplit("/", 1)
    place = Place(uri)
    place.reach()
    with reaching(uri):
        if not is_bucket(uri) and Place(above).look(name) is not None:
            return None
        names = [*place.top()]
    if not names:
        raise UsageError(f"{uri} is not there, or nothing is in it.", "Check the URI.")
    if "/" in names:
        raise UsageError(f"{uri} holds objects with two slashes in a row in their names.", "Rename them: no folder can be.")
    return {name.rstrip("/"): name.endswith("/") for name in names if not name.startswith(".")}


def refuse_to_begin(needs: Mapping[str, float], *, purse: Purse) -> None:
    """
    Raise `MoneyError` where what is left in the *purse* does not cover what all books to begin need by their estimates (USD).
    """
    total, left, budget = sum(needs.values()), purse.left, purse.budget
    if budget is None or total <= left + ROUNDING:
        return
    need, short = f"{counted(len(needs), 'book')} need about {total:.4f} USD", f"{total - left:.4f} USD short."
    if left < budget:
        raise MoneyError(
            f"{need}, but of the budget of {budget:.4f} USD runs begun before have spent, or may, {budget - left:.4f} USD: "
            f"{short}",
            "No more books were begun. Begin the library anew, with a budget for what is left.",
        )
    raise MoneyError(
        f"{need}, but the budget is {budget:.4f} USD: {short}", "No book was begun. Raise it, or make fewer books."
    )


def headline(rows: Sequence[Row]) -> str:
    """
    Tell in a sentence how it went.
    """
    done = sum(row.done for row in rows)
    failed = sum(row.code is not None and not row.done for row in rows)
    counts = ((failed, "failed"), (len(rows) - done - failed, "not done"))
    rest = "".join(f", {number} {what}" for number, what in counts if number)
    minutes, usd = sum(row.minutes for row in rows), sum(row.usd for row in rows)
    return f"{counted(len(rows), 'book')}: {done} done{rest}; {minutes:.1f} minutes, {usd:.4f} USD."


def report(rows: Sequence[Row]) -> str:
    """
    Tell as Markdown how each book went.
    """
    lines = [f"**{headline(rows)}**", "", "| Book | State | Minutes | USD | Run |", "|---|---|--:|--:|---|"]
    for row in rows:
        link = f"[run]({row.url})" if row.url else ""
        state = row.state if row.done or row.code is None else f"{row.state} ({row.code})"
        lines.append(f"| {escaped(row.book)} | {state} | {row.minutes:.1f} | {row.usd:.4f} | {link} |")
    failed = [row for row in rows if row.error]
    if failed:
        lines += ["", "## What failed", "", *(f"* {escaped(row.book)}: {escaped(row.error)}" for row in failed)]
    return "\n".join(lines) + "\n"


def worst(rows: Sequence[Row]) -> NarrateError | None:
    """
    Of books that failed, make the one error to end with.
    """
    failed = [row for row in rows if not row.done]
    if not failed:
        return None
    codes = [row.code for row in failed]
    code = next((int(end) for end in ENDS if end in codes), int(ExitCode.SCRIPTS_FAILED))
    told = "".join(f"\n  {row.book}: {row.error or row.state}" for row in failed)
    kind = ERRORS.get(code, ScriptsFailed)
    mend = (
        f"{'The others are done and kept; mend' if len(failed) < len(rows) else 'Mend'} what is to be mended, and run it again."
    )
    return kind(f"{len(failed)} of {counted(len(rows), 'book')} failed:{told}\n", mend)
