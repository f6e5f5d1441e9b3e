"""
Tags as ffmpeg takes them, and the one that it has no means to write.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from flows.narration.ffmpeg.process import FfmpegFailed

MOST_TAG_CHARACTERS = 10_000
"""Longest tag: Linux refuses an argument above 128 KiB, which is what 10,000 characters of any script stay below."""


def metadata(format: str, tags: Mapping[str, str]) -> tuple[bytes, list[str]]:
    """
    Return the ID3 comment frame to be written afterwards (mp3 only), and the arguments for all other tags.
    """
    safe = {}
    for name, value in tags.items():
        if not re.fullmatch(r"[a-z_]+", name):
            raise ValueError(f"{name!r} is no name of a tag")
        # Neither NUL nor a lone surrogate (from a file name that is no UTF-8) can be an argument.
        text = value.replace("\0", "").encode("utf-8", "replace").decode()
        safe[name] = text[:MOST_TAG_CHARACTERS]
    frame = b""
    if format == "mp3" and "comment" in safe:
        frame = _comment_frame(safe.pop("comment"))
    arguments = [part for name, value in safe.items() for part in ("-metadata", f"{name}={value}")]
    return frame, [*arguments, "-metadata_header_padding", str(len(frame) + 10)] if frame else arguments


def _comment_frame(text: str) -> bytes:
    """
    Return an ID3v2.3 frame `COMM`, which ffmpeg has no means to write: it makes a `TXXX` that players do not show.
    """
    bom = b"\xff\xfe"
    body = b"\x01" + b"eng" + bom + b"\0\0" + bom + text.encode("utf-16-le")
    return b"COMM" + len(body).to_bytes(4, "big") + b"\0\0" + body


def write_comment(target: Path, frame: bytes) -> None:
    """
    Write *frame* into the padding that ffmpeg left at the end of the ID3 tag, so that the audio need not move.
    """
    with target.open("r+b") as file:
        header = file.read(10)
        tag = file.read(id3_bytes(header) - len(header))
        place = 0
        while tag[place : place + 4].strip(b"\0"):
            place += 10 + int.from_bytes(tag[place + 4 : place + 8], "big")
        if len(tag) - place < len(frame):
            target.unlink()
            raise FfmpegFailed("ffmpeg left no room for the comment in the tag of the MP3.")
        file.seek(len(header) + place)
        file.write(frame)


def id3_bytes(header: bytes) -> int:
    """
    Bytes of the ID3 tag at the beginning of a file of which *header* is the first ten; 0 where there is none.
    """
    if header[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(header[6:10], (21, 14, 7, 0), strict=True))
