"""
The command `narrate retake`: one sentence recorded anew, and made again only what it touches.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows import orders
from flows.book_commands import narrate_books
from flows.knobs import BookGroups
from flows.narration import places
from flows.narration.retakes import FILE, Retakes
from flows.options import command_in, json_option


def add(commands: Any) -> None:
    """
    Add it to the *commands* of the command line.
    """
    about = "Record one sentence anew, keep the take of before, and make again only what it touches."
    retake = command_in(commands, "retake", _retake, about)
    retake.add_argument("out", metavar="OUT", type=Path, help="Folder of narrations, or of a book, that index.html is in.")
    retake.add_argument(
        "--at",
        required=True,
        metavar="CHAPTER:SENTENCE",
        help="Name or number of the chapter or script, and the number of the sentence, as index.html shows them.",
    )
    json_option(retake)


def _retake(arguments: argparse.Namespace) -> int:
    from flows.commands import narrate_scripts  # which adds this command

    out = arguments.out.resolve()
    spot = places.find(out, arguments.at)
    asked = Retakes.of(out).again(spot.script, spot.texts, spot.place)
    groups = orders.remembered(out)
    asked.write(out / FILE)
    # A person has just asked for it.
    groups = replace(groups, limits=groups.limits.model_copy(update={"approve_above_usd": None}))
    if isinstance(groups, BookGroups):
        return narrate_books([groups], as_json=arguments.json)
    return narrate_scripts(groups, as_json=arguments.json)
