"""
Run ffmpeg: a list of arguments, no shell, a time limit or a stream that ends; and tell what it said when it failed.
"""

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from flows.narration.errors import ExitCode, NarrateError

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error")
FINISH_SECONDS = 120.0
_PIPE_BYTES = 1 << 20
_LOWER_PRIORITY = 19


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


def start(arguments: tuple[str, ...], log: IO[bytes], heard: IO[bytes]) -> subprocess.Popen[bytes]:
    """
    Start ffmpeg at a low priority: its standard input is a pipe, what it prints goes to *heard*, what it complains of to *log*.
    """
    # In a session of its own, so that Ctrl-C reaches us alone and we decide what becomes of the file.
    process = subprocess.Popen(  # noqa: S603 - a list of our own arguments
        (executable(), *QUIET, *arguments),
        stdin=subprocess.PIPE,
        stdout=heard,
        stderr=log,
        start_new_session=True,
    )
    # A second of sound fills a pipe; with more in it, ffmpeg goes on working while we are busy with another chapter.
    with contextlib.suppress(OSError, ImportError, AttributeError):
        import fcntl

        fcntl.fcntl(process.stdin or -1, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    # Encoding has time until the next request is answered; on two cores it must not starve the requests.
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _LOWER_PRIORITY)
    return process


def finish(process: subprocess.Popen[bytes], log: IO[bytes], *, seconds: float = FINISH_SECONDS) -> None:
    """
    Close its input and wait for its end; `FfmpegFailed` where it is no good one.
    """
    assert process.stdin is not None  # noqa: S101 - asked for as a pipe
    try:
        process.stdin.close()
        failed = process.wait(timeout=seconds) != 0
    except BrokenPipeError as error:
        raise encoding_failed(log) from error
    except subprocess.TimeoutExpired as error:
        raise FfmpegFailed(f"ffmpeg did not finish within {seconds:.0f} s.") from error
    if failed:
        raise encoding_failed(log)


def run(arguments: tuple[str, ...], *, seconds: float, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """
    Run ffmpeg to its end, with *content* on its standard input; `TimeoutError` after so many *seconds*.
    """
    command = (executable(), *QUIET, *arguments)
    try:
        return subprocess.run(  # noqa: S603 - a list of our own arguments
            command, input=content, capture_output=True, timeout=seconds, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"ffmpeg was not done within {seconds:.0f} s") from error


def url(path: Path) -> str:
    """
    Name a file so that nothing in its name is taken for an option or another protocol.
    """
    return f"file:{path.absolute()}"


def encoding_failed(log: IO[bytes]) -> FfmpegFailed:
    """
    Say what ffmpeg wrote into its *log* last.
    """
    log.seek(0)
    return FfmpegFailed(f"ffmpeg could not write the audio: {last_line(log.read())}.", "Look for space on the disk; run again.")


def last_line(stderr: bytes) -> str:
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
