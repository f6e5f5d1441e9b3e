"""
The main path: one voice, a folder of scripts, a narration of each.

The work is done downstairs, in `flows.narration`; each task and its policy stand in `flows.tasks`. On a command line:
`narrate run SCRIPTS --reference FILE`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.credentials import account_of
from flows.knobs import Groups, Limits, Output, Scripts, VoiceChoice
from flows.names import named
from flows.narration.speech import Delivery
from flows.reporting import outcome
from flows.settings import from_environment
from flows.steps import begin, cast_voice, in_production, record_all


def _run_name() -> str:
    """
    Name a run after what it narrates and whose voice.
    """
    given: dict[str, Any] = flow_run.get_parameters()
    scripts, voice = Scripts.model_validate(given["scripts"]), VoiceChoice.model_validate(given["voice"])
    who = voice.voice_title or voice.voice_id or Path(voice.reference[0]).stem
    return named(f"narrate {Path(scripts.scripts).name} as {who}")


@flow(name="narrate", flow_run_name=_run_name)
async def narrate(
    scripts: Scripts,
    voice: VoiceChoice,
    speech: Delivery = from_environment(Delivery),
    output: Output = from_environment(Output),
    limits: Limits = from_environment(Limits),
) -> Mapping[str, Any] | State[Any]:
    """
    Narrate every script of a folder in one voice, sending only what was never recorded before.

    Only clone a voice whose owner consents. The result is the run's manifest, as in `run.json`.

    Args:
        scripts: What is narrated; a relative path, here and below, means the folder that the deployment is of.
        voice: Whose voice narrates; only clone one whose owner consents.
        speech: How the text is spoken.
        output: What is made, and where.
        limits: What may be spent, in money and in patience.
    """
    production = await begin(Groups(scripts=scripts, voice=voice, speech=speech, output=output, limits=limits))
    async with in_production(production) as begun:
        if not begun:
            return outcome(production)
        account = await account_of(voice)
        folder, ask = output.folder / ".voice", limits.ask_on_warnings
        cast, entry = await cast_voice(
            voice, account=account, folder=folder, patience=limits, ask_on_warnings=ask, shared=output.shared
        )
        await record_all(production, cast, entry, account=account)
    return outcome(production)
