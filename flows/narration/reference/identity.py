"""
What makes a reference the same reference: the bytes of its recordings and what is said in them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from flows.narration.errors import UsageError
from flows.narration.ffmpeg import printable, refuse_unreadable

SCHEMA = 1
"""Raised when the same recordings are normalized differently: every voice is then created anew, so only for a good reason."""

TRANSCRIPT = "reference.txt"

MOST_TRANSCRIPT_BYTES = 20_000
"""Three times what anyone says in 270 s, in a script of three bytes a character."""


def digest(recordings: Sequence[Path], *, transcript: str | None) -> str:
    """
    Return the digest (SHA-256, hex) of the recordings as they came, in their order, and of the transcript.

    Names do not count, and neither does the WAV made of them: another ffmpeg makes other bytes, and would cost another voice.
    """
    if not recordings:
        raise UsageError("There is no recording of the speaker.", "Give one with --reference FILE.")
    whole = hashlib.sha256(f"narrate-reference {SCHEMA} {len(recordings)}\n".encode())
    for recording in recordings:
        whole.update(_file_digest(recording))
    said = stripped(transcript)
    whole.update(b"\0" if said is None else b"\1" + said.encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def find_transcript(recordings: Sequence[Path]) -> str | None:
    """
    Return what `reference.txt` beside the first recording says, if there is one and it says anything.
    """
    if not recordings:
        return None
    path = recordings[0].parent / TRANSCRIPT
    name = printable(str(path))
    try:
        with path.open("rb") as file:
            content = file.read(MOST_TRANSCRIPT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.", "Mend it, or give --transcript.") from error
    if len(content) > MOST_TRANSCRIPT_BYTES:
        limit = f"{MOST_TRANSCRIPT_BYTES:,} bytes"
        raise UsageError(f"{name} is longer than {limit}.", "Put only what is said in the recordings into it.")
    try:
        return stripped(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8.", "Save it as UTF-8 text.") from error


def stripped(transcript: str | None) -> str | None:
    """
    Return *transcript* without blanks at its ends; nothing said is `None`.
    """
    return (transcript or "").strip() or None


def _file_digest(recording: Path) -> bytes:
    """
    Digest one file: of fixed length, so that two recordings never read as one.
    """
    refuse_unreadable(recording)
    try:
        with recording.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        name = printable(str(recording))
        raise UsageError(f"{name} cannot be read: {error.strerror}.", "Check the permissions of the recording.") from error
