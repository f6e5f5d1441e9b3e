"""
From the five groups of knobs to an order, refusing first what a person must mend: the command line and the flow begin here.
"""

from pathlib import Path

from flows import settings
from flows.narration import plan
from flows.narration.production import Order
from flows.narration.takes import TakeStore
from flows.narration.voice import refuse_recordings
from flows.settings import Groups, Output, Scripts


def survey(*, scripts: Scripts, output: Output) -> plan.Survey:
    """
    Read and cut the scripts.
    """
    return plan.survey(Path(scripts.scripts), out=output.folder, sound=output, cutting=scripts, encoding=scripts.encoding)


def order(groups: Groups) -> Order:
    """
    Raise `UsageError` for whatever is wrong with what was asked for; nothing was sent, and only OUT may have been made.
    """
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
    )
