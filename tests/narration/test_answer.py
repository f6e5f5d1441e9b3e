"""
Answers that do not end, that unfold, that are nested without end, and that repeat the key.
"""

import asyncio
import base64
import gzip
import html
import json
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest

from flows.narration import answer
from flows.narration.errors import KeyRefused, NarrateError, ServiceUnavailable
from flows.narration.speech import Delivery, Speech, Voice

KEY = 'sk/never+shown&"<1>'
VOICE = Voice(id="v", title="t", state="trained")


@asynccontextmanager
async def _serving(head: str, *pieces: bytes, endless: bytes = b"") -> AsyncIterator[str]:
    """
    Answer every request with *head*, then *pieces*, then *endless* again and again until the client goes.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
        try:
            for piece in pieces:
                writer.write(piece)
            while endless:
                writer.write(endless)
                await writer.drain()
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _refusal(url: str, *, speak: bool = False) -> NarrateError:
    async with Speech(key=KEY, base_url=url) as speech:
        with pytest.raises(NarrateError) as refused:
            await (speech.speak("A.", voice=VOICE, delivery=Delivery(), deadline=20) if speak else speech.voice("v"))
    return refused.value


@pytest.mark.parametrize("speak", [False, True])
async def test_an_error_that_does_not_end_is_told_at_once(speak: bool) -> None:
    """
    Its beginning says enough.
    """
    begun = time.monotonic()
    async with _serving("500 Oh", b"It broke. ", endless=b"x" * 65536) as url:
        error = await _refusal(url, speak=speak)

    assert ServiceUnavailable is type(error)
    assert "the service answered 500 (It broke. xxx" in error.fact
    assert len(error.fact) < 400
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("speak", [False, True])
async def test_an_answer_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, speak: bool) -> None:
    """
    Before it fills the memory; nobody knows whether it was billed.
    """
    monkeypatch.setattr(answer, "MOST_ANSWER_BYTES", 3_000_000)
    async with _serving("200 OK", b"RIFF", endless=b"x" * 65536) as url:
        error = await _refusal(url, speak=speak)

    assert isinstance(error, ServiceUnavailable)
    assert "the answer does not end, at 3 MB it was given up." in error.fact
    assert error.billed is None


async def test_no_answer_is_unpacked() -> None:
    """
    None was asked for, and 100 kB would become 100 MB.
    """
    packed = gzip.compress(b"[" + b" " * 100_000_000)
    async with (
        _serving(f"200 OK\r\nContent-Length: {len(packed)}\r\nContent-Encoding: gzip", packed) as url,
        Speech(key=KEY, base_url=url) as speech,
    ):
        wav = await speech.speak("A.", voice=VOICE, delivery=Delivery(), deadline=20)

    assert packed == wav


@pytest.mark.parametrize("status", ["200 OK", "500 Oh"])
async def test_json_that_is_nested_without_end_is_no_fault_of_the_program(status: str) -> None:
    """
    Python gives up on it with an error that is none of JSON's.
    """
    async with _serving(status, b"[" * 60_000) as url:
        error = await _refusal(url)

    assert ServiceUnavailable is type(error)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": json.dumps,
    "html": html.escape,
    "url": lambda key: quote(key, safe=""),
    "url but for slashes": quote,
    "html by number": lambda key: "".join(letter if letter.isalnum() else f"&#{ord(letter)};" for letter in key),
    "base64 of more": lambda key: base64.urlsafe_b64encode(f"Bearer {key}".encode()).decode(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["message", "page", "list", "reason", "cut"])
async def test_a_service_that_repeats_the_key_is_not_quoted_with_it(form: str, place: str) -> None:
    """
    In whatever form and place, nor half of it where the answer was cut; not in the causes of the error, either.
    """
    said = FORMS[form](KEY)
    head = f"401 {said}" if place == "reason" else "401 Unauthorized"
    body = {
        "message": json.dumps({"message": f"no such key: {said}"}),
        "page": f"<html><body>no such key: {said}</body></html>",
        "list": json.dumps([{"msg": f"no such key: {said}"}]),
        "reason": "",
        "cut": " " * (answer.MOST_ERROR_BYTES - len(said) // 2) + said,
    }[place]
    async with _serving(head, body.encode()) as url:
        error = await _refusal(url)

    shown = "".join(traceback.format_exception(error))
    assert KeyRefused is type(error)
    assert [] == [part for part in (said, said[len(said) // 3 : -len(said) // 3], "never") if part in shown]
    assert place in ("reason", "cut") or "no such key: " in error.fact


async def test_a_page_in_place_of_sound_is_kept_without_the_key() -> None:
    """
    A proxy that shows what it was sent would otherwise leave it in the take store, where refused answers are kept.
    """
    page = f"<html>Authorization: Bearer {KEY}</html>".encode()
    async with (
        _serving(f"200 OK\r\nContent-Length: {len(page)}", page) as url,
        Speech(key=KEY, base_url=url) as speech,
    ):
        wav = await speech.speak("A.", voice=VOICE, delivery=Delivery(), deadline=20)

    assert f"<html>Authorization: Bearer {'*' * len(KEY)}</html>".encode() == wav


async def test_what_would_steer_a_terminal_is_left_out() -> None:
    """
    An answer is printed, and a terminal obeys it.
    """
    async with _serving("500 Oh", b'{"message": "\\u001b[2J\\u0007gone\\u202e"}') as url:
        error = await _refusal(url)

    assert "While looking at voice v: the service answered 500 ([2Jgone)." == error.fact
