"""
A stand-in that is next to free: `python -m bench.service`, listening at a port of its own.

The sandbox makes each answer anew, which on two cores would be part of what is measured. This one speaks as
much of the same wire format as the contenders need: voices, wallet, `POST /v1/tts` with chunked WAV whose header has no length,
and 429 above the limit. Its answers are seconds of real speech, made before the first request comes.
"""

import asyncio
import json
import re
import resource
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import ormsgpack
import soundfile

from flows.narration import ffmpeg
from flows.narration.speech import SAMPLE_RATE

SPEECH = Path(__file__).parents[1] / "data" / "reference.wav"
QUIETEST = 300
"""RMS (of 32,768) of a second that counts as speech."""
CONTROL = "/_bench"
REASONS = {200: "OK", 201: "Created", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True)
class Terms:
    """
    How it answers: after *latency* seconds, with *seconds* of sound, *limit* at once; *told*: the limit stands in the headers.
    """

    latency: float = 1.0
    seconds: float = 1.0
    limit: int = 50
    told: bool = True


@dataclass
class Journal:
    """
    What happened since the terms were last set: times are of the monotonic clock, *cpu* is the server's own in seconds.

    The phase begins when the first request for speech is there as a whole, and ends when the last answer was written.
    """

    first: float | None = None
    last: float | None = None
    answered: int = 0
    refused: int = 0
    bytes_billed: int = 0
    most_in_flight: int = 0
    voices: int = 0
    cpu: float = 0.0


class Service:
    """
    All there is behind the address.
    """

    def __init__(self) -> None:
        self.set(Terms())

    def set(self, terms: Terms) -> None:
        """
        Begin anew under *terms*: no voices, an empty journal.
        """
        self.terms, self.journal, self.voices = terms, Journal(), dict[str, dict[str, Any]]()
        self._cpu = _cpu()
        self._bodies = cycle([_chunked(body) for body in _speech(terms.seconds)])
        self._in_flight = 0

    def told(self) -> bytes:
        """
        What happened so far, as JSON.
        """
        self.journal.cpu = _cpu() - self._cpu
        return json.dumps(asdict(self.journal)).encode()

    def admit(self, text: str) -> bool:
        """
        Take a slot for *text*, which is billed from here on, or refuse it.
        """
        if self.journal.first is None:
            self.journal.first = time.monotonic()
        if self._in_flight >= self.terms.limit:
            self.journal.refused += 1
            return False
        self._in_flight += 1
        self.journal.most_in_flight = max(self.journal.most_in_flight, self._in_flight)
        self.journal.bytes_billed += len(text.encode())
        return True

    def release(self) -> bytes:
        """
        Give the slot back, and return the answer.
        """
        self._in_flight -= 1
        self.journal.answered += 1
        return self._head(200, b"content-type: audio/wav\r\ntransfer-encoding: chunked\r\n") + next(self._bodies)

    def refusal(self) -> bytes:
        """
        The answer to a request above the limit.
        """
        message = f"You have exceeded your current concurrency limit of {self.terms.limit}. Please try again later."
        return self.plain({"status": 429, "message": message}, status=429)

    def plain(self, what: Any, *, status: int = 200) -> bytes:
        """
        An answer of JSON.
        """
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        return self._head(status, b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)) + body

    def _head(self, status: int, headers: bytes) -> bytes:
        if self.terms.told:
            headers += b"ratelimit-limit-concurrency: %d\r\n" % self.terms.limit
        return b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, REASONS[status].encode(), headers)

    def create(self, body: bytes) -> dict[str, Any]:
        """
        Make a voice of an upload; it is trained at once.
        """
        found = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
        fields: dict[str, list[str]] = {}
        for name, value in found:
            fields.setdefault(name.decode(), []).append(value.decode())
        voice = _voice(title=fields["title"][0], tags=fields.get("tags", []))
        self.voices[voice["_id"]] = voice
        self.journal.voices += 1
        return voice


class Connection(asyncio.Protocol):
    """
    HTTP/1.1 with as much of it as httpx uses: a head, a body of told length, one request after the other.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """
        Keep the transport.
        """
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """
        Answer each request that has come as a whole.
        """
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body = bytes(self._buffer[end + 4 : whole])
            del self._buffer[:whole]
            method, target, _ = head.split(b" ", 2)
            self._serve(method.decode(), target.decode(), body)

    def _serve(self, method: str, target: str, body: bytes) -> None:
        service, path = self._service, urlsplit(target).path
        match method, path:
            case "POST", "/v1/tts":
                if service.admit(ormsgpack.unpackb(body)["text"]):
                    asyncio.get_running_loop().call_later(service.terms.latency, self._speak)
                else:
                    self._write(service.refusal())
            case "POST", "/model":
                self._write(service.plain(service.create(body), status=201))
            case "GET", "/model":
                tags = set(parse_qs(urlsplit(target).query).get("tag", ()))
                items = [voice for voice in service.voices.values() if tags <= set(voice["tags"])]
                self._write(service.plain({"total": len(items), "items": items, "has_more": False}))
            case "GET", "/wallet/self/api-credit":
                self._write(service.plain(_WALLET))
            case "PUT", path if path == CONTROL:
                service.set(Terms(**json.loads(body)))
                self._write(service.plain(service.told()))
            case "GET", path if path == CONTROL:
                self._write(service.plain(service.told()))
            case "GET", path if voice := service.voices.get(path.removeprefix("/model/")):
                self._write(service.plain(voice))
            case _:
                self._write(service.plain({"status": 404, "message": "Not Found"}, status=404))

    def _speak(self) -> None:
        self._write(self._service.release())
        self._service.journal.last = time.monotonic()

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _speech(seconds: float) -> list[bytes]:
    """
    Cut a recording into WAV files of *seconds* each, without the quiet ones.
    """
    recorded, rate = soundfile.read(SPEECH, dtype="int16", always_2d=True)
    mono = ffmpeg.resample(recorded[:, 0], source_rate=rate, target_rate=SAMPLE_RATE)
    size = round(seconds * SAMPLE_RATE)
    cuts = [np.resize(mono[at:], size) for at in range(0, max(1, len(mono) - size + 1), size)]
    loud = [cut for cut in cuts if np.sqrt((cut.astype(float) ** 2).mean()) > QUIETEST]
    return [_HEADER + cut.astype("<i2").tobytes() for cut in loud]


_HEADER = (
    b"RIFF\x24\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
    + SAMPLE_RATE.to_bytes(4, "little")
    + (2 * SAMPLE_RATE).to_bytes(4, "little")
    + b"\x02\x00\x10\x00data\x00\xff\xff\xff"
)
"""As the hosted API streams it: sizes are placeholders."""

_WALLET = {
    "_id": "bench",
    "user_id": "bench",
    "credit": "1000.000000",
    "cumulative_top_up": "1000",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "has_phone_sha256": False,
    "has_free_credit": None,
}


def _voice(*, title: str, tags: list[str]) -> dict[str, Any]:
    numbers: Mapping[str, int] = dict.fromkeys(("like_count", "mark_count", "shared_count", "task_count"), 0)
    flags: Mapping[str, bool] = dict.fromkeys(("lock_visibility", "unliked", "liked", "marked"), False)
    about = {
        "type": "tts",
        "train_mode": "fast",
        "state": "trained",
        "visibility": "private",
        "description": "",
        "cover_image": "",
    }
    dates = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")
    author = {"_id": "bench", "nickname": "bench", "avatar": ""}
    lists = {"tags": tags, "samples": [], "languages": ["en"]}
    return {"_id": uuid.uuid4().hex, "title": title, "author": author, **about, **dates, **lists, **numbers, **flags}


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def _cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


async def serve() -> None:
    """
    Serve until killed; prints one line, `ready URL`, once connections are accepted.
    """
    service = Service()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
