"""
What a run may spend: its budget, less what earlier attempts of the very same run were billed, or may have been.

A flow run that was suspended, retried or taken up again is one run: Prefect has it under one id, and so has the ledger.
"""

from flows.narration import cost, ledger
from flows.narration.errors import MoneyError
from flows.narration.ledger import Account
from flows.narration.takes import TakeStore


def left(budget_usd: float | None, *, run_id: str | None, store: TakeStore) -> float | None:
    """
    Tell how many USD are left of a budget for the run *run_id*, by the ledger on this host; `None` without a budget.
    """
    if budget_usd is None or run_id is None:
        return budget_usd
    account = Account(run=run_id, host="", voice="", model="")
    return budget_usd - ledger.spent_by(run_id, store.ledger_folder(account))


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
        if have is not None and need_usd > have:
            raise MoneyError(
                f"This run needs about {need_usd:.4f} USD, but {name} is {max(0.0, have):.4f} USD: "
                f"{need_usd - max(0.0, have):.4f} USD short.",
                "Nothing was sent. Raise it, or narrate fewer scripts.",
            )
