"""
Decode what strangers recorded, and change sample rates.
"""

import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flows.narration.errors import UsageError
from flows.narration.ffmpeg.process import FfmpegFailed, last_line, printable, run, url

Samples = npt.NDArray[np.int16]

MOST_INPUT_BYTES = 500_000_000
"""Largest recording that is looked at: 270 s of 96 kHz 32-bit stereo, the most there is use for, are 207 MB."""

MOST_DECODED_BYTES = 250_000_000
"""What a recording may become: 300 s at 192 kHz in stereo are 230 MB. A few kB of FLAC can become more."""

# Measured on 9.0.2: without these lists, an ffconcat script named .wav makes ffmpeg read the files that it names.
_INPUT_FORMATS = "wav,w64,mp3,flac,ogg,mov,mp4,m4a,matroska,webm,aac,aiff,caf,au,amr,asf"
_INPUT_PROTOCOLS = "file"

RAW = ("-f", "s16le", "-ac", "1")
_DECODE_SECONDS = 120.0
_HEADER_BYTES = 44
_ONE_PACKET = 1_000_000  # as far before its limit does ffmpeg stop


def decode(
    source: Path,
    target: Path,
    *,
    sample_rate: int | None = 44_100,
    channels: int | None = None,
    max_seconds: float = 600.0,
) -> None:
    """
    Decode the first audio stream of an untrusted *source* into a 16-bit WAV at *target*, which is whole or not there.

    Without *sample_rate* (Hz) the recording's own is kept; without *channels* mono stays mono and all else becomes stereo.
    What comes after *max_seconds* is left out. Sizes in a WAV's header that are placeholders do not shorten it. Raises
    `UsageError` for what cannot be read as audio. The two lists of what ffmpeg may open were measured, see AUDIO.md.
    """
    refuse_unreadable(source)
    layout = ("-ac", str(channels)) if channels else ("-af", "aformat=channel_layouts=mono|stereo")
    rate = ("-ar", str(sample_rate)) if sample_rate else ()
    arguments = (
        *("-protocol_whitelist", _INPUT_PROTOCOLS, "-format_whitelist", _INPUT_FORMATS, "-i", url(source)),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-t", str(max_seconds), *layout, *rate),
        *("-fs", str(MOST_DECODED_BYTES)),
        *("-c:a", "pcm_s16le", "-bitexact", "-f", "wav", "-y", url(target)),
    )
    try:
        done = run(arguments, seconds=_DECODE_SECONDS)
        if done.returncode or target.stat().st_size <= _HEADER_BYTES:
            raise _not_audio(source, done.stderr)
        if target.stat().st_size > MOST_DECODED_BYTES - _ONE_PACKET:
            raise UsageError(
                f"{printable(source.name)} is too large once it is decoded: {MOST_DECODED_BYTES // 1_000_000} MB and more.",
                "Give a shorter recording, or one at 44.1 or 48 kHz.",
            )
    except TimeoutError as error:
        target.unlink(missing_ok=True)
        raise UsageError(f"{printable(source.name)} was not decoded within {_DECODE_SECONDS:.0f} s.") from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def resample(
    samples: Samples,
    *,
    source_rate: int,
    target_rate: int,
    gain_db: float = 0.0,
    ceiling_db: float | None = None,
) -> Samples:
    """
    Return mono *samples* at *target_rate* (Hz), by ffmpeg's own resampler, which leaves no images (pydub's does).

    *gain_db* is applied afterwards, before rounding to 16 bits; peaks that would then exceed *ceiling_db* (dBFS, at least
    -24) are rounded off by a look-ahead limiter. The length is kept to the sample: `ceil(n * target_rate / source_rate)`.
    """
    filters = [f"aresample={target_rate}", f"volume={gain_db:.4f}dB"]
    if ceiling_db is not None:
        # The limiter fades in its look-ahead; `latency` gives the time back, `level` would make up the gain it took.
        filters.append(f"alimiter=limit={ceiling_db:.4f}dB:level=0:attack=5:release=50:latency=1")
    wanted = -(-len(samples) * target_rate // source_rate)
    arguments = (
        *(*RAW, "-ar", str(source_rate), "-i", "pipe:0"),
        *("-af", ",".join(filters), *RAW, "-ar", str(target_rate), "pipe:1"),
    )
    done = run(arguments, seconds=_DECODE_SECONDS, content=samples.astype("<i2").tobytes())
    if done.returncode:
        raise FfmpegFailed(f"ffmpeg could not resample {len(samples)} samples: {last_line(done.stderr)}")
    result = np.frombuffer(done.stdout, dtype="<i2").astype(np.int16)[:wanted]
    return np.pad(result, (0, wanted - len(result)))


def refuse_unreadable(source: Path) -> None:
    """
    Raise `UsageError` for what is missing, empty, too large or no file at all (a folder, a pipe, a device).
    """
    name = printable(str(source))
    try:
        status = source.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be reached"
        raise UsageError(f"{name} {why}.", "Check the path of the recording.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name} is not a file.", "Give the recordings one by one.")
    if not status.st_size:
        raise UsageError(f"{name} is empty.", "Record or copy it again.")
    if status.st_size > MOST_INPUT_BYTES:
        size = f"{status.st_size / 1e6:.0f} MB"
        raise UsageError(f"{name} is too large: {size}.", f"Cut it below {MOST_INPUT_BYTES / 1e6:.0f} MB.")


def _not_audio(source: Path, stderr: bytes) -> UsageError:
    name = printable(source.name)
    if b"matches no streams" in stderr or not stderr.strip():
        return UsageError(f"{name} has no sound in it.", "Give a recording of the speaker.")
    return UsageError(
        f"{name} cannot be read as audio: {last_line(stderr)}.",
        "Give a recording as WAV, FLAC, MP3, M4A, OGG, Opus, WebM or AIFF.",
    )
