"""
The one door to ffmpeg: decode what strangers recorded, change sample rates, encode narrations as a stream.

The program is the one inside the imageio-ffmpeg wheel. Every call is a list of arguments (no shell) with a time limit or a
stream that ends, names every file by `file:` and an absolute path, and gives it a format, so that no name and no content makes
ffmpeg open anything else.
"""

import contextlib
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal

import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from flows.narration.errors import ExitCode, NarrateError, UsageError

Samples = npt.NDArray[np.int16]
Format = Literal["mp3", "wav", "flac", "opus"]

MOST_INPUT_BYTES = 500_000_000
"""Largest recording that is looked at: 270 s of 96 kHz 32-bit stereo, the most there is use for, are 207 MB."""

MOST_DECODED_BYTES = 250_000_000
"""What a recording may become: 300 s at 192 kHz in stereo are 230 MB. A few kB of FLAC can become more."""

MOST_TAG_CHARACTERS = 10_000
"""Longest tag: Linux refuses an argument above 128 KiB, which is what 10,000 characters of any script stay below."""

# Measured on 9.0.2: without these lists, an ffconcat script named .wav makes ffmpeg read the files that it names.
_INPUT_FORMATS = "wav,w64,mp3,flac,ogg,mov,mp4,m4a,matroska,webm,aac,aiff,caf,au,amr,asf"
_INPUT_PROTOCOLS = "file"

_QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")
_RAW = ("-f", "s16le", "-ac", "1")
_DECODE_SECONDS = 120.0
_FINISH_SECONDS = 120.0
_HEADER_BYTES = 44
_ONE_PACKET = 1_000_000  # as far before its limit does ffmpeg stop
_LOWER_PRIORITY = 19

_NOT_PRINTED = ",".join(f"ametadata=mode=delete:key=lavfi.r128.{name}" for name in ("S", "LRA", "LRA.low", "LRA.high"))
# The meter hears a copy: what is encoded stays as it is, to the bit. One filter prints: two would write into one line.
_HEARD = f"[0:a]asplit=2[kept][copy];[copy]ebur128=metadata=1,{_NOT_PRINTED},ametadata=mode=print:file=-[heard]"
_NO_LOUDNESS = -70.0  # what the meter says of silence, and before it has heard enough

_ENCODERS: Mapping[Format, tuple[str, ...]] = {
    "mp3": ("-c:a", "libmp3lame", "-id3v2_version", "3", "-f", "mp3"),
    "wav": ("-c:a", "pcm_s16le", "-rf64", "auto", "-f", "wav"),
    "flac": ("-c:a", "flac", "-f", "flac"),
    "opus": ("-c:a", "libopus", "-ar", "48000", "-f", "ogg"),
}
_DEFAULT_KBPS: Mapping[Format, int] = {"mp3": 128, "opus": 64}
_MOST_KBPS: Mapping[Format, int] = {"mp3": 320, "opus": 256}


class FfmpegFailed(NarrateError):
    """
    ffmpeg is missing, or it failed at something other than a user's recording: a full disk, most often.
    """

    exit_code = ExitCode.SCRIPTS_FAILED


def executable() -> str:
    """
    Return the path of ffmpeg; raise `FfmpegFailed` where the wheel for this machine has none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise FfmpegFailed(
            "There is no ffmpeg: the installed imageio-ffmpeg brings none for this machine.",
            "Install it again with `pip install --force-reinstall imageio-ffmpeg`.",
        ) from error


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
        *("-protocol_whitelist", _INPUT_PROTOCOLS, "-format_whitelist", _INPUT_FORMATS, "-i", _url(source)),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1", "-t", str(max_seconds), *layout, *rate),
        *("-fs", str(MOST_DECODED_BYTES)),
        *("-c:a", "pcm_s16le", "-bitexact", "-f", "wav", "-y", _url(target)),
    )
    try:
        done = _run(arguments, seconds=_DECODE_SECONDS)
        if done.returncode or target.stat().st_size <= _HEADER_BYTES:
            raise _not_audio(source, done.stderr)
        if target.stat().st_size > MOST_DECODED_BYTES - _ONE_PACKET:
            raise UsageError(
                f"{printable(source.name)} is too large once it is decoded: {MOST_DECODED_BYTES // 1_000_000} MB and more.",
                "Give a shorter recording, or one at 44.1 or 48 kHz.",
            )
    except subprocess.TimeoutExpired as error:
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
        *(*_RAW, "-ar", str(source_rate), "-i", "pipe:0"),
        *("-af", ",".join(filters), *_RAW, "-ar", str(target_rate), "pipe:1"),
    )
    done = _run(arguments, seconds=_DECODE_SECONDS, content=samples.astype("<i2").tobytes())
    if done.returncode:
        raise FfmpegFailed(f"ffmpeg could not resample {len(samples)} samples: {_last_line(done.stderr)}")
    result = np.frombuffer(done.stdout, dtype="<i2").astype(np.int16)[:wanted]
    return np.pad(result, (0, wanted - len(result)))


class Encoder:
    """
    A running ffmpeg that takes mono 16-bit little-endian samples.

    When it is done, *momentary* is the loudness at each tenth of a second (LUFS, of 400 ms) and *integrated* that of all of it
    (LUFS by ITU-R BS.1770-4), if any.
    """

    def __init__(self, stream: IO[bytes], log: IO[bytes]) -> None:
        self._stream = stream
        self._log = log
        self.momentary: list[float] = []
        self.integrated: float | None = None

    def write(self, pcm: bytes) -> None:
        """
        Hand over whole samples; blocks while ffmpeg is behind, so that memory stays flat.
        """
        try:
            self._stream.write(pcm)
        except BrokenPipeError as error:
            raise _encoding_failed(self._log) from error


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
    comment, metadata = _metadata(format, tags or {})
    kbps = min(bitrate_kbps or _DEFAULT_KBPS.get(format, 0), _MOST_KBPS.get(format, 0))
    arguments = (
        *(*_RAW, "-ar", str(sample_rate), "-i", "pipe:0", "-filter_complex", _HEARD),
        *("-map", "[kept]", "-map_metadata", "-1", *metadata, *_ENCODERS[format]),
        *(("-b:a", f"{kbps}k") if kbps else ()),
        *("-fflags", "+bitexact", "-flags:a", "+bitexact", "-y", _url(target), "-map", "[heard]", "-f", "null", "-"),
    )
    # A pipe nobody reads would stop ffmpeg once it is full.
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as heard:
        process = _start(arguments, log, heard)
        assert process.stdin is not None  # noqa: S101 - asked for as a pipe
        try:
            made = Encoder(process.stdin, log)
            yield made
            _finish(process, log)
            _read_loudness(heard, made)
            if comment:
                _write_comment(target, comment)
        except BaseException:
            process.kill()
            target.unlink(missing_ok=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.wait()


def _read_loudness(heard: IO[bytes], made: Encoder) -> None:
    """
    Read what the meter printed, a line at a time: an hour of sound is four megabytes of it.
    """
    heard.seek(0)
    for line in heard:
        name, _, value = line.strip().partition(b"=")
        if name == b"lavfi.r128.M":
            made.momentary.append(float(value))
        elif name == b"lavfi.r128.I":
            made.integrated = float(value) if float(value) > _NO_LOUDNESS else None


def _start(arguments: tuple[str, ...], log: IO[bytes], heard: IO[bytes]) -> subprocess.Popen[bytes]:
    # In a session of its own, so that Ctrl-C reaches us alone and we decide what becomes of the file.
    process = subprocess.Popen(  # noqa: S603 - a list of our own arguments
        (executable(), *_QUIET, *arguments),
        stdin=subprocess.PIPE,
        stdout=heard,
        stderr=log,
        start_new_session=True,
    )
    # Encoding has time until the next request is answered; on two cores it must not starve the requests.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _LOWER_PRIORITY)
    return process


def _finish(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - asked for as a pipe
    try:
        process.stdin.close()
        failed = process.wait(timeout=_FINISH_SECONDS) != 0
    except BrokenPipeError as error:
        raise _encoding_failed(log) from error
    except subprocess.TimeoutExpired as error:
        raise FfmpegFailed(f"ffmpeg did not finish within {_FINISH_SECONDS:.0f} s.") from error
    if failed:
        raise _encoding_failed(log)


def _metadata(format: Format, tags: Mapping[str, str]) -> tuple[bytes, list[str]]:
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


def _write_comment(target: Path, frame: bytes) -> None:
    """
    Write *frame* into the padding that ffmpeg left at the end of the ID3 tag, so that the audio need not move.
    """
    with target.open("r+b") as file:
        header = file.read(10)
        tag = file.read(sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True)))
        place = 0
        while tag[place : place + 4].strip(b"\0"):
            place += 10 + int.from_bytes(tag[place + 4 : place + 8], "big")
        if len(tag) - place < len(frame):
            raise FfmpegFailed("ffmpeg left no room for the comment in the tag of the MP3.")
        file.seek(len(header) + place)
        file.write(frame)


def _run(arguments: tuple[str, ...], *, seconds: float, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = (executable(), *_QUIET, *arguments)
    return subprocess.run(  # noqa: S603 - a list of our own arguments
        command, input=content, capture_output=True, timeout=seconds, check=False, start_new_session=True
    )


def _url(path: Path) -> str:
    """
    Name a file so that nothing in its name is taken for an option or another protocol.
    """
    return f"file:{path.absolute()}"


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
        f"{name} cannot be read as audio: {_last_line(stderr)}.",
        "Give a recording as WAV, FLAC, MP3, M4A, OGG, Opus, WebM or AIFF.",
    )


def _encoding_failed(log: IO[bytes]) -> FfmpegFailed:
    log.seek(0)
    return FfmpegFailed(
        f"ffmpeg could not write the audio: {_last_line(log.read())}.", "Look for space on the disk; run again."
    )


def _last_line(stderr: bytes) -> str:
    """
    Return the last thing ffmpeg said about a cause, without paths and addresses.
    """
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip() and "file:" not in line]
    said = re.sub(r"^\[[^\]]*\]\s*|^Error opening \w+( files)?: ", "", lines[-1]) if lines else "it gave no reason"
    return printable(said).rstrip(".")


def printable(text: str) -> str:
    """
    Make *text* fit for a terminal: one short line without control characters.
    """
    return "".join(character if character.isprintable() else "?" for character in text)[:200]
