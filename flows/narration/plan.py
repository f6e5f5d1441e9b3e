"""
What a run has to do, known before anything is spent: scripts read and cut, takes named, narrations compared.
"""

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flows.narration import cost
from flows.narration.assemble import Piece, Sound, narration_digest, read_mark
from flows.narration.dialect import MOST_BRACKETS, thicket
from flows.narration.errors import ScriptUnreadable, UsageError
from flows.narration.files import status
from flows.narration.manifest import RUN, Manifest, SegmentsFile, segments_path
from flows.narration.marked import markdown
from flows.narration.prose import Note, Prose, plain
from flows.narration.scripts import LeftOut, Script, find_scripts, read_script
from flows.narration.segments import Cutting, Segment, cut
from flows.narration.takes import TakeStore

LONGEST_NAME = 255
"""Bytes that a file's name may have on common file systems."""

LONGEST_PATH = 4095
"""Bytes that a whole path may have on Linux."""

LONGEST_TEMPORARY = LONGEST_NAME + 1
"""Bytes that a path needs below its folder: for its own name, or a temporary one."""


@dataclass(frozen=True)
class Reading:
    """
    A script as it will be spoken; *digest* (SHA-256, hex) is of its file's bytes, *track* its place in its folder from 1.
    """

    script: Script
    digest: str
    title: str
    track: int
    segments: tuple[Segment, ...]
    notes: tuple[Note, ...]

    @property
    def size(self) -> int:
        """
        UTF-8 bytes that speaking all of it once is billed for.
        """
        return sum(cost.billed_bytes(segment.text) for segment in self.segments)


@dataclass(frozen=True)
class Survey:
    """
    All scripts of a run, in order, and what was left out of it.
    """

    root: Path
    readings: tuple[Reading, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Planned:
    """
    A script with its takes named; *made* is what stands in OUT already, where that is what would be made.
    """

    reading: Reading
    pieces: tuple[Piece, ...]
    tags: dict[str, str]
    narration: str
    made: SegmentsFile | None


def survey(scripts: Path, *, out: Path, sound: Sound, cutting: Cutting, encoding: str | None) -> Survey:
    """
    Read and cut all scripts below *scripts*; `UsageError` for what a person must mend first, before anything is sent.
    """
    listing = find_scripts(scripts, out=out, suffix=f".{sound.format}")
    _refuse_another_s(out / RUN, ours=Manifest.is_ours)
    for script in listing.scripts:
        _refuse_path(script, out=out)
        _refuse_another_s(out / script.audio, ours=lambda path: read_mark(path) is not None)
    tracks: dict[PurePosixPath, int] = {}
    readings = []
    for script in listing.scripts:
        folder = PurePosixPath(script.name).parent
        tracks[folder] = tracks.get(folder, 0) + 1
        readings.append(_read(script, track=tracks[folder], cutting=cutting, encoding=encoding))
    return Survey(root=listing.root, readings=tuple(readings), left_out=listing.left_out)


def _refuse_another_s(target: Path, *, ours: Callable[[Path], bool]) -> None:
    """
    Raise where something stands that was not made here.
    """
    if status(target) is not None and not ours(target):
        raise UsageError(
            f"{target} is there already and was not made by Narrate.", "Move it away, or choose another folder with --out."
        )


def _refuse_path(script: Script, *, out: Path) -> None:
    """
    Raise where a narration, or what is written down of it, could not be: found now, or found after it is paid for.
    """
    for written in (out / script.audio, segments_path(out, script.name)):
        if len(written.name.encode()) > LONGEST_NAME:
            raise UsageError(f"The name of {script.name} is too long for a file system.", "Shorten it.")
        if len(os.fsencode(written.parent.absolute())) + LONGEST_TEMPORARY >= LONGEST_PATH:
            raise UsageError(f"The path of {script.name} is too long in {out}.", "Shorten it, or choose another --out.")
        above = next((folder for folder in written.parents if status(folder) is not None), None)
        if above is not None and not above.is_dir():
            raise UsageError(
                f"{above} is a file, and {script.name} needs a folder there.", "Move it away, or choose another --out."
            )
    if PurePosixPath(script.audio).parts[0] == RUN:
        raise UsageError(f"{script.name} would stand where {RUN} is written.", f"Rename {RUN} among the scripts.")


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


def _read(script: Script, *, track: int, cutting: Cutting, encoding: str | None) -> Reading:
    text = read_script(script.path, encoding=encoding)
    prose = _markdown(text, script) if script.path.suffix.lower() == ".md" else plain(text)
    pieces = cut(prose, cutting=cutting)
    return Reading(
        script=script,
        digest=hashlib.sha256(script.path.read_bytes()).hexdigest(),
        title=prose.title or script.path.stem,
        track=track,
        segments=pieces.segments,
        notes=(*prose.notes, *pieces.notes),
    )


def _markdown(text: str, script: Script) -> Prose:
    if (line := thicket(text)) is not None:
        raise ScriptUnreadable(
            f"{script.name}, line {line}: more than {MOST_BRACKETS} brackets without an empty line cannot be read as Markdown.",
            "Put empty lines between them, or rename it to .txt.",
        )
    return markdown(text)


def planned(survey: Survey, *, out: Path, sound: Sound, artist: str, key_of: Callable[[str], str]) -> Iterator[Planned]:
    """
    Name the takes of each script with *key_of* (text as sent to take key), and see whether its narration is there already.
    """
    for reading in survey.readings:
        pieces = tuple(Piece(take=key_of(segment.text), joint=segment.joint) for segment in reading.segments)
        tags = {
            "title": reading.title,
            "track": str(reading.track),
            "album": _album(survey.root, reading.script),
            "artist": artist,
            "genre": "Speech",
        }
        digest = narration_digest(pieces, sound=sound, tags=tags)
        yield Planned(reading=reading, pieces=pieces, tags=tags, narration=digest, made=_made(out, reading.script, digest))


def _album(root: Path, script: Script) -> str:
    folder = PurePosixPath(script.name).parent.name
    return folder or root.resolve().name


def _made(out: Path, script: Script, digest: str) -> SegmentsFile | None:
    """
    Return what is written down of the narration in OUT if that is whole and would be made again just so.
    """
    target = out / script.audio
    made = SegmentsFile.read(segments_path(out, script.name))
    if made is None or made.narration != digest or not target.is_file() or target.stat().st_size != made.size:
        return None
    return made if read_mark(target) == digest else None


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
    survey: Survey, *, model: str, speed: float, store: TakeStore | None, key_of: Callable[[str], str] | None
) -> Estimate:
    """
    Add up what is to be sent: every distinct segment once, less those with a take in *store*.
    """
    distinct = {segment.text for reading in survey.readings for segment in reading.segments}
    size = sum(map(cost.billed_bytes, distinct))
    covered = None
    if store is not None and key_of is not None:
        covered = sum(cost.billed_bytes(text) for text in distinct if store.find(key_of(text)) is not None)
    spoken = sum(reading.size for reading in survey.readings)
    return Estimate(
        characters=sum(len(segment.text) for reading in survey.readings for segment in reading.segments),
        bytes=size,
        segments=sum(len(reading.segments) for reading in survey.readings),
        usd=cost.usd(size - (covered or 0), model=model),
        hours=round(cost.hours(spoken, speed=speed), 4),
        bytes_covered=covered,
    )
