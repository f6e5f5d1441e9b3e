"""
The command `narrate retake`: one sentence recorded anew, and made again only what it touches.
"""

import argparse
import asyncio
import sys
from math import inf
from pathlib import Path
from typing import Any

from flows import orders
from flows.book_commands import narrate_books
from flows.knobs import BookGroups
from flows.narration import cost, places
from flows.narration.brought import told_of
from flows.narration.errors import storing
from flows.narration.locks import RUN_LOCK, held
from flows.narration.mirror import Mirror
from flows.narration.places import Spot
from flows.narration.retakes import FILE, Retakes
from flows.options import command_in, json_option


def add(commands: Any) -> None:
    """
    Add it to the *commands* of the command line.
    """
    about = "Record one sentence anew, keep the take of before, and make again only what it touches."
    retake = command_in(commands, "retake", _retake, about)
    retake.add_argument("out", metavar="OUT", help="Folder of narrations, or of a book, that index.html is in.")
    retake.add_argument(
        "--at",
        required=True,
        metavar="CHAPTER:SENTENCE",
        help="Name or number of the chapter or script, and the number of the sentence, as index.html shows them.",
    )
    retake.add_argument("--yes", action="store_true", help="Go on above the run's --approve-above-usd, too.")
    json_option(retake)


def _retake(arguments: argparse.Namespace) -> int:
    from flows.commands import narrate_scripts  # which adds this command

    out, mirror = orders.made_at(arguments.out)
    with told_of(arguments.out, out):
        spot = places.find(out, arguments.at)
        Retakes.of(out)  # what cannot be read is refused before anybody is waited for
        groups = orders.remembered(out)
    asyncio.run(_asked(out, mirror, spot))
    # A person has just asked for the one segment; scripts may have changed as well.
    segment = cost.usd(cost.billed_bytes(spot.texts[spot.place]), model=groups.speech.model)
    orders.approve(inf if arguments.yes else segment)
    if isinstance(groups, BookGroups):
        return narrate_books([groups], as_json=arguments.json)
    return narrate_scripts(groups, as_json=arguments.json)


async def _asked(out: Path, mirror: Mirror | None, spot: Spot) -> None:
    """
    Have the segment at *spot* recorded anew by whichever run is next in *out*, when the one that is at work there is done.
    """
    waiting = f"Another run works in {out}; waiting until it is done."
    if mirror is None:
        async with held(out, RUN_LOCK, waiting=lambda: _say(waiting)):
            Retakes.of(out).again(*spot).write(out / FILE)
        return
    async with mirror.to_itself(say=_say):
        asked = Retakes.of(out).again(*spot).model_dump_json(indent=1) + "\n"
        with storing():
            await asyncio.to_thread(mirror.put, FILE, asked)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
