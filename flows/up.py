"""
The commands of a standing studio: `narrate up` is all of it, `narrate setup` what deployments need on a server that is there.

Prefect is imported once a command is known, which `flows.commands` tells why.
"""

import argparse
import asyncio
import shlex
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows import settings
from flows.narration.errors import ExitCode

PORT = 4200
"""Where Prefect's server listens unless it is told otherwise."""


def add_to(commands: Any) -> None:
    """
    Add the two commands to the parser's.
    """
    about = "Run a working studio until stopped: Prefect's server with its UI, a worker, and the deployments of prefect.yaml."
    up = commands.add_parser(
        "up",
        help=about,
        description=about,
        epilog="Ctrl-C takes no new runs and waits for those under way, for a library's with all its books; a second one ends "
        "them, and the next `narrate up` goes on with them. Relative paths mean the folder it is started in. "
        "A server that PREFECT_API_URL names is used.",
    )
    up.add_argument("--port", type=_port, default=PORT, help=f"Port of the UI and the API, 0 picks one. Default: {PORT}.")
    up.add_argument(
        "--prefect-file",
        type=Path,
        metavar="FILE",
        help="What is deployed. Default: prefect.yaml of Narrate's here, or else the one that came with it.",
    )
    up.add_argument(
        "--health-port", type=_port, metavar="PORT", help="Port to tell at /health whether it works. Default: none."
    )
    up.add_argument(
        "--listen-port",
        type=_port,
        metavar="PORT",
        help="Port at which what was made is served to this machine's browsers. Default: the one after the UI's, or any.",
    )
    up.set_defaults(command=_up)

    about = "Make what deployments need on a Prefect server: work pool, type of the block, automation."
    setup = commands.add_parser("setup", help=about, description=about)
    setup.add_argument("--type", choices=["process", "docker"], default="process", help="Type of the pool. Default: process.")
    setup.set_defaults(command=_setup)


def _port(told: str) -> int:
    if told.isascii() and told.isdigit() and int(told) < 2**16:
        return int(told)
    raise argparse.ArgumentTypeError(f"{told!r} is no port: a number from 0 to 65535")


def _up(arguments: argparse.Namespace) -> int:
    settings.prepare_studio(health_port=arguments.health_port)

    from flows import studio

    standing = studio.stand(port=arguments.port)

    from flows import alerts, deploying, schedules, serving, working  # while the server comes up
    from flows.credentials import BLOCK

    file = deploying.find(arguments.prefect_file)
    standing.wait()
    if standing.joined or (not standing.started and asyncio.run(working.beside(deploying.POOLS["process"]))):
        asyncio.run(deploying.refuse_another_folder(standing.ui))
    _say(f"The Prefect server {'is started' if standing.started else 'was there'}; its UI is at {standing.ui}.")

    async def prepared() -> None:
        for line in await deploying.setup("process"):
            _say(line)
        if not (settings.account().has_key or await deploying.has_key()):
            _say(f"There is no API key yet: make the block {BLOCK} at {standing.ui}/blocks, or set FISH_API_KEY here.")

    asyncio.run(prepared())
    alerts.install({})
    before = asyncio.run(schedules.decided(deploying.POOLS["process"]))
    try:
        studio.deploy(file)
    finally:
        for line in asyncio.run(schedules.restore(before, deploying.POOLS["process"])):
            _say(line)
    _say(f"Deployed what {file} describes; paths are relative to {Path.cwd()}.")
    if standing.started:  # at last, so that the server's automations hear of it
        for name in asyncio.run(working.take_over(deploying.POOLS["process"])):
            _say(f"“{name}” was under way when the last studio ended: it goes on.")
    if missing := deploying.missing(file):
        _say(
            f"What they are given to read is not there yet: {', '.join(missing)}. Put it there, or name others in a run's form."
        )
    # To a browser that looks at another machine's UI the address would mean its own.
    port = arguments.listen_port if arguments.listen_port is not None else (urlsplit(standing.ui).port or 80) % 65535 + 1
    served = serving.for_runs(port=port, say=_say) if standing.here else nullcontext()
    if not standing.here:
        _say("What is made is not served to browsers, as Prefect's server is elsewhere; served_at makes links.")
    with served, redirect_stdout(sys.stderr):  # what runs print
        return asyncio.run(
            working.work(
                deploying.POOLS["process"],
                healthcheck=arguments.health_port is not None,
                ready=lambda: print(f"ready {standing.ui}", file=sys.__stdout__, flush=True),
                say=_say,
                gone=standing.gone,
            )
        )


def _setup(arguments: argparse.Namespace) -> int:
    settings.prepare_prefect()

    from flows import studio

    wait = studio.keep_history()

    from flows import alerts, deploying

    wait()
    for line in asyncio.run(deploying.setup(arguments.type)):
        _say(line)
    alerts.install({})
    file = shlex.quote(str(deploying.find(None, arguments.type)))
    _say(f"Next: prefect deploy --all --no-prompt --prefect-file {file}")
    return ExitCode.OK


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
