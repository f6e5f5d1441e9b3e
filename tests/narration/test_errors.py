"""
Errors: what Prefect stores of them and what a command returns.
"""

import pickle

import pytest

from flows.narration import errors
from flows.narration.errors import NarrateError
from flows.narration.judge import BadTake
from flows.narration.takes import TakeDamaged

KINDS = [
    kind for kind in (*vars(errors).values(), BadTake, TakeDamaged) if isinstance(kind, type) and issubclass(kind, NarrateError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[NarrateError]) -> None:
    """
    Prefect pickles what a task raises; the SDK's own errors cannot be unpickled.
    """
    error = kind("The fact.", "The next step.")

    again = pickle.loads(pickle.dumps(error))

    assert (type(error), error.args, str(error), vars(error)) == (type(again), again.args, str(again), vars(again))


def test_exit_codes_are_the_documented_ones() -> None:
    """
    Codes are part of the interface: scripts of users depend on them.
    """
    codes = {kind.__name__: int(kind.exit_code) for kind in KINDS}

    assert {
        "UsageError": 2,
        "ScriptUnreadable": 2,
        "LedgerUnusable": 2,
        "StorageAway": 2,
        "ScriptsFailed": 3,
        "StorageFailed": 3,
        "TakeFailed": 3,
        "MasteringFailed": 3,
        "RequestRefused": 3,
        "RequestUnread": 3,
        "ReferenceUnusable": 4,
        "VoiceFailed": 4,
        "VoiceNotFound": 4,
        "VoiceStateUnknown": 4,
        "VoiceNotReady": 5,
        "VoiceTimeout": 5,
        "MoneyError": 6,
        "KeyRefused": 7,
        "Interrupted": 130,
        "Declined": 130,
        "ServiceUnavailable": 8,
        "ServiceAway": 8,
        "WebhookAway": 8,
        "RateLimited": 8,
    } == {name: code for name, code in codes.items() if code != 1}
