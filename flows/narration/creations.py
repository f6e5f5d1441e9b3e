"""
Voices asked for on this machine: one for each reference, however many runs want it and whatever the account shows yet.

How soon a voice that was created is listed is not documented. So what was asked for is written down here before the request
leaves, and the id when it is known: a run that was killed in between makes the next one wait for the listing.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from flows.narration.claims import SKEW_SECONDS, leased
from flows.narration.files import replacing
from flows.narration.locks import locked
from flows.narration.storage import Place

LISTED_SECONDS = 15.0
"""How long after a request to create a voice, whose answer got lost, the account may take to list it."""


@dataclass(frozen=True)
class Creation:
    """
    What is known of the voice of one reference at one host, kept at *path*.
    """

    path: Path

    @property
    def voice_id(self) -> str | None:
        """
        Id of the voice that was created, if its answer came.
        """
        known = self._read().get("id")
        return known if isinstance(known, str) else None

    @property
    def in_doubt(self) -> bool:
        """
        Whether a voice may have been created a moment ago that the account does not list yet.
        """
        said = self._read()
        asked = said.get("asked")
        if said.get("id") is not None or not isinstance(asked, float):
            return False
        return -SKEW_SECONDS <= time.time() - asked < LISTED_SECONDS  # another host's clock may be ahead

    def asked(self) -> None:
        """
        Write down that a voice is about to be created.
        """
        self._write({"asked": time.time()})

    def answered(self, voice_id: str) -> None:
        """
        Write down which voice it became.
        """
        self._write({"id": voice_id})

    def refused(self) -> None:
        """
        Forget it: no voice was created, or it is gone.
        """
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, object]:
        try:
            said = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def _write(self, said: dict[str, object]) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(said))


@dataclass(frozen=True)
class SharedCreation(Creation):
    """
    What is known of it on all hosts that share *place*, in an object there, and *here*, where runs may share other places.
    """

    place: Place
    here: Creation

    @property
    def voice_id(self) -> str | None:
        """
        Id of the voice that was created, if its answer came.
        """
        return super().voice_id or self.here.voice_id

    @property
    def in_doubt(self) -> bool:
        """
        Whether a voice may have been created a moment ago that the account does not list yet.
        """
        return super().in_doubt or self.here.in_doubt

    def refused(self) -> None:
        """
        Forget it: no voice was created, or it is gone.
        """
        self.here.refused()
        with suppress(OSError):
            self.place.remove(self.path.as_posix())

    def _read(self) -> dict[str, object]:
        try:
            said = json.loads(self.place.read(self.path.as_posix()) or b"{}")
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def _write(self, said: dict[str, object]) -> None:
        self.here._write(said)
        self.place.write(self.path.as_posix(), json.dumps(said).encode())


@asynccontextmanager
async def creating(
    digest: str, *, host: str, waiting: Callable[[], None], place: Place | None = None
) -> AsyncIterator[Creation]:
    """
    Be the only one on this machine, under this user, to look for and create the voice of the reference with this *digest*, and
    on all hosts that share *place*.

    *waiting* is called first where another is at it. Raises `UsageError` where this user's state folder cannot be written to.
    """
    folder = platformdirs.user_state_path("narrate") / "voices" / (host or "nowhere")
    async with locked(folder / f"{digest}.lock", waiting=waiting):
        here = Creation(folder / f"{digest}.json")
        if place is None:
            yield here
            return
        name = f"voices/{host or 'nowhere'}/{digest}"
        async with leased(place, f"{name}.lock", waiting=waiting):
            yield SharedCreation(Path(f"{name}.json"), place, here)
