"""
What a run has to do, known before anything is spent: scripts read and cut, takes named, narrations compared.
"""

import hashlib
import json
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

from flows.narration import cost, ours
from flows.narration.assemble import Piece, Sound, narration_digest, read_mark
from flows.narration.dialect import MOST_BRACKETS, thicket
from flows.narration.errors import ScriptUnreadable, UsageError, reaching
from flows.narration.files import status
from flows.narration.manifest import RUN, Manifest, SegmentsFile, segments_name, segments_path
from flows.narration.marked import markdown
from flows.narration.prose import Prose, plain
from flows.narration.retakes import KeyOf, Retakes, key_for
from flows.narration.scripts import LeftOut, Script, clean_text, find_scripts, read_bytes
from flows.narration.segments import Cutting, Joint, Segment, cut
from flows.narration.takes import TakeStore
from flows.narration.unchanged import Made, Memory, look, program

LONGEST_NAME = 255
"""Bytes that a file's name may have on common file systems."""

NO_RETAKES = Retakes()

LONGEST_PATH = 4095
"""Bytes that a whole path may have on Linux."""

LONGEST_TEMPORARY = LONGEST_NAME + 1
"""Bytes that a path needs below its folder: for its own name, or a temporary one."""


@dataclass(frozen=True)
class Text:
    """
    What is spoken of a script, and in *notes* what is not spoken as it is written.
    """

    title: str
    notes: list[str]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Reading:
    """
    A script as it will be spoken; *digest* (SHA-256, hex) is of its file's bytes, *track* its place in its folder from 1.

    *count* is the number of its segments, *size* the UTF-8 bytes that speaking all of it once is billed for.
    """

    script: Script
    digest: str
    title: str
    track: int
    notes: list[str]
    count: int
    size: int
    cut: Callable[[], Text]
    known: Made | None = None

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """
        What it is cut into: now, where the last run knew the rest.
        """
        return self.cut().segments


@dataclass(frozen=True)
class Survey:
    """
    All scripts of a run, in order, and what was left out of it.
    """

    root: Path
    readings: tuple[Reading, ...]
    left_out: tuple[LeftOut, ...]
    memory: Memory


@dataclass(frozen=True)
class Planned:
    """
    A script with its takes named; *made* is what stands in OUT already, where that is what would be made.

    Where that was known beforehand, no takes are named.
    """

    reading: Reading
    pieces: tuple[Piece, ...]
    tags: dict[str, str]
    narration: str
    made: Made | None


def survey(
    scripts: Path, *, out: Path, sound: Sound, cutting: Cutting, encoding: str | None, apart: Path | None = None
) -> Survey:
    """
    Read and cut all scripts below *scripts*; `UsageError` for what a person must mend first, before anything is sent.

    *apart* is what stands among copies of scripts for an *out* that lies there.
    """
    memory = Memory.read(out, cutting=_cutting(cutting, encoding=encoding))
    listing = find_scripts(scripts, out=apart or out, suffix=f".{sound.format}", sorted_before=memory.made)
    _refuse_another_s(out / RUN, ours=Manifest.is_ours)
    _refuse_another_s(out / ours.INDEX, ours=ours.is_page)
    _refuse_paths(listing.scripts, out=out)
    for script in listing.scripts:
        known = memory.made.get(script.name)
        if known is None or look(out, script.audio) != known.audio:
            audio = out / script.audio
            _refuse_another_s(audio, ours=lambda path: read_mark(path) is not None)
            for suffix in ours.CAPTIONS:
                _refuse_another_s(audio.with_suffix(suffix), ours=ours.is_captions)
    tracks: dict[str, int] = {}
    readings = []
    for script in listing.scripts:
        folder = script.name.rpartition("/")[0]
        tracks[folder] = tracks.get(folder, 0) + 1
        known = memory.made.get(script.name)
        readings.append(_read(script, track=tracks[folder], cutting=cutting, encoding=encoding, known=known))
    return Survey(root=listing.root, readings=tuple(readings), left_out=listing.left_out, memory=memory)


def _cutting(cutting: Cutting, *, encoding: str | None) -> str:
    """
    Digest (SHA-256, hex) of all that decides, with its bytes and its name, how a script is read and cut.
    """
    said = [program(), encoding, cutting.model_dump(include=set(Cutting.model_fields))]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _refuse_another_s(target: Path, *, ours: Callable[[Path], bool]) -> None:
    """
    Raise where something stands that was not made here.
    """
    if status(target) is not None and not ours(target):
        raise UsageError(
            f"{target} is there already and was not made by Narrate.", "Move it away, or choose another folder with --out."
        )


def _refuse_paths(scripts: Iterable[Script], *, out: Path) -> None:
    """
    Raise where a narration, or what is written down of it, could not be: found now, or found after it is paid for.
    """
    folders: set[str] = set()
    for script in scripts:
        for written in (script.audio, segments_name(script.name)):
            folder, _, name = written.rpartition("/")
            if len(name.encode()) > LONGEST_NAME:
                raise UsageError(f"The name of {script.name} is too long for a file system.", "Shorten it.")
            if folder not in folders:
                folders.add(folder)
                _refuse_folder(out / folder, script, out=out)
        if script.audio.partition("/")[0] == RUN:
            raise UsageError(f"{script.name} would stand where {RUN} is written.", f"Rename {RUN} among the scripts.")


def _refuse_folder(folder: Path, script: Script, *, out: Path) -> None:
    """
    Raise where there can be no such folder, as a file stands in its way or its path is too long.
    """
    if len(os.fsencode(folder.absolute())) + LONGEST_TEMPORARY >= LONGEST_PATH:
        raise UsageError(f"The path of {script.name} is too long in {out}.", "Shorten it, or choose another --out.")
    there = next((above for above in (folder, *folder.parents) if status(above) is not None), None)
    if there is not None and not there.is_dir():
        raise UsageError(
            f"{there} is a file, and {script.name} needs a folder there.", "Move it away, or choose another --out."
        )


def refuse_folded(survey: Survey, *, out: Path) -> None:
    """
    Raise where OUT's file system takes the names of two narrations for one: they differ only by case or by Unicode form.

    Elsewhere they are two names like any others, so *out*, a folder that is there, is asked, and only where there are such.
    """
    alike: dict[str, list[Script]] = {}
    for reading in survey.readings:
        script = reading.script
        others = alike.setdefault(_folded(script.audio), [])
        for other in others:
            if _one_name(other.audio, script.audio, folder=out):
                raise UsageError(
                    f"{other.name} and {script.name} would become one file: {out} does not tell their names apart.",
                    "Rename one of them, or choose another --out.",
                )
        others.append(script)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _one_name(one: str, other: str, *, folder: Path) -> bool:
    """
    Ask the file system of *folder* whether it takes two paths for one.
    """
    parts = zip(PurePosixPath(one).parts, PurePosixPath(other).parts, strict=True)
    return all(mine == yours or _one_part(mine, yours, folder=folder) for mine, yours in parts)


def _one_part(one: str, other: str, *, folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as probe:
        (Path(probe) / one).touch()
        return (Path(probe) / other).exists()


def _read(script: Script, *, track: int, cutting: Cutting, encoding: str | None, known: Made | None) -> Reading:
    """
    Read one script, and cut it unless its bytes are those that are *known*.
    """
    data = read_bytes(f"{script.root}/{script.name}")
    digest = hashlib.sha256(data).hexdigest()
    # Of the very bytes that were hashed: when it is cut, another text may be in the file.
    text = partial(_cut, script, data, cutting=cutting, encoding=encoding)
    if known is not None and known.digest == digest:
        known_here = known if known.track == track else None
        return Reading(script, digest, known.title, track, known.notes, known.segments, known.size, text, known_here)
    cut = text()
    size = sum(cost.billed_bytes(segment.text) for segment in cut.segments)
    return Reading(script, digest, cut.title, track, cut.notes, len(cut.segments), size, lambda: cut)


def _cut(script: Script, data: bytes, *, cutting: Cutting, encoding: str | None) -> Text:
    """
    Turn the bytes of a script into what is spoken of it.
    """
    text = clean_text(data, script.path, encoding=encoding)
    prose = _markdown(text, script) if script.path.suffix.lower() == ".md" else plain(text)
    pieces = cut(prose, cutting=cutting)
    notes = [f"line {note.line}: {note.what}" for note in (*prose.notes, *pieces.notes)]
    return Text(title=prose.title or script.path.stem, notes=notes, segments=pieces.segments)


def making(root: Path, *, sound: Sound, artist: str, key_of: KeyOf, retakes: Retakes = NO_RETAKES) -> str:
    """
    Digest (SHA-256, hex) of all that decides, with a script and its track, what a narration is made from.

    What shapes a take besides its text shows in the key of the take of no text.
    """
    pieces = [Piece(take=key_of(""), joint=joint) for joint in Joint]
    return narration_digest(
        pieces, sound=sound, tags={"artist": artist, "album": root.resolve().name, "retakes": retakes.digest}
    )


def _markdown(text: str, script: Script) -> Prose:
    if (line := thicket(text)) is not None:
        raise ScriptUnreadable(
            f"{script.name}, line {line}: more than {MOST_BRACKETS} brackets without an empty line cannot be read as Markdown.",
            "Put empty lines between them, or rename it to .txt.",
        )
    return markdown(text)


def planned(
    survey: Survey, *, out: Path, sound: Sound, artist: str, key_of: KeyOf, retakes: Retakes = NO_RETAKES
) -> Iterator[Planned]:
    """
    Name the takes of each script with *key_of*, and see whether its narration is there already.
    """
    as_before = survey.memory.making == making(survey.root, sound=sound, artist=artist, key_of=key_of, retakes=retakes)
    for reading in survey.readings:
        if as_before and reading.known and _looks_as_before(out, reading.script, reading.known):
            yield Planned(reading=reading, pieces=(), tags={}, narration=reading.known.narration, made=reading.known)
            continue
        keys = retakes.keys(reading.script.name, reading.segments, key_of)
        pieces = tuple(Piece(take=key, joint=segment.joint) for key, segment in zip(keys, reading.segments, strict=True))
        tags = {
            "title": reading.title,
            "track": str(reading.track),
            "album": _album(survey.root, reading.script),
            "artist": artist,
            "genre": "Speech",
        }
        digest = narration_digest(pieces, sound=sound, tags=tags)
        yield Planned(reading=reading, pieces=pieces, tags=tags, narration=digest, made=_made(out, reading, digest))


def _looks_as_before(out: Path, script: Script, known: Made) -> bool:
    looks = look(out, script.audio), look(out, segments_name(script.name))
    return all(looks) and looks == (known.audio, known.record)


def _album(root: Path, script: Script) -> str:
    folder = PurePosixPath(script.name).parent.name
    return folder or root.resolve().name


def _made(out: Path, reading: Reading, digest: str) -> Made | None:
    """
    Return what is written down of the narration in OUT if that is whole and would be made again just so.
    """
    script = reading.script
    # Looked at before they are read: what changes meanwhile looks different to the next run.
    audio, record = look(out, script.audio), look(out, segments_name(script.name))
    made, target = SegmentsFile.read(segments_path(out, script.name)), out / script.audio
    if made is None or made.narration != digest or not target.is_file() or audio[:1] != [made.size]:
        return None
    return as_made(reading, made, audio=audio, record=record) if read_mark(target) == digest else None


def as_made(reading: Reading, made: SegmentsFile, *, audio: list[int], record: list[int]) -> Made:
    """
    Put together what the next run may know of a narration that is there.
    """
    return Made(
        digest=reading.digest,
        title=reading.title,
        track=reading.track,
        notes=reading.notes,
        segments=reading.count,
        size=reading.size,
        narration=made.narration,
        seconds=made.seconds,
        speech_seconds=made.speech_seconds,
        pause_seconds=made.pause_seconds,
        audio=audio,
        record=record,
    )


@dataclass(frozen=True)
class Estimate:
    """
    What narrating would cost; *bytes_covered* is what takes there already save, `None` where no voice is known yet.
    """

    characters: int
    bytes: int
    segments: int
    usd: float
    hours: float
    bytes_covered: int | None


def estimate(
    survey: Survey,
    *,
    model: str,
    speed: float,
    store: TakeStore | None,
    key_of: KeyOf | None,
    retakes: Retakes = NO_RETAKES,
) -> Estimate:
    """
    Add up what is to be sent: every distinct segment once, less those with a take in *store*.

    Raises `StorageAway` where nobody can tell which takes are there.
    """
    distinct = {
        (segment.text, number)
        for reading in survey.readings
        for segment, number in zip(reading.segments, retakes.numbers(reading.script.name, reading.segments), strict=True)
    }
    size = sum(cost.billed_bytes(text) for text, _ in distinct)
    covered = None
    if store is not None and key_of is not None:
        with reaching(store.where):
            held = [text for text, number in distinct if store.covers(key_for(text, number, key_of))]
        covered = sum(map(cost.billed_bytes, held))
    spoken = sum(reading.size for reading in survey.readings)
    return Estimate(
        characters=sum(len(segment.text) for reading in survey.readings for segment in reading.segments),
        bytes=size,
        segments=sum(reading.count for reading in survey.readings),
        usd=cost.usd(size - (covered or 0), model=model),
        hours=round(cost.hours(spoken, speed=speed), 4),
        bytes_covered=covered,
    )
