"""
Many books: a run for each through its deployment, on whichever workers there are, in one voice and within one budget.

How runs are begun, found again and waited for stands in `flows.fleet`, the steps in `flows.library_steps`.
"""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled

from flows.knobs import LibraryChoice, LibraryOutput, Limits, VoiceChoice
from flows.library_steps import afford, begin_library, make_all, one_voice, told
from flows.names import named
from flows.narration.errors import Declined
from flows.narration.speech import Delivery
from flows.settings import from_environment
from flows.stopping import stoppable


def _run_name() -> str:
    """
    Name a run after what is in the library.
    """
    books = LibraryChoice.model_validate(flow_run.get_parameters()["books"])
    more = f" and {len(books.books) - 1} more" if len(books.books) > 1 else ""
    return named(f"library {books.books[0]}{more}")


@flow(name="library", flow_run_name=_run_name)
async def library(
    books: LibraryChoice,
    voice: VoiceChoice,
    speech: Delivery = from_environment(Delivery),
    output: LibraryOutput = from_environment(LibraryOutput),
    limits: Limits = from_environment(Limits),
) -> dict[str, Any] | State[Any]:
    """
    Make many books, each by a run of its own, and report on all of them. Begun again, it goes on with what is not done.

    Only clone a voice whose owner consents. The budget is for all books together.

    Args:
        books: Which books, and how many at once.
        voice: Whose voice narrates them all; only clone one whose owner consents.
        speech: How the text is spoken.
        output: Where the books go.
        limits: What all of them may cost, and with how much patience each is made.
    """
    try:
        async with stoppable(), told() as rows:
            shelf = await begin_library(books, speech=speech, output=output, limits=limits)
            cast = await one_voice(shelf, voice)
            means = await afford(shelf, cast)
            return await make_all(shelf, cast, means, rows=rows)
    except Declined as declined:
        return Cancelled(message=str(declined))
