"""
Names of finished files that every system takes: Windows and macOS, and shops that have both behind them.
"""

import re
import unicodedata

MOST_BYTES = 180
"""UTF-8 bytes of a name without its suffix: file systems end at 255, and a folder's path comes before it."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_STRANGE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_INSTEAD = {":": " -", "/": "-", "\\": "-", "|": "-", '"': "'", "<": "(", ">": ")", "*": "", "?": ""}


def plain_name(text: str, *, most_bytes: int = MOST_BYTES, otherwise: str = "Untitled") -> str:
    """
    Make a name of *text* that no system refuses or changes: composed (NFC), in one line, of at most so many bytes.
    """
    composed = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    shown = "".join(
        " " if letter.isspace() else _INSTEAD.get(letter, letter)
        for letter in composed
        if letter.isspace() or unicodedata.category(letter) not in _STRANGE
    )
    name = _shortened(" ".join(shown.split()).lstrip(". "), most_bytes).rstrip(". ")
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return name or otherwise


def deliverable_name(title: str, *, suffix: str, number: int | None = None, count: int = 0, part: int = 0) -> str:
    """
    Name a finished file: `01 - Title.mp3`, the second part of a split chapter `01b - Title.mp3`, without a number `Title.m4b`.

    Numbers are as wide as *count* (how many chapters there are) asks for, at least two digits. *part* counts from 1.
    """
    if number is None:
        return f"{plain_name(title)}{suffix}"
    lead = f"{number:0{max(2, len(str(count)))}}{part_letters(part)}"
    return f"{lead} - {plain_name(title, most_bytes=MOST_BYTES - len(lead) - 3)}{suffix}"


def part_letters(part: int) -> str:
    """
    Return `a` for the first part, `z` for the twenty-sixth, `aa` for the next; nothing for 0.
    """
    letters = ""
    while part > 0:
        part, place = divmod(part - 1, 26)
        letters = chr(ord("a") + place) + letters
    return letters


def _shortened(name: str, most_bytes: int) -> str:
    """
    Cut *name* at a letter, and no accent off the last one, so that it has at most so many bytes with the ellipsis.
    """
    if len(name.encode()) <= most_bytes:
        return name
    kept = name.encode()[: most_bytes - len("…".encode())].decode("utf-8", "ignore")
    while kept and unicodedata.combining(name[len(kept)]):
        kept = kept[:-1]
    return f"{kept.rstrip()}…"
