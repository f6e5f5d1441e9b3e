"""
Master a stream of samples into MP3 and AAC at once, hear how loud it is, and bind AAC into an M4B.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.narration.ffmpeg.encoding import PRINTED, Encoder, running
from flows.narration.ffmpeg.process import run, url
from flows.narration.ffmpeg.reading import RAW
from flows.narration.ffmpeg.tags import id3_bytes, metadata, write_comment

FRAME = 1024
"""Samples of an AAC frame; as many come before the first sample of what was encoded."""

MOST_TITLE_BYTES = 250
"""Longest title of a chapter in an M4B."""

_OVERSAMPLED = 4  # as BS.1770 has it: peaks between samples are seen to 0.6 dB
_MP3 = ("-c:a", "libmp3lame", "-id3v2_version", "3")
_AAC = ("-c:a", "aac", "-aac_coder", "fast", "-f", "adts")
_SHOWN = ("-map", "1:v", "-c:v", "copy", "-disposition:v", "attached_pic", "-metadata:s:v", "comment=Cover (front)")
_EXACT = ("-fflags", "+bitexact", "-flags:a", "+bitexact")
_PINK = 5.38  # amplitude that anoisesrc needs for pink noise of an RMS of 1, measured
_LAME_TAKES = ((160, 0.45), (192, 0.266), (224, 0.177))  # dB by which LAME turns down what it encodes, by kbit/s, measured
_MUX_SECONDS = 900.0
_PICTURE_SECONDS = 30.0
_PICTURES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"\x89PNG": "png_pipe",
    b"GIF8": "gif",
    b"RIFF": "webp_pipe",
    b"BM": "bmp_pipe",
}


@dataclass(frozen=True)
class Chain:
    """
    What is done to the samples: *high_pass* in Hz, *gain* in dB, peaks held below *ceiling* (dBFS), *room_tone* in dBFS (RMS).
    """

    gain: float
    ceiling: float
    high_pass: float = 80.0
    room_tone: float = -76.0

    @property
    def cleaned(self) -> str:
        """
        The filters before gain, of which loudness is measured.
        """
        return f"aformat=sample_fmts=fltp,highpass=f={self.high_pass:g}"

    def voice(self, sample_rate: int) -> str:
        """
        The filters of the speech itself, limiter included.
        """
        limiter = f"alimiter=limit={self.ceiling:.3f}dB:level=0:attack=5:release=50:latency=1"
        up = f"aresample={_OVERSAMPLED * sample_rate}"
        return f"{self.cleaned},volume={self.gain:.4f}dB,{up},{limiter},aresample={sample_rate}"

    def graph(self, sample_rate: int, *, mp3_kbps: int) -> str:
        """
        All of it, as a graph from `[0:a]` to `[mp3]` and `[aac]`.
        """
        scale = next((taken for most, taken in _LAME_TAKES if mp3_kbps <= most), 0.0)
        amplitude = _PINK * 10 ** (self.room_tone / 20)
        return (
            f"[0:a]{self.voice(sample_rate)}[voice];"
            f"anoisesrc=color=pink:amplitude={amplitude:.8f}:seed=1:sample_rate={sample_rate}[room];"
            f"[voice][room]amix=duration=first:normalize=0,asplit=2[both][aac];[both]volume={scale}dB[mp3]"
        )


@contextlib.contextmanager
def meter(chain: Chain, *, sample_rate: int, limited: bool = False) -> Iterator[Encoder]:
    """
    Hear what is written (mono, 16 bits) as it is after the high-pass of *chain*, or *limited*: after its gain and limiter.
    """
    heard = f"{chain.voice(sample_rate) if limited else chain.cleaned},ebur128=metadata=1,{PRINTED}"
    with running((*RAW, "-ar", str(sample_rate), "-i", "pipe:0", "-af", heard, "-f", "null", "-")) as made:
        yield made


@contextlib.contextmanager
def masters(
    mp3: Path,
    aac: Path,
    *,
    chain: Chain,
    sample_rate: int,
    mp3_kbps: int,
    aac_kbps: int,
    tags: Mapping[str, str],
    cover: Path | None = None,
) -> Iterator[Encoder]:
    """
    Encode what is written into an MP3 (CBR, with *tags* and the JPEG *cover*) and an AAC stream without any, in one go.

    When the block or ffmpeg fails, both files are gone. Raises `FfmpegFailed`.
    """
    comment, named = metadata("mp3", tags)
    picture = ("-f", "jpeg_pipe", "-i", url(cover)) if cover else ()
    arguments = (
        *(
            *RAW,
            "-ar",
            str(sample_rate),
            "-i",
            "pipe:0",
            *picture,
            "-filter_complex",
            chain.graph(sample_rate, mp3_kbps=mp3_kbps),
        ),
        *("-map", "[mp3]", *(_SHOWN if cover else ()), "-map_metadata", "-1", *named, *_MP3, "-b:a", f"{mp3_kbps}k", *_EXACT),
        *("-f", "mp3", "-y", url(mp3)),
        *("-map", "[aac]", "-map_metadata", "-1", *_AAC, "-b:a", f"{aac_kbps}k", *_EXACT, "-y", url(aac)),
    )
    with running(arguments, mp3, aac) as made:
        yield made
    if comment:
        write_comment(mp3, comment)


def retag(source: Path, target: Path, *, tags: Mapping[str, str], cover: Path | None = None) -> None:
    """
    Copy the MP3 *source* to *target* with other *tags* and *cover*; what is heard stays as it is, to the bit.
    """
    comment, named = metadata("mp3", tags)
    picture = ("-f", "jpeg_pipe", "-i", url(cover)) if cover else ()
    arguments = (
        *(*RAW, "-ar", "44100", "-i", "pipe:0", *picture, "-map", "0:a", *(_SHOWN if cover else ()), "-map_metadata", "-1"),
        *(*named, *_MP3, *_EXACT, "-f", "mp3", "-y", url(target)),
    )
    with running(arguments, target) as nothing:
        nothing.write(bytes(2 * 4410))
    if comment:
        write_comment(target, comment)
    with source.open("rb") as sound, target.open("r+b") as file:
        size = id3_bytes(file.read(10))
        sound.seek(id3_bytes(sound.read(10)))
        file.truncate(size)
        file.seek(size)
        shutil.copyfileobj(sound, file)


def hear(path: Path, *, format: Literal["mp3", "aac"], peak: Literal["true", "sample"] = "true") -> Encoder:
    """
    Decode an encoded file of ours and tell its loudness, and its peak between samples or of them (which takes half the time).
    """
    arguments = (
        *("-format_whitelist", format, "-protocol_whitelist", "file", "-f", format, "-i", url(path), "-map", "0:a:0"),
        *("-af", f"ebur128=metadata=1:peak={peak},{PRINTED}", "-f", "null", "-"),
    )
    with running(arguments, seconds=_MUX_SECONDS) as made:
        pass
    return made


@contextlib.contextmanager
def binder(
    target: Path,
    *,
    chapters: Path,
    sample_rate: int,
    tags: Mapping[str, str],
    language: str = "und",
    cover: Path | None = None,
) -> Iterator[Encoder]:
    """
    Put AAC frames (ADTS) that are written one stream after the other into an M4B at *target*, as they are.

    *chapters* is a file of ffmpeg's metadata. Raises `FfmpegFailed`; then *target* is gone.
    """
    _, named = metadata("mp4", tags)
    picture = ("-f", "jpeg_pipe", "-i", url(cover)) if cover else ()
    shown = ("-map", "2:v", "-disposition:v:0", "attached_pic") if cover else ()
    arguments = (
        *("-f", "aac", "-i", "pipe:0", "-f", "ffmetadata", "-i", url(chapters), *picture, "-map", "0:a", *shown),
        *("-map_metadata", "1", "-map_chapters", "1", *named, "-metadata:s:a:0", f"language={language}", "-c", "copy"),
        # Without a timescale the chapters' track gets one in which a chapter of 153 seconds is too long to be written.
        *("-movie_timescale", str(sample_rate), "-movflags", "+faststart", *_EXACT, "-f", "ipod", "-y", url(target)),
    )
    with running(arguments, target, seconds=_MUX_SECONDS) as made:
        yield made


def chapter_list(chapters: Sequence[tuple[str, int, int]], *, sample_rate: int) -> str:
    """
    Write titles with their first and last sample as ffmpeg reads it.
    """
    lines = [";FFMETADATA1"]
    for title, start, end in chapters:
        # What is special in that format is escaped; after a backslash, escaped or not, ffmpeg takes the line to go on.
        # Nero's chapters have a byte for the length of their title.
        whole = " ".join(title.replace("\0", "").split()).encode("utf-8", "replace")
        line = whole[:MOST_TITLE_BYTES].decode("utf-8", "ignore")
        said = "".join(f"\\{letter}" if letter in "=;#\\" else letter for letter in line) + " " * line.endswith("\\")
        lines += ["[CHAPTER]", f"TIMEBASE=1/{sample_rate}", f"START={start}", f"END={end}", f"title={said}"]
    return "\n".join(lines) + "\n"


def picture(source: Path, target: Path, *, most_pixels: int = 2400) -> bool:
    """
    Make a JPEG at *target* from a stranger's picture (JPEG, PNG, GIF, WebP, BMP), and say whether that went well.
    """
    with source.open("rb") as file:
        head = file.read(16)
    format = next((name for magic, name in _PICTURES.items() if head.startswith(magic)), None)
    if format is None:
        return False
    scale = f"scale=w=min(iw\\,{most_pixels}):h=min(ih\\,{most_pixels}):force_original_aspect_ratio=decrease,format=yuvj420p"
    arguments = (
        *("-format_whitelist", format, "-protocol_whitelist", "file", "-f", format, "-i", url(source), "-map", "0:v:0"),
        *("-frames:v", "1", "-vf", scale, "-c:v", "mjpeg", "-q:v", "3", "-map_metadata", "-1", "-bitexact"),
        *("-f", "mjpeg", "-y", url(target)),
    )
    try:
        done = run(arguments, seconds=_PICTURE_SECONDS)
    except TimeoutError:
        target.unlink(missing_ok=True)
        return False
    if done.returncode or not target.exists() or not target.stat().st_size:
        target.unlink(missing_ok=True)
        return False
    return True
