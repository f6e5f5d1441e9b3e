"""
What a run may spend: its budget, less what earlier attempts of the very same run were billed, or may have been.

A flow run that was suspended, retried or taken up again is one run: Prefect has it under one id, and so has the ledger.
"""

from flows.narration import cost
from flows.narration.cost import Spent
from flows.narration.errors import MoneyError, NarrateError, storing
from flows.narration.takes import TakeStore

DIGITS = 9
"""Digits of a USD that count: what is added up of bytes differs beyond."""


def left(budget_usd: float | None, *, run_id: str | None, store: TakeStore) -> float | None:
    """
    Tell how many USD are left of a budget for the run *run_id*, by the ledgers of its attempts; `None` without a budget.

    Raises `StorageFailed` where they cannot be read.
    """
    if budget_usd is None or run_id is None:
        return budget_usd
    with storing():
        return round(budget_usd - store.spent_by(run_id).at_most, DIGITS)


def spent(here: Spent, *, budget_usd: float | None, run_id: str | None, store: TakeStore) -> Spent:
    """
    Tell what all attempts at the run *run_id* were billed, where *here* is what this one was; where the ledgers cannot be read
    all of the budget may have been spent.
    """
    if run_id is None:
        return here
    try:
        with storing():
            there = store.spent_by(run_id)
    except NarrateError:
        return Spent(here.usd, max(here.at_most, budget_usd or 0.0))
    return Spent(max(here.usd, there.usd), max(here.at_most, there.at_most))


def in_bytes(usd: float | None, *, model: str) -> int | None:
    """
    Tell how many UTF-8 bytes of *model* so many USD are enough for; `None` where there is no limit, or it costs nothing.
    """
    price = cost.USD_PER_BYTE[model]
    return None if usd is None or not price else int(usd / price + 1e-6)


def refuse_short(need_usd: float, *, budget_usd: float | None, left_usd: float | None, credit_usd: float | None) -> None:
    """
    Raise `MoneyError` if the budget, what is *left* of it, or the credit, where they are known, do not cover the need.
    """
    of_budget = "--budget" if left_usd == budget_usd else f"what is left to this run of --budget {budget_usd:.4f}"
    for have, name in ((left_usd, of_budget), (credit_usd, "the account's API credit")):
        if have is not None and need_usd > have + 10**-DIGITS:
            raise MoneyError(
                f"This run needs about {need_usd:.4f} USD, but {name} is {max(0.0, have):.4f} USD: "
                f"{need_usd - max(0.0, have):.4f} USD short.",
                "Nothing was sent. Raise it, or narrate fewer scripts.",
            )
