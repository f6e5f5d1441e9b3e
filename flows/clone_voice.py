"""
The first half of the main path, by itself: a reference becomes a voice, ready to narrate.

The work is done downstairs, in `flows.narration.reference` and `flows.narration.voice`.
"""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows import telling
from flows.credentials import account_of
from flows.endings import labelled
from flows.knobs import Limits, Output, VoiceChoice
from flows.names import named
from flows.narration.errors import Declined
from flows.settings import from_environment
from flows.steps import alone, cast_voice
from flows.stopping import stoppable


def _run_name() -> str:
    """
    Name a run after whose voice it clones.
    """
    voice = VoiceChoice.model_validate(flow_run.get_parameters()["voice"])
    return named(f"clone {voice.voice_title or voice.voice_id or Path(voice.reference[0]).stem}")


@flow(name="clone-voice", flow_run_name=_run_name)
async def clone_voice(
    voice: VoiceChoice, output: Output = from_environment(Output), limits: Limits = from_environment(Limits)
) -> dict[str, Any] | State[Any]:
    """
    Clone a voice, or find the one made from the same recordings before, and wait until it is trained.

    Args:
        voice: Whose voice; only clone one whose owner consents. A relative path means the folder that the deployment is of.
        output: Where the checked reference is kept, in the folder `.voice`.
        limits: How long a service out of reach is waited for.
    """
    telling.in_sentences()
    folder, ask = output.folder / ".voice", limits.ask_on_warnings
    try:
        async with telling.of_a_voice() as cast, stoppable(), labelled():
            account = await account_of(voice)
            async with alone(output.folder):
                _, entry = await cast_voice(
                    voice, account=account, folder=folder, patience=limits, ask_on_warnings=ask, shared=output.shared
                )
            cast.append(entry)
    except Declined as declined:
        return Cancelled(message=str(declined))
    return entry.model_dump()
