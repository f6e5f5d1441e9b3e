"""
A page to listen: `index.html` beside the audio, one file that plays it and shows what is being read.
"""

from flows.narration.ours import INDEX
from flows.narration.page.gather import page_of_book, page_of_folder
from flows.narration.page.model import Chapter, File, Page, Sentence, Track, Word
from flows.narration.page.writing import write_page

__all__ = [
    "INDEX",
    "Chapter",
    "File",
    "Page",
    "Sentence",
    "Track",
    "Word",
    "page_of_book",
    "page_of_folder",
    "write_page",
]
