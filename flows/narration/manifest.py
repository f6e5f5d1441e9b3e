"""
The run's record: `run.json`, and for each narration what stands where in it.

Paths are relative to OUT, so that a folder can be moved; each file says its schema, and another schema is not read.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.narration import cost
from flows.narration.alignment import Word
from flows.narration.files import replacing

SCHEMA: Literal[1] = 1
RUN = "run.json"
BOOK = "book.json"
SEGMENTS = ".segments"

State = Literal["narrated", "unchanged", "empty", "failed", "pending"]


_BEGINNING = re.compile(rb'\{\s*"schema": \d+,\s*"flow_run_id": ')
"""What `run.json` begins with: to read on takes longer, the more scripts it lists."""


class Record(BaseModel):
    """
    Something that is written as JSON; what a newer version added is not thrown away silently but refused.
    """

    model_config = ConfigDict(extra="forbid")

    def write(self, path: Path) -> None:
        """
        Write as JSON, whole or not at all.
        """
        with replacing(path) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """
        Read what was written, or `None` where there is nothing of this schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


class ScriptEntry(Record):
    """
    One script in `run.json`; lengths in seconds, money in USD.
    """

    script: str
    digest: str = ""
    audio: str | None = None
    seconds: float = 0.0
    speech_seconds: float = 0.0
    pause_seconds: float = 0.0
    segments: int = 0
    bytes_billed: int = 0
    bytes_unknown: int = 0
    bytes_reused: int = 0
    requests: int = 0
    usd: float = 0.0
    retries: int = 0
    state: State = "pending"
    error: str | None = None
    notes: list[str] = Field(default_factory=list)


class VoiceEntry(Record):
    """
    The voice of a run: *id* is `inline-` and a digest where the reference went along with each request.
    """

    id: str
    title: str
    reference: str | None = None
    attached: bool = False


class Totals(Record):
    """
    Sums over the scripts of a run.
    """

    scripts: int = 0
    narrated: int = 0
    unchanged: int = 0
    empty: int = 0
    failed: int = 0
    pending: int = 0
    segments: int = 0
    seconds: float = 0.0
    requests: int = 0
    bytes_billed: int = 0
    bytes_unknown: int = 0
    bytes_reused: int = 0
    usd: float = 0.0
    retries: int = 0

    @classmethod
    def of(cls, entries: list[ScriptEntry]) -> Self:
        """
        Add up *entries*.
        """
        sums: dict[str, Any] = {"scripts": len(entries), "segments": sum(entry.segments for entry in entries)}
        for state in ("narrated", "unchanged", "empty", "failed", "pending"):
            sums[state] = sum(entry.state == state for entry in entries)
        for name in ("requests", "bytes_billed", "bytes_unknown", "bytes_reused", "retries"):
            sums[name] = sum(getattr(entry, name) for entry in entries)
        for name in ("seconds", "usd"):
            sums[name] = round(sum(getattr(entry, name) for entry in entries), 6)
        return cls(**sums)

    def usd_at_most(self, *, model: str) -> float:
        """
        Price all that was, or may have been, billed of *model*: what a budget counts.
        """
        return cost.usd(self.bytes_billed + self.bytes_unknown, model=model)


class Manifest(Record):
    """
    `run.json`: what the last run over OUT did.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    flow_run_id: str | None = None
    started: str
    finished: str | None = None
    state: Literal["completed", "failed", "cancelled"]
    error: str | None = None
    voice: VoiceEntry | None = None
    speech: dict[str, Any]
    left_out: list[dict[str, str]] = Field(default_factory=list)
    totals: Totals
    scripts: list[ScriptEntry]

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    @classmethod
    def is_ours(cls, path: Path) -> bool:
        """
        Say whether *path* holds a manifest, of whatever schema.
        """
        try:
            content = path.read_bytes()
            if _BEGINNING.match(content):
                return True
            found = json.loads(content)
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and {"schema", "totals", "scripts"} <= found.keys()


class SegmentEntry(Record):
    """
    One segment in `.segments/….json`: its place in the script (*line*), its take, and its seconds in the narration; *words*
    where their times are known.
    """

    line: int
    text: str
    take: str
    joint: str
    start: float
    end: float
    words: list[Word] = Field(default_factory=list)


class SegmentsFile(Record):
    """
    `.segments/….json`: what a narration holds; *narration* is the digest it was made from, *size* its bytes on disk.
    """

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    narration: str
    size: int
    seconds: float
    speech_seconds: float
    pause_seconds: float
    segments: list[SegmentEntry]

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)


def segments_name(script: str) -> str:
    """
    Where in OUT the segments of the script named *script* are written down.
    """
    return f"{SEGMENTS}/{script.rpartition('.')[0]}.json"


def segments_path(out: Path, script: str) -> Path:
    """
    The same as a path.
    """
    return out / segments_name(script)
