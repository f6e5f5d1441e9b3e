"""
The wallet of each key: prepaid USD, going down with every byte of text that is spoken.
"""

import time
from collections import defaultdict, deque
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from flows.sandbox.config import Knobs
from flows.sandbox.errors import PERMISSION, Refused
from flows.sandbox.fields import flag

USD_PER_BYTE = Decimal("0.000015")
FREE_MODEL = "s2.1-pro-free"
MODELS = ("s1", "s2-pro", "s2.1-pro", FREE_MODEL)
OPENED = "2026-01-01T00:00:00Z"
NOT_COVERED = (
    "Insufficient API credit. API credit is managed independently from platform credit. "
    "Please visit https://fish.audio/app/developers to top up."
)


def billed_model(header: str | None) -> str:
    """
    Tell which model a request is billed as: a missing or unknown name is the paid default, silently.
    """
    return header if header in MODELS else "s2.1-pro"


def price(text: str, model: str) -> Decimal:
    """
    Price *text* in USD.
    """
    return Decimal(0) if model == FREE_MODEL else len(text.encode()) * USD_PER_BYTE


class Wallet:
    """
    What every account has spent since its credit was last set.
    """

    def __init__(self) -> None:
        self._spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._lately: defaultdict[str, deque[tuple[float, Decimal]]] = defaultdict(deque)

    def refill(self) -> None:
        """
        Give every account its whole credit again.
        """
        self._spent.clear()
        self._lately.clear()

    def credit(self, account: str, knobs: Knobs) -> Decimal:
        """
        Tell what *account* has left, in USD.
        """
        return knobs.credit - self._spent[account]

    def told(self, account: str, knobs: Knobs) -> Decimal:
        """
        Tell what *account* is told it has left: charges show only after a while.
        """
        lately = self._lately[account]
        while lately and lately[0][0] <= time.monotonic() - knobs.wallet_lag:
            lately.popleft()
        return self.credit(account, knobs) + sum(cost for _, cost in lately)

    def require(self, account: str, knobs: Knobs, *, cost: Decimal, model: str) -> None:
        """
        Refuse what the credit does not cover; nothing is charged.

        :raises Refused: 402
        """
        left = self.credit(account, knobs)
        if model != FREE_MODEL and (left <= 0 or left < cost):
            raise Refused(402, NOT_COVERED, {"x-fish-error-code": "insufficient_balance"})

    def charge(self, account: str, knobs: Knobs, cost: Decimal) -> None:
        """
        Take *cost* from *account*.
        """
        self._spent[account] += cost
        if knobs.wallet_lag:
            self._lately[account].append((time.monotonic(), cost))


async def show_credit(request: Request) -> Response:
    """
    Answer `GET /wallet/{user_id}/api-credit`.
    """
    world, account = request.app.state.world, _account(request)
    free = flag(request.query_params, "check_free_credit")
    return JSONResponse(
        {
            "_id": account[::-1],
            "user_id": account,
            "credit": f"{world.wallet.told(account, world.knobs):f}",
            "cumulative_top_up": f"{world.knobs.cumulative_top_up:f}",
            "created_at": OPENED,
            "updated_at": OPENED,
            "has_phone_sha256": False,
            "has_free_credit": False if free else None,
        }
    )


async def show_package(request: Request) -> Response:
    """
    Answer `GET /wallet/{user_id}/package`: the platform plan, which pays for nothing here.
    """
    world, account = request.app.state.world, _account(request)
    package = {
        "user_id": account,
        "type": "free",
        "total": 8000,
        "balance": 8000,
        "created_at": OPENED,
        "updated_at": OPENED,
        "finished_at": "2027-01-01T00:00:00Z",
        "extra_balance": 0,
        "has_used_trial": False,
    }
    return JSONResponse({"_id": account[::-1], **package} if world.knobs.package_id else package)


def _account(request: Request) -> str:
    account: str = request.state.call.account
    if request.path_params["user_id"] not in ("self", account):
        raise Refused(401, PERMISSION)
    return account
