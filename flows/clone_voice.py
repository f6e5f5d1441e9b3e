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

from flows.credentials import account_of
from flows.knobs import Limits, Output, VoiceChoice
from flows.narration.errors import Declined
from flows.settings import from_environment
from flows.steps import alone, cast_voice


def _run_name() -> str:
    """
    Name a run after whose voice it clones.
    """
    voice = VoiceChoice.model_validate(flow_run.get_parameters()["voice"])
    return f"clone {voice.voice_title or voice.voice_id or Path(voice.reference[0]).stem}"


@flow(name="clone-voice", flow_run_name=_run_name)
async def clone_voice(
    voice: VoiceChoice, output: Output = from_environment(Output), limits: Limits = from_environment(Limits)
) -> dict[str, Any] | State[Any]:
    """
    Clone a voice, or find the one made from the same recordings before, and wait until it is trained.

    Args:
        voice: Whose voice; only clone one whose owner consents.
        output: Where the checked reference is kept, in the folder `.voice`.
        limits: How long a service out of reach is waited for.
    """
    account, folder, ask = await account_of(voice), output.folder / ".voice", limits.ask_on_warnings
    async with alone(output.folder):
        try:
            _, entry = await cast_voice(voice, account=account, folder=folder, patience=limits, ask_on_warnings=ask)
        except Declined as declined:
            return Cancelled(message=str(declined))
    return entry.model_dump()
