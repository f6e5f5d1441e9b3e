"""
The commands around a Prefect server: `narrate alerts`, which tells people of runs, and `narrate watch`, which starts them.
"""

import argparse
import json
import sys
from typing import Any

from flows import settings
from flows.narration.errors import ExitCode, UsageError

CHANNELS = {
    "slack": "Incoming webhook of Slack.",
    "mail": "Mail server and receiver, as mailtos://USER:PASSWORD@smtp.example.org?to=a@example.org (Apprise's way).",
    "webhook": "Address that Prefect's server tells by POST of JSON, unsigned.",
    "signed-webhook": "Address that the runs themselves tell by signed POST; prints its secret when it is new.",
}
"""Where messages go, and what their addresses are."""


def add(commands: Any) -> None:
    """
    Add them to the *commands* of the command line.
    """
    alerts = commands.add_parser("alerts", help="Tell people of runs by Slack, mail and webhooks: install, list, remove.")
    actions = alerts.add_subparsers(metavar="ACTION", required=True)
    about = "Put the automations on the Prefect server, for the channels named here and those installed before."
    install = _command(actions, "install", _install, about)
    for channel, told in CHANNELS.items():
        install.add_argument(f"--{channel}", dest=channel, metavar="URL", help=told)
    listing = _command(actions, "list", _list, "List the channels and automations there are.")
    listing.add_argument("--json", action="store_true", help="Print them as JSON on standard output.")
    remove = _command(actions, "remove", _remove, "Take channels away, or all of them with their automations.")
    remove.add_argument("channels", metavar="CHANNEL", nargs="*", help=f"One of {', '.join(CHANNELS)}; all by default.")

    watch = _command(commands, "watch", _watch, "Start a run of a deployment when scripts land in a folder and settle.")
    watch.add_argument(
        "folder",
        metavar="FOLDER",
        help="Folder to watch, which the worker must see by the same path; or a URI such as s3://bucket/in.",
    )
    watch.add_argument(
        "--deployment", default="narrate/narrate", metavar="NAME",
        help="What is run, with FOLDER for its scripts. Default: narrate/narrate.",
    )  # fmt: skip
    watch.add_argument(
        "--settle", type=_seconds, default=10.0, metavar="SECONDS",
        help="Seconds without a change after which the scripts are complete. Default: 10.",
    )  # fmt: skip


def _command(commands: Any, name: str, call: Any, about: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    made.set_defaults(command=call)
    return made


def _seconds(told: str) -> float:
    try:
        seconds = float(told)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{told!r} is no number of seconds from 0.1 to 3600")
    return seconds


def _require_server() -> None:
    settings.prepare_prefect()

    from flows import studio

    studio.require_server()


def _install(arguments: argparse.Namespace) -> int:
    _require_server()

    from flows import alerts

    given = {channel: address for channel in CHANNELS if (address := getattr(arguments, channel))}
    secret = alerts.install(given)
    if secret:
        print(secret)
        _say("The signed webhook's secret is printed once: give it to the receiver, which checks signatures with it.")
    _tell(alerts.installed())
    return ExitCode.OK


def _list(arguments: argparse.Namespace) -> int:
    _require_server()

    from flows import alerts

    found = alerts.installed()
    if arguments.json:
        print(json.dumps(found))
    else:
        _tell(found)
    return ExitCode.OK


def _remove(arguments: argparse.Namespace) -> int:
    unknown = [channel for channel in arguments.channels if channel not in CHANNELS]
    if unknown:
        raise UsageError(f"There is no channel “{unknown[0]}”.", f"The channels are {', '.join(CHANNELS)}.")
    _require_server()

    from flows import alerts

    alerts.remove(arguments.channels)
    _tell(alerts.installed())
    return ExitCode.OK


def _tell(found: dict[str, list[str]]) -> None:
    for what, names in found.items():
        _say(f"{what}: {', '.join(names) or 'none'}")


def _watch(arguments: argparse.Namespace) -> int:
    _require_server()

    from flows.watch import Watcher

    watcher = Watcher(arguments.folder, deployment=arguments.deployment, say=lambda line: print(line, flush=True))
    _say(f"Watching {arguments.folder}; Ctrl-C ends it.")
    watcher.watch(arguments.settle)
    return ExitCode.OK


def _say(line: str) -> None:
    print(line, file=sys.stderr)
