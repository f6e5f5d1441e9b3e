"""
The one door to ffmpeg: decode what strangers recorded, change sample rates, encode narrations, master and bind books.

The program is the one inside the imageio-ffmpeg wheel. Every call is a list of arguments (no shell) with a time limit or a
stream that ends, names every file by `file:` and an absolute path, and gives it a format, so that no name and no content makes
ffmpeg open anything else.
"""

from flows.narration.ffmpeg.encoding import NO_PEAK, Encoder, Format, encoder
from flows.narration.ffmpeg.finishing import FRAME, Chain, binder, chapter_list, hear, masters, meter, picture, retag
from flows.narration.ffmpeg.process import FfmpegFailed, executable, printable
from flows.narration.ffmpeg.reading import (
    MOST_DECODED_BYTES,
    MOST_INPUT_BYTES,
    Samples,
    decode,
    refuse_unreadable,
    resample,
)
from flows.narration.ffmpeg.tags import MOST_TAG_CHARACTERS, id3_bytes

__all__ = [
    "FRAME",
    "MOST_DECODED_BYTES",
    "MOST_INPUT_BYTES",
    "MOST_TAG_CHARACTERS",
    "NO_PEAK",
    "Chain",
    "Encoder",
    "FfmpegFailed",
    "Format",
    "Samples",
    "binder",
    "chapter_list",
    "decode",
    "encoder",
    "executable",
    "hear",
    "id3_bytes",
    "masters",
    "meter",
    "picture",
    "printable",
    "refuse_unreadable",
    "resample",
    "retag",
]
