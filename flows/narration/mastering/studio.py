"""
What all chapters of a book share while they are mastered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.narration.assemble import Sound
from flows.narration.mastering.book import Book
from flows.narration.mastering.profiles import LevelProfile
from flows.narration.takes import TakeStore


@dataclass(frozen=True)
class Studio:
    """
    What all chapters of a book share: finished files go to *folder*, AAC and what is known of them to *work*.
    """

    book: Book
    store: TakeStore
    sound: Sound
    profile: LevelProfile
    folder: Path
    work: Path
    stopped: Callable[[], bool] = bool
    """Whether nothing more is to be made."""
