"""
Live speech over a WebSocket: through the SDK, and frame by frame.
"""

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
import httpx_ws
import ormsgpack
import pytest
import soundfile
from fishaudio import AsyncFishAudio, FishAudio, FlushEvent, ReferenceAudio, TextEvent, TTSConfig
from fishaudio.exceptions import WebSocketError
from fishaudio.types import Prosody

from tests.sandbox.running import clip, journal, trained

HELLO = ["Hello, ", "this is ", "a streaming test."]


@pytest.fixture(name="fish")
def _fish(sandbox: str) -> Iterator[Any]:
    """
    The SDK's client.
    """
    with FishAudio(api_key="test-key", base_url=sandbox) as fish:
        yield fish


@contextmanager
def connected(http: httpx.Client, **request: Any) -> Iterator[Any]:
    """
    Open a bare WebSocket and begin; calling what is yielded sends an event, its `hear` reads all that comes.
    """
    socket: Any
    with httpx_ws.connect_ws(f"{http.base_url}/v1/tts/live", http) as socket:
        talk = _Talk(socket)
        talk(event="start", request={"text": "", "format": "pcm", "sample_rate": 8000, **request})
        yield talk


class _Talk:
    """
    A WebSocket that speaks msgpack.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def __call__(self, **event: Any) -> None:
        """
        Send an event.
        """
        self._socket.send_bytes(ormsgpack.packb(event))

    def next(self) -> dict[str, Any]:
        """
        Read one event.
        """
        event: dict[str, Any] = ormsgpack.unpackb(self._socket.receive_bytes(timeout=10))
        return event

    def hear(self) -> list[dict[str, Any]]:
        """
        Read events to the end: a finish, or the end of the connection.
        """
        heard: list[dict[str, Any]] = []
        try:
            while not heard or heard[-1]["event"] != "finish":
                heard.append(self.next())
        except httpx_ws.WebSocketDisconnect:
            heard.append({"event": "closed"})
        return heard


def test_streams(fish: Any, http: httpx.Client) -> None:
    """
    Text in pieces becomes one sound, as long as it would be in one piece; it is billed once, to the byte.
    """
    sound = b"".join(fish.tts.stream_websocket(iter(HELLO), config=TTSConfig(format="wav")))
    whole = fish.tts.convert(text="".join(HELLO), config=TTSConfig(format="wav"))
    row = journal(http)[0]

    assert sound == whole
    assert (row["path"], row["status"], row["text"], row["billed"]) == ("/v1/tts/live", 101, "".join(HELLO), True)
    assert Decimal(row["cost_usd"]) == len("".join(HELLO)) * Decimal("0.000015")


async def test_streams_asynchronously(sandbox: str) -> None:
    """
    The asynchronous client streams too, one call after the other.
    """

    async def text() -> AsyncIterator[str]:
        """
        Give the text piece by piece.
        """
        for piece in HELLO:
            yield piece

    async with AsyncFishAudio(api_key="test-key", base_url=sandbox) as fish:
        heard = [[chunk async for chunk in fish.tts.stream_websocket(text())] for _ in range(3)]

    assert all(b"".join(chunks).startswith(b"\xff\xfb") for chunks in heard)


def test_flush_speaks_at_once(http: httpx.Client) -> None:
    """
    What waits is said at a flush, before the client goes on.
    """
    with connected(http) as talk:
        talk(event="text", text="First. ")
        talk(event="flush")
        first = talk.next()
        talk(event="text", text="Second.")
        talk(event="stop")
        rest = talk.hear()

    assert first["event"] == "audio"
    assert [event["event"] for event in rest] == ["audio", "finish"]
    assert rest[-1] == {"event": "finish", "reason": "stop"}


def test_long_text_does_not_wait_for_the_end(http: httpx.Client) -> None:
    """
    Once a chunk of sentences waits it is said, without a flush.
    """
    with connected(http, chunk_length=100) as talk:
        for _ in range(4):
            talk(event="text", text="A sentence that is forty characters long. ")

        assert talk.next()["event"] == "audio"


def test_nothing_to_say(fish: Any) -> None:
    """
    A stream without any text ends without a sound.
    """
    assert list(fish.tts.stream_websocket(iter([]))) == []


def test_everything_the_sdk_sends(fish: Any, http: httpx.Client) -> None:
    """
    References, prosody and events pass; a WAV of several texts has one header.
    """
    config = TTSConfig(
        format="wav", prosody=Prosody(speed=2.0), references=[ReferenceAudio(audio=clip(), text="t")], sample_rate=16000
    )
    sound = b"".join(fish.tts.stream_websocket(iter(["One. ", TextEvent(text="Two. "), FlushEvent(), "Three."]), config=config))
    samples, rate = soundfile.read(io.BytesIO(sound))
    row = journal(http)[0]

    assert (rate, row["reference_id"], row["speed"]) == (16000, "inline", 2.0)
    assert sound.count(b"RIFF") == 1
    assert len(samples) / rate == pytest.approx(len("One. Two. Three.") / 15 / 2, abs=0.15)


@pytest.mark.parametrize(
    ("start", "event", "said"),
    [
        ({"format": "flac"}, None, "unknown variant `flac`"),
        ({"reference_id": "0" * 32}, None, "Reference not found"),
        ({}, {"event": "sing"}, "unexpected event 'sing'"),
        ({}, {"event": "text"}, "unexpected event 'text'"),
        ({}, {"event": "start", "request": {}}, "unexpected event 'start'"),
    ],
)
def test_refusals(http: httpx.Client, start: dict[str, Any], event: dict[str, Any] | None, said: str) -> None:
    """
    What is wrong is told in an error frame, and the stream finishes with an error.
    """
    with connected(http, **start) as talk:
        if event:
            talk(**event)
        error, finish = talk.hear()

    assert (error["event"], finish) == ("error", {"event": "finish", "reason": "error"})
    assert said in error["error"]


def test_refusal_through_the_sdk(fish: Any) -> None:
    """
    The SDK drops what was wrong and raises its own.
    """
    with pytest.raises(WebSocketError):
        list(fish.tts.stream_websocket(iter(HELLO), reference_id="0" * 32))


def test_handshakes(fish: Any, http: httpx.Client) -> None:
    """
    A wrong key, an empty wallet, a fault and, if switched so, a full house refuse the upgrade.
    """

    def refused(**knobs: Any) -> int:
        http.patch("/_config", json=knobs).raise_for_status()
        with pytest.raises(httpx_ws.WebSocketUpgradeError) as caught:
            list(fish.tts.stream_websocket(iter(HELLO)))
        return int(caught.value.response.status_code)

    assert refused(keys=["other"]) == 401
    assert refused(keys=None, credit=0) == 402
    assert refused(credit=1, live_limit="status", concurrency_limit=0) == 429
    assert refused(concurrency_limit=None, faults=[{"kind": "status", "status": 503}]) == 503
    assert [row["status"] for row in journal(http)] == [401, 402, 429, 503]


def test_full_house(http: httpx.Client) -> None:
    """
    By default it lets in, says in a frame that it is full, and hangs up without a finish.
    """
    http.patch("/_config", json={"concurrency_limit": 0})
    with connected(http) as talk:
        heard = talk.hear()

    assert [{"event": "error", "error": "Concurrency limit exceeded", "max_concurrency": 0}, {"event": "closed"}] == heard


def test_slot_is_free_after_the_finish(fish: Any, http: httpx.Client) -> None:
    """
    One stream after the other meets no limit of one.
    """
    http.patch("/_config", json={"concurrency_limit": 1})

    assert all(list(fish.tts.stream_websocket(iter(HELLO))) for _ in range(5))


def test_cut_off(http: httpx.Client) -> None:
    """
    A fault closes the connection in the middle of the sound, without a finish.
    """
    http.patch("/_config", json={"faults": [{"kind": "drop"}]})
    with connected(http) as talk:
        talk(event="text", text="A" * 60)
        talk(event="stop")
        heard = talk.hear()

    assert {"event": "closed"} == heard[-1]
    assert sum(len(event["audio"]) for event in heard[:-1]) == pytest.approx(61 / 15 * 8000, abs=200)


def test_poor_in_the_middle(http: httpx.Client) -> None:
    """
    Credit that runs out ends the stream with an error; what was said is billed.
    """
    http.patch("/_config", json={"credit": "0.0002"})
    with connected(http, reference_id=trained(http)) as talk:
        for event in ("0123456789", "0123456789"):
            talk(event="text", text=event)
            talk(event="flush")
        heard = talk.hear()

    assert [event["event"] for event in heard] == ["audio", "error", "finish"]
    assert "Insufficient API credit" in heard[1]["error"]
    assert journal(http)[-1]["cost_usd"] == "0.000150"
