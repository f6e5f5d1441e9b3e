"""
What deployments need on a Prefect server, and where the file is that describes them.

Whatever is there already stays as somebody made it: a second time, nothing changes.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from flows.credentials import BLOCK, SLUG, FishAudioCredentials
from flows.narration.errors import UsageError
from flows.narration.storage import is_remote

PoolType = Literal["process", "docker"]

POOLS: dict[PoolType, str] = {"process": "narrate", "docker": "narrate-docker"}
"""The work pools that prefect.yaml and prefect-docker.yaml name."""

FILES: dict[PoolType, str] = {"process": "prefect.yaml", "docker": "prefect-docker.yaml"}
"""What describes the deployments for a pool."""

WORKING_DIRECTORY = "prefect.deployments.steps.set_working_directory"
"""The step in which a deployment says what its paths are relative to."""

PROJECT = "narrate"
"""What our prefect.yaml says under `name`, so that another project's is not taken for it."""


def came_with(name: str) -> Path:
    """
    Find a file that comes with Narrate: beside the package's modules in an installation, above them in a checkout.
    """
    here = Path(__file__).parent
    return next(path for path in (here / name, here.parent / name) if path.is_file())


def find(given: Path | None, kind: PoolType = "process") -> Path:
    """
    Find the file that describes the deployments: the one that was *given*, ours in this folder, or the one that came with us.
    """
    if given is not None:
        if not given.is_file():
            raise UsageError(f"{given} is not there.", "--prefect-file names a file like prefect.yaml.")
        return given
    here = Path(FILES[kind])
    return here if here.is_file() and _project(here) == PROJECT else came_with(here.name)


def _project(file: Path) -> str | None:
    """
    Read whose file it is; `UsageError` where that cannot be told.
    """
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{file} cannot be read: {said}.", "Mend it, or name another with --prefect-file.") from error
    return str(told.get("name")) if isinstance(told, dict) else None


def missing(file: Path) -> list[str]:
    """
    Name the paths that the deployments of *file* are given to read, and that are not there.
    """
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    wanted: list[str] = []
    for deployment in told.get("deployments") or []:
        groups = deployment.get("parameters") or {}
        for group, knob in (("scripts", "scripts"), ("book", "book"), ("books", "books"), ("voice", "reference")):
            knobs = groups.get(group)
            named = knobs.get(knob) if isinstance(knobs, dict) else None  # a flow of somebody's own may have others
            listed = named if isinstance(named, list) else [named]
            wanted += [path for path in listed if isinstance(path, str) and "{{" not in path and not is_remote(path)]
    return [path for path in dict.fromkeys(wanted) if not os.path.exists(path)]  # noqa: PTH110  # where one may not look, too


async def setup(kind: PoolType) -> list[str]:
    """
    Make what is not there yet, and tell of each thing in a sentence.
    """
    async with get_client() as client:
        return [
            await _pool(client, kind),
            await _block_type(client),
            await _automation(client, yaml.safe_load(came_with("automation.yaml").read_text(encoding="utf-8"))),
        ]


async def has_key() -> bool:
    """
    Tell whether the block with the account's key is there.
    """
    async with get_client() as client:
        try:
            await client.read_block_document_by_name(BLOCK, SLUG, include_secrets=False)
        except ObjectNotFound:
            return False
    return True


async def refuse_another_folder(ui: str) -> None:
    """
    Raise `UsageError` where the deployments of the studio whose *ui* that is have another folder than this: they would change
    over to this one, runs that are due among them.
    """
    async with get_client() as client:
        try:
            there = await client.read_deployment_by_name("narrate/narrate")
        except ObjectNotFound:
            return
    told = [step.get(WORKING_DIRECTORY, {}).get("directory") for step in there.pull_steps or []]
    folder = next((Path(found) for found in told if found), Path.cwd())
    if folder != Path.cwd():
        raise UsageError(
            f"A studio is up already, in {folder}; its UI is at {ui}.",
            "End it with Ctrl-C where it runs, or start its runs there; their form takes any folder.",
        )


async def _pool(client: PrefectClient, kind: PoolType) -> str:
    name = POOLS[kind]
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        template = await get_default_base_job_template_for_infrastructure_type(kind)
        with suppress(ObjectAlreadyExists):  # somebody was faster
            await client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template or {}))
        return f"Made the work pool {name}, of type {kind}."
    if pool.type != kind:
        raise UsageError(
            f"The work pool {name} is of type {pool.type}, not {kind}.",
            f"Delete it (prefect work-pool delete {name}), or give it another name in your prefect.yaml.",
        )
    paused = " It is paused: it starts no runs until somebody resumes it in the UI." if pool.is_paused else ""
    return f"The work pool {name} is there.{paused}"


async def _block_type(client: PrefectClient) -> str:
    await FishAudioCredentials.aregister_type_and_schema(client=client)
    return f"Blocks of the type {SLUG} can be made."


async def _automation(client: PrefectClient, told: dict[str, Any]) -> str:
    """
    Make the automation, or make it ours again; one that a person turned off stays off.
    """
    wanted = AutomationCore.model_validate(told)
    there = await client.read_automations_by_name(wanted.name)
    if not there:
        await client.create_automation(wanted)
        return f"Made the automation {wanted.name}."
    wanted.enabled = there[0].enabled
    if there[0].model_dump(exclude={"id"}) != wanted.model_dump():
        await client.update_automation(there[0].id, wanted)
        return f"Renewed the automation {wanted.name}."
    return f"The automation {wanted.name} is there."
