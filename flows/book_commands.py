"""
The command `narrate book`: an outline that sends nothing, or audiobooks one after another.
"""

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

from flows import orders, settings
from flows.knobs import BookChoice, BookGroups, BookOutput, Limits, VoiceKnobs
from flows.narration import books, edition
from flows.narration.audiobook import BookProduction
from flows.narration.brought import books_beside, put_beside, told_of
from flows.narration.edition import BookOrder
from flows.narration.errors import ExitCode, KeyRefused, UsageError, storing
from flows.narration.speech import Delivery
from flows.narration.storage import folder_above, is_remote, within
from flows.options import CONSENT, command_in, json_option, options
from flows.settings import BookSettings


def add(commands: Any) -> None:
    """
    Add it to the *commands* of the command line.
    """
    book = command_in(commands, "book", _book, "Make audiobooks: mastered chapters and an M4B of each book.", epilog=CONSENT)
    book.add_argument(
        "books",
        metavar="BOOK",
        nargs="+",
        help="An .epub, .docx, .md, .txt or .html file, a folder of chapter files, or a folder of .epub and .docx books.",
    )
    options(book, (BookChoice, VoiceKnobs, Delivery, BookOutput, Limits))
    book.add_argument("--outline", action="store_true", help="Show chapters with words, minutes and USD, and send nothing.")
    book.add_argument("--write", action="store_true", help="With --outline: write book.toml beside the book, to be filled in.")
    book.add_argument("--yes", action="store_true", help="Go on above --approve-above-usd, too.")
    json_option(book)


def _book(arguments: argparse.Namespace) -> int:
    if arguments.write and not arguments.outline:
        raise UsageError("--write goes with --outline.", "Add --outline: it shows what is written.")
    if arguments.yes:
        arguments.approve_above_usd = None
    given = {name: value for name, value in vars(arguments).items() if name in BookSettings.model_fields}
    found = [one for name in arguments.books for one in _books_in(settings.checked(BookSettings, {**given, "book": name}))]
    all_settings = [settings.checked(BookSettings, {**given, "book": one}) for one in found]
    if arguments.outline:
        return _outline(all_settings, write=arguments.write, as_json=arguments.json)
    return narrate_books([_groups(knobs) for knobs in all_settings], as_json=arguments.json)


def _books_in(knobs: BookSettings) -> list[str]:
    """
    Tell the books that a place stands for; those in object storage by their URIs, so that a run may be told of them elsewhere.
    """
    given = knobs.book
    source = _brought(knobs)
    with told_of(given):
        found = edition.books_in(source)
    if not is_remote(given):
        return [str(one) for one in found]
    return [given] if found == [source] else [within(given, one.name) for one in found]


def _brought(knobs: BookSettings) -> Path:
    return orders.bring_book(knobs.book, knobs.group(BookOutput))


def _groups(knobs: BookSettings) -> BookGroups:
    source = _brought(knobs)
    above = folder_above(knobs.book) if is_remote(knobs.book) else str(source.parent)
    return knobs.groups(orders.plan_of(knobs.book), beside=knobs.book if source.is_dir() else above)


def _outline(all_settings: list[BookSettings], *, write: bool, as_json: bool) -> int:
    """
    Show what is in each book; *write* a plan beside each that has none.
    """
    told = []
    for knobs in all_settings:
        chosen = knobs.group(BookChoice)
        source = _brought(knobs)
        plan = orders.plan_of(chosen.book)
        book, cutting = orders.read_book(chosen, plan)
        said = books.outline(book, cutting=cutting, model=knobs.model, speed=knobs.speed)
        if write:
            name = edition.plan_name(source, others=[] if source.is_dir() else books_beside(chosen.book))
            said["plan"] = _written(chosen.book, name, books.write_plan(book, plan))
        told.append(said)
    if as_json:
        print(json.dumps(told if len(told) > 1 else told[0], ensure_ascii=False))
        return ExitCode.OK
    print("\n\n".join(books.table(said) for said in told))
    for said in told:
        if write:
            print(f"Written: {said['plan']}", file=sys.stderr)
    return ExitCode.OK


def _written(book: str, name: str, text: str) -> str:
    with storing():
        place = put_beside(book, name, text)
    if place is None:
        raise UsageError(f"{name} is there already, beside {book}.", "Edit it, or move it away to have a new one.")
    return place


def narrate_books(groups: list[BookGroups], *, as_json: bool) -> int:
    """
    Refuse what can be refused in any of the books, then run the flow for one after the other.
    """
    gc.disable()  # of all that is imported and read until the flow runs, nothing is garbage
    made: dict[Path, str] = {}
    for one in reversed(groups):
        order = orders.order_ahead(one)
        other = made.setdefault(order.out, one.book.book)
        if other != one.book.book:
            raise UsageError(
                f"{one.book.book} and {other} would both go to {order.out}.",
                "Give one another title in its plan.",
            )
    try:
        if not groups[0].voice.credentials:  # a block is looked up where Prefect is
            settings.account().key  # noqa: B018  # refuses a missing key
    except KeyRefused as error:
        if isinstance(order, BookOrder):
            orders.leave_refused(BookProduction(order), error=str(error), as_json=as_json)
        raise
    settings.prepare_prefect()

    from flows import studio

    wait = studio.keep_history()

    from flows import running

    wait()
    gc.freeze()
    gc.enable()
    return running.run_books(groups, as_json=as_json)
