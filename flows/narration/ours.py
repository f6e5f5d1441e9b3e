"""
Tell what was made here from what is somebody else's, where a file has no tags to say so.
"""

from pathlib import Path

CAPTIONS_NOTE = "NOTE Synthetic speech, made with Narrate."
"""Stands behind the first line of WebVTT of ours; SubRip knows no notes, and is ours where the WebVTT beside it is."""

GENERATOR = '<meta name="generator" content="Narrate">'
"""Stands in the head of a page of ours."""

INDEX = "index.html"
CAPTIONS = (".vtt", ".srt")

_HEAD = 4096


def is_captions(path: Path) -> bool:
    """
    Say whether captions at *path* are ours.
    """
    return CAPTIONS_NOTE in _head(path.with_suffix(".vtt"))


def take_away_captions(audio: Path) -> None:
    """
    Remove captions of ours beside *audio*, which is another by now.
    """
    if is_captions(audio):
        for suffix in CAPTIONS[::-1]:  # the last is the one that tells whose both are
            audio.with_suffix(suffix).unlink(missing_ok=True)


def is_page(path: Path) -> bool:
    """
    Say whether the page at *path* is ours.
    """
    return GENERATOR in _head(path)


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""
