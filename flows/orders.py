"""
From the five groups of knobs to an order, refusing first what a person must mend: the command line and the flow begin here.
"""

from contextvars import ContextVar
from pathlib import Path

from flows import settings
from flows.knobs import Groups, Output, Scripts
from flows.narration import plan
from flows.narration.production import Order
from flows.narration.takes import TakeStore
from flows.narration.voice import refuse_recordings

_ahead: ContextVar[tuple[Groups, Order] | None] = ContextVar("ahead", default=None)


def survey(*, scripts: Scripts, output: Output) -> plan.Survey:
    """
    Read and cut the scripts.
    """
    return plan.survey(Path(scripts.scripts), out=output.folder, sound=output, cutting=scripts, encoding=scripts.encoding)


def order_ahead(groups: Groups) -> Order:
    """
    Make the order, and have the flow that this very process runs next for the same *groups* go by it.
    """
    _ahead.set(None)
    made = order(groups)
    _ahead.set((groups, made))
    return made


def order(groups: Groups) -> Order:
    """
    Raise `UsageError` for whatever is wrong with what was asked for; nothing was sent, and only OUT may have been made.

    What `order_ahead` made of the same *groups* is taken: the scripts are narrated as they were when the command began.
    """
    ahead = _ahead.get()
    if ahead is not None and ahead[0] == groups:
        return ahead[1]
    voice, output, limits = groups.voice, groups.output, groups.limits
    if not voice.credentials:
        settings.account()
    refuse_recordings(voice.reference, transcript=voice.transcript, instant=voice.instant)
    read = survey(scripts=groups.scripts, output=output)
    out, takes = output.folders()
    plan.refuse_folded(read, out=out)
    return Order(
        survey=read,
        out=out,
        store=TakeStore(takes),
        delivery=groups.speech,
        sound=output,
        patience=limits,
        budget_usd=limits.budget,
        approve_above_usd=limits.approve_above_usd,
    )
