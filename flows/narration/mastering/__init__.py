"""
Takes → finished chapters: one constant gain, room tone, limited peaks, MP3 and AAC from the same samples, measured as encoded.
"""

from flows.narration.mastering.book import Book, Chapter
from flows.narration.mastering.chapter import Mastered, Part, master, standing, tidy
from flows.narration.mastering.measuring import Levels, measure
from flows.narration.mastering.naming import deliverable_name, plain_name
from flows.narration.mastering.parts import Lengths, cut_sample, split
from flows.narration.mastering.profiles import PROFILES, LevelProfile, level_profile
from flows.narration.mastering.studio import Studio

__all__ = [
    "PROFILES",
    "Book",
    "Chapter",
    "Lengths",
    "LevelProfile",
    "Levels",
    "Mastered",
    "Part",
    "Studio",
    "cut_sample",
    "deliverable_name",
    "level_profile",
    "master",
    "measure",
    "plain_name",
    "split",
    "standing",
    "tidy",
]
