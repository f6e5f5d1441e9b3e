"""
A book → its chapters as they will be spoken.
"""

from flows.narration.books.credits import closing, opening
from flows.narration.books.model import Book, Chapter, Cover, LeftOut, Origin, Run
from flows.narration.books.outline import outline, table
from flows.narration.books.plan import BookPlan, read_plan
from flows.narration.books.reading import SUFFIXES, read_book, write_plan

__all__ = [
    "SUFFIXES",
    "Book",
    "BookPlan",
    "Chapter",
    "Cover",
    "LeftOut",
    "Origin",
    "Run",
    "closing",
    "opening",
    "outline",
    "read_book",
    "read_plan",
    "table",
    "write_plan",
]
