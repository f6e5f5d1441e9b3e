"""
Everything a running sandbox remembers, and the two gates every request passes: the key and the free slot.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection

from flows.sandbox.config import Fault, Knobs
from flows.sandbox.errors import PERMISSION, Refused
from flows.sandbox.faults import FaultBook
from flows.sandbox.journal import Entry, Journal
from flows.sandbox.library import library
from flows.sandbox.neural import Reader
from flows.sandbox.voices import Voices
from flows.sandbox.wallet import Wallet

TIERS = ((1000, 50), (100, 15), (0, 5))
"""USD ever paid in, and how many requests may be under way from there on."""


@dataclass
class Call:
    """
    One request to the API while it is served.
    """

    entry: Entry
    account: str = ""
    holds_slot: bool = False


class World:
    """
    The state of one sandbox: knobs, voices, wallets, journal, faults and slots.
    """

    def __init__(self, *, folder: Path | None, knobs: Mapping[str, Any]) -> None:
        self.initial = Knobs().merged(knobs)
        self.knobs = self.initial
        self.voices = Voices(folder, library())
        self.wallet = Wallet()
        self.journal = Journal()
        self.reader = Reader()
        # One thread: what costs time is worked off in turn, and the event loop stays free to measure.
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-sound")
        self._faults = FaultBook()
        self._slots: Counter[str] = Counter()

    def configure(self, patch: Mapping[str, Any]) -> None:
        """
        Merge *patch* into the knobs; setting the faults or the credit starts their counts again.
        """
        self.knobs = self.knobs.merged(patch)
        if "faults" in patch:
            self._faults.reset()
        if "credit" in patch:
            self.wallet.refill()

    def reset(self) -> None:
        """
        Go back to the start: default knobs, no voices, no journal. Requests under way keep their slots.
        """
        self.knobs = self.initial
        self.voices.clear()
        self.wallet.refill()
        self.journal.clear()
        self._faults.reset()

    def authenticate(self, request: HTTPConnection) -> str:
        """
        Tell the account behind the bearer key; the key itself goes no further.

        :raises Refused: 401
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        known, message = self.knobs.keys, "Invalid Token" if self.knobs.unauthorized == "token" else PERMISSION
        if scheme.lower() != "bearer" or not key.strip():
            raise Refused(401, message)
        if known is not None and not any(hmac.compare_digest(key.strip().encode(), one.encode()) for one in known):
            raise Refused(401, message)
        return hashlib.sha256(f"account of {key.strip()}".encode()).hexdigest()[:32]

    def fault(self, call: Call, text: str = "") -> Fault | None:
        """
        Tell which fault hits *call*, and write it into the journal.
        """
        entry = call.entry
        rule = self._faults.pick(self.knobs.faults, method=entry.method, path=entry.path, text=text, seed=self.knobs.seed)
        entry.fault = rule.kind if rule else None
        return rule

    @property
    def limit(self) -> int:
        """
        How many requests an account may have under way.
        """
        published = next(limit for paid, limit in TIERS if self.knobs.cumulative_top_up >= paid)
        return published if self.knobs.concurrency_limit is None else self.knobs.concurrency_limit

    def take_slot(self, call: Call) -> None:
        """
        Occupy one of the account's slots.

        :raises Refused: 429 at once when all are taken
        """
        limit = self.limit
        if self._slots[call.account] >= limit:
            after = self.knobs.concurrency_retry_after
            headers = {} if after is None else {"Retry-After": str(after)}
            message = f"You have exceeded your current concurrency limit of {limit}. Please try again later."
            raise Refused(429, message, self.slot_headers(call) | headers)
        self._slots[call.account] += 1
        call.holds_slot = True

    def slot_headers(self, call: Call) -> dict[str, str]:
        """
        Tell the limit and how much of it is in use.
        """
        return {
            "ratelimit-limit-concurrency": str(self.limit),
            "ratelimit-current-concurrency": str(self._slots[call.account]),
        }

    def finish(self, call: Call) -> None:
        """
        Give the slot back and close the entry; a second time does nothing.
        """
        if call.holds_slot:
            self._slots[call.account] -= 1
            call.holds_slot = False
        self.journal.close(call.entry)
