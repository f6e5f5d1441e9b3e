"""
What people decided about schedules in the Prefect UI, which outlives that the deployments are put on the server once more.

Prefect makes the schedules what the file says each time: one that somebody had switched off, or a deployment that was paused,
would run, and spend, again. A schedule of the file's that was changed or deleted is the file's again.
"""

from contextlib import suppress
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import get_current_settings
from pydantic import TypeAdapter

from flows.narration.files import replacing

PAGE = 200

Decided = dict[UUID, DeploymentResponse]
"""Deployments as they were, by their ids."""

_KEPT: TypeAdapter[Decided] = TypeAdapter(Decided)


async def decided(pool: str) -> Decided:
    """
    Read the schedules of all deployments of *pool*, and keep them in a file until they are restored.

    Where that file is there already, a studio was killed before it had restored them: they count as they were before it.
    """
    async with get_client() as client:
        before = {deployment.id: deployment for deployment in await _deployments(client, pool)}
        file = await _file(client, pool)
    with suppress(OSError, ValueError):
        before |= _KEPT.validate_json(file.read_bytes())
    with suppress(OSError), replacing(file) as temporary:  # a studio that is not killed needs none
        temporary.write_bytes(_KEPT.dump_json(before))
    return before


async def restore(before: Decided, pool: str) -> list[str]:
    """
    Switch and pause again what people switched and paused, and make again what they added; tell of each in a sentence.
    """
    told: list[str] = []
    async with get_client() as client:
        for deployment in await _deployments(client, pool):
            was = before.get(deployment.id)
            if was is None:
                continue
            if was.paused and not deployment.paused:
                await client.pause_deployment(deployment.id)
                told.append(f"{deployment.name} stays paused.")
            names = {*was.parameters, *deployment.parameters}
            others = sorted(name for name in names if was.parameters.get(name) != deployment.parameters.get(name))
            if others:
                told.append(f"Parameters of {deployment.name} are the file's; on the server were others: {', '.join(others)}.")
            for old in was.schedules:
                told += await _restored(client, deployment, old)
        file = await _file(client, pool)
    with suppress(OSError):
        file.unlink(missing_ok=True)
    return told


async def _file(client: PrefectClient, pool: str) -> Path:
    """
    Find the file of the server that has that *pool*.
    """
    return get_current_settings().home / f"narrate-decided-{(await client.read_work_pool(pool)).id}.json"


async def _restored(client: PrefectClient, deployment: DeploymentResponse, old: DeploymentSchedule) -> list[str]:
    now = next((new for new in deployment.schedules if _is_same(old, new)), None)
    if now is None:
        if old.slug is not None or not all(new.slug for new in deployment.schedules):
            # Of the file, which has it no more; or it cannot be told whose it is.
            return [f"A schedule of {deployment.name} that the file does not have was removed ({_told(old)})."]
        made = {name: getattr(old, name) for name in ("schedule", "active", "max_scheduled_runs", "parameters")}
        await client.create_deployment_schedules(deployment.id, [DeploymentScheduleCreate.model_validate(made)])
        return [f"A schedule that somebody added to {deployment.name} is kept."]
    if now.active == old.active:
        return []
    await client.update_deployment_schedule(deployment.id, now.id, active=old.active)
    return [f"A schedule of {deployment.name} stays switched {'on' if old.active else 'off'}."]


def _told(schedule: DeploymentSchedule) -> str:
    when = getattr(schedule.schedule, "cron", None) or type(schedule.schedule).__name__
    return f"{schedule.slug}, {when}" if schedule.slug else str(when)


def _is_same(old: DeploymentSchedule, new: DeploymentSchedule) -> bool:
    return new.slug == old.slug and (old.slug is not None or new.schedule == old.schedule)


async def _deployments(client: PrefectClient, pool: str) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    ours = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    while page := await client.read_deployments(work_pool_filter=ours, limit=PAGE, offset=len(found)):
        found += page
    return found
