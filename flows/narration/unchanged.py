"""
What the last run knew of each script, so that one that is as it was is neither cut nor looked into again: a shortcut.

OUT/.unchanged.json is read at the beginning of a run and written at its end. It is never the only witness: the bytes of every
script are read and hashed by every run, and what stands in OUT must look to the file system as it did when it was made. Where
anything differs (a script, a setting, a file, this program) what is written there counts for nothing, and where the file is
gone or damaged, all is done as if for the first time.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json

from flows.narration.files import replacing

FILE = ".unchanged.json"

LIBRARIES = ("sentencex", "markdown-it-py", "mdit-py-plugins", "natsort")
"""Distributions that have a say in where a script is cut, and in which order they come."""


class Made(NamedTuple):
    """
    A narration that is there, of *segments* segments and *size* billed bytes, and the script it was made from.

    *audio* and *record* are what `look` says of the narration and of what is written down of it. Lengths are in seconds.
    """

    digest: str
    title: str
    track: int
    notes: list[str]
    segments: int
    size: int
    narration: str
    seconds: float
    speech_seconds: float
    pause_seconds: float
    audio: list[int]
    record: list[int]


@dataclass(frozen=True)
class Memory:
    """
    All that is known, by script: as it is cut with the settings that *cutting* is a digest of, and made with those of *making*.
    """

    cutting: str
    making: str = ""
    made: Mapping[str, Made] = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path, *, cutting: str) -> "Memory":
        """
        Read what the last run into *out* left; nothing if it was cut with other settings, or is not as it was written.
        """
        try:
            digest, _, content = (out / FILE).read_bytes().partition(b"\n")
            if digest.decode() == hashlib.sha256(content).hexdigest():
                written = from_json(content)
                if written["cutting"] == cutting:
                    made = {name: Made(*row) for name, row in written["made"].items()}
                    return cls(cutting=cutting, making=written["making"], made=made)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(cutting=cutting)

    def write(self, out: Path) -> None:
        """
        Leave it to the next run, which can do without: a disk that takes nothing more is no reason to fail.
        """
        content = json.dumps(vars(self), ensure_ascii=False).encode()
        with suppress(OSError), replacing(out / FILE) as temporary:
            temporary.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def look(folder: Path, name: str) -> list[int]:
    """
    What the file system says of a file in *folder*: size, times of change, inode; nothing where there is no such file.

    A file that is written to, replaced or copied looks different, also when its date is put back afterwards: the second time
    (`st_ctime`) cannot be.
    """
    try:
        seen = os.stat(f"{folder}/{name}")  # noqa: PTH116  # to make a Path takes longer than to look
    except OSError:
        return []
    return [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]


@cache
def program() -> str:
    """
    Digest of all that decides what becomes of the same script with the same settings: our own code, and what it leans on.
    """
    digest = hashlib.sha256(repr([sys.version, *map(version, LIBRARIES)]).encode())
    for module in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()
