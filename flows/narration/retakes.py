"""
Which segments a person asked to have recorded anew: `retakes.json` in OUT.

A segment is known by its script, its text, and which of the equal ones in that script it is, so that the choice survives
changes elsewhere. Its number is a part of its take's key: the take of before is kept, and comes back when the entry is removed.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from flows.narration.errors import UsageError
from flows.narration.manifest import Record
from flows.narration.segments import Segment

FILE = "retakes.json"

KeyOf = Callable[..., str]
"""Text as sent, and the number of the retake where there is one, to the key of the take."""


class Retake(Record):
    """
    The segment of *script* that says *text*, the *nth* of equal ones from 0, is to be take *number*, from 1.
    """

    script: str
    text: str
    nth: int = Field(default=0, ge=0)
    number: int = Field(ge=1)


class Retakes(Record):
    """
    All retakes of an OUT.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    retakes: list[Retake] = Field(default_factory=list)

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    @classmethod
    def of(cls, out: Path) -> "Retakes":
        """
        Read those of *out*; `UsageError` for a file that cannot be understood, as what it chose would be lost and paid for.
        """
        path = out / FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        except (OSError, ValidationError) as error:
            raise UsageError(
                f"{path} cannot be read as retakes: {_first(error)}.", "Mend it, or remove it to have none."
            ) from error

    @property
    def digest(self) -> str:
        """
        Digest (SHA-256, hex) of them all.
        """
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def numbers(self, script: str, segments: Iterable[Segment]) -> list[int]:
        """
        The number of each segment of *script*: 0 where nobody asked.
        """
        wanted = {(one.text, one.nth): one.number for one in self.retakes if one.script == script}
        seen: Counter[str] = Counter()
        found = []
        for segment in segments:
            found.append(wanted.get((segment.text, seen[segment.text]), 0))
            seen[segment.text] += 1
        return found

    def keys(self, script: str, segments: Sequence[Segment], key_of: KeyOf) -> list[str]:
        """
        The key of each segment's take.
        """
        numbers = self.numbers(script, segments)
        return [key_for(segment.text, number, key_of) for segment, number in zip(segments, numbers, strict=True)]

    def again(self, script: str, texts: Sequence[str], place: int) -> "Retakes":
        """
        Ask once more for the segment at *place* of the *texts* of *script*.
        """
        text, nth = texts[place], texts[:place].count(texts[place])
        others = [one for one in self.retakes if (one.script, one.text, one.nth) != (script, text, nth)]
        # Equal texts share takes: one that was recorded anew elsewhere would be no new take here.
        before = max((one.number for one in self.retakes if one.text == text), default=0)
        return Retakes(retakes=[*others, Retake(script=script, text=text, nth=nth, number=before + 1)])


def key_for(text: str, number: int, key_of: KeyOf) -> str:
    """
    Name the take of *text* that is the retake of that *number*, or the first.
    """
    return key_of(text, number) if number else key_of(text)


def _first(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
