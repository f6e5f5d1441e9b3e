"""
The door to Fish Audio against a running sandbox: what goes out, and what comes of every answer.
"""

import asyncio
import io
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
import soundfile

from flows.narration.errors import (
    KeyRefused,
    MoneyError,
    NarrateError,
    RateLimited,
    RequestRefused,
    RequestUnread,
    ServiceAway,
    ServiceUnavailable,
    UsageError,
    VoiceFailed,
    VoiceNotFound,
)
from flows.narration.speech import Delivery, InlineReference, Speech, Voice
from tests.conftest import KEY, Sandbox

AGAIN = "Run it again to go on."
REFUSED = "Another attempt would be refused as well."
LISTED = "`narrate voices list` shows the account's voices."


def _wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.arange(4410, dtype=np.int16), 44_100, format="WAV")
    return buffer.getvalue()


async def _made(speech: Speech, *, title: str = "t", transcript: str | None = None) -> Voice:
    return await speech.create_voice(title=title, wav=_wav(), transcript=transcript, tags=["one", "two"], description="d")


async def _spoken(speech: Speech, voice: Voice | InlineReference | None = None, *, deadline: float = 10) -> bytes:
    return await speech.speak("Hello.", voice=voice or InlineReference(_wav(), "x"), delivery=Delivery(), deadline=deadline)


async def _refusal(asked: Awaitable[object]) -> NarrateError:
    """
    Return the error that *asked* ends with, which must not tell the key anywhere, nor what it was raised from.
    """
    with pytest.raises(NarrateError) as raised:
        await asked
    assert KEY not in "".join(traceback.format_exception(raised.value)) + repr(raised.value.args)
    return raised.value


async def test_every_parameter_of_speech_goes_out_explicitly(sandbox: Sandbox) -> None:
    """
    What is left out would be the SDK's choice today and the service's tomorrow, and is in no take's key.
    """
    sandbox.config(training="at-once")
    delivery = Delivery(model="s2-pro", speed=1.5, volume=-3, temperature=0.2, top_p=0.3, read_numbers=False)

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        voice = await _made(speech)
        await speech.speak("Héllo.", voice=voice, delivery=delivery, deadline=10)

    (row,) = sandbox.requests("/v1/tts")
    assert ("Héllo.", "s2-pro", 7) == (row["text"], row["model"], row["bytes"])
    assert {
        "format": "wav",
        "sample_rate": 44_100,
        "latency": "normal",
        "chunk_length": 300,
        "normalize": False,
        "reference_id": voice.id,
        "references": [],
        "prosody": {"speed": 1.5, "volume": -3.0},
        "temperature": 0.2,
        "top_p": 0.3,
        "mp3_bitrate": 128,
        "opus_bitrate": -1000,
        "max_new_tokens": 1024,
        "repetition_penalty": 1.2,
        "min_chunk_length": 50,
        "condition_on_previous_chunks": True,
        "early_stop_threshold": 1.0,
    } == row["parameters"]


async def test_the_defaults_are_those_of_the_documentation(sandbox: Sandbox) -> None:
    """
    The model above all: a request without it is billed as the paid one.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        await _spoken(speech)

    (row,) = sandbox.requests("/v1/tts")
    sent = {name: row["parameters"][name] for name in ("latency", "normalize", "temperature", "top_p", "prosody")}
    assert "s2.1-pro" == row["model"]
    assert {
        "latency": "normal",
        "normalize": True,
        "temperature": 0.7,
        "top_p": 0.7,
        "prosody": {"speed": 1.0, "volume": 0.0},
    } == sent


async def test_an_inline_reference_goes_with_its_transcript(sandbox: Sandbox) -> None:
    """
    The service matches the recording to what is said in it, and no voice is named beside it.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        await _spoken(speech, InlineReference(_wav(), "What is said."))

    (row,) = sandbox.requests("/v1/tts")
    assert [{"audio": f"{len(_wav())} bytes", "text": "What is said."}] == row["parameters"]["references"]
    assert "reference_id" not in row["parameters"]


async def test_a_voice_is_created_private_with_all_that_was_given(sandbox: Sandbox) -> None:
    """
    The API's own default is public.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        voice = await _made(speech, transcript="What is said.")

    (row,) = sandbox.requests("/model")
    assert {
        "title": ["t"],
        "description": ["d"],
        "visibility": ["private"],
        "type": ["tts"],
        "train_mode": ["fast"],
        "texts": ["What is said."],
        "tags": ["one", "two"],
        "enhance_audio_quality": ["true"],
        "voices": [f"{len(_wav())} bytes"],
    } == row["parameters"]
    assert ("t", "created", ("one", "two"), "d", "private") == (
        voice.title,
        voice.state,
        voice.tags,
        voice.description,
        voice.visibility,
    )


@pytest.mark.parametrize(
    ("status", "kind", "arguments"),
    [
        (302, RequestRefused, (REFUSED,)),
        (400, RequestRefused, (REFUSED,)),
        (401, KeyRefused, ("Check the key (FISH_API_KEY, or that of --credentials), and that it may do this.",)),
        (402, MoneyError, ("Top up the API wallet at https://fish.audio/app/developers, then run again.",)),
        (403, KeyRefused, ("Check the key (FISH_API_KEY, or that of --credentials), and that it may do this.",)),
        (404, UsageError, ("Check FISH_BASE_URL: there seems to be no such API.",)),
        (408, ServiceUnavailable, (AGAIN, None, None)),
        (413, RequestRefused, (REFUSED,)),
        (422, RequestUnread, ("Run it again; if it says so again, the text may be the cause.",)),
        (425, ServiceUnavailable, (AGAIN, None, None)),
        (429, RateLimited, (AGAIN, None, False)),
        (500, ServiceUnavailable, (AGAIN, None, False)),
        (502, ServiceAway, (AGAIN, None, None)),
        (503, ServiceAway, (AGAIN, None, False)),
        (504, ServiceAway, (AGAIN, None, None)),
        (529, ServiceUnavailable, (AGAIN, None, False)),
    ],
)
async def test_each_status_has_its_error(
    sandbox: Sandbox, status: int, kind: type[NarrateError], arguments: tuple[object, ...]
) -> None:
    """
    What is retried, what ends the run and what fails one segment hangs on this table.
    """
    sandbox.config(faults=[{"kind": "status", "status": status}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        error = await _refusal(_spoken(speech))

    fact = f"While speaking: the service answered {status} (injected status {status})."
    assert (kind, (fact, *arguments)) == (type(error), error.args)


@pytest.mark.parametrize(
    ("told", "seconds"), [("7", 7.0), ("0", 0.0), ("2.5", 2.5), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("soon", None)]
)
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_retry_after_is_passed_on(sandbox: Sandbox, status: int, told: str, seconds: float | None) -> None:
    """
    A service that says when to come back knows best.
    """
    sandbox.config(faults=[{"kind": "status", "status": status, "retry_after": told}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        error = await _refusal(_spoken(speech))

    assert isinstance(error, ServiceUnavailable)
    assert seconds == error.retry_after


async def test_retry_after_may_be_a_date(sandbox: Sandbox) -> None:
    """
    The other form that HTTP knows, which proxies like.
    """
    then = datetime.now(UTC) + timedelta(seconds=40)
    sandbox.config(faults=[{"kind": "status", "status": 503, "retry_after": format_datetime(then, usegmt=True)}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        error = await _refusal(_spoken(speech))

    assert isinstance(error, ServiceUnavailable)
    assert error.retry_after is not None
    assert 20 < error.retry_after <= 40


async def test_a_recording_that_is_refused_means_no_voice(sandbox: Sandbox) -> None:
    """
    Another attempt would be refused as well.
    """
    sandbox.config(faults=[{"kind": "status", "status": 400, "path": "/model"}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        assert isinstance(await _refusal(_made(speech)), VoiceFailed)


async def test_an_answer_that_repeats_the_key_is_told_without_it(sandbox: Sandbox) -> None:
    """
    What the service says goes into reports and ledgers.
    """
    sandbox.config(faults=[{"kind": "status", "status": 500, "body": "key"}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        error = await _refusal(_spoken(speech))

    assert "While speaking: the service answered 500 (injected status 500: no such key …)." == error.fact


@pytest.mark.parametrize(("body", "said"), [("list", "[{'loc': ['body'], "), ("html", "<!DOCTYPE html>"), ("empty", "")])
@pytest.mark.parametrize(
    ("status", "kind"), [(401, KeyRefused), (422, RequestUnread), (429, RateLimited), (500, ServiceUnavailable)]
)
async def test_the_status_counts_whatever_the_body_is(
    sandbox: Sandbox, status: int, kind: type[NarrateError], body: str, said: str
) -> None:
    """
    The SDK raises `AttributeError` for a list: the status would be lost, and with it whether to try again.
    """
    sandbox.config(faults=[{"kind": "status", "status": status, "body": body, "path": "/"}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        errors = [await _refusal(asked) for asked in (_spoken(speech), _made(speech), speech.voices())]

    assert [kind] * 3 == [type(error) for error in errors]
    assert f"While speaking: the service answered {status} ({said}" in errors[0].fact
    assert all(len(error.fact) < 400 for error in errors)


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "truncate"}, {"kind": "hang"}, {"kind": "drip", "seconds": 20}])
async def test_a_broken_or_late_answer_may_have_been_billed(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """
    Nobody can know, so the error says so; what hangs or trickles ends at the deadline, which is for the whole answer.
    """
    sandbox.config(faults=[fault])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        started = asyncio.get_running_loop().time()
        error = await asyncio.wait_for(_refusal(_spoken(speech, deadline=0.4)), 5)
        took = asyncio.get_running_loop().time() - started

    assert (ServiceUnavailable, (AGAIN, None, None)) == (type(error), error.args[1:])
    assert took < 3


async def test_the_connection_is_good_again_after_a_break(sandbox: Sandbox) -> None:
    """
    What came of one request is not held against the next.
    """
    sandbox.config(faults=[{"kind": "status", "status": 402, "count": 1}, {"kind": "reset", "count": 1}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        errors = [type(await _refusal(_spoken(speech))) for _ in range(2)]
        wav = await _spoken(speech)

    assert [MoneyError, ServiceUnavailable] == errors
    assert b"RIFF" == wav[:4]


@pytest.mark.parametrize("kind", ["html", "json", "empty"])
async def test_a_200_that_is_no_answer_is_a_passing_failure(sandbox: Sandbox, kind: str) -> None:
    """
    A login page of a hotel is neither an empty account nor a voice.
    """
    sandbox.config(faults=[{"kind": kind, "path": "/"}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        errors = [
            await _refusal(asked) for asked in (speech.voices(), speech.voice("a"), _made(speech), speech.credit())
        ]  # what is no speech here is for the judge of takes to say

    assert [ServiceUnavailable] * 4 == [type(error) for error in errors]
    assert [(AGAIN, None, None)] * 4 == [error.args[1:] for error in errors]


async def test_where_nobody_listens_nothing_was_billed(unused_port: int) -> None:
    """
    No connection at all is the service being away, whatever the request.
    """
    for url in (f"http://127.0.0.1:{unused_port}", "http://no-such-host.invalid"):
        async with Speech(key=KEY, base_url=url) as speech:
            error = await _refusal(_spoken(speech))

        assert (ServiceAway, (AGAIN, None, False)) == (type(error), error.args[1:])
        assert error.fact.startswith("While speaking: no connection to the service (")


@pytest.fixture
def unused_port() -> int:
    """
    A port of this machine on which nobody listens.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _answering(raw: bytes, asked: list[bytes] | None = None) -> AsyncIterator[str]:
    """
    Serve *raw* to whoever asks, then close: for answers that the sandbox, which stays within HTTP, does not give.

    What was *asked* is added there, without its body.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if asked is not None:
            asked.append(head)
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("status", "kind"), [("401 Unauthorized", KeyRefused), ("503 Service Unavailable", ServiceAway)])
async def test_an_error_whose_body_breaks_off_keeps_its_status(status: str, kind: type[NarrateError]) -> None:
    """
    A proxy in trouble says 503 and dies: that is not an unknown state.
    """
    async with (
        _answering(f"HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\nhalf".encode()) as url,
        Speech(key=KEY, base_url=url) as speech,
    ):
        error = await _refusal(speech.voices())

    assert kind is type(error)
    assert f"While listing voices (page 1): the service answered {status[:3]} ({status[4:]})." == error.fact


async def test_a_service_that_repeats_the_key_is_not_quoted_with_it() -> None:
    """
    Errors go to logs, manifests and a database.
    """
    body = f'{{"message": "no such key: {KEY}"}}'
    raw = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    async with _answering(raw.encode()) as url, Speech(key=KEY, base_url=url) as speech:
        with pytest.raises(KeyRefused) as refused:
            await speech.voices()

    assert "While listing voices (page 1): the service answered 401 (no such key: …)." == refused.value.fact


async def test_an_answer_that_ends_with_its_connection_may_be_cut_short() -> None:
    """
    Half of a take sounds like a take: what does not say where it ends is taken again, and was perhaps billed.
    """
    async with (
        _answering(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\nRIFF") as url,
        Speech(key=KEY, base_url=url) as speech,
    ):
        error = await _refusal(_spoken(speech))

    assert isinstance(error, ServiceUnavailable)
    assert ("The answer does not say where it ends, so it may be cut short.", None) == (error.fact, error.billed)


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "nul\0", "tab\tbed"])
async def test_a_key_that_cannot_be_sent_is_refused_without_a_request(sandbox: Sandbox, key: str) -> None:
    """
    The HTTP client would quote the whole header in its own error.
    """
    with pytest.raises(KeyRefused) as refused:
        Speech(key=key, base_url=sandbox.url)

    assert key not in str(refused.value)
    assert [] == sandbox.requests()


@pytest.mark.parametrize("voice_id", ["a/b?x", "", "..", "a b", "ä", "a\n", "%2e"])
async def test_an_id_that_is_none_is_refused_without_a_request(sandbox: Sandbox, voice_id: str) -> None:
    """
    Put into an address it would ask for something else, and delete it.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        errors = [await _refusal(asked) for asked in (speech.voice(voice_id), speech.delete_voice(voice_id))]

    assert [(VoiceNotFound, f"There is no voice “{voice_id}”.")] * 2 == [(type(error), error.fact) for error in errors]
    assert [] == sandbox.requests()


async def test_a_voice_that_is_not_there_or_not_ours_is_not_found(sandbox: Sandbox) -> None:
    """
    The service says 404 to the one, and to the other 403 (looking) or 400 (speaking): no reason to change the key.
    """
    async with Speech(key="somebody-else", base_url=sandbox.url) as other:
        theirs = await _made(other)

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        errors = [
            await _refusal(asked)
            for asked in (
                speech.voice("f" * 32),
                speech.voice(theirs.id),
                speech.delete_voice(theirs.id),
                _spoken(speech, theirs),
            )
        ]

    assert [(VoiceNotFound, LISTED)] * 4 == [(type(error), error.next_step) for error in errors]


async def test_more_voices_than_fit_a_page_are_all_listed(sandbox: Sandbox) -> None:
    """
    The newest first, each once: a voice that is overlooked would be made, and paid for, again.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        made = [await _made(speech, title=f"voice {number}") for number in range(102)]
        sandbox.forget()
        listed = (await speech.voices()).voices
        tagged = (await speech.voices(tag="two")).voices
        none = (await speech.voices(tag="three")).voices

    assert [voice.id for voice in reversed(made)] == [voice.id for voice in listed]
    assert listed == tagged
    assert [] == none
    assert ["page_number=1", "page_number=2"] == [
        part for row in sandbox.requests("/model")[:2] for part in row["query"].split("&") if "page_number" in part
    ]


async def test_voices_the_sdk_cannot_parse_are_read_all_the_same(sandbox: Sandbox) -> None:
    """
    A state that is new to the SDK fails its whole page; the other voices on it must not vanish.
    """
    sandbox.config(training=["paused"])
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        first = await _made(speech)
        looked = await speech.voice(first.id)
        second = await _made(speech)
        listed = (await speech.voices()).voices

    assert "paused" == looked.state
    assert {(first.id, "paused"), (second.id, "created")} == {(voice.id, voice.state) for voice in listed}


async def test_the_limit_that_the_service_tells_is_learned(sandbox: Sandbox) -> None:
    """
    From whatever answer carries it, a refusal too.
    """
    sandbox.config(concurrency_limit=7)
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        await speech.voices()
        before = speech.concurrency_limit
        await _spoken(speech)
        told = speech.concurrency_limit
        sandbox.config(concurrency_limit=1, latency=0.5)
        ends = await asyncio.gather(_spoken(speech), _spoken(speech), return_exceptions=True)

        assert (None, 7, 1) == (before, told, speech.concurrency_limit)
        assert {bytes, RateLimited} == {type(end) for end in ends}


async def test_the_wallet_is_read_exactly(sandbox: Sandbox) -> None:
    """
    Money is no float.
    """
    sandbox.config(credit="0.100001")
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        assert Decimal("0.100001") == await speech.credit()


@pytest.mark.parametrize("status", [200, 204])
async def test_a_deleted_voice_is_gone(sandbox: Sandbox, status: int) -> None:
    """
    Whichever way the service says that it is done.
    """
    sandbox.config(delete_status=status)
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        voice = await _made(speech)
        await speech.delete_voice(voice.id)

        assert [] == (await speech.voices()).voices


@pytest.mark.parametrize(
    ("body", "said"),
    [(rb'{"message": "half a smile \ud83d"}', "half a smile"), (b"[" * 100_000, "[" * 300), (b"\xff\x00", "\ufffd")],
    ids=["half a character", "depth", "no text"],
)
async def test_whatever_an_error_says_can_be_written_down(body: bytes, said: str) -> None:
    """
    What the service says goes into the ledger, the manifest and the log, which hold whole characters only.
    """
    head = f"HTTP/1.1 500 Oops\r\nContent-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n"
    async with _answering(head.encode() + body) as url, Speech(key=KEY, base_url=url) as speech:
        error = await _refusal(_spoken(speech))

    assert f"While speaking: the service answered 500 ({said})." == error.fact
    error.fact.encode()


async def test_a_proxy_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The proxy of the environment is asked for what is elsewhere, and not for what it is told to leave alone.
    """
    body = b'{"items": [], "total": 0}'
    async with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "left.invalid")
        async with (
            Speech(key=KEY, base_url="http://fish.invalid") as far,
            Speech(key=KEY, base_url="http://left.invalid") as near,
        ):
            listing = await far.voices()
            refused = await _refusal(near.voices())

    assert listing.whole
    assert isinstance(refused, ServiceAway)


async def test_no_cookie_is_kept() -> None:
    """
    What a service, or what stands before it, would tell requests apart by is not sent back.
    """
    body = b'{"credit": "1"}'
    raw = b"HTTP/1.1 200 OK\r\nSet-Cookie: seen=1\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    asked: list[bytes] = []
    async with _answering(raw, asked) as url, Speech(key=KEY, base_url=url) as speech:
        assert [Decimal(1)] * 2 == [await speech.credit(), await speech.credit()]

    assert len(asked) == 2
    assert not [head for head in asked if b"cookie:" in head.lower()]
