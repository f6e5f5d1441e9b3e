"""
The journal: every request to the API, in the order of arrival. Keys are never in it.
"""

import math
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Entry:
    """
    One request. Fields about speech stay None for other requests.
    """

    number: int
    method: str
    path: str
    query: str
    started: float
    """Seconds of the monotonic clock of this machine, comparable with the client's on Linux."""
    in_flight: int
    """Requests of this kind (speech, or everything else) under way at arrival, itself and those to be refused included."""
    trace: str
    """What the answer carries as `x-fish-trace-id`."""
    finished: float | None = None
    """When the last byte was handed to the connection, or the connection was given up."""
    status: int | None = None
    """None when the connection was dropped before an answer."""
    fault: str | None = None
    text: str | None = None
    bytes: int | None = None
    """Length of the text in UTF-8, the unit that is billed."""
    reference_id: str | list[str] | None = None
    """What was asked for, or `inline` for references in the request itself."""
    model: str | None = None
    """The header as it came; None when there was none."""
    billed_model: str | None = None
    format: str | None = None
    sample_rate: int | None = None
    """The rate answered with, asked for or not."""
    speed: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    """Everything else in the body as received; of audio only its length."""
    audio_seconds: float | None = None
    billed: bool = False
    cost_usd: str | None = None
    voice: str | None = None
    """Which voice read it: quick or neural."""


def plain(value: Any) -> Any:
    """
    Tell *value* as JSON can: of bytes only their length.
    """
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {str(key): plain(item) for key, item in value.items()} if isinstance(value, dict) else value


class Journal:
    """
    All entries, and how many requests of each kind are under way.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._under_way: Counter[bool] = Counter()
        self._opened = 0

    def open(self, *, method: str, path: str, query: str) -> Entry:
        """
        Write down a request that has just arrived.
        """
        speech = path.startswith("/v1/")
        self._under_way[speech] += 1
        self._opened += 1
        entry = Entry(self._opened, method, path, query, time.monotonic(), self._under_way[speech], uuid.uuid4().hex)
        self._entries.append(entry)
        return entry

    def close(self, entry: Entry) -> None:
        """
        Note the end of a request; a second time does nothing.
        """
        if entry.finished is None:
            entry.finished = time.monotonic()
            self._under_way[entry.path.startswith("/v1/")] -= 1

    def clear(self) -> None:
        """
        Forget all entries; requests under way stay counted.
        """
        self._entries = []
        self._opened = 0

    def rows(self) -> list[dict[str, Any]]:
        """
        Tell all entries, oldest first.
        """
        return [asdict(entry) for entry in self._entries]
