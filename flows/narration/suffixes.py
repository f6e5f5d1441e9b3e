"""
What files of books and of chapters are called.
"""

WHOLE = (".epub", ".docx")
"""Of files that are a book each, also beside others."""

CHAPTERS = (".txt", ".md", ".html", ".htm", ".xhtml")
"""Of files that make one book together where they are in a folder."""

NO_CHAPTERS = ("readme.md", "reference.txt")
"""Files by such names that are none."""
