"""
Encode narrations as a stream.
"""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

from flows.narration.ffmpeg.process import FINISH_SECONDS, encoding_failed, finish, start, url
from flows.narration.ffmpeg.reading import RAW
from flows.narration.ffmpeg.tags import metadata, write_comment

Format = Literal["mp3", "wav", "flac", "opus"]

_NAMES = ("S", "LRA", "LRA.low", "LRA.high", "true_peaks_ch0", "sample_peaks_ch0")
_DELETED = ",".join(f"ametadata=mode=delete:key=lavfi.r128.{name}" for name in _NAMES)
PRINTED = f"{_DELETED},ametadata=mode=print:file=-"
"""What follows a meter: what is of no use is not printed."""

NO_PEAK = -120.0
"""dB of what has no peak."""

# The meter hears a copy: what is encoded stays as it is, to the bit. One filter prints: two would write into one line.
_HEARD = f"[0:a]asplit=2[kept][copy];[copy]ebur128=metadata=1,{PRINTED}[heard]"
_NO_LOUDNESS = -70.0  # what the meter says of silence, and before it has heard enough

_ENCODERS: Mapping[Format, tuple[str, ...]] = {
    "mp3": ("-c:a", "libmp3lame", "-id3v2_version", "3", "-f", "mp3"),
    "wav": ("-c:a", "pcm_s16le", "-rf64", "auto", "-f", "wav"),
    "flac": ("-c:a", "flac", "-f", "flac"),
    "opus": ("-c:a", "libopus", "-ar", "48000", "-f", "ogg"),
}
_DEFAULT_KBPS: Mapping[Format, int] = {"mp3": 128, "opus": 64}
_MOST_KBPS: Mapping[Format, int] = {"mp3": 320, "opus": 256}


class Encoder:
    """
    A running ffmpeg that takes mono 16-bit little-endian samples.

    When it is done, *momentary* is the loudness at each tenth of a second (LUFS, of 400 ms) and *integrated* that of all of it
    (LUFS by ITU-R BS.1770-4), if any; *peak* is in dB, where the meter was asked for one.
    """

    def __init__(self, stream: IO[bytes], log: IO[bytes]) -> None:
        self._stream = stream
        self._log = log
        self.momentary: list[float] = []
        self.integrated: float | None = None
        self.peak: float | None = None

    def write(self, pcm: bytes) -> None:
        """
        Hand over whole samples; blocks while ffmpeg is behind, so that memory stays flat.
        """
        try:
            self._stream.write(pcm)
        except BrokenPipeError as error:
            raise encoding_failed(self._log) from error


@contextlib.contextmanager
def encoder(
    target: Path,
    *,
    format: Literal["mp3", "wav", "flac", "opus"],
    sample_rate: int,
    bitrate_kbps: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[Encoder]:
    """
    Encode what is written into *target*, from mono 16-bit samples at *sample_rate* (Hz), in flat memory.

    mp3 is CBR (128 kbit/s unless *bitrate_kbps* says otherwise; the nearest there is) with ID3v2.3; opus (64, at most 256) is
    48 kHz in Ogg; wav and flac know no bitrate. The same samples and *tags* give the same bytes. *tags* go by ffmpeg's names
    (`title`, `album`, `artist`, `track`, `genre`, `comment`, `date`); values may be any text. When the block or ffmpeg fails,
    ffmpeg is gone and so is *target*; the name of a finished file is the caller's to give. Raises `FfmpegFailed`.
    """
    comment, named = metadata(format, tags or {})
    kbps = min(bitrate_kbps or _DEFAULT_KBPS.get(format, 0), _MOST_KBPS.get(format, 0))
    arguments = (
        *(*RAW, "-ar", str(sample_rate), "-i", "pipe:0", "-filter_complex", _HEARD),
        *("-map", "[kept]", "-map_metadata", "-1", *named, *_ENCODERS[format]),
        *(("-b:a", f"{kbps}k") if kbps else ()),
        *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-y", url(target), "-map", "[heard]", "-f", "null", "-"),
    )
    with running(arguments, target) as made:
        yield made
    if comment:
        write_comment(target, comment)


@contextlib.contextmanager
def running(arguments: tuple[str, ...], *targets: Path, seconds: float = FINISH_SECONDS) -> Iterator[Encoder]:
    """
    Run ffmpeg on what is written into it; at the end it has so many *seconds* to finish.

    When the block or ffmpeg fails, ffmpeg is gone and so are its *targets*.
    """
    # A pipe nobody reads would stop ffmpeg once it is full.
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as heard:
        process = start(arguments, log, heard)
        assert process.stdin is not None  # noqa: S101 - asked for as a pipe
        try:
            made = Encoder(process.stdin, log)
            yield made
            finish(process, log, seconds=seconds)
            _read_loudness(heard, made)
        except BaseException:
            process.kill()
            for target in targets:
                target.unlink(missing_ok=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()


def _finite(level: float) -> float:
    """
    Give silence a number: the meter says that it has none.
    """
    return level if math.isfinite(level) else NO_PEAK


def _read_loudness(heard: IO[bytes], made: Encoder) -> None:
    """
    Read what the meter printed, a line at a time: an hour of sound is four megabytes of it.
    """
    heard.seek(0)
    for line in heard:
        name, _, value = line.strip().partition(b"=")
        if name == b"lavfi.r128.M":
            made.momentary.append(_finite(float(value)))
        elif name == b"lavfi.r128.I":
            made.integrated = float(value) if float(value) > _NO_LOUDNESS else None
        elif name in (b"lavfi.r128.true_peak", b"lavfi.r128.sample_peak"):
            made.peak = max(NO_PEAK if made.peak is None else made.peak, 20 * math.log10(max(float(value), 1e-9)))
