"""
The commands that tidy up: `narrate takes verify`, `narrate takes gc` and `narrate voices prune`.
"""

import argparse
import asyncio
import json
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any

from flows import settings
from flows.knobs import Output
from flows.narration import housekeeping
from flows.narration.errors import ExitCode, ScriptsFailed, UsageError
from flows.narration.locks import TAKES_LOCK, held
from flows.narration.report import counted
from flows.narration.shared import SharedTakeStore, open_store
from flows.narration.takes import Kept, TakeStore
from flows.narration.tidying import tidied
from flows.options import command_in, json_option, options

_UNITS = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}

DAY = "1d"
"""How old a voice is at least that is taken for an orphan."""


def add_takes(commands: Any) -> None:
    """
    Add `narrate takes` to the *commands* of the command line.
    """
    takes = commands.add_parser("takes", help="Check the take store, or remove what nothing needs.")
    actions = takes.add_subparsers(metavar="ACTION", required=True)

    verify = command_in(actions, "verify", _verify, "Read every take, and name each that is not what was kept.")
    _store_options(verify)
    json_option(verify)

    about = "Remove takes that no output folder needs: those that are old, or the oldest of too many."
    gc = command_in(actions, "gc", _gc, about)
    gc.add_argument(
        "outs",
        metavar="OUT",
        nargs="+",
        help="Every output folder that is narrated with this store, a path or a URI: what they need stays.",
    )
    _store_options(gc)
    gc.add_argument(
        "--older-than", type=_age, metavar="AGE", help="Remove what was recorded longer ago than this: 90d, 12h, 4w."
    )
    gc.add_argument(
        "--keep-gb", type=_gigabytes, metavar="GB", help="Remove the oldest until no more than so many GB are left."
    )
    gc.add_argument("--dry-run", action="store_true", help="Tell what would be removed, and remove nothing.")
    json_option(gc)


def add_prune(actions: Any) -> None:
    """
    Add `narrate voices prune` to the *actions* of `narrate voices`.
    """
    about = "Delete voices made here that no output folder names."
    prune = command_in(
        actions,
        "prune",
        _prune,
        about,
        epilog="What only a deployment, a plan or a command line names is not seen: look at --dry-run first.",
    )
    prune.add_argument(
        "outs",
        metavar="OUT",
        nargs="+",
        help="Every output folder of this account, a path or a URI: what they name stays.",
    )
    prune.add_argument(
        "--older-than", type=_age, metavar="AGE", default=_age(DAY), help=f"Leave younger voices alone. Default: {DAY}."
    )
    prune.add_argument("--dry-run", action="store_true", help="Tell what would be deleted, and delete nothing.")
    prune.add_argument("--yes", action="store_true", help="Do not ask first.")
    json_option(prune)


def _store_options(command: argparse.ArgumentParser) -> None:
    options(command, (Output,), but=set(Output.model_fields) - {"out", "takes"})


def _age(told: str) -> float:
    found = re.fullmatch(r"(\d+)([hdw])", told)
    if found is None:
        raise argparse.ArgumentTypeError(f"{told!r} is no age: one looks like 90d, 12h or 4w")
    return float(found[1]) * _UNITS[found[2]]


def _gigabytes(told: str) -> int:
    try:
        given = float(told)
    except ValueError:
        given = -1.0
    if not 0 <= given < 1e9:
        raise argparse.ArgumentTypeError(f"{told!r} is no number of GB")
    return int(given * 1e9)


def _store(arguments: argparse.Namespace) -> TakeStore:
    given = {name: getattr(arguments, name) for name in ("out", "takes") if hasattr(arguments, name)}
    store = open_store(settings.output(given).takes_uri)
    with _reached(store):
        if not store.is_there:
            raise UsageError(
                f"There is no take store at {store.where}.", "Name it with --takes, or the output folder with --out."
            )
    return store


@contextmanager
def _reached(store: TakeStore) -> Iterator[None]:
    """
    Tell what the disk or the storage refuses in the block.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{error.filename or store.where} cannot be reached: {error.strerror or error}.",
            "Check the disk, or the network and the credentials, and try again.",
        ) from error


def _verify(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    count, found = 0, {}
    with _reached(store):
        for key, fault in housekeeping.verified(store):
            count += 1
            if fault is not None:
                found[key] = fault
    if arguments.json:
        print(json.dumps({"takes": count, "damaged": found}))
    else:
        for fact in found.values():
            print(fact)
        _say(f"{counted(count, 'take')}, {len(found)} of them damaged.")
    if found:
        raise ScriptsFailed(
            f"{counted(len(found), 'take')} of {count} in {store.where} cannot be used.",
            "The next run that needs one records it anew, and pays for it.",
        )
    return ExitCode.OK


def _gc(arguments: argparse.Namespace) -> int:
    if arguments.older_than is None and arguments.keep_gb is None:
        raise UsageError("Nothing says what may go.", "Give --older-than 90d or --keep-gb 50.")
    store = _store(arguments)

    measure = {"older_than": arguments.older_than, "keep_bytes": arguments.keep_gb}

    def removed(still: Callable[[], bool]) -> tuple[list[Kept], list[Kept]]:
        """
        Choose and remove.
        """
        takes = [*store.kept()]
        going = housekeeping.superfluous(takes, housekeeping.needed(arguments.outs, store=store), **measure)
        if not arguments.dry_run:
            housekeeping.remove(going, store=store, held=still)
            if isinstance(store, SharedTakeStore):
                copies = housekeeping.remove_copies(store, **measure)
                size = sum(copy.size for copy in copies)
                if copies:
                    _say(f"{counted(len(copies), 'copied take')} removed from this host's cache: {size / 1e6:.1f} MB.")
        return takes, going

    async def alone() -> tuple[list[Kept], list[Kept]]:
        """
        Do so while no run has the store, which is let go when nothing more is being removed. A look waits for nobody.
        """
        if arguments.dry_run:
            return removed(lambda: False)
        async with _to_itself(store) as still:
            stopped = threading.Event()
            work = asyncio.ensure_future(asyncio.to_thread(removed, lambda: not stopped.is_set() and still()))
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                stopped.set()
                await asyncio.gather(work, return_exceptions=True)
                raise

    with _reached(store):
        takes, going = asyncio.run(alone())
    size, left = sum(take.size for take in going), sum(take.size for take in takes) - sum(take.size for take in going)
    if arguments.json:
        print(
            json.dumps(
                {"removed": [asdict(take) for take in going], "bytes": size, "bytes_left": left, "dry_run": arguments.dry_run}
            )
        )
    else:
        for take in going:
            print(f"{take.key}  {take.size}")
    what = "would be removed" if arguments.dry_run else "removed"
    _say(f"{len(going)} of {counted(len(takes), 'take')} {what}: {size / 1e6:.1f} MB; {left / 1e6:.1f} MB are left.")
    return ExitCode.OK


@asynccontextmanager
async def _to_itself(store: TakeStore) -> AsyncIterator[Callable[[], bool]]:
    """
    Have the store while no run has it, on any host; what is yielded says whether that is so still.
    """

    def waiting(for_whom: str) -> None:
        """
        Say so.
        """
        _say(f"{for_whom} has the store; waiting until it is done.")

    if isinstance(store, SharedTakeStore):
        async with tidied(store, waiting=waiting) as still:
            yield still
    else:
        async with held(store.folder, TAKES_LOCK, waiting=lambda: waiting("A run")):
            yield lambda: True


def _prune(arguments: argparse.Namespace) -> int:
    from flows.commands import ask_service  # which adds this command

    listing = ask_service(lambda speech: speech.voices())
    going = housekeeping.orphans(listing.voices, arguments.outs, older_than=arguments.older_than)
    if arguments.json:
        print(json.dumps([asdict(voice) for voice in going], ensure_ascii=False))
    else:
        for voice in going:
            print(f"{voice.id}  {voice.state:<8}  {voice.title}")
    if not listing.whole:
        _say("The account has more: the service lists no further.")
    if arguments.dry_run or not going:
        _say(f"{counted(len(going), 'voice')} that no output folder names.")
        return ExitCode.OK
    if not arguments.yes and not _agreed(len(going)):
        return ExitCode.OK
    for voice in going:
        ask_service(lambda speech, voice_id=voice.id: speech.delete_voice(voice_id))
        _say(f"Deleted {voice.id}.")
    return ExitCode.OK


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("Deleting a voice cannot be undone.", "Add --yes where nobody can be asked.")
    print(f"Delete {counted(count, 'voice')} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
