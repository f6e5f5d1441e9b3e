"""
Folders and files → ordered scripts, and the clean text of each.

A clean text knows two line breaks: a newline wherever an editor counts a line, and U+2028 for the others (form feed,
vertical tab, NEL, the Unicode separators), so that the line numbers of every message are those the person sees.
"""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from natsort import natsort_keygen, ns

from flows.narration.errors import ScriptUnreadable, UsageError
from flows.narration.files import legible, status

SUFFIXES = (".txt", ".md")
MAX_BYTES = 20_000_000
"""
Some twenty novels, or $300 of speech: a larger file is no script but a mistake, and is refused before it is read.
"""

_NATURAL = natsort_keygen(alg=ns.PATH | ns.IGNORECASE)
# The mark of UTF-32 little-endian begins with that of UTF-16, so it is looked for first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BREAKS = dict.fromkeys((0x0B, 0x0C, 0x85, 0x2028), "\u2028")
INVISIBLE = dict.fromkeys((0xFEFF, 0xAD, 0x2060), "")
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
# Half a character cannot be sent; only exotic codecs (utf-7) let one through.
_HALVES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_CLEAN = _CONTROLS | {0x0A: "\n", 0x09: "\t"} | _BREAKS | INVISIBLE | _HALVES
# Scripts without spaces mark the ends of words with U+200B: there it must stay (dropped, two words become one; as a
# space, each word would get a pause). Anywhere else it is a leftover of a web page, where it allowed a line to break.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff"
STRAY_ZWSP = re.compile(rf"(?<![{_SPACELESS}\u200b])\u200b++|\u200b++(?![{_SPACELESS}])")


@dataclass(frozen=True, slots=True)
class Script:
    """
    One text file to narrate: its *name* is its path below the *root*, *audio* the same with the suffix of what is made.
    """

    name: str
    root: Path
    audio: str

    @property
    def path(self) -> Path:
        """
        Where it is.
        """
        return self.root / self.name


@dataclass(frozen=True, slots=True)
class LeftOut:
    """
    Something below the root that is not narrated, and why.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """
    What a folder of scripts holds, in natural order.
    """

    root: Path
    scripts: tuple[Script, ...]
    left_out: tuple[LeftOut, ...]


def find_scripts(scripts: Path, *, out: Path, suffix: str, sorted_before: Iterable[str] = ()) -> Listing:
    """
    List the scripts in a file or folder in natural order (chapter-2 before chapter-10), and all that is left out.

    Where all were *sorted_before*, that order is taken: to find it again takes longer than to read the scripts.

    A file that is named outright is taken whatever its name is, as long as it is a .txt or .md. Links to folders are
    never followed: inside they are walked where they are, outside is out of bounds, and loops cannot happen.
    """
    if status(scripts) is None:
        raise UsageError(f"{scripts} does not exist.", "Give a .txt or .md file, or a folder of them.")
    if not scripts.is_dir():
        if scripts.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{scripts} is no script.", "Give a .txt or .md file, or a folder of them.")
        return Listing(scripts.parent, (_script(scripts.parent, scripts.name, suffix, is_file=scripts.is_file()),), ())
    found: list[Script] = []
    left_out: list[LeftOut] = []
    for name, entry, reason in _walk(scripts, "", scripts.resolve(), out.resolve()):
        if reason:
            left_out.append(LeftOut(legible(name), reason))
        else:
            found.append(_script(scripts, name, suffix, is_file=_is_file(entry)))
    if not found:
        raise UsageError(f"There is no script in {scripts}.", "Put .txt or .md files there.")
    known = {name: place for place, name in enumerate(sorted_before)}
    if all(script.name in known for script in found):
        found.sort(key=lambda script: known[script.name])
    else:
        found.sort(key=lambda script: (_NATURAL(script.name), script.name))
    left_out.sort(key=lambda left: (_NATURAL(left.name), left.name))
    _refuse_collisions(found)
    return Listing(scripts, tuple(found), tuple(left_out))


def read_script(path: Path, *, encoding: str | None = None) -> str:
    """
    Read a script as clean text: UTF-8, or what its byte order mark says, or else *encoding*.
    """
    return clean_text(read_bytes(path), path, encoding=encoding)


def read_bytes(path: Path | str) -> bytes:
    """
    Read a script as it is, unless it is too large to be one.
    """
    try:
        with open(path, "rb", buffering=0) as script:  # noqa: PTH123  # a Path for each of thousands of scripts takes as long
            size = os.fstat(script.fileno()).st_size
            data = script.readall() if size <= MAX_BYTES else b""
    except OSError as error:
        raise ScriptUnreadable(f"{Path(path)} cannot be read: {error.strerror}.", "Check the file and its rights.") from error
    if size > MAX_BYTES or len(data) > MAX_BYTES:
        raise ScriptUnreadable(f"{Path(path)} is larger than {MAX_BYTES // 1_000_000} MB.", "Split it into chapters.")
    return data


def clean_text(data: bytes, path: Path, *, encoding: str | None) -> str:
    """
    Turn the bytes of the script at *path* into clean text, as `read_script` does.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    return clean(_decoded(data, path, marked or encoding or "utf-8"))


def clean(text: str) -> str:
    """
    Return *text* with one kind of line break for each meaning, and without characters that nobody reads.

    Soft hyphens, word joiners and byte order marks vanish; other control characters become a space; joiners that
    shape letters and emoji stay; nothing is normalised.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.translate(_CLEAN)
    return STRAY_ZWSP.sub(" ", text) if "\u200b" in text else text


def _walk(folder: Path, above: str, root: Path, out: Path) -> Iterator[tuple[str, os.DirEntry[str], str]]:
    """
    Give every file below *folder* by its name below *root*, with the reason why it is left out, or "" for a script.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        name = legible(str(folder))[:200]
        raise UsageError(f"{name} cannot be read: {error.strerror}.", "Check the folder's rights and its depth.") from error
    for entry in entries:
        name = above + entry.name
        reason = _reason(entry, root, out)
        if not reason and entry.is_dir(follow_symlinks=False):
            yield from _walk(folder / entry.name, f"{name}/", root, out)
        else:
            yield name, entry, reason


def _reason(entry: os.DirEntry[str], root: Path, out: Path) -> str:
    """
    Say why an entry is left out: "" for scripts and for folders to look into.
    """
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_symlink():
        leads_to = _leads_to(Path(entry.path))
        if not leads_to.is_relative_to(root):
            return "a link that leads out of the folder"
        if leads_to.is_dir():
            return "a link to a folder that is walked where it is"
    elif entry.is_dir():
        return "the folder of the narrations" if Path(entry.path).resolve() == out else ""
    if entry.name.lower() == "readme.md":
        return "README.md is about the scripts, and no script"
    return "" if entry.name.lower().endswith(SUFFIXES) else "not a .txt or .md file"


def _is_file(entry: os.DirEntry[str]) -> bool:
    """
    Tell whether an entry is a regular file; a link that leads back to itself is none.
    """
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()


def _leads_to(link: Path) -> Path:
    """
    Follow a link; one that leads back to itself leads nowhere else.
    """
    try:
        return link.resolve()
    except (RuntimeError, OSError):  # before Python 3.13 a link to itself is an error
        return link.parent.resolve() / link.name


def _script(root: Path, name: str, suffix: str, *, is_file: bool) -> Script:
    """
    Describe one script, which must be a regular file with a name that can be written down.
    """
    if legible(name) != name:
        raise UsageError(f"{legible(name)} is a file name with control characters, or one that is not UTF-8.", "Rename it.")
    if not is_file:
        raise UsageError(f"{name} is not a regular file.", "Replace it by a text file, or remove it.")
    return Script(name, root, f"{name.rpartition('.')[0]}.{suffix.lstrip('.')}")


def _refuse_collisions(found: list[Script]) -> None:
    """
    Raise where two scripts would be narrated into one file, or one into the folder of another.
    """
    owners: dict[str, str] = {}
    folders: dict[str, str] = {}
    for script in found:
        owner = owners.setdefault(script.audio, script.name)
        folders.setdefault(script.audio.rpartition("/")[0], script.name)
        if owner != script.name:
            raise UsageError(f"{owner} and {script.name} would both become {script.audio}.", "Rename one of them.")
    for inside, name in folders.items():
        for folder in (inside, *map(str, PurePosixPath(inside).parents)):
            if folder in owners:
                raise UsageError(
                    f"{owners[folder]} would become {folder}, which is the folder of {name}.", "Rename one of them."
                )


def _decoded(data: bytes, path: Path, encoding: str) -> str:
    """
    Decode strictly, or say where the bytes are not text and what to do.
    """
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # The decoder of UTF-8 with a mark counts from behind the mark.
        start = error.start + len(data) - len(error.object)
        place = _place(data[:start].decode(encoding, "replace"), start)
        raise ScriptUnreadable(
            f"{path} is not {encoding} text: {place} (0x{data[start]:02X}).",
            "Save it as UTF-8, or say how it is encoded, for example --encoding cp1252.",
        ) from error
    except (LookupError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as {encoding}: {error}.", "Name another --encoding.") from error
    if (nul := text.find("\0")) >= 0:
        place = _place(text[:nul], data.find(b"\0"))
        raise ScriptUnreadable(
            f"{path} is not text: {place} is NUL.",
            "Save it as UTF-8; for UTF-16 without a byte order mark, say --encoding utf-16-le.",
        )
    return text


def _place(before: str, byte: int) -> str:
    """
    Name a place in a file by the line an editor shows and the byte, both counted from 1.
    """
    line = len(re.findall(r"\r\n?|\n", before)) + 1
    return f"line {line}, byte {byte + 1}"
