"""
The commands: their options, made from the knobs of `flows.settings`, and what each calls.

Whatever a command can refuse without Prefect it refuses before Prefect is imported, which takes a second, and before a
server is started, which takes ten.
"""

import argparse
import asyncio
import csv
import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from flows import book_commands, housekeeping_commands, orders, retake_command, settings, studio_commands, up
from flows.knobs import Groups, Limits, Output, Scripts, VoiceKnobs
from flows.narration import cost, ledger, plan, report
from flows.narration.errors import ExitCode, KeyRefused, UsageError, storing
from flows.narration.manifest import RUN, Manifest
from flows.narration.mirror import bring_records
from flows.narration.production import Production
from flows.narration.retakes import Retakes
from flows.narration.shared import open_store
from flows.narration.speech import Delivery, Speech, Voice
from flows.narration.takes import key_by
from flows.narration.voice import REFERENCE_TAG
from flows.options import CONSENT, command_in, help_of, json_option, options
from flows.sandbox.scenarios import SCENARIOS
from flows.settings import Settings

CHECKOUTS = (Path.cwd(), Path(__file__).parents[1])
"""Where the example scripts and the reference may be."""

DEMO_KEY = "sandbox"


def parser() -> argparse.ArgumentParser:
    """
    Make the parser of all commands.
    """
    top = argparse.ArgumentParser(
        prog="narrate",
        description="Clone a voice once through Fish Audio, then narrate folders of scripts with it.",
        epilog="Environment: FISH_API_KEY, FISH_BASE_URL, FISH_ALLOW_HTTP, and NARRATE_… for each option. " + CONSENT,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    demo = command_in(commands, "demo", _demo, "Narrate data/scripts with the sandbox, into data/demo: no key, no cost.")
    demo.add_argument("--voice", choices=["neural", "quick"], default="neural", help="Voice of the sandbox. Default: neural.")
    json_option(demo)

    run = command_in(commands, "run", _run, "Narrate a script or a folder of scripts.", epilog=CONSENT)
    run.add_argument("scripts", metavar="SCRIPTS", help=help_of(Scripts.model_fields["scripts"]))
    options(run, (Scripts, VoiceKnobs, Delivery, Output, Limits))
    run.add_argument("--yes", action="store_true", help="Go on above --approve-above-usd, too.")
    json_option(run)

    book_commands.add(commands)
    retake_command.add(commands)

    estimate = command_in(commands, "estimate", _estimate, "Tell what narrating would cost; sends nothing, needs no key.")
    estimate.add_argument("scripts", metavar="SCRIPTS", help=help_of(Scripts.model_fields["scripts"]))
    options(estimate, (Scripts, VoiceKnobs, Delivery, Output), but=set(VoiceKnobs.model_fields) - {"voice_id"})
    json_option(estimate)

    sums = command_in(commands, "ledger", _ledger, "Tell what was paid, from the ledger beside the take store.")
    options(sums, (Output,), but=set(Output.model_fields) - {"out", "takes"})
    sums.set_defaults(scripts=".")  # none is read
    keys = sums.add_argument_group("what is summed")
    keys.add_argument(
        "--by", nargs="*", choices=list(ledger.KEYS), default=["day", "voice", "script", "model"],
        help="What sums are told by; nothing gives the total alone. Default: day voice script model.",
    )  # fmt: skip
    keys.add_argument("--since", type=_day, metavar="DATE", help="First day (UTC), as 2026-01-31.")
    keys.add_argument("--until", type=_day, metavar="DATE", help="Last day (UTC).")
    forms = sums.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="Print CSV on standard output.")
    json_option(forms)

    _voices(commands)
    housekeeping_commands.add_takes(commands)
    studio_commands.add(commands)

    up.add_to(commands)

    sandbox = command_in(commands, "sandbox", _sandbox, "Run the stand-in of the Fish Audio API until stopped.")
    sandbox.add_argument("--port", type=int, default=8400, help="Port to listen at, 0 picks one. Default: 8400.")
    sandbox.add_argument("--voice", choices=["neural", "quick"], default="neural", help="How it speaks. Default: neural.")
    sandbox.add_argument("--state", type=Path, metavar="DIR", help="Folder its voices are kept in. Default: memory.")
    sandbox.add_argument("--scenario", choices=SCENARIOS, help="Bad days as bundles of knobs. Default: none.")
    return top


def _version() -> str:
    try:
        return metadata.version("narrate-flows")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _voices(commands: Any) -> None:
    voices = commands.add_parser("voices", help="List, show, delete or prune the account's voices.", description=CONSENT)
    actions = voices.add_subparsers(metavar="ACTION", required=True)
    json_option(command_in(actions, "list", _voices_list, "List the account's voices, and which reference each was made from."))
    show = command_in(actions, "show", _voices_show, "Show one voice.")
    show.add_argument("voice_id", metavar="ID")
    json_option(show)
    delete = command_in(actions, "delete", _voices_delete, "Delete voices for good.")
    delete.add_argument("voice_ids", metavar="ID", nargs="+")
    delete.add_argument("--yes", action="store_true", help="Do not ask first.")
    housekeeping_commands.add_prune(actions)


def _day(told: str) -> date:
    try:
        return date.fromisoformat(told)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{told!r} is no day: one looks like 2026-01-31") from None


def _settings(arguments: argparse.Namespace) -> Settings:
    given = {name: value for name, value in vars(arguments).items() if name in Settings.model_fields}
    return settings.checked(Settings, given)


def _demo(arguments: argparse.Namespace) -> int:
    from flows import studio

    data = next((folder / "data" for folder in CHECKOUTS if (folder / "data/scripts").is_dir()), None)
    if data is None:
        raise UsageError("The example scripts are not here.", "Run `narrate demo` in a checkout of the project.")
    out = data / "demo"
    knobs = settings.checked(
        Settings,
        {
            "scripts": str(data / "scripts"),
            "reference": [str(data / "reference.wav")],
            "out": str(out),
            "voice_title": "Demo",
            "voice_id": None,
            "credentials": None,
            "instant": False,
            "takes": None,
            "budget": None,
            "approve_above_usd": None,
        },
    )
    _say("A stand-in of the Fish Audio API speaks here: its voice only leans towards the reference, it is no clone of it.")
    _say("What it charges is pretended: no money is spent, and no network is needed.")
    settings.bypass_proxies()
    with studio.sandbox(voice=arguments.voice, state=out / ".sandbox") as address:
        settings.use_account(base_url=address, api_key=DEMO_KEY)
        code = narrate_scripts(knobs.groups(), as_json=arguments.json)
    if code == ExitCode.OK:
        _say(f"Listen: the narrations are in {out}.")
    return code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.yes:
        arguments.approve_above_usd = None
    return narrate_scripts(_settings(arguments).groups(), as_json=arguments.json)


def narrate_scripts(groups: Groups, *, as_json: bool) -> int:
    """
    Refuse what can be refused, then run the flow beside a view of its progress.
    """
    gc.disable()  # of all that is imported and surveyed until the flow runs, nothing is garbage
    order = orders.order_ahead(groups)
    try:
        if not groups.voice.credentials:  # a block is looked up where Prefect is
            settings.account().key  # noqa: B018  # refuses a missing key
    except KeyRefused as error:
        orders.leave_refused(Production(order), error=str(error), as_json=as_json)
        raise
    settings.prepare_prefect()

    from flows import studio

    wait = studio.keep_history()

    from flows import running

    wait()
    gc.freeze()
    gc.enable()
    return running.run(groups, as_json=as_json)


def _estimate(arguments: argparse.Namespace) -> int:
    knobs = _settings(arguments)
    survey = orders.survey(scripts=knobs.group(Scripts), output=knobs.group(Output))
    output = knobs.group(Output)
    bring_records(output.out)
    voice_id = knobs.voice_id or _last_voice(output.folder)
    store = open_store(output.takes_uri)
    key_of = key_by(str(voice_id), delivery=knobs.group(Delivery), host=settings.account().host, store=store)
    told = plan.estimate(
        survey,
        model=knobs.model,
        speed=knobs.speed,
        store=store if voice_id else None,
        key_of=key_of if voice_id else None,
        retakes=Retakes.of(output.folder),
    )
    if arguments.json:
        print(json.dumps(asdict(told)))
    else:
        print("\n".join(_estimate_lines(told, scripts=len(survey.readings), model=knobs.model)))
    return ExitCode.OK


def _estimate_lines(told: plan.Estimate, *, scripts: int, model: str) -> Iterator[str]:
    counts = [(scripts, "script"), (told.segments, "segment"), (told.characters, "character")]
    yield f"{', '.join(report.counted(*each) for each in counts)}, about {told.hours:.2f} hours."
    yield f"{told.bytes} bytes to send once, {told.bytes_covered or 0} of them recorded already."
    yield f"{told.usd:.4f} USD with {model}, at the prices read on {cost.PRICES_READ}."


def _ledger(arguments: argparse.Namespace) -> int:
    with storing():
        folder = open_store(_settings(arguments).group(Output).takes_uri).ledgers()
    days = {name: day.isoformat() for name in ("since", "until") if (day := getattr(arguments, name)) is not None}
    sums = ledger.summed(folder, by=arguments.by, **days)
    (total,) = ledger.summed(folder, by=[], **days)
    if arguments.json:
        print(json.dumps({"by": arguments.by, "rows": sums if arguments.by else [], "total": total}, ensure_ascii=False))
    elif arguments.csv:
        writer = csv.DictWriter(sys.stdout, fieldnames=[*arguments.by, *total], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sums)
    else:
        report.print_sums(sums if arguments.by else [], total=total, by=arguments.by)
    return ExitCode.OK


def _last_voice(out: Path) -> str | None:
    last = Manifest.read(out / RUN)
    return last.voice.id if last and last.voice else None


def _voices_list(arguments: argparse.Namespace) -> int:
    listing = ask_service(lambda speech: speech.voices())
    found = listing.voices
    if arguments.json:
        print(json.dumps([asdict(voice) for voice in found], ensure_ascii=False))
    else:
        for voice in found:
            print(f"{voice.id}  {voice.state:<8}  {_made_from(voice):<16}  {voice.title}")
        _say(report.counted(len(found), "voice") + ".")
    if not listing.whole:
        _say("The account has more: the service lists no further.")
    return ExitCode.OK


def _voices_show(arguments: argparse.Namespace) -> int:
    voice = ask_service(lambda speech: speech.voice(arguments.voice_id))
    if arguments.json:
        print(json.dumps(asdict(voice), ensure_ascii=False))
    else:
        for name, value in asdict(voice).items():
            print(f"{name}: {', '.join(value) if isinstance(value, tuple) else value}")
    return ExitCode.OK


def _voices_delete(arguments: argparse.Namespace) -> int:
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise UsageError("Deleting a voice cannot be undone.", "Add --yes where nobody can be asked.")
        if input(f"Delete {len(arguments.voice_ids)} voice(s) for good? [y/N] ").strip().lower() not in ("y", "yes"):
            return ExitCode.OK
    for voice_id in arguments.voice_ids:
        ask_service(lambda speech, voice_id=voice_id: speech.delete_voice(voice_id))
        _say(f"Deleted {voice_id}.")
    return ExitCode.OK


def _made_from(voice: Voice) -> str:
    """
    First digits of the digest of the reference a voice was made from, or a dash.
    """
    return next((tag.removeprefix(REFERENCE_TAG) for tag in voice.tags if tag.startswith(REFERENCE_TAG)), "-")


def ask_service(question: Any) -> Any:
    """
    Ask the service one thing.
    """
    account = settings.account()

    async def asked() -> Any:
        """
        Open the door, ask, and close it.
        """
        async with Speech(key=account.key, base_url=account.base_url) as speech:
            return await question(speech)

    return asyncio.run(asked())


def _sandbox(arguments: argparse.Namespace) -> int:
    from flows.sandbox.server import serve

    try:
        serve(port=arguments.port, voice=arguments.voice, state=arguments.state, scenario=arguments.scenario)
    except (OSError, OverflowError) as error:
        raise UsageError(f"The sandbox cannot listen at port {arguments.port}: {error}.", "Choose another --port.") from error
    except ModuleNotFoundError as error:
        raise UsageError(str(error)) from error
    return ExitCode.OK


def _say(line: str) -> None:
    print(line, file=sys.stderr)
