"""
What the service answers, before anything believes it: of bounded size, and without the key should it repeat that.
"""

import base64
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from html.entities import codepoint2name

import httpx

from flows.narration.errors import ServiceUnavailable

MOST_ANSWER_BYTES = 100_000_000
"""Nineteen minutes of sound: the longest segment at the slowest speed takes eleven."""

MOST_ERROR_BYTES = 64_000
"""What is read of an answer that tells of an error; 300 characters of it are shown."""

MOST_SHOWN = 300


class AnswerTooLong(httpx.RequestError):
    """
    The service does not stop answering.
    """


class Bounded(httpx.AsyncByteStream):
    """
    The first *most* bytes of a *stream*; what goes beyond is `AnswerTooLong`, or cut off where that is *enough*.
    """

    def __init__(self, stream: httpx.AsyncByteStream, *, most: int, enough: bool) -> None:
        self._stream = stream
        self._left = most
        self._enough = enough

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            if len(piece) > self._left and not self._enough:
                raise AnswerTooLong("the answer does not end")
            yield piece[: self._left]
            self._left -= len(piece)
            if self._left < 0:
                return

    async def aclose(self) -> None:
        """
        Close the stream.
        """
        await self._stream.aclose()


def bound(response: httpx.Response) -> None:
    """
    Bound what is read of *response*, before it is read: never more than `MOST_ANSWER_BYTES`, few of an error.

    No compression is asked for, and none is undone: a few kilobytes of it can become gigabytes.
    """
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("only answers to an asynchronous client are bounded")
    response.headers.pop("content-encoding", None)
    most = MOST_ERROR_BYTES if response.is_error else MOST_ANSWER_BYTES
    response.stream = Bounded(response.stream, most=most, enough=response.is_error)


def require_end(response: httpx.Response | None) -> None:
    """
    Raise `ServiceUnavailable` for an answer that ends with its connection: whether all of it came, nobody can tell.
    """
    told = response is not None and {"content-length", "transfer-encoding"} & response.headers.keys()
    if not told:
        raise ServiceUnavailable("The answer does not say where it ends, so it may be cut short.")


def key_of(response: httpx.Response) -> str:
    """
    Return the key that was sent with the request.
    """
    return str(response.request.headers.get("authorization", "")).removeprefix("Bearer ")


def without_key(text: str, key: str) -> str:
    """
    Return *text* with a mark in place of *key*, as it is or as JSON, HTML, a URL or base64 write it.
    """
    return _written(key).sub("…", text) if key else text


def blotted(body: bytes, key: str) -> bytes:
    """
    Return *body* of the same length without *key*: a proxy that answers 200 with what it was sent is kept for a look.

    Sound, be it in a stream of events, is searched for the key as it is alone: every other form would take as long as all else
    that is done with it.
    """
    secret = key.encode()
    if body.startswith((b"RIFF", b"data:")):
        return body.replace(secret, b"*" * len(secret))
    text = body.decode("latin-1")  # gives every byte back as it was
    return _written(key).sub(lambda match: "*" * len(match[0]), text).encode("latin-1")


@lru_cache(maxsize=8)
def _written(key: str) -> re.Pattern[str]:
    """
    Match *key* in every form that an answer may have it in, letter by letter: a service escapes those that it wants to.
    """
    plain = "".join(letter if letter.isalnum() else _escapes(letter) for letter in key)
    return re.compile("|".join((plain, *(_in_base64(key, shift) for shift in range(3)))))


def _escapes(letter: str) -> str:
    """
    Match a letter as it is (with the backslashes of JSON in JSON), and as JSON, HTML or a URL may write it.
    """
    code = ord(letter)
    names = [f"&{codepoint2name[code]};"] if code in codepoint2name else []
    forms = (f"%{code:02x}", rf"&#0*{code};", f"&#x0*{code:x};", rf"\\+u{code:04x}", *map(re.escape, names))
    return rf"(?:\\*{re.escape(letter)}|(?i:{'|'.join(forms)}))"


def _in_base64(key: str, shift: int) -> str:
    """
    Match what all of *key* but its ends becomes in base64, of either alphabet, behind *shift* (modulo 3) other bytes.
    """
    coded = base64.b64encode(bytes(shift) + key.encode()).decode()
    whole = coded[-(-8 * shift // 6) : 8 * (shift + len(key)) // 6]
    return re.escape(whole).replace(r"\+", "[+-]").replace("/", "[/_]")


def message(response: httpx.Response) -> str:
    """
    Shorten what an error answer says to one line of at most 300 characters, without the key should it repeat that.
    """
    key = key_of(response)
    try:
        said = response.json()
        said = said.get("message") or said.get("detail") or said if isinstance(said, dict) else said
    except (ValueError, RecursionError):
        said = response.content.decode("utf-8", "replace")
        if len(response.content) >= MOST_ERROR_BYTES:
            said = said[: -6 * len(key) - 1]  # half a key, in whatever form, may stand at the cut
    except httpx.StreamError:  # the connection broke after the status
        said = ""
    shown = _line(without_key(str(said), key))[:MOST_SHOWN]
    return shown or _line(without_key(response.reason_phrase, key))[:MOST_SHOWN]


def _line(text: str) -> str:
    """
    Make one line of *text*, without what would steer a terminal.
    """
    return "".join(letter for letter in re.sub(r"\s+", " ", text) if letter.isprintable()).strip()


def retry_after(response: httpx.Response) -> float | None:
    """
    Read `Retry-After` in seconds from now, whether it says seconds or a date.
    """
    told = response.headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", told):
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one of no known time zone
        return None
