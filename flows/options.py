"""
Options of commands, made from knobs: one that is not given stays with the environment or its default.
"""

import argparse
from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.knobs import BookChoice, BookOutput, Limits, Output, Scripts, VoiceKnobs
from flows.narration.speech import Delivery

CONSENT = "Only clone a voice whose owner consents: Fish Audio requires it, and so do many laws. Voices are created private."

TITLES: dict[type[BaseModel], str] = {
    Scripts: "what is narrated",
    BookChoice: "which book",
    VoiceKnobs: "whose voice",
    Delivery: "how it is spoken",
    Output: "what is made, and where",
    BookOutput: "what is made, and where",
    Limits: "what may be spent, in money and patience",
}


def command_in(commands: Any, name: str, call: Any, about: str, **more: Any) -> argparse.ArgumentParser:
    """
    Add a command that *call* does.
    """
    made: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about, **more)
    made.set_defaults(command=call)
    return made


def json_option(command: argparse._ActionsContainer) -> None:
    """
    Give a command `--json`.
    """
    command.add_argument("--json", action="store_true", help="Print the result as JSON on standard output.")


def options(command: argparse.ArgumentParser, groups: Sequence[type[BaseModel]], *, but: Collection[str] = ()) -> None:
    """
    Give *command* an option for each knob of *groups*; one that is not given stays with the environment or its default.
    """
    for group in groups:
        titled = command.add_argument_group(TITLES[group])
        for name, knob in group.model_fields.items():
            if name not in ("scripts", "book", *but):
                flag = f"--{name.replace('_', '-')}"
                titled.add_argument(flag, help=help_of(knob), default=argparse.SUPPRESS, **_kind(name, knob))


def _kind(name: str, knob: FieldInfo) -> dict[str, Any]:
    if knob.annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(knob.annotation) is list:
        return {"nargs": "+", "action": "extend", "metavar": "FILE"}
    if get_origin(knob.annotation) is Literal:
        return {"choices": get_args(knob.annotation)}
    return {"metavar": name.rpartition("_")[2].upper()}


def help_of(knob: FieldInfo) -> str:
    """
    Tell what a knob is, and its default.
    """
    nothing = knob.is_required() or knob.default is None or knob.default is False or knob.default == []
    told = "" if nothing else f" Default: {knob.default}."
    return f"{knob.description}{told}".replace("%", "%%")
