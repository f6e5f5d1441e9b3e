"""
The long path: one voice, one book, its mastered chapters and an M4B of them.

The work is done downstairs, in `flows.narration`; each task and its policy stand in `flows.tasks`. On a command line:
`narrate book BOOK --reference FILE`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.credentials import account_of
from flows.knobs import BookChoice, BookGroups, BookOutput, Limits, VoiceChoice
from flows.names import named
from flows.narration.books import BookPlan
from flows.narration.speech import Delivery
from flows.reporting import outcome
from flows.settings import from_environment
from flows.steps import begin_book, bind_book, cast_voice, in_production, record_all, record_and_master

AS_IT_IS = BookPlan()


def _run_name() -> str:
    """
    Name a run after its book and whose voice.
    """
    given: dict[str, Any] = flow_run.get_parameters()
    book, voice = BookChoice.model_validate(given["book"]), VoiceChoice.model_validate(given["voice"])
    who = voice.voice_title or voice.voice_id or Path(voice.reference[0]).stem
    return named(f"audiobook {Path(book.book).stem} as {who}")


@flow(name="audiobook", flow_run_name=_run_name)
async def audiobook(
    book: BookChoice,
    voice: VoiceChoice,
    speech: Delivery = from_environment(Delivery),
    output: BookOutput = from_environment(BookOutput),
    limits: Limits = from_environment(Limits),
    plan: BookPlan = AS_IT_IS,
) -> Mapping[str, Any] | State[Any]:
    """
    Make an audiobook: every chapter spoken in one voice and mastered, and all of them bound into an M4B with chapters.

    Only clone a voice whose owner consents. The result is the run's manifest, as in `run.json`; `book.json` lists the files.

    Args:
        book: Which book is narrated; a relative path, here and below, means the folder that the deployment is of.
        voice: Whose voice narrates; only clone one whose owner consents.
        speech: How the text is spoken.
        output: What is made, and where.
        limits: What may be spent, in money and in patience.
        plan: What is decided about the book; where nothing is, book.toml beside it counts.
    """
    groups = BookGroups(book=book, voice=voice, speech=speech, output=output, limits=limits, plan=plan)
    production = await begin_book(groups)
    async with in_production(production) as begun:
        if not begun:
            return outcome(production)
        account, folder = await account_of(voice), output.folder / ".voice"
        cast, entry = await cast_voice(
            voice,
            account=account,
            folder=folder,
            patience=limits,
            ask_on_warnings=limits.ask_on_warnings,
            shared=output.shared,
        )
        await record_all(production, cast, entry, account=account, each=record_and_master)
        await bind_book(production)
    return outcome(production)
