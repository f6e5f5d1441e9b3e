"""
Every fault does what it says, when it says.
"""

import io
import time
from typing import Any, get_args

import httpx
import numpy as np
import pytest
import soundfile

from flows.sandbox.config import FAULTS, FaultKind
from flows.sandbox.encode import TINY_MP3
from tests.sandbox.running import journal, pcm, upload

TEXT = "The rain in Spain stays mainly in the plain."


def inject(http: httpx.Client, *rules: dict[str, Any]) -> None:
    """
    Set the faults.
    """
    http.patch("/_config", json={"faults": rules}).raise_for_status()


def speak(http: httpx.Client, text: str = TEXT, **parameters: Any) -> httpx.Response:
    """
    Ask for speech in JSON.
    """
    return http.post("/v1/tts", json={"text": text, "format": "wav", **parameters})


@pytest.mark.parametrize(
    ("body", "start", "kind"),
    [
        ("json", b'{"status":503', "application/json"),
        ("list", b'[{"loc"', "application/json"),
        ("html", b"<!DOCTYPE html>", "text/html; charset=utf-8"),
        ("empty", b"", None),
        ("key", b'{"status":503,"message":"injected status 503: no such key test-key"}', "application/json"),
    ],
)
def test_status(http: httpx.Client, body: str, start: bytes, kind: str | None) -> None:
    """
    A status comes with the body and the Retry-After asked for, and is not billed.
    """
    inject(http, {"kind": "status", "status": 503, "body": body, "retry_after": 3})
    answer = speak(http)

    assert (503, "3", kind) == (
        answer.status_code,
        answer.headers["retry-after"],
        answer.headers.get("content-type"),
    )
    assert answer.content.startswith(start)
    assert (journal(http)[0]["fault"], journal(http)[0]["billed"]) == ("status", False)


def test_reset(http: httpx.Client) -> None:
    """
    The connection is reset before any answer.
    """
    inject(http, {"kind": "reset", "count": 1})
    with pytest.raises(httpx.ReadError):
        speak(http)

    assert speak(http).status_code == 200
    assert [row["status"] for row in journal(http)] == [None, 200]


def test_drop(http: httpx.Client) -> None:
    """
    The headers of a 200 come, and then a reset in place of a body; it is billed.
    """
    inject(http, {"kind": "drop", "count": 1})
    with http.stream("POST", "/v1/tts", json={"text": TEXT, "format": "wav"}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.ReadError):
            answer.read()

    assert speak(http).status_code == 200
    assert [(row["status"], row["billed"]) for row in journal(http)] == [(200, True), (200, True)]


def test_truncate_against_its_word(http: httpx.Client) -> None:
    """
    The header says the whole length, and half of it comes.
    """
    whole = len(speak(http).content)
    inject(http, {"kind": "truncate", "length": True})
    with http.stream("POST", "/v1/tts", json={"text": TEXT, "format": "wav"}) as answer:
        assert str(whole) == answer.headers["content-length"]
        with pytest.raises(httpx.RemoteProtocolError, match=f"received {whole // 2} bytes, expected {whole}"):
            answer.read()


def test_truncate(http: httpx.Client) -> None:
    """
    Half the body comes, and the end of the chunks never does.
    """
    whole = len(speak(http).content)
    inject(http, {"kind": "truncate"})
    got = b""
    with http.stream("POST", "/v1/tts", json={"text": TEXT, "format": "wav"}) as answer:
        pieces = answer.iter_raw()
        while len(got) < whole // 2:
            got += next(pieces)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            next(pieces)

    assert whole // 2 == len(got)


def test_empty(http: httpx.Client) -> None:
    """
    200 without a byte, and billed.
    """
    inject(http, {"kind": "empty"})
    answer = speak(http)

    assert (answer.status_code, answer.content, journal(http)[0]["billed"]) == (200, b"", True)


@pytest.mark.parametrize(("kind", "media"), [("html", "text/html; charset=utf-8"), ("json", "application/json")])
def test_not_audio(http: httpx.Client, kind: str, media: str) -> None:
    """
    200 with something that is no sound.
    """
    inject(http, {"kind": kind})
    answer = speak(http)

    assert (200, media) == (answer.status_code, answer.headers["content-type"])


def test_tiny(http: httpx.Client) -> None:
    """
    200 with a blank MP3 of 417 bytes.
    """
    inject(http, {"kind": "tiny"})

    assert (len(TINY_MP3), speak(http, format="mp3").content) == (417, TINY_MP3)


def test_another_format(http: httpx.Client) -> None:
    """
    The sound that was asked for, as FLAC.
    """
    good = pcm(speak(http))
    inject(http, {"kind": "flac"})
    body = speak(http).content

    assert body.startswith(b"fLaC")
    assert np.array_equal(good, soundfile.read(io.BytesIO(body), dtype="int16")[0])


def test_damaged_sound(http: httpx.Client) -> None:
    """
    Silence keeps the length, short and long do not, and clipped noise is full scale.
    """
    good = pcm(speak(http))
    heard = {}
    for kind in ("silence", "short", "long", "clip"):
        inject(http, {"kind": kind})
        heard[kind] = pcm(speak(http))

    assert (len(good), 0) == (len(heard["silence"]), np.abs(heard["silence"]).max())
    assert (4410, len(good) * 10) == (len(heard["short"]), len(heard["long"]))
    assert (len(good), {-32767, 32767}) == (len(heard["clip"]), set(heard["clip"].tolist()))


def test_hang(http: httpx.Client) -> None:
    """
    No answer comes, the slot is held, and it is free again once the client has gone.
    """
    http.patch("/_config", json={"concurrency_limit": 1})
    inject(http, {"kind": "hang", "count": 1})
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/tts", json={"text": TEXT}, timeout=0.2)
    deadline = time.monotonic() + 5
    while journal(http)[0]["finished"] is None and time.monotonic() < deadline:
        pass

    assert speak(http).status_code == 200


def test_drip(http: httpx.Client) -> None:
    """
    The whole body comes, in pieces, in the time asked for.
    """
    good = speak(http).content
    inject(http, {"kind": "drip", "seconds": 0.4})
    started = time.monotonic()

    assert speak(http).content == good
    assert 0.4 <= time.monotonic() - started < 2


def test_lost(http: httpx.Client) -> None:
    """
    The voice is made although the answer to it is lost.
    """
    inject(http, {"kind": "lost", "count": 1})
    with pytest.raises(httpx.ReadError):
        upload(http, title="Lost")

    assert [item["title"] for item in http.get("/model?self=true").json()["items"]] == ["Lost"]
    assert upload(http).status_code == 201


def test_other_paths(http: httpx.Client) -> None:
    """
    A path, a method and a piece of the path narrow a rule.
    """
    voice = upload(http).json()["_id"]
    inject(
        http,
        {"kind": "status", "status": 502, "path": "/model", "method": "GET", "match": voice},
        {"kind": "json", "path": "/wallet"},
    )

    assert [
        http.get("/model").status_code,
        http.get(f"/model/{voice}").status_code,
        http.patch(f"/model/{voice}").status_code,
    ] == [200, 502, 200]
    assert http.get("/wallet/self/api-credit").json()["status"] == 500


def test_which_requests(http: httpx.Client) -> None:
    """
    A rule skips the first ones, fires as often as told, and only for its text; the first rule that fires wins.
    """
    inject(
        http,
        {"kind": "status", "status": 500, "match": "rain", "after": 1, "count": 2},
        {"kind": "status", "status": 429, "match": "Spain", "count": 1},
    )

    assert [speak(http).status_code for _ in range(5)] == [429, 500, 500, 200, 200]
    assert speak(http, "Nothing of the kind").status_code == 200


def test_a_rule_that_lasts_ends(http: httpx.Client) -> None:
    """
    An outage is over some time after it began, not after some requests.
    """
    inject(http, {"kind": "status", "status": 503, "after": 1, "lasts": 0.3})
    assert [speak(http).status_code for _ in range(4)] == [200, 503, 503, 503]

    deadline = time.monotonic() + 5
    while speak(http).status_code == 503:
        assert time.monotonic() < deadline


def test_every_kind_is_described() -> None:
    """
    The page that the sandbox shows of itself leaves none out.
    """
    assert set(get_args(FaultKind)) == FAULTS.keys()


def test_rate_is_seeded(http: httpx.Client) -> None:
    """
    A rated fault hits its share of requests, the same ones for the same seed.
    """

    def hits(seed: int) -> list[int]:
        http.patch("/_config", json={"seed": seed, "seconds": 0.01})
        inject(http, {"kind": "status", "rate": 0.3})
        return [speak(http).status_code for _ in range(60)]

    first = hits(1)

    assert first == hits(1) != hits(2)
    assert 8 <= first.count(500) <= 28


def test_key_comes_first(sandbox: str, http: httpx.Client) -> None:
    """
    A fault does not hide a missing key.
    """
    inject(http, {"kind": "status", "status": 500})

    assert httpx.post(f"{sandbox}/v1/tts", json={"text": TEXT}, trust_env=False).status_code == 401
