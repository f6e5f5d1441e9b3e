"""
What a person decides about a book: `book.toml` beside it, or a flow parameter of the same shape.
"""

import datetime
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import ConfigDict, Field, ValidationError, field_validator

from flows.narration.errors import UsageError
from flows.narration.forms import Sparse, without_null

LANGUAGE = r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$"
"""
What a language code looks like.
"""

_Text = Annotated[str, Field(max_length=5_000)]
_Wording = Annotated[bool, Field(title="The usual words, or none")] | Annotated[_Text, Field(title="Words of your own")]


class _Strict(Sparse):
    """
    Nothing is changed, and nothing unknown passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra=without_null)


class ChapterPlan(_Strict):
    """
    What becomes of one chapter, or of something that is left out.
    """

    model_config = ConfigDict(title="Chapter")

    source: _Text = Field(description="Where it is in the book, as the outline names it.")
    title: _Text | None = Field(None, description="Title that is spoken and shown; the book's own if none is given.")
    include: bool = Field(True, description="Speak it.")


class CreditsPlan(_Strict):
    """
    What is said before and after the book.
    """

    model_config = ConfigDict(title="Credits")

    opening: _Wording = Field(
        True, description="Opening credits: true for the usual words, false for none, or words of your own."
    )
    closing: _Wording = Field(
        True, description="Closing credits: true for the usual words, false for none, or words of your own."
    )


class SamplePlan(_Strict):
    """
    The retail sample.
    """

    model_config = ConfigDict(title="Sample")

    chapter: _Text | None = Field(None, description="Source of the chapter it is from; the first one if none is given.")
    start: float = Field(0, ge=0, description="Minutes into the chapter at which it starts.")
    minutes: float = Field(3, ge=1, le=5, description="Minutes it lasts at the most.")


class VoicePlan(_Strict):
    """
    The voice that speaks the book.
    """

    model_config = ConfigDict(title="Voice of the book, where the run is given none")

    id: _Text | None = Field(None, title="Voice ID", description="Id of a voice that is there already.")
    title: _Text | None = Field(None, description="Title of the voice that is made.")
    reference: tuple[_Text, ...] = Field((), description="Recordings it is made from, relative to the plan.", strict=False)
    transcript: _Text | None = Field(None, description="What is said in the recordings.")


class BookPlan(_Strict):
    """
    What a person decides about a book; what is not said is as the book says.
    """

    title: _Text | None = Field(None, description="Title of the book.")
    authors: tuple[_Text, ...] = Field((), description="Authors, in order.", strict=False)
    narrator: _Text | None = Field(None, description="Whose voice it is, as the credits name it.")
    language: _Text | None = Field(
        None, title="Language of the book", pattern=LANGUAGE, description="Language of the book (BCP 47 code)."
    )
    publisher: _Text | None = Field(None, description="Publisher.")
    date: _Text | None = Field(None, description="Date of publication.")
    cover: _Text | None = Field(None, description="Picture for the front, relative to the plan (.jpg or .png).")
    profile: _Text | None = Field(
        None, title="Level profile of the book", description="Level profile it is mastered to, where the run is given none."
    )
    depth: int | None = Field(
        None,
        title="Levels of chapters",
        ge=1,
        le=6,
        description="Levels of the navigation that become chapters; by the book's shape if none is given.",
    )
    ruby: Literal["base", "reading"] = Field(
        "base",
        title="Ruby (readings above characters)",
        description="What is spoken of ruby: the base, or the reading above it.",
    )
    credits: CreditsPlan = CreditsPlan()
    sample: SamplePlan | Annotated[Literal[False], Field(title="No sample")] = Field(
        SamplePlan(), description="The retail sample; false for none."
    )
    voice: VoicePlan = VoicePlan()
    chapters: tuple[ChapterPlan, ...] = Field(
        (), description="Chapters that are renamed, left out or brought in.", strict=False
    )

    @field_validator("date", mode="before")
    @classmethod
    def _written_date(cls, said: object) -> object:
        """
        Take a date and a year that TOML knows as such.
        """
        return str(said) if isinstance(said, datetime.date | int) and not isinstance(said, bool) else said


def read_plan(path: Path) -> BookPlan:
    """
    Read a plan; `UsageError` with the key and its line where it cannot be understood.
    """
    try:
        text = path.read_text("utf-8-sig")
        said = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "Check the file and its rights.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start + 1}).", "Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}.", "Mend it, or write a new one with --outline --write.") from error
    try:
        return BookPlan.model_validate(said)
    except ValidationError as error:
        raise UsageError(_told(path, text, error), "Mend it; --outline --write shows what can be said.") from error


def written(plan: BookPlan, notes: dict[str, str]) -> str:
    """
    Write *plan* as a file that a person edits; *notes* is said behind the chapters of these sources.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment("What is narrated of this book, and how. What you delete is as the book says."))
    values = plan.model_dump(mode="json")
    for name, field in BookPlan.model_fields.items():
        if name in ("credits", "sample", "voice", "chapters"):
            continue
        _put(document, name, values.get(name), field.description or "")
    for name, model in (("credits", CreditsPlan), ("sample", SamplePlan), ("voice", VoicePlan)):
        if values[name] is False:
            document.add(name, tomlkit.item(False))
            continue
        table = tomlkit.table()
        for key, field in model.model_fields.items():
            _put(table, key, values[name].get(key), field.description or "")
        document.add(name, table)
    chapters = tomlkit.aot()
    for chapter in plan.chapters:
        table = tomlkit.table()
        table.add("source", chapter.source)
        if chapter.title is not None:
            table.add("title", chapter.title)
        include = tomlkit.item(chapter.include)
        if note := notes.get(chapter.source):
            include.comment(" ".join(note.split()))
        table.add("include", include)
        chapters.append(table)
    if plan.chapters:
        document.add("chapters", chapters)
    return tomlkit.dumps(document)


def _put(table: Any, key: str, value: object, what: str) -> None:
    """
    Put a key with what it means; one that is not set as a comment.
    """
    if value is None or value == []:
        table.add(tomlkit.comment(f"{key} = …   # {what}"))
        return
    item = tomlkit.item(value)
    item.comment(what)
    table.add(key, item)


def _told(path: Path, text: str, error: ValidationError) -> str:
    """
    Say which key is wrong, and on which line it stands.
    """
    first = error.errors()[0]
    steps = [step for step in first["loc"] if isinstance(step, int) or step.isidentifier()]
    keys = [step for step in steps if isinstance(step, str) and step not in ("str", "bool", "SamplePlan")]
    name = ".".join(map(str, [step for step in steps if isinstance(step, int) or step in keys]))
    places = [step for step in steps if isinstance(step, int)]
    line = _line(text, keys, places[0] if places else 0)
    what = "is no key of a plan" if first["type"] == "extra_forbidden" else f"is wrong: {first['msg']}"
    return f"{path}{f', line {line}' if line else ''}: {name} {what}."


def _line(text: str, keys: list[str], place: int) -> int:
    """
    Find the line of a key in its table; 0 where it is not written as usual.
    """
    table, nth = "", -1
    for number, row in enumerate(text.splitlines(), 1):
        row = row.strip()
        if row.startswith("["):
            table = row.strip("[] ")
            nth += row.startswith("[[")
            if [table] == keys and (not row.startswith("[[") or nth == place):
                return number
            continue
        here = row.partition("=")[0].strip(" \"'") == (keys or [""])[-1] and table == ".".join(keys[:-1])
        if here and (len(keys) < 2 or keys[0] != "chapters" or nth == place):
            return number
    return 0
