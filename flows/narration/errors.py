"""
Every error a user can meet: a fact, the next step, and an exit code.

    NarrateError
    ├── UsageError             2   the command or its input is wrong; nothing was sent
    │   ├── ScriptUnreadable   2   a script cannot be read as text
    │   ├── LedgerUnusable     2   the ledger cannot be read, so nothing may be spent
    │   └── StorageAway        2   a place that is to be read cannot be reached
    ├── ScriptsFailed          3   some scripts failed; the others are done and kept
    │   ├── StorageFailed      3   what was paid for could not be written to disk
    │   ├── TakeFailed         3   one segment has no sound take
    │   ├── MasteringFailed    3   a finished file misses its level profile
    │   └── RequestRefused     3   the service refused a request for good
    │       └── RequestUnread  3   it said 422, which may pass
    ├── ReferenceUnusable      4   the reference cannot become a voice
    ├── VoiceFailed            4   the voice failed to train
    │   ├── VoiceNotFound      4   there is no such voice
    │   └── VoiceStateUnknown  4   the service says a state nobody knows
    ├── VoiceNotReady          5   not trained yet: look again
    │   └── VoiceTimeout       5   not trained within the timeout
    ├── MoneyError             6   budget or credit do not cover what is left
    ├── KeyRefused             7   the key is missing, wrong or not permitted
    ├── Interrupted          130   a person stopped the run
    │   └── Declined         130   a person who was asked said no
    └── ServiceUnavailable     8   the service stayed out of reach
        ├── ServiceAway        8   it is away, whatever the request
        ├── WebhookAway        8   a webhook does not take what it is told
        └── RateLimited        8   more requests in flight than the account may have

Prefect pickles what a task raises, so every error keeps its plain arguments: `type(error)(*error.args)` is the same error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """
    What the command line returns: a stable part of its interface.
    """

    OK = 0
    FAULT = 1
    USAGE = 2
    SCRIPTS_FAILED = 3
    VOICE = 4
    VOICE_TIMEOUT = 5
    MONEY = 6
    KEY = 7
    SERVICE = 8
    INTERRUPTED = 130


class NarrateError(Exception):
    """
    Something a user can meet, told as *fact* (what is wrong, and where) and *next_step* (what to do now).
    """

    exit_code = ExitCode.FAULT

    def __init__(self, fact: str, next_step: str = "") -> None:
        super().__init__(fact, next_step)
        self.fact = fact
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.fact} {self.next_step}".strip()

    def __repr__(self) -> str:
        """
        Read as a sentence: Prefect logs the `repr` of what a task raises.
        """
        return str(self)


class UsageError(NarrateError):
    """
    The command or its input is wrong; nothing was sent.
    """

    exit_code = ExitCode.USAGE


class ScriptUnreadable(UsageError):
    """
    A script cannot be read as text.
    """


class LedgerUnusable(UsageError):
    """
    The ledger cannot be read or opened, so nothing may be spent.
    """

    @classmethod
    def by(cls, path: str, said: str) -> Self:
        """
        Say what the database *said* of the file at *path*.
        """
        return cls(f"The ledger {path} cannot be used: {said}.", "Look at the disk; move the file away to begin a new one.")

    @classmethod
    def newer(cls, path: str, *, version: int, ours: int) -> Self:
        """
        Say that a newer Narrate wrote it.
        """
        return cls(f"The ledger {path} has schema {version}, and this Narrate knows {ours}.", "Update Narrate.")

    @classmethod
    def missing(cls, path: str) -> Self:
        """
        Say that nothing was ever entered there.
        """
        return cls(f"There is no ledger at {path}.", "Name the take store with --takes, or the output folder with --out.")


class StorageAway(UsageError):
    """
    A place that is to be read cannot be reached, in object storage or on a disk; what is there is not known.
    """

    @classmethod
    def by(cls, place: str, error: OSError) -> Self:
        """
        Say what the storage or the system said of *place*.
        """
        return cls(
            f"{place} cannot be reached: {error.strerror or error}.",
            "Check the network, AWS_ENDPOINT_URL and the credentials.",
        )


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """
    Tell what is refused in the block, which reads from *place*, as `StorageAway`.
    """
    try:
        yield
    except OSError as error:
        raise StorageAway.by(place, error) from error


class ScriptsFailed(NarrateError):
    """
    Some scripts failed; the others are done and kept.
    """

    exit_code = ExitCode.SCRIPTS_FAILED


class StorageFailed(ScriptsFailed):
    """
    What was paid for could not be written to disk.
    """

    @classmethod
    def by(cls, error: OSError) -> Self:
        """
        Say what the system said of which file.
        """
        return cls(
            f"Writing failed: {error.strerror or error} ({error.filename or 'no file named'}).",
            "What is kept is whole. Mend the disk and run it again.",
        )


@contextmanager
def storing() -> Iterator[None]:
    """
    Tell what the disk refuses in the block as `StorageFailed`.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed.by(error) from error


class TakeFailed(ScriptsFailed):
    """
    A segment has no sound take after every attempt.
    """


class MasteringFailed(ScriptsFailed):
    """
    A file of a book is not, or cannot be, as its level profile wants it.
    """


class RequestRefused(ScriptsFailed):
    """
    The service refused a request in a way that another attempt cannot change.
    """


class RequestUnread(RequestRefused):
    """
    The service says (422) that it cannot read a request. Others of the same shape pass, so it is worth a few more tries.
    """


class ReferenceUnusable(NarrateError):
    """
    The reference cannot become a voice.
    """

    exit_code = ExitCode.VOICE


class VoiceFailed(NarrateError):
    """
    The voice failed to train.
    """

    exit_code = ExitCode.VOICE


class VoiceNotFound(VoiceFailed):
    """
    There is no such voice, or it is another account's private one.
    """

    @classmethod
    def by_id(cls, voice_id: str) -> Self:
        """
        Say that *voice_id* cannot be the id of a voice.
        """
        return cls(f"There is no voice “{voice_id}”.", "`narrate voices list` shows the account's voices.")


class VoiceStateUnknown(VoiceFailed):
    """
    The service says a state of the voice that nobody knows.
    """


class VoiceNotReady(NarrateError):
    """
    The voice is not trained yet: look again.
    """

    exit_code = ExitCode.VOICE_TIMEOUT


class VoiceTimeout(VoiceNotReady):
    """
    The voice was not trained within the timeout.
    """


class MoneyError(NarrateError):
    """
    The budget or the account's credit does not cover what is left.
    """

    exit_code = ExitCode.MONEY


class KeyRefused(NarrateError):
    """
    The key is missing, wrong or not permitted.
    """

    exit_code = ExitCode.KEY


class Interrupted(NarrateError):
    """
    A person stopped the run; what was recorded is kept.
    """

    exit_code = ExitCode.INTERRUPTED

    @classmethod
    def by_a_person(cls) -> Self:
        """
        Say so, and what comes next.
        """
        return cls("Interrupted.", "What was recorded is kept; run it again to go on.")


class Declined(Interrupted):
    """
    A person was asked before money was spent, and said no.
    """


class ServiceUnavailable(NarrateError):
    """
    The service stayed out of reach, or answered nonsense.

    *retry_after* is its own wish in seconds, where it said one. *billed* is `False` where it said no before it worked, and
    `None` where nobody can know (a broken or late answer).
    """

    exit_code = ExitCode.SERVICE
    away = False

    def __init__(
        self,
        fact: str,
        next_step: str = "Run it again to go on.",
        retry_after: float | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(fact, next_step)
        self.args = (fact, next_step, retry_after, billed)
        self.retry_after = retry_after
        self.billed = billed


class ServiceAway(ServiceUnavailable):
    """
    The service itself is away (no connection, 502, 503, 504), whatever the request.
    """

    away = True


class WebhookAway(ServiceUnavailable):
    """
    A webhook does not take what it is told; no run fails by it.
    """


class RateLimited(ServiceUnavailable):
    """
    More requests are in flight than the account may have at once.
    """
