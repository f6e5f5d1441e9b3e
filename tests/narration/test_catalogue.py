"""
Many books: which they are, what each may cost, and what is told at the end.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.narration.catalogue import Purse, Row, books_among, books_of, headline, holds, refuse_to_begin, report, worst
from flows.narration.edition import books_in
from flows.narration.errors import ExitCode, KeyRefused, MoneyError, ScriptsFailed, UsageError
from tests.bucket import Bucket

Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """
    Make files, and return the folder they are in.
    """

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        return tmp_path

    return make


def test_a_folder_of_folders_is_so_many_books(made: Made) -> None:
    """
    In natural order; what is hidden is none.
    """
    folder = made("book-10/a.txt", "book-2/a.txt", ".hidden/a.txt")

    assert ["book-2", "book-10"] == list(books_of([str(folder)], books_among=lambda names: ()))


def test_a_folder_of_chapters_is_one_book_and_one_of_books_is_all_of_them(made: Made) -> None:
    """
    What the command `narrate book` takes for a book is one here.
    """
    folder = made("shelf/b.epub", "shelf/a.docx", "one/01.md", "one/notes/x.md")

    found = books_of([str(folder / "shelf"), str(folder / "one")], books_among=books_among)

    assert {"a": "shelf/a.docx", "b": "shelf/b.epub", "one": "one"} == {
        name: str(Path(book).relative_to(folder)) for name, book in found.items()
    }
    assert ["a", "b", "one"] == list(found)


def test_books_in_object_storage_are_found_as_in_folders(bucket: Bucket) -> None:
    """
    A bucket of folders, a folder of books, one of chapters, and a single object.
    """
    uri = bucket.uri
    for name in ("shelf/b.epub", "shelf/a.docx", "one/01.md", "one/notes/x.md", ".hidden/a.txt"):
        bucket.put(name, "x")

    found = books_of([f"{uri}/shelf/", f"{uri}/one"], books_among=books_among)

    assert {"a": f"{uri}/shelf/a.docx", "b": f"{uri}/shelf/b.epub", "one": f"{uri}/one"} == found
    assert ["one", "shelf"] == list(books_of([uri], books_among=lambda names: ()))
    assert {"b": f"{uri}/shelf/b.epub"} == books_of([f"{uri}/shelf/b.epub"], books_among=books_among)
    with pytest.raises(UsageError, match="is not there"):
        books_of([f"{uri}/nowhere"], books_among=books_among)


def test_what_is_wrong_with_a_list_of_books_is_told(made: Made) -> None:
    """
    Nothing there, no book, two of one name.
    """
    folder = made("one/book.epub", "two/book.epub")
    (folder / "empty").mkdir()

    with pytest.raises(UsageError, match="is not there"):
        books_of([str(folder / "nowhere")], books_among=books_among)
    with pytest.raises(UsageError, match="one name"):
        books_of([str(folder / "one"), str(folder / "two")], books_among=books_among)


def test_texts_beside_whole_books_are_never_left_out_in_silence(made: Made, bucket: Bucket) -> None:
    """
    In a folder and in object storage, for a library and for the command; what is no text is no matter.
    """
    folder = made(
        "shelf/a.epub", "shelf/b.md", "shelf/c/01.txt", "fine/a.epub", "fine/a.toml", "fine/README.md", "fine/c/x.jpg"
    )
    for path in folder.rglob("*.*"):
        bucket.put(path.relative_to(folder).as_posix(), "x")
    said = r"shelf holds whole books and other texts, which would be left out: b\.md, c/01\.txt\."

    for shelf in (str(folder / "shelf"), f"{bucket.uri}/shelf"):
        with pytest.raises(UsageError, match=said):
            books_of([shelf], books_among=books_among)
    with pytest.raises(UsageError, match=said):
        books_in(folder / "shelf")
    assert ["a"] == list(books_of([f"{bucket.uri}/fine"], books_among=books_among))
    assert [folder / "fine/a.epub"] == books_in(folder / "fine")


def test_a_dot_in_the_name_of_a_folder_is_no_suffix(made: Made) -> None:
    """
    Volumes are told apart.
    """
    folder = made("Vol. 1/a.txt", "Vol. 2/a.txt", "Dr. No/a.txt")

    assert ["Dr. No", "Vol. 1", "Vol. 2"] == list(books_of([str(folder)], books_among=books_among))


def test_a_budget_is_never_granted_twice() -> None:
    """
    Whatever is under way at once, grants and spending together stay within it, and each has at least what it needs.
    """
    purse, needs = Purse(10.0), {"a": 2.0, "b": 3.0, "c": 4.0}
    later, granted = sum(needs.values()), {}
    for name, need in needs.items():
        later -= need
        granted[name] = purse.grant(name, needs=need, later=later)
        assert purse.spent + sum(purse.granted.values()) <= 10.0 + 1e-9
        assert (granted[name] or 0) >= need
    purse.settle("a", 1.0)
    purse.settle("b", None)

    assert purse.spent == pytest.approx(1.0 + (granted["b"] or 0), abs=1e-6)
    assert purse.grant("d", needs=1.0, later=0.0) == pytest.approx((granted["a"] or 0) - 1.0, abs=1e-6)


def test_a_book_that_has_spent_its_share_does_not_stop_the_others() -> None:
    """
    While anything is left; without a budget it is the account that has no more, and a key that is refused is so for all.
    """
    poor, purse = Row("a", code=ExitCode.MONEY), Purse(10.0)
    purse.grant("a", needs=1.0, later=1.0)
    purse.settle("a", 5.0)

    assert not purse.is_hopeless(poor)
    assert purse.is_hopeless(Row("a", code=ExitCode.KEY))
    assert Purse(None).is_hopeless(poor)
    purse.settle("b", 5.0)
    purse.spent = 10.0
    assert purse.is_hopeless(poor)


def test_without_a_budget_nothing_is_granted() -> None:
    """
    Nor is anything refused.
    """
    purse = Purse(None)

    assert purse.grant("a", needs=1.0, later=0.0) is None
    refuse_to_begin({"a": 100.0}, purse=purse)


def test_a_budget_too_small_for_all_is_told_before_any_is_begun() -> None:
    """
    With the sum that is short.
    """
    with pytest.raises(MoneyError, match=r"0\.5000 USD short"):
        refuse_to_begin({"a": 1.0, "b": 1.5}, purse=Purse(2.0))


def test_what_runs_begun_before_have_spent_is_granted_to_nobody() -> None:
    """
    Neither that of books that are made, before it is their turn, nor what runs that live may spend yet, nor what failed.
    """
    purse = Purse(1.0, spent=0.02)  # by a run of the book a, which failed
    purse.reserve("b", 0.5)
    purse.reserve("c", 0.4)

    with pytest.raises(MoneyError, match=r"have spent, or may, 0\.9200 USD: 0\.0100 USD short"):
        refuse_to_begin({"a": 0.09}, purse=purse)
    refuse_to_begin({"a": 0.08}, purse=purse)
    assert purse.grant("a", needs=0.08, later=0.0) == pytest.approx(0.08, abs=1e-6)
    purse.settle("b", 0.5)
    assert purse.left == pytest.approx(0.0, abs=1e-6)
    purse.settle("c", 0.3)
    purse.settle("a", 0.08)
    assert purse.spent == pytest.approx(0.9, abs=1e-6)
    assert purse.left == pytest.approx(0.1, abs=1e-6)


def test_a_budget_that_is_enough_to_the_last_byte_is_enough_for_what_is_left() -> None:
    """
    Whatever sums of fractions say.
    """
    purse = Purse(0.3, spent=0.1)
    purse.reserve("b", 0.1)

    refuse_to_begin({"a": 0.1}, purse=purse)


def test_a_library_ends_with_the_worst_of_its_books() -> None:
    """
    Key before money before scripts; all that failed is named.
    """
    rows = [
        Row("a", "completed", 1.0, 0.1, code=0),
        Row("b", "failed", code=3, error="b failed."),
        Row("c", "failed", code=int(ExitCode.KEY), error="No key."),
        Row("d"),
    ]

    error = worst(rows)

    assert isinstance(error, KeyRefused)
    assert "b failed." in str(error)
    assert "4 books: 1 done, 2 failed, 1 not done; 1.0 minutes, 0.1000 USD." == headline(rows)
    assert isinstance(worst(rows[:2]), ScriptsFailed)
    assert worst(rows[:1]) is None
    assert "| c | failed (7) | 0.0 | 0.0000 |" in report(rows)
    assert "* c: No key." in report(rows)


@pytest.mark.parametrize("there", [False, True], ids=["folder", "bucket"])
def test_what_was_made_is_no_book(tmp_path: Path, bucket: Bucket, there: bool) -> None:
    """
    OUT and the take store among the books, and a folder of one that was made beside whole books.
    """
    for name in ("many/one/a.txt", "many/audio/one/run.json", "many/takes/ab/x.flac", "whole/a.epub", "whole/A/book.json",
                 "whole/A/index.html"):  # fmt: skip
        bucket.put(name, "x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    place = bucket.uri if there else str(tmp_path)

    apart = (f"{place}/many/audio/", f"{place}/many/takes")
    assert ["one"] == list(books_of([f"{place}/many"], books_among=books_among, apart=apart))
    assert ["a"] == list(books_of([f"{place}/whole"], books_among=books_among))
    assert holds(f"{place}/many/", apart[0])
    assert not holds(f"{place}/man", apart[0])
