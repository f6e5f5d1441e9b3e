"""
The one door to Fish Audio: the SDK in, our types and our errors out.

The SDK neither retries nor reads a response header, its exceptions cannot be unpickled, and a list in an error body escapes
it as an `AttributeError`. So every answer is also seen by a hook on the HTTP client, and errors are told from what the
service really said, whatever the SDK made of it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx
import ormsgpack
from fishaudio import AsyncFishAudio, ReferenceAudio, TTSConfig
from fishaudio.types import Prosody, TTSRequest
from pydantic import BaseModel, ConfigDict, Field

from flows.narration import answer, refusal
from flows.narration.errors import (
    KeyRefused,
    NarrateError,
    RequestRefused,
    RequestUnread,
    VoiceFailed,
    VoiceNotFound,
)
from flows.narration.transport import NoCookies, transport

SAMPLE_RATE = 44_100
"""Hz of every take: asked for in each request, and the rate narrations are made at."""

TIMEOUT = httpx.Timeout(120, connect=10, pool=None)
"""Seconds for each operation on a socket; a request in all has a deadline of its own."""

PAGE = 100
"""Voices on a page of a listing: the most the API gives at once."""

PAGES = 10
"""Pages read of one listing: the API shows about its first 1,000 entries."""

TIMESTAMPS = "/v1/tts/stream/with-timestamp"
"""Speech with the times of its words: of the API, and not of the SDK."""

MANAGEMENT_SECONDS = 60
"""Total deadline of a request that is not speech; creating a voice was reported to take about 6 s."""


class Delivery(BaseModel):
    """
    How the text is spoken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["s2.1-pro", "s2.1-pro-free", "s2-pro"] = Field(
        default="s2.1-pro",
        description="Speech model of Fish Audio; s2.1-pro-free costs nothing under fair use, the others 15 USD for a "
        "million UTF-8 bytes. (s1 is not offered: it is retired on 2026-12-31 and swallows words in parentheses.)",
    )
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Speaking rate, as a factor: 0.5 to 2.")
    volume: float = Field(title="Volume (dB)", default=0.0, ge=-20, le=20, description="Change of level, in dB: -20 to 20.")
    temperature: float = Field(
        title="Liveliness (temperature)",
        default=0.7,
        ge=0,
        le=1,
        description="Liveliness, 0 to 1: higher varies more, lower is steadier.",
    )
    top_p: float = Field(
        title="Choice of sounds (top p)", default=0.7, ge=0, le=1, description="Nucleus sampling, 0 to 1: lower is steadier."
    )
    read_numbers: bool = Field(
        title="Write out numbers",
        default=True,
        description="Let the service write out numbers and dates (English and Chinese) before it speaks.",
    )
    timing: Literal["sentence", "word"] = Field(
        default="sentence",
        description="word: each take comes with the times of its words, which captions and the page to listen go by, and which "
        "show that none was left out; takes that were recorded without are recorded anew.",
    )


@dataclass(frozen=True)
class Voice:
    """
    A voice at Fish Audio; *state* is `created`, `training`, `trained` or `failed` (or one nobody knows yet).
    """

    id: str
    title: str
    state: str
    tags: tuple[str, ...] = ()
    description: str = ""
    visibility: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Listing:
    """
    Voices of the account; *whole* unless it has more than the service lists.
    """

    voices: list[Voice]
    whole: bool


@dataclass(frozen=True)
class InlineReference:
    """
    A reference sent along with each request: *audio* is a WAV file's bytes, *transcript* what is said in it.
    """

    audio: bytes
    transcript: str


_last_response: ContextVar[httpx.Response | None] = ContextVar("_last_response", default=None)


class Speech:
    """
    An account at Fish Audio, reached with *key* at *base_url*; one for each event loop, used as `async with`.

    *concurrency_limit* is how many requests the service last said the account may have in flight.
    """

    def __init__(self, *, key: str, base_url: str) -> None:
        if not (key.isascii() and key.isprintable()):
            # httpx would refuse the header, and quote it.
            raise KeyRefused("The API key has characters in it that no key has.", "Set FISH_API_KEY to the key alone.")
        self._key = key
        self.host = urlsplit(base_url).hostname or ""
        self.concurrency_limit: int | None = None
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=TIMEOUT,
            headers={"accept-encoding": "identity"},  # none is undone: a few kilobytes can become gigabytes
            event_hooks={"response": [self._remember]},
            cookies=NoCookies(),
            transport=transport(base_url),
        )
        self._sdk = AsyncFishAudio(api_key=key, base_url=base_url, httpx_client=self._http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def voices(self, *, tag: str | None = None) -> Listing:
        """
        List the account's own voices, those with *tag* where one is given, newest first.
        """
        found: dict[str, Voice] = {}
        seen = 0
        for page in range(1, PAGES + 1):
            async with self._asking(f"listing voices (page {page})") as sdk:
                options = {"tags": [tag]} if tag else {}
                await _despite_parsing(
                    sdk.voices.list(self_only=True, page_size=PAGE, page_number=page, sort_by="created_at", **options)
                )
                listing = _json()
                items, total = listing["items"], listing["total"]
                found |= {voice.id: voice for voice in map(_voice, items) if not tag or tag in voice.tags}
            seen += len(items)
            if not items or seen >= total:
                break
        return Listing(voices=list(found.values()), whole=seen >= total)

    async def voice(self, voice_id: str) -> Voice:
        """
        Look at one voice; `VoiceNotFound` where there is none by that id, or it is another account's private one.
        """
        if not re.fullmatch(r"[\w-]+", voice_id, re.ASCII):
            raise VoiceNotFound.by_id(voice_id)
        async with self._asking(f"looking at voice {voice_id}") as sdk:
            await _despite_parsing(sdk.voices.get(voice_id))
            return _voice(_json())

    async def create_voice(
        self, *, title: str, wav: bytes, transcript: str | None, tags: Sequence[str], description: str
    ) -> Voice:
        """
        Create a private voice from a WAV file's bytes. Not idempotent: look before calling, and before calling again.
        """
        async with _as_a_voice_that_failed(), self._asking(f"creating the voice “{title}”") as sdk:
            await _despite_parsing(
                sdk.voices.create(
                    title=title,
                    voices=[wav],
                    description=description,
                    texts=[transcript] if transcript else None,
                    tags=list(tags),
                    visibility="private",
                    train_mode="fast",
                    enhance_audio_quality=True,
                )
            )
            return _voice(_json())

    async def delete_voice(self, voice_id: str) -> None:
        """
        Delete a voice of the account for good.
        """
        await self.voice(voice_id)
        async with self._asking(f"deleting voice {voice_id}") as sdk:
            await sdk.voices.delete(voice_id)

    async def credit(self) -> Decimal:
        """
        Read what the API wallet holds, in USD; it lags what was spent by up to half a minute.
        """
        async with self._asking("reading the wallet") as sdk:
            await _despite_parsing(sdk.account.get_credits())
            return Decimal(_json()["credit"])

    async def speak(self, text: str, *, voice: Voice | InlineReference, delivery: Delivery, deadline: float) -> bytes:
        """
        Have *text* spoken within *deadline* seconds in all: a WAV file's bytes, whose header says nothing of its length.
        """
        async with self._asking("speaking", deadline=deadline) as sdk:
            wav = await sdk.tts.convert(text=text, model=delivery.model, config=_config(voice, delivery))
            answer.require_end(_last_response.get())
            return answer.blotted(bytes(wav), self._key)

    async def speak_timed(self, text: str, *, voice: Voice | InlineReference, delivery: Delivery, deadline: float) -> bytes:
        """
        The same with the times of the words: an event stream's bytes, which `flows.narration.alignment` reads.

        Asked for as the SDK asks for speech, with the same parameters; it has no call for this.
        """
        config = _config(voice, delivery)
        asked = TTSRequest(text=text, **{name: getattr(config, name) for name in TTSRequest.model_fields if name != "text"})
        async with self._asking("speaking", deadline=deadline):
            response = await self._http.post(
                TIMESTAMPS,
                content=ormsgpack.packb(asked.model_dump(exclude_none=True)),
                headers={
                    "authorization": f"Bearer {self._key}",
                    "content-type": "application/msgpack",
                    "model": delivery.model,
                },
            )
            response.raise_for_status()
            answer.require_end(response)
            return answer.blotted(response.content, self._key)

    async def _remember(self, response: httpx.Response) -> None:
        """
        Keep the response of this task's request (with its body where it tells of an error), and the limit it tells.
        """
        _last_response.set(response)
        answer.bound(response)
        told = response.headers.get("ratelimit-limit-concurrency", "")
        if told.isdecimal() and int(told) > 0:
            self.concurrency_limit = int(told)
        if response.is_error:
            await response.aread()

    @asynccontextmanager
    async def _asking(self, doing: str, *, deadline: float = MANAGEMENT_SECONDS) -> AsyncIterator[AsyncFishAudio]:
        """
        Give the SDK for a request, bound it by a total deadline, and translate whatever it raises.
        """
        _last_response.set(None)
        try:
            async with asyncio.timeout(deadline):
                yield self._sdk
        except NarrateError:
            raise
        except Exception as error:
            # Without its cause: the SDK's errors hold the answer as it came, which may repeat the key, or half of it.
            raise refusal.translated(error, _last_response.get(), doing=doing, key=self._key) from None
        finally:
            _last_response.set(None)  # tasks that are begun from here would keep it, megabytes of sound, as long as they live


@asynccontextmanager
async def _as_a_voice_that_failed() -> AsyncIterator[None]:
    """
    Tell a recording that the service refuses as what it means: there will be no voice.
    """
    try:
        yield
    except RequestUnread:
        raise  # it may pass
    except RequestRefused as error:
        raise VoiceFailed(error.fact, "Look at the recording in .voice, or record anew.") from error


def _config(voice: Voice | InlineReference, delivery: Delivery) -> TTSConfig:
    """
    Say every parameter out loud: the SDK's defaults differ from the API's.
    """
    inline = [ReferenceAudio(audio=voice.audio, text=voice.transcript)] if isinstance(voice, InlineReference) else []
    return TTSConfig(
        format="wav",
        sample_rate=SAMPLE_RATE,
        opus_bitrate=-1000,
        normalize=delivery.read_numbers,
        chunk_length=300,
        latency="normal",
        reference_id=voice.id if isinstance(voice, Voice) else None,
        references=inline,
        prosody=Prosody(speed=delivery.speed, volume=delivery.volume),
        top_p=delivery.top_p,
        temperature=delivery.temperature,
        # What the API has as its own defaults; nobody asked for a knob.
        max_new_tokens=1024,
        repetition_penalty=1.2,
        min_chunk_length=50,
        condition_on_previous_chunks=True,
        early_stop_threshold=1.0,
    )


async def _despite_parsing(call: Any) -> None:
    """
    Await an SDK call whose answer is read from the response itself.

    NOTE: one voice the SDK's types do not know (`train_mode` "full", a new state) fails a whole page of it.
    """
    try:
        await call
    except ValueError:
        response = _last_response.get()
        if response is None or not response.is_success:
            raise


def _json() -> Any:
    response = _last_response.get()
    if response is None:
        raise ValueError("there is no answer")
    return response.json()


def _voice(raw: dict[str, Any]) -> Voice:
    return Voice(
        id=raw["_id"],
        title=raw["title"],
        state=raw["state"],
        tags=tuple(raw.get("tags") or ()),
        description=raw.get("description") or "",
        visibility=raw.get("visibility") or "",
        created_at=raw.get("created_at") or "",
    )
