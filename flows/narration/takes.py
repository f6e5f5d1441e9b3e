"""
The take store: audio by the digest of everything that shaped it.

A take is `ab/abcd….flac`, written to a temporary file, flushed, fsynced and renamed, so that a file by that name is whole. It
carries the SHA-256 of its samples, which every reading checks: a take with a flipped bit counts as not there.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import soundfile
from pydantic import TypeAdapter, ValidationError

from flows.narration import ffmpeg, ledger
from flows.narration.alignment import Word
from flows.narration.cost import Spent
from flows.narration.errors import NarrateError, UsageError
from flows.narration.files import replacing
from flows.narration.judge import Heard, Samples
from flows.narration.ledger import Account
from flows.narration.speech import SAMPLE_RATE, Delivery, InlineReference, Voice
from flows.narration.storage import scheme_of

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

_NAME = re.compile(rf"[0-9a-f]{{64}}(?:{TIMED})?")


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


@dataclass(frozen=True, slots=True)
class Kept:
    """
    A take in a store as its listing tells: its *size* in bytes, its words' among them, and when it was *recorded*.

    That is in seconds since 1970.
    """

    key: str
    size: int
    recorded: float


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
    scheme = scheme_of(uri)
    if scheme == "file":
        return Path(unquote(urlsplit(uri).path))
    if scheme:
        raise UsageError(f"{uri} is no folder: {scheme}: is not read or written here.", "Give a folder.")
    return Path(uri)


class TakeStore:
    """
    Takes in a local *folder*, which is made when the first take is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def where(self) -> str:
        """
        Where it is, as a person calls it.
        """
        return str(self.folder)

    @property
    def is_there(self) -> bool:
        """
        Say whether there is such a store at all.
        """
        return self.folder.is_dir()

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

    def covers(self, key: str) -> bool:
        """
        Say whether nothing has to be paid for the take.
        """
        return self.find(key) is not None

    async def bring(self, keys: Iterable[str]) -> None:
        """
        Have at hand those of *keys* that are there, as all are in a folder.
        """

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
            return words_in(self._path(key).with_suffix(".json").read_bytes())
        except OSError:
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
        yield from samples_in(self._path(key), key)

    def kept(self) -> Iterator[Kept]:
        """
        List the takes.
        """
        for path in sorted(self.folder.glob("??/*.flac")):
            if _NAME.fullmatch(path.stem):
                about, words = path.stat(), path.with_suffix(".json")
                beside = words.stat().st_size if is_timed(path.stem) and words.is_file() else 0
                yield Kept(key=path.stem, size=about.st_size + beside, recorded=about.st_mtime)

    def fault(self, key: str) -> str | None:
        """
        Read the take, and say what is wrong: it does not decode, is not what was kept, or lacks its words.
        """
        return fault_in(key, self._path(key), self.words(key))

    def remove(self, keys: Iterable[str]) -> None:
        """
        Remove takes that nothing needs.
        """
        for key in keys:
            self.discard(key)

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

    def ledger_folder(self, account: Account) -> Path:
        """
        Tell where the ledger of one run is written: all are in one file here.
        """
        return self.folder

    def spent_by(self, run: str) -> Spent:
        """
        Sum what a run was billed in all its attempts.
        """
        return ledger.spent_by(run, self.folder)

    def ledgers(self) -> Path:
        """
        Return the folder of the ledger that says what all runs paid.
        """
        return self.folder

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.flac"


def samples_in(flac: Path | io.BytesIO, key: str) -> Iterator[Samples]:
    """
    Yield the samples of the take *key*, block by block; `TakeDamaged` at the end if they are not those that were kept.
    """
    digest = hashlib.sha256()
    try:
        with soundfile.SoundFile(flac) as opened:
            kept = opened.comment
            for block in opened.blocks(BLOCK, dtype="int16"):
                digest.update(block.data)
                yield block
    except soundfile.LibsndfileError as error:
        raise TakeDamaged(f"The take {key} cannot be read ({error.error_string.rstrip('.')}).", key) from error
    if digest.hexdigest() != kept:
        raise TakeDamaged(f"The take {key} is not what was stored.", key)


def words_in(content: bytes) -> list[Word] | None:
    """
    Return the words that a take's file of them says, `None` where it is damaged.
    """
    try:
        return _WORDS.validate_json(content)
    except ValidationError:
        return None


def fault_in(key: str, flac: Path | io.BytesIO, words: list[Word] | None) -> str | None:
    """
    Say what is wrong with the take *key*, if anything is.
    """
    try:
        for _ in samples_in(flac, key):
            pass
    except TakeDamaged as error:
        return error.fact
    if is_timed(key) and words is None:
        return f"The take {key} has no words that can be read."
    return None


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
