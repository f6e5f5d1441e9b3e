"""
Pages to listen made for tests, with audio of any length.
"""

import json
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from flows.narration import ffmpeg
from flows.narration.contour import Contour
from flows.narration.mastering import PROFILES, Levels
from flows.narration.page import Chapter, File, Page, Sentence, Track, Word
from flows.narration.speech import SAMPLE_RATE

GAP = 0.25
"""Seconds after each sentence."""

STORY = (
    "The lamp in the harbour office had burned since four in the morning, and nobody had thought to put it out.",
    "Mina wrote the last of the numbers into the book, blew on the ink, and listened.",
    "There it was again: a knock, slow and regular, as if the sea itself had come to ask for the rent.",
    "“Come in,” she said.",
    "Nobody came in.",
    "She counted to ten, as her grandmother had taught her to do with all that frightened her, and then she went to the door.",
    "Outside lay a suitcase, wet from end to end, and on its handle hung a label in her own hand.",
)


def levels(seconds: float, **changed: Any) -> Levels:
    """
    Return what a good file measures.
    """
    return Levels(
        **{"loudness": -19.0, "rms": -20.3, "peak": -3.6, "true_peak": -3.4, "noise_floor": -75.8, "seconds": seconds,
           "head": 0.65, "tail": 1.2, "sample_rate": 44_100, "channels": 1, "kbps": 192, "kbps_seen": [192], **changed}
    )  # fmt: skip


def sentences(count: int, *, each: float = 1.0, paragraph: int = 3, start: float = 0.5) -> tuple[Sentence, ...]:
    """
    Return *count* sentences of *each* seconds, with their words.
    """
    found = []
    for at in range(count):
        text, begin = STORY[at % len(STORY)], start + at * (each + GAP)
        pieces, words, offset = text.split(" "), [], 0
        for number, piece in enumerate(pieces):
            first, last = (begin + each * part / len(pieces) for part in (number, number + 1))
            words.append(Word(offset, offset + len(piece), first, last))
            offset += len(piece) + 1
        found.append(Sentence(text, begin, begin + each, at // paragraph, at + 1, tuple(words)))
    return tuple(found)


def chapter(number: int, count: int, *, file: str | None = None, each: float = 1.0, name: str = "", title: str = "") -> Chapter:
    """
    Return a chapter of *count* sentences.
    """
    said = sentences(count, each=each)
    seconds = round(said[-1].end + 1, 3)
    steps = np.arange(int(seconds * 10))
    peaks = [int(one) for one in 9000 + 8000 * np.abs(np.sin(steps / 7)) * np.abs(np.cos(steps / 3))]
    contour = Contour(peaks=peaks, momentary=[-22 + 5 * float(np.sin(step / 9)) for step in steps], integrated=-19.0)
    audio = file or f"{number:02} - Chapter {number}.mp3"
    return Chapter(
        name=name or f"chapter-{number}",
        title=title or f"Chapter {number}",
        number=number,
        tracks=(Track(audio, seconds, levels=levels(seconds), contour=contour),),
        sentences=said,
        files=(File(audio, "MP3", 1_234_567),),
        usd=0.0123,
    )


def a_page(chapters: tuple[Chapter, ...], **changed: Any) -> Page:
    """
    Return a page with these *chapters*.
    """
    return Page(
        **{"title": "The Salt Road", "language": "en", "identity": "salt-road", "folder": "Ada Author - The Salt Road",
           "people": (("by", "Ada Author"), ("read by", "Ann Reader")), "chapters": chapters,
           "facts": (("Cost", "1.2345 USD to speak all of it once"), ("Voice", "Ann Reader (0f3a)"), ("Model", "s2.1-pro")),
           "left_out": (("Copyright (copyright.xhtml)", "It is no part of the story. keep = [\"copyright\"] brings it in."),),
           "files": (File("The Salt Road.m4b", "Audiobook with chapters", 123_456_789),), "profile": PROFILES["acx"], **changed}
    )  # fmt: skip


def sound(path: Path, seconds: float) -> None:
    """
    Write an MP3 that hums quietly.
    """
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    hum = np.asarray(np.round(900 * np.sin(2 * np.pi * 220 * time)), dtype=np.int16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with ffmpeg.encoder(path, format="mp3", sample_rate=SAMPLE_RATE) as encoder:
        for _ in range(int(seconds)):
            encoder.write(hum)
        encoder.write(hum[: int(seconds % 1 * SAMPLE_RATE) * 2])


def cover() -> bytes:
    """
    Paint a PNG: a moon over the sea.
    """
    high, wide = 480, 320
    y, x = np.mgrid[0:high, 0:wide]
    sky = np.stack([30 + y / 6, 44 + y / 5, 78 + y / 5], axis=-1)
    sky[(x - 210) ** 2 + (y - 130) ** 2 < 46**2] = (240, 226, 190)
    sky[(y > 320 + 5 * np.sin(x / 17)) & (y % 11 < 8)] = (22, 38, 58)
    rows = np.concatenate([np.zeros((high, 1), np.uint8), sky.clip(0, 255).astype(np.uint8).reshape(high, -1)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


class Reader(HTMLParser):
    """
    Reads a page as a browser does: its elements, and the data inside it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data: dict[str, Any] = {}
        self.title = ""
        self._id: str | None = None
        self._raw = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """
        Note an element.
        """
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)
        self._id = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        """
        Close what was opened last.
        """
        assert self.open, f"</{tag}> closes nothing"
        assert tag == self.open.pop()
        if self._id:
            self.data[self._id] = json.loads(self._raw)
        self._id, self._raw = None, ""

    def handle_data(self, data: str) -> None:
        """
        Keep what is data, and the title.
        """
        if self._id:
            self._raw += data
        elif self.open[-1:] == ["title"]:
            self.title += data

    def said(self, chapter: int) -> list[str]:
        """
        Return the sentences of a chapter.
        """
        return [one[0] for one in self.data[f"data-{chapter}"]["sentences"]]
