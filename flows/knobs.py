"""
The knobs of a run in their groups: the parameters of the flows, so that the form in the Prefect UI explains itself.

Each has a type, a range, a default, a unit and a sentence. `flows.settings` gives each an option of the command line and a
variable of the environment.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.narration.assemble import Pauses, Sound
from flows.narration.books import BookPlan
from flows.narration.files import require_writable
from flows.narration.forms import without_null
from flows.narration.limiter import Patience
from flows.narration.mirror import VOICE, Mirror, bring_records, folder_of, mirror_of
from flows.narration.segments import Cutting
from flows.narration.shared import cache_folder, open_store
from flows.narration.speech import Delivery
from flows.narration.storage import is_remote, within
from flows.narration.takes import TakeStore, local_folder

NOT_BLANK = r"\S"
"""Pattern of a text that is not of spaces only."""

FORM = ConfigDict(frozen=True, extra="forbid", json_schema_extra=without_null)


class _Source(BaseModel):
    model_config = FORM

    scripts: str = Field(
        min_length=1,
        pattern=NOT_BLANK,
        description="Folder of .txt and .md files, or one such file: a path such as /srv/books/my-novel, or a URI such as "
        "s3://bucket/scripts. A folder is walked in natural order, subfolders too.",
        examples=["data/scripts", "/srv/books/my-novel"],
    )
    encoding: str | None = Field(
        title="Encoding",
        default=None,
        description="Encoding of scripts that are neither UTF-8 nor carry a byte order mark, for example cp1252.",
    )


# The base that comes last stands first in the form.
class Scripts(Cutting, _Source):
    """
    What is narrated.
    """


class _BookSource(BaseModel):
    model_config = FORM

    book: str = Field(
        min_length=1,
        pattern=NOT_BLANK,
        title="Book",
        description="An .epub, .docx, .md, .txt or .html file, or a folder of chapter files: a path such as "
        "/srv/books/my-novel.epub, or a URI such as s3://bucket/my-novel.epub.",
        examples=["/srv/books/my-novel.epub"],
    )
    encoding: str | None = Field(
        title="Encoding",
        default=None,
        description="Encoding of plain texts that are neither UTF-8 nor carry a byte order mark, for example cp1252.",
    )


class BookChoice(Cutting, _BookSource):
    """
    Which book is narrated. Its own language counts where none but the usual one is chosen.
    """


class VoiceKnobs(BaseModel):
    """
    The knobs of `VoiceChoice`, which holds them to each other.
    """

    model_config = FORM

    reference: list[str] = Field(
        title="Reference recordings",
        default=[],
        description="Recordings of the speaker, 10 to 270 seconds in all (wav, flac, mp3, m4a, ogg, opus, webm, aiff): paths "
        "such as data/reference.wav, or URIs such as s3://bucket/voice.wav. The speaker must consent to the cloning.",
        examples=[["data/reference.wav"]],
    )
    transcript: str | None = Field(
        default=None, description="What is said in the recordings, word for word; by default reference.txt beside the first."
    )
    voice_id: str | None = Field(
        title="Voice ID",
        default=None,
        pattern=r"^[\w-]+$",
        description="Id of a voice at Fish Audio: it is used, and none is created.",
    )
    voice_title: str | None = Field(
        title="Name of the voice",
        default=None,
        max_length=100,
        description="Name of the voice in the account; by default that of the first recording.",
    )
    instant: bool = Field(
        title="Instant clone",
        default=False,
        description="Create no voice, but send the recording and its transcript with each request.",
    )
    poll_interval: float = Field(
        title="Look at the voice every (seconds)",
        default=5.0,
        gt=0,
        le=300,
        description="Seconds between two looks at a voice in training.",
    )
    training_timeout: float = Field(
        title="Training timeout (seconds)",
        default=300.0,
        ge=0,
        le=86_400,
        description="Seconds a voice may take until it is trained.",
    )
    credentials: str | None = Field(
        title="Account (name of a block)",
        default=None,
        pattern=r"^[a-z0-9-]+$",
        max_length=100,
        description="Name of the Prefect block (type fish-audio-credentials) with the account's key, never the key itself; "
        "without one, or where there is no block fish-audio, FISH_API_KEY and FISH_BASE_URL in the environment say which.",
        examples=["fish-audio"],
    )


class VoiceChoice(VoiceKnobs):
    """
    Whose voice narrates: a new one made from recordings, or one that is there. Only clone a voice whose owner consents.
    """

    @model_validator(mode="after")
    def _one_voice(self) -> Self:
        if not all(map(str.strip, self.reference)):
            raise ValueError("one of the recordings (--reference) has no name: remove the empty one")
        if self.reference and self.voice_id:
            raise ValueError("recordings (--reference) and the id of a voice (--voice-id) were given: clear one of the two")
        if not (self.reference or self.voice_id):
            raise ValueError("give either recordings (--reference) or the id of a voice (--voice-id)")
        if self.instant and self.voice_id:
            raise ValueError("--instant sends a recording along: it goes with --reference, not with --voice-id")
        return self


class _Place(BaseModel):
    model_config = FORM

    out: str = Field(
        title="Output folder",
        default="data/audio",
        min_length=1,
        pattern=NOT_BLANK,
        description="Folder the narrations go to, mirroring the scripts; a book has a folder of its own in it. A path, or a "
        "URI such as s3://bucket/out.",
    )
    takes: str | None = Field(
        title="Take store",
        default=None,
        description="Folder of the take store; by default .takes in the output folder. A path, or a URI such as "
        "s3://bucket/takes, which several machines may share.",
    )
    served_at: str | None = Field(
        title="Served at (address)",
        default=None,
        pattern=r"^https?://[^\s/]+(/\S*)?$",
        max_length=1000,
        description="Address at which a web server or a public bucket has the output folder, so that run pages link what was "
        "made. `narrate up` serves what its own machine makes.",
        examples=["https://audio.example.org/nightly"],
    )


class _Folders(_Place):
    @property
    def folder(self) -> Path:
        """
        The output folder, or where its copy is worked on.
        """
        return folder_of(self.out)

    @property
    def takes_uri(self) -> str:
        """
        Where the take store is.
        """
        return self.takes or (f"{self.out.rstrip('/')}/.takes" if is_remote(self.out) else str(self.folder / ".takes"))

    @property
    def shared(self) -> str | None:
        """
        Where the take store is, if other hosts may share it.
        """
        return self.takes_uri if is_remote(self.takes_uri) else None

    @property
    def takes_folder(self) -> Path:
        """
        The take store's folder, or that of the copies of takes.
        """
        return cache_folder(self.takes_uri, "takes") if self.shared else local_folder(self.takes_uri)

    def of_book(self, name: str) -> Path:
        """
        Tell the folder of a book's own by its *name*, or where the copy of that is worked on.
        """
        return folder_of(self._uri_of(name)) if is_remote(self.out) else self.folder / name

    def _uri_of(self, book: str) -> str:
        return within(self.out, book) if book and is_remote(self.out) else self.out

    def places(self, book: str = "", *, to_read: bool = False) -> tuple[Path, TakeStore, Mirror | None]:
        """
        Return the output folder, or that of the *book* of that name in it; the take store; and the mirror where the folder is
        but a copy of one in object storage. No run has copies of other books than its own.

        With *to_read* only records of runs are brought there, and there is no mirror. Raises `UsageError` where nothing can be
        written there, or it cannot be reached.
        """
        for folder in (self.folder, self.takes_folder):
            require_writable(folder)
        if to_read:
            bring_records(self._uri_of(book))
        store, mirror = open_store(self.takes_uri), None if to_read else mirror_of(self._uri_of(book))
        if mirror and book:
            voices = self.folder.with_name(f"{self.folder.name}{VOICE}")
            mirror.along = Mirror(within(self.out, VOICE), self.folder / VOICE, beside=voices)
        return self.of_book(book), store, mirror


class Output(Sound, _Folders):
    """
    What is made, and where.
    """


class _Profile(BaseModel):
    model_config = FORM

    profile: str | None = Field(
        title="Level profile",
        default=None,
        max_length=500,
        description="How loud: acx, podcast, ebu, or numbers of your own such as loudness=-18,true_peak=-2. By default that of "
        "book.toml, or else acx.",
        examples=["acx", "podcast", "ebu", "acx,loudness=-20"],
    )


class BookOutput(Pauses, _Profile, _Folders):
    """
    What is made of a book, and where: the folder `Author - Title` in the output folder.
    """


class _Purse(BaseModel):
    model_config = FORM

    budget: float | None = Field(
        title="Budget (USD)", default=None, ge=0, description="USD that this run may cost at most; no limit by default."
    )
    approve_above_usd: float | None = Field(
        title="Ask a person above (USD)",
        default=None,
        ge=0,
        description="USD of the estimate above which a person is asked first: a deployed run waits up to 24 hours for a yes or "
        "no, a command ends (6) unless it has --yes. Nobody is asked by default.",
    )
    ask_on_warnings: bool = Field(
        title="Ask a person on warnings",
        default=False,
        description="Ask a person first, as above, where the recordings draw warnings; a command only tells them.",
    )


class _Shared(BaseModel):
    model_config = FORM

    account_limit: str | None = Field(
        title="Limit of the account (name)",
        default=None,
        pattern=r"^[\w.: -]+$",
        max_length=100,
        description="Name of a Prefect global concurrency limit that all runs of an account share, on any machine: each sends "
        "only on slots of it, leased for up to 50 seconds. Made by `prefect gcl create NAME --limit 5`.",
        examples=["fish-audio"],
    )


class Limits(_Shared, Patience, _Purse):
    """
    What may be spent, in money and in patience.
    """


class LibraryChoice(BaseModel):
    """
    Which books are made, each by a run of its own.
    """

    model_config = FORM

    books: list[str] = Field(
        min_length=1,
        title="Books",
        description="Books (.epub, .docx, .md, .txt, .html), folders of chapters or scripts, folders of .epub and .docx books, "
        "and folders of nothing but folders, each a book: paths, or URIs such as s3://bucket/books.",
        examples=[["/srv/books"]],
    )
    kind: Literal["audiobook", "narrate"] = Field(
        title="What is made of each",
        default="audiobook",
        description="audiobook: mastered chapters and an M4B. narrate: a narration of each script, in a folder for each book.",
    )
    deployment: str | None = Field(
        title="Deployment",
        default=None,
        pattern=r"^[^/]+/[^/]+$",
        description="Deployment that each book's run is started through; its own parameters count where the library sets none, "
        "its budget for each book, and nobody is asked for a single one. By default audiobook/audiobook or narrate/narrate.",
        examples=["audiobook/audiobook"],
    )
    at_once: int = Field(
        title="Books at once",
        default=3,
        ge=1,
        le=100,
        description="Runs under way at once; more workers than that are of no use to this library.",
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not all(map(str.strip, self.books)):
            raise ValueError("one of the books has no name: remove the empty one")
        return self

    @property
    def parameter(self) -> str:
        """
        The parameter of a book's run that names the book.
        """
        return "book" if self.kind == "audiobook" else "scripts"

    @property
    def through(self) -> str:
        """
        The deployment's name.
        """
        return self.deployment or f"{self.kind}/{self.kind}"


class LibraryOutput(_Folders):
    """
    Where the books go: audiobooks to a folder `Author - Title` each, narrations to one named after the book.
    """


@dataclass(frozen=True)
class Groups:
    """
    The five groups of knobs that a run takes, as the flow's parameters.
    """

    scripts: Scripts
    voice: VoiceChoice
    speech: Delivery
    output: Output
    limits: Limits


@dataclass(frozen=True)
class BookGroups:
    """
    The groups of knobs that a run over a book takes, as the flow's parameters.
    """

    book: BookChoice
    voice: VoiceChoice
    speech: Delivery
    output: BookOutput
    limits: Limits
    plan: BookPlan
