"""
Write a page to listen: template, style and script are put together with the data into one file that asks for nothing else.
"""

import base64
import hashlib
import html
import json
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np

from flows.narration.files import replacing
from flows.narration.mastering import LevelProfile
from flows.narration.ours import INDEX
from flows.narration.page.model import Chapter, File, Page, Sentence, Track, Word

COLUMNS = 480
"""Of the picture of a chapter."""

_PICTURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp"}
_RIGHT_TO_LEFT = frozenset(["ar", "arc", "ckb", "dv", "fa", "he", "iw", "ks", "ps", "sd", "syr", "ug", "ur", "yi"])


def write_page(page: Page, folder: Path) -> None:
    """
    Write `index.html` into *folder*, whole or not at all; one that is as it should be is not touched.
    """
    target = folder / INDEX
    # A name that is no UTF-8 stands in JSON as an escape, which is what JSON has for it.
    made = rendered(page).encode("utf-8", "backslashreplace")
    if target.is_file() and target.read_bytes() == made:
        return
    with replacing(target) as temporary:
        temporary.write_bytes(made)


def rendered(page: Page) -> str:
    """
    Return the page as HTML.
    """
    style, script = _part("page.css"), _part("page.js")
    ids = _ids(page.chapters)
    told = json_data(_book(page, ids))
    texts = [json_data(_chapter(one, page.profile)) for one in page.chapters]
    blocks = [("book", told), *((f"data-{at}", text) for at, text in enumerate(texts))]
    return Template(_part("page.html")).substitute(
        policy=_policy(style, script),
        title=html.escape(legible(page.title)),
        style=style,
        script=script,
        data="\n".join(f'<script type="application/json" id="{name}">{text}</script>' for name, text in blocks),
        plain="\n".join(_plain(one) for one in page.chapters),
    )


@cache
def _part(name: str) -> str:
    return resources.files("flows.narration.page").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """
    Allow this very script and style, pictures inside the page, and audio beside it: nothing else, from nowhere.
    """
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; media-src 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def json_data(data: Any) -> str:
    """
    Write JSON that stays inside a script element whatever it holds.
    """
    told = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def href(file: str) -> str:
    """
    Write a path relative to the page as an address; a colon in it is no scheme.
    """
    return quote(file, errors="surrogateescape")


def legible(text: str) -> str:
    """
    Take out what a page may not hold, or what would turn around the text beside it.
    """
    return "".join(one for one in text if unicodedata.category(one) != "Cc" and one not in "\u202a\u202b\u202d\u202e\u202c")


def _plain(chapter: Chapter) -> str:
    """
    Link a chapter's files for a browser without scripts.
    """
    links = (f'<a href="{html.escape(href(track.file))}">{html.escape(legible(chapter.title))}</a>' for track in chapter.tracks)
    return f"<li>{', '.join(links) or html.escape(legible(chapter.title))}</li>"


def _ids(chapters: Iterable[Chapter]) -> list[str]:
    """
    Name chapters for addresses: `chapter-3`, or for what has no number its place, `part-1`.
    """
    found: list[str] = []
    for at, one in enumerate(chapters, 1):
        name = f"part-{at}" if one.number is None else f"chapter-{one.number}"
        found.append(name if name not in found else f"part-{at}")
    return found


def _book(page: Page, ids: list[str]) -> dict[str, Any]:
    language = page.language.replace("_", "-") or "und"
    return {
        "id": page.identity,
        "title": legible(page.title),
        "language": language,
        "direction": "rtl" if language.split("-")[0].lower() in _RIGHT_TO_LEFT else "ltr",
        "folder": page.folder,
        "people": [[what, legible(name)] for what, name in page.people],
        "seconds": _short(sum(one.seconds for one in page.chapters)),
        "facts": [[what, legible(told)] for what, told in page.facts],
        "leftOut": [[legible(what), legible(why)] for what, why in page.left_out],
        "files": _files(page.files),
        "cover": _cover(page.cover) if page.cover else None,
        "chapters": [
            {"id": key, "name": one.name, "number": one.number, "title": legible(one.title), "seconds": _short(one.seconds)}
            for key, one in zip(ids, page.chapters, strict=True)
        ],
    }


def _cover(data: bytes) -> str | None:
    kind = next((kind for mark, kind in _PICTURES.items() if data.startswith(mark)), None)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if kind else None


def _files(files: Iterable[File]) -> list[list[Any]]:
    return [[href(one.file), one.what, one.size, legible(one.file)] for one in files]


def _chapter(chapter: Chapter, profile: LevelProfile | None) -> dict[str, Any]:
    return {
        "tracks": [[href(one.file), _short(one.start), _short(one.seconds), one.file] for one in chapter.tracks],
        "files": _files(chapter.files),
        "missing": legible(chapter.missing),
        "usd": chapter.usd,
        "sentences": [_sentence(one) for one in chapter.sentences],
        "headings": sorted(chapter.headings),
        "breaks": sorted(chapter.breaks),
        "wave": _wave(chapter.tracks),
        "target": profile.loudness if profile else None,
        "profile": legible(profile.name) if profile else None,
        "levels": [_levels(track, profile) for track in chapter.tracks if track.levels],
    }


def _sentence(one: Sentence) -> list[Any]:
    told: list[Any] = [one.text, _short(one.start), _short(one.end), one.paragraph, one.line]
    if one.words:
        begin = _short(one.start)
        told.append([number for word in one.words for number in _word(word, one.text, begin)])
    return told


def _word(word: Word, text: str, begin: float) -> tuple[int, int, int, int]:
    """
    A word in four numbers, as a book has so many of them: its slice, and its milliseconds after *begin*.
    """
    first, last = _units(text, word.first), _units(text, word.last)
    return first, last, round((word.start - begin) * 1000), round((word.end - begin) * 1000)


def _units(text: str, offset: int) -> int:
    """
    Count as a browser counts: in UTF-16.
    """
    return offset if text.isascii() else len(text[:offset].encode("utf-16-le", "surrogatepass")) // 2


def _short(seconds: float) -> float:
    return round(seconds, 3)


def _wave(tracks: Iterable[Track]) -> dict[str, list[float]] | None:
    """
    Join the contours of a chapter's files: peaks from 0 to 99, loudness in LUFS, both in as many columns as are shown.
    """
    known = [track.contour for track in tracks if track.contour]
    peaks = _columns([peak for one in known for peak in one.peaks])
    if not peaks:
        return None
    loud = _columns([level for one in known for level in one.momentary])
    return {"peaks": [round(peak / 32768 * 99) for peak in peaks], "loud": [round(max(-70.0, level), 1) for level in loud]}


def _columns(values: list[Any]) -> list[float]:
    edges = np.linspace(0, len(values), min(COLUMNS, len(values)) + 1).astype(int)
    return [float(max(values[first:last])) for first, last in pairwise(edges)] if values else []


def _levels(track: Track, profile: LevelProfile | None) -> dict[str, Any]:
    """
    Tell each number of a file beside what was asked for, as rows of name, measured, asked and whether it is so.
    """
    levels = track.levels
    if levels is None:
        raise ValueError("there are no levels")
    rows = [
        ("loudness", _told(levels.loudness, "LUFS"), _minus(f"{profile.loudness:g} LUFS") if profile else ""),
        ("RMS", _told(levels.rms, "dBFS"), _between(profile.rms_low, profile.rms_high, "dBFS") if profile else ""),
        ("peak", _told(levels.peak, "dBFS"), _between(None, profile.peak, "dBFS") if profile else ""),
        ("true peak", _told(levels.true_peak, "dBTP"), _between(None, profile.true_peak, "dBTP") if profile else ""),
        ("noise floor", _told(levels.noise_floor, "dBFS"), _between(None, profile.noise_floor, "dBFS") if profile else ""),
        ("silence before the first word", f"{levels.head:.2f} s", _silence(profile, "head")),
        ("silence after the last word", f"{levels.tail:.2f} s", _silence(profile, "tail")),
    ]
    missed = profile.misses(levels) if profile else []

    def row(name: str, measured: str, asked: str) -> list[Any]:
        return [f"{name[0].upper()}{name[1:]}", measured, asked, not any(line.startswith(f"{name} ") for line in missed)]

    return {"file": legible(track.file), "told": _told(levels.loudness, "LUFS"), "rows": [row(*one) for one in rows]}


def _minus(told: str) -> str:
    return told.replace("-", "\N{MINUS SIGN}")


def _silence(profile: LevelProfile | None, side: str) -> str:
    if profile is None:
        return ""
    low, high = getattr(profile, f"{side}_low"), getattr(profile, f"{side}_high")
    return f"{low:g} to {high:g} s" if low or high < 30 else ""


def _told(value: float | None, unit: str) -> str:
    return "none" if value is None else _minus(f"{value:.1f} {unit}")


def _between(low: float | None, high: float | None, unit: str) -> str:
    if high is None:
        return ""
    told = f"at most {high:g} {unit}" if low is None else f"{low:g} to {high:g} {unit}"
    return _minus(told)
