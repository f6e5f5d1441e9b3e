"""
Every knob: type, default, unit, one sentence. The only reader of the environment, and what sets it for Prefect.

The knobs of a run stand in `flows.knobs`; `Settings` is all of them together, each with an option of the command line and a
variable `NARRATE_…`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from flows.knobs import (
    BookChoice,
    BookGroups,
    BookOutput,
    Groups,
    Limits,
    Output,
    Scripts,
    VoiceChoice,
    VoiceKnobs,
)
from flows.narration.address import HOSTED_API, checked_address
from flows.narration.books import BookPlan
from flows.narration.errors import KeyRefused, UsageError
from flows.narration.files import legible
from flows.narration.forms import Sparse
from flows.narration.links import Links
from flows.narration.speech import Delivery
from flows.narration.storage import within

Group = TypeVar("Group", bound=BaseModel)

PREFECT = {
    # Unbatched, the embedded server loses task runs when a flow ends: 170 of 200 were kept, batched all of them.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    # By default flow runs are kept for ever; events for 7 days in any case.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(365 * 24 * 3600),
    # In memory, a lease held while the server restarts is never given back.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # Every 180 s by default: how long a run that fell silent is taken for alive follows from it (automation.yaml).
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # A cold start on two busy cores takes longer than the 20 s that are the default.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
"""What Prefect is set to wherever a command is started from; the same as in `prefect.toml`, and any of it may be overridden."""

STUDIO = {
    # Every 10 s by default, in which a person who has started a run looks at nothing.
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # What is due later than now is taken when it is due: at the end of a studio nothing has been taken ahead.
    "PREFECT_WORKER_PREFETCH_SECONDS": "0",
    # Whoever asks for its health does so from this machine, or from the container it is in.
    "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
}
"""What the worker of `narrate up` is set to besides; any of it may be overridden."""


class _Grouped(BaseSettings):
    def group(self, kind: type[Group]) -> Group:
        """
        Pick the knobs of one group.
        """
        return checked(kind, {name: getattr(self, name) for name in kind.model_fields})


class Settings(Limits, Output, Delivery, VoiceKnobs, Scripts, _Grouped):
    """
    Every knob, from options of the command line first and the environment second.
    """

    model_config = SettingsConfigDict(env_prefix="NARRATE_", frozen=True, extra="ignore")

    def groups(self) -> Groups:
        """
        Sort all knobs into their groups.
        """
        return Groups(
            scripts=self.group(Scripts),
            voice=self.group(VoiceChoice),
            speech=self.group(Delivery),
            output=self.group(Output),
            limits=self.group(Limits),
        )


class BookSettings(Limits, BookOutput, Delivery, VoiceKnobs, BookChoice, _Grouped):
    """
    Every knob of a run over a book; *voice* and *plan* are of the book's own where it has them.
    """

    model_config = SettingsConfigDict(env_prefix="NARRATE_", frozen=True, extra="ignore")

    def groups(self, plan: BookPlan, *, beside: str) -> BookGroups:
        """
        Sort all knobs into their groups; the voice is that of the *plan* where none was given, its recordings *beside* it.
        """
        voice: dict[str, Any] = {name: getattr(self, name) for name in VoiceKnobs.model_fields}
        if not (self.reference or self.voice_id):
            voice["reference"] = [within(beside, clip) for clip in plan.voice.reference]
            voice["voice_id"] = plan.voice.id
            voice["voice_title"] = self.voice_title or plan.voice.title
            voice["transcript"] = self.transcript or plan.voice.transcript
        return BookGroups(
            book=self.group(BookChoice),
            voice=checked(VoiceChoice, voice),
            speech=self.group(Delivery),
            output=self.group(BookOutput),
            limits=self.group(Limits),
            plan=plan,
        )


class Account(BaseSettings):
    """
    The account at Fish Audio. No flow has it as a parameter, since Prefect stores those; its `repr` does not show the key.
    """

    model_config = SettingsConfigDict(env_prefix="FISH_", frozen=True, extra="ignore", hide_input_in_errors=True)

    api_key: SecretStr | None = Field(default=None, description="API key of the Fish Audio account.")
    allow_http: bool = Field(default=False, description="Send the key over http as well, which anyone on the way can read.")
    base_url: str = Field(default=HOSTED_API, description="Address of the API.", validate_default=True)

    @field_validator("base_url")
    @classmethod
    def _fit_for_a_key(cls, address: str, info: ValidationInfo) -> str:
        """
        Refuse what a key must not be sent to.
        """
        return checked_address(address, allow_http=info.data.get("allow_http", False))

    @property
    def has_key(self) -> bool:
        """
        Whether there is a key.
        """
        return self.api_key is not None and bool(self.api_key.get_secret_value().strip())

    @property
    def key(self) -> str:
        """
        The key in plain text; `KeyRefused` where there is none.
        """
        if self.api_key is None or not self.has_key:
            raise KeyRefused(
                "There is no API key.", "Set FISH_API_KEY (https://fish.audio/app/api-keys), or try `narrate demo`."
            )
        return self.api_key.get_secret_value().strip()

    @property
    def host(self) -> str:
        """
        Host name of the API, a part of every take's key.
        """
        return urlsplit(self.base_url).hostname or ""


class WebhookKnobs(BaseSettings):
    """
    The webhook that is told of runs, signed; without it the block of `flows.webhook` counts.
    """

    model_config = SettingsConfigDict(env_prefix="NARRATE_WEBHOOK_", frozen=True, extra="ignore", hide_input_in_errors=True)

    url: SecretStr | None = Field(default=None, description="Address that is told of runs by signed POST requests.")
    secret: SecretStr | None = Field(
        default=None, description="What they are signed with: whsec_ and 24 to 64 bytes in Base64."
    )


class Served(BaseSettings):
    """
    What `narrate up` tells the runs of its worker: the *folder* whose narrations it serves, and at which *address*.
    """

    model_config = SettingsConfigDict(env_prefix="NARRATE_SERVED_", frozen=True, extra="ignore")

    folder: Path | None = Field(default=None, description="Folder that is served.")
    address: str = Field(default="", description="Address that it is served at.")


def links_of(output: Output | BookOutput, folder: Path) -> Links | None:
    """
    Tell where the files in the output folder, or in its copy *folder*, can be opened: where the knob says, or else where
    `narrate up` serves them.
    """
    if output.served_at:
        return Links(folder, output.served_at)
    told = Served()
    return Links(told.folder, told.address) if told.folder else None


def use_served(folder: Path, address: str) -> None:
    """
    Have the runs that this process starts link what is in *folder* to *address*.
    """
    os.environ |= {"NARRATE_SERVED_FOLDER": str(folder), "NARRATE_SERVED_ADDRESS": address}


def output(given: Mapping[str, Any]) -> Output:
    """
    Make the group of output knobs of what was *given*, else of the environment.
    """
    return checked(Output, {**from_environment(Output).model_dump(), **given})


def use_account(*, base_url: str, api_key: str) -> None:
    """
    Make this process, and what it starts, use another account.
    """
    os.environ |= {"FISH_BASE_URL": base_url, "FISH_API_KEY": api_key}


def account() -> Account:
    """
    Read the account from the environment.
    """
    return checked(Account, {})


def from_environment(kind: type[Group]) -> Group:
    """
    Make a group of knobs from its variables `NARRATE_…` and its defaults.
    """
    config = SettingsConfigDict(env_prefix="NARRATE_", frozen=True, extra="ignore")
    reader: type[BaseModel] = type(kind.__name__, (kind, BaseSettings), {"model_config": config, "__module__": __name__})
    sparse: type[Group] = type(kind.__name__, (Sparse, kind), {"__module__": __name__, "__doc__": kind.__doc__})
    return checked(sparse, checked(reader, {}).model_dump())


def checked(kind: type[Group], given: Mapping[str, Any]) -> Group:
    """
    Make *kind* of what was *given*; `UsageError` names every value that does not fit.
    """
    try:
        made = kind(**given)
    except ValidationError as error:
        faults = "; ".join(_fault(detail, kind) for detail in error.errors())
        raise UsageError(f"{faults}.", "`narrate COMMAND --help` tells what each option takes.") from None
    except SettingsError as error:
        name = re.search(r'field "(\w+)"', str(error))
        variable = f"NARRATE_{name[1].upper()}" if name else "A variable NARRATE_…"
        raise UsageError(
            f"{variable} is no JSON (it was {os.environ.get(variable)!r}).", """A list looks like '["one.wav", "two.wav"]'."""
        ) from None
    _refuse_bytes(made)
    return made


def _refuse_bytes(made: BaseModel) -> None:
    """
    Refuse what is not UTF-8 (a file's name may be any bytes): Prefect could store it nowhere.
    """
    for name, value in made.model_dump().items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text != text.encode("utf-8", "replace").decode():
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option}: {legible(text)} is not UTF-8.", "Rename the file, or type it anew.")


def _fault(detail: Any, kind: type[BaseModel]) -> str:
    """
    Tell what is wrong with one value by the name a user knows it by; what may be a key is not quoted.
    """
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return str(message)
    name = str(detail["loc"][0])
    if kind is Account:
        return f"FISH_{name.upper()}: {message}"
    option = "--" + name.replace("_", "-")
    return f"{option}: {message}" + ("" if name == "credentials" else f" (it was {detail['input']!r})")


def prepare_prefect() -> None:
    """
    Set Prefect up as this project needs it; call before Prefect is imported. What is set already stays.
    """
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
    bypass_proxies()


def prepare_studio(*, health_port: int | None) -> None:
    """
    Set Prefect up for a worker in this process, which tells of its health at *health_port*; call before Prefect is imported.
    """
    for name, value in STUDIO.items():
        os.environ.setdefault(name, value)
    if health_port is not None:
        os.environ["PREFECT_WORKER_WEBSERVER_PORT"] = str(health_port)
    prepare_prefect()


def bypass_proxies() -> None:
    """
    Reach this machine's own addresses without the proxy that may be set for all others.
    """
    for name in ("NO_PROXY", "no_proxy"):
        there = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*there, "127.0.0.1", "localhost", "::1"]))


def use_prefect_api(url: str) -> None:
    """
    Have this process keep its run history at *url*, where there is no UI; call before Prefect is imported.
    """
    os.environ |= {"PREFECT_API_URL": url, "PREFECT_UI_URL": ""}


def use_studio(*, host: str, port: int) -> None:
    """
    Have this process, and the server that it starts, use the studio's address: the API is where the UI looks for it.
    """
    ui = f"http://{host}:{port}"
    os.environ |= {
        "PREFECT_API_URL": f"{ui}/api",
        "PREFECT_UI_URL": ui,
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"{ui}/api",
    }
