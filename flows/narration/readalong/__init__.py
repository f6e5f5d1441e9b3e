"""
The read-along book: an EPUB 3 whose own text is heard, sentence by sentence.
"""

from flows.narration.readalong.book import is_ours, read_along

__all__ = ["is_ours", "read_along"]
