"""
The take store: audio by the digest of everything that shaped it.

A take is `ab/abcd….flac`, written to a temporary file, flushed, fsynced and renamed, so that a file by that name is whole. It
carries the SHA-256 of its samples, which every reading checks: a take with a flipped bit counts as not there.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import soundfile
from pydantic import TypeAdapter, ValidationError

from flows.narration import ffmpeg
from flows.narration.alignment import Word
from flows.narration.errors import NarrateError, UsageError
from flows.narration.files import replacing
from flows.narration.judge import Heard, Samples
from flows.narration.speech import SAMPLE_RATE, Delivery, InlineReference, Voice

SCHEMA = 1
"""Raised when what is sent for the same parameters changes: every take is then recorded anew."""

TIMED = "-words"
"""What the key of a take ends with that has the times of its words beside it."""

REFUSED = ".refused"
"""Folder in the store for answers that are no sound takes."""

MOST_REFUSED = 50
MOST_REFUSED_BYTES = 2_000_000
"""Answers set aside at most, and bytes of each: 100 MB in all."""

BLOCK = SAMPLE_RATE * 2
"""Samples read at once."""


_WORDS = TypeAdapter(list[Word])


class TakeDamaged(NarrateError):
    """
    The take *key* on disk is not what was stored; it counts as not there.
    """

    def __init__(self, fact: str, key: str) -> None:
        super().__init__(fact)
        self.args = (fact, key)
        self.key = key


@dataclass(frozen=True)
class Take:
    """
    A take in the store, of *samples* samples at `SAMPLE_RATE`.
    """

    key: str
    samples: int

    @property
    def seconds(self) -> float:
        """
        Length in seconds.
        """
        return self.samples / SAMPLE_RATE


def voice_key(voice: Voice | InlineReference) -> str:
    """
    Name the voice as a take's key does: its id, or the digest of the inline reference.
    """
    if isinstance(voice, Voice):
        return voice.id
    digest = hashlib.sha256(hashlib.sha256(voice.audio).digest() + voice.transcript.encode())
    return f"inline-{digest.hexdigest()}"


def take_key(text: str, *, voice: str, delivery: Delivery, host: str, retake: int = 0) -> str:
    """
    Digest (SHA-256, hex) of everything that shapes a take of *text*: neither the script's name nor its place in it.

    *host* is the API's, so that a stand-in's take never ships as a real one. A take that has the times of its words is another
    one: its key ends with `TIMED`, and tells so how it is asked for.
    """
    spoken = delivery.model_dump(exclude={"timing"})
    shape = {"schema": SCHEMA, "text": text, "voice": voice, "host": host, "retake": retake, **spoken}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    return f"{digest}{TIMED}" if delivery.timing == "word" else digest


def key_by(voice: str, *, delivery: Delivery, host: str, store: "TakeStore") -> Callable[..., str]:
    """
    Return what names the takes of a *voice* (by `voice_key`): text as sent to the key of its take.

    Where nobody asks for the times of words, a take in *store* that has them does as well: it is paid for.
    """
    timed = delivery.model_copy(update={"timing": "word"})

    def key_of(text: str, retake: int = 0) -> str:
        with_words = take_key(text, voice=voice, delivery=timed, host=host, retake=retake)
        if delivery.timing == "word" or (text and store.holds(with_words)):
            return with_words
        return with_words.removesuffix(TIMED)

    return key_of


def is_timed(key: str) -> bool:
    """
    Say whether the take *key* has the times of its words.
    """
    return key.endswith(TIMED)


def local_folder(uri: str) -> Path:
    """
    Turn `--out` or `--takes` into a folder: a path, or a `file:` URI.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "file":
        return Path(unquote(urlsplit(uri).path))
    if len(scheme) > 1:
        raise UsageError(f"{uri} cannot be written to: {scheme}: is not supported yet.", "Give a folder.")
    return Path(uri)


class TakeStore:
    """
    Takes in a local *folder*, which is made when the first take is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Take | None:
        """
        Return the take if it is there; its samples are checked when they are read.
        """
        if is_timed(key) and self.words(key) is None:
            return None
        try:
            return Take(key=key, samples=soundfile.info(self._path(key)).frames)
        except soundfile.LibsndfileError:
            return None

    def holds(self, key: str) -> bool:
        """
        Say, without opening it, whether there is a take by that name.
        """
        return self._path(key).is_file()

    def words(self, key: str) -> list[Word] | None:
        """
        Return the words of a take, in its seconds; `None` where they are not known.
        """
        if not is_timed(key):
            return None
        try:
            return _WORDS.validate_json(self._path(key).with_suffix(".json").read_bytes())
        except (OSError, ValidationError):
            return None

    def keep(self, key: str, heard: Heard, *, words: Sequence[Word] | None = None) -> Take:
        """
        Store what was heard, at `SAMPLE_RATE` whatever rate it came at, and before that when its *words* are.
        """
        if words is not None:
            with replacing(self._path(key).with_suffix(".json")) as temporary:
                temporary.write_bytes(_WORDS.dump_json(list(words)))
        samples = heard.samples
        if heard.sample_rate != SAMPLE_RATE:
            samples = ffmpeg.resample(samples, source_rate=heard.sample_rate, target_rate=SAMPLE_RATE)
        content = io.BytesIO()  # libsndfile does not tell a full disk from a sound it cannot encode
        with soundfile.SoundFile(content, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as flac:
            flac.comment = _digest(samples)
            flac.write(samples)
        with replacing(self._path(key)) as temporary:
            temporary.write_bytes(content.getbuffer())
        return Take(key=key, samples=len(samples))

    def read(self, key: str) -> Iterator[Samples]:
        """
        Yield a take's samples, block by block; `TakeDamaged` at the end if they are not those that were kept.
        """
        digest = hashlib.sha256()
        try:
            with soundfile.SoundFile(self._path(key)) as flac:
                kept = flac.comment
                for block in flac.blocks(BLOCK, dtype="int16"):
                    digest.update(block.data)
                    yield block
        except soundfile.LibsndfileError as error:
            raise TakeDamaged(f"The take {key} cannot be read ({error}).", key) from error
        if digest.hexdigest() != kept:
            raise TakeDamaged(f"The take {key} is not what was stored.", key)

    def set_aside(self, key: str, answer: bytes) -> str:
        """
        Keep an answer that is no sound take for a person to look at, the newest few only; return where.
        """
        folder = self.folder / REFUSED
        path = folder / f"{key[:16]}-{hashlib.sha256(answer).hexdigest()[:8]}{_suffix(answer)}"
        with replacing(path) as temporary:
            temporary.write_bytes(answer[:MOST_REFUSED_BYTES])
        with suppress(OSError):  # another answer may be set aside, and an old one removed, at the same moment
            kept = sorted(folder.glob("[!.]*"), key=lambda one: one.stat().st_mtime, reverse=True)
            for old in kept[MOST_REFUSED:]:
                old.unlink(missing_ok=True)
        return f"{REFUSED}/{path.name}"

    def discard(self, key: str) -> None:
        """
        Remove a take that turned out to be damaged.
        """
        self._path(key).unlink(missing_ok=True)
        if is_timed(key):
            self._path(key).with_suffix(".json").unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.flac"


def _suffix(answer: bytes) -> str:
    """
    Name what an answer seems to be, so that it opens with a click.
    """
    marks = {
        b"RIFF": ".wav",
        b"fLaC": ".flac",
        b"OggS": ".ogg",
        b"ID3": ".mp3",
        b"\xff": ".mp3",
        b"{": ".json",
        b"data:": ".txt",
        b"<": ".html",
    }
    return next((suffix for mark, suffix in marks.items() if answer.lstrip().startswith(mark)), ".bin")


def _digest(samples: Samples) -> str:
    return hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()
