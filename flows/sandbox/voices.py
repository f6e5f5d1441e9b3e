"""
The voices and their samples: in memory, and with a folder on disk as well.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ormsgpack

from flows.sandbox.config import Knobs
from flows.sandbox.fields import Fields, one


@dataclass
class Voice:
    """
    One voice: what the API tells about it, its samples, and how its training goes.
    """

    id: str
    owner: str
    facts: dict[str, Any]
    """The body of the API without `state`."""
    states: list[str]
    """The state after 0, 1, 2, ... looks; the last one stays."""
    ready_at: float | None = None
    """Wall clock at which training by seconds is over; None: training goes by looks."""
    looks: int = 0
    samples: list[bytes] = field(default_factory=list)
    tone: float | None = None
    """Hz that the quick voice reads at; None: by the id."""

    @property
    def state(self) -> str:
        """
        The state of the training now, as the API tells it.
        """
        if self.ready_at is not None and time.time() >= self.ready_at:
            return "trained"
        return self.states[min(self.looks, len(self.states) - 1)]

    def body(self) -> dict[str, Any]:
        """
        Tell everything the API tells about a voice.
        """
        return {**self.facts, "state": self.state}

    def visible_to(self, account: str) -> bool:
        """
        Tell whether *account* may use and look at this voice.
        """
        return account == self.owner or self.facts["visibility"] != "private"


def facts(voice_id: str, owner: str, fields: Fields) -> dict[str, Any]:
    """
    Tell everything the API tells about a new voice but its state.
    """
    made, texts = now(), list(fields.get("texts", ()))
    samples = [
        {"title": f"sample {index}", "text": texts[index] if index < len(texts) else "", "task_id": "", "audio": ""}
        for index in range(len(fields.get("voices", ())))
    ]
    return {
        "_id": voice_id,
        "type": "tts",
        "title": one(fields, "title"),
        "description": one(fields, "description"),
        "cover_image": f"coverimage/{voice_id}" if fields.get("cover_image") else "",
        "train_mode": "fast",
        "tags": list(fields.get("tags", ())),
        "samples": samples,
        "created_at": made,
        "updated_at": made,
        "languages": list(fields.get("languages", ("en",))),
        "visibility": one(fields, "visibility", "public"),
        "lock_visibility": False,
        "dmca_taken_down": False,
        "default_text": "",
        "source": None,
        "like_count": 0,
        "mark_count": 0,
        "shared_count": 0,
        "task_count": 0,
        "unliked": False,
        "liked": False,
        "marked": False,
        "author": {"_id": owner, "nickname": "sandbox", "avatar": ""},
    }


def now() -> str:
    """
    Tell the time as the API does.
    """
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def training(knobs: Knobs) -> tuple[list[str], float | None]:
    """
    Plan the training of a voice made now: its states look by look, and when it is over if that goes by the clock.
    """
    if isinstance(knobs.training, list):
        return ["created", *knobs.training], None
    under_way = ["created", *["training"] * (knobs.training_looks - 1)]
    match knobs.training:
        case "looks":
            return [*under_way, "trained"], None
        case "failed":
            return [*under_way, "failed"], None
        case "at-once":
            return ["trained"], None
        case "seconds":
            return ["created", "training"], time.time() + knobs.training_seconds
        case "never":
            return ["created", "training"], None


class Voices:
    """
    All voices, oldest first. With *folder* they survive the process: samples first, then the voice itself, each at once.

    *public* are those of the public library, which nobody here can change.
    """

    def __init__(self, folder: Path | None, public: Sequence[Voice] = ()) -> None:
        self._folder = folder
        self._public = {voice.id: voice for voice in public}
        self._voices: dict[str, Voice] = {}
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            loaded = [_load(path) for path in folder.glob("*.voice")]
            self._voices = {voice.id: voice for voice in sorted(loaded, key=lambda v: str(v.facts["created_at"]))}

    def add(self, voice: Voice) -> None:
        """
        Keep a new voice, with its samples.
        """
        if self._folder:
            _replace(self._folder / f"{voice.id}.samples", ormsgpack.packb(voice.samples))
        self.save(voice)
        self._voices[voice.id] = voice

    def save(self, voice: Voice) -> None:
        """
        Keep what has changed in *voice*, other than its samples.
        """
        if self._folder:
            facts = {key: value for key, value in asdict(voice).items() if key != "samples"}
            _replace(self._folder / f"{voice.id}.voice", ormsgpack.packb(facts))

    def find(self, voice_id: str) -> Voice | None:
        """
        Look up a voice; that does not count as a look at its training.
        """
        return self._voices.get(voice_id) or self._public.get(voice_id)

    def look(self, voice: Voice) -> None:
        """
        Count a look at *voice*, which moves its training on.
        """
        voice.looks += 1
        if voice.looks < len(voice.states):
            self.save(voice)

    def remove(self, voice: Voice) -> None:
        """
        Forget a voice, and its samples.
        """
        del self._voices[voice.id]
        if self._folder:
            for kind in ("voice", "samples"):
                (self._folder / f"{voice.id}.{kind}").unlink(missing_ok=True)

    def clear(self) -> None:
        """
        Forget all voices.
        """
        for voice in self.all():
            self.remove(voice)

    def all(self, *, public: bool = False) -> list[Voice]:
        """
        Tell all voices, oldest first, those of the *public* library before them or not at all.
        """
        return [*(self._public.values() if public else ()), *self._voices.values()]


def _load(path: Path) -> Voice:
    samples = ormsgpack.unpackb(path.with_suffix(".samples").read_bytes())
    return Voice(**ormsgpack.unpackb(path.read_bytes()), samples=samples)


def _replace(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
