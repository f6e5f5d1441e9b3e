"""
What the API is documented to do, asked of the sandbox always, and of the hosted API as well with `--live` and FISH_API_KEY.

The hosted API is spoken to with the model that costs nothing, and rid of what was made there. Only what is documented is
asserted; where sources disagree, either counts.
"""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import ormsgpack
import pytest
from fishaudio import FishAudio, ReferenceAudio, TTSConfig
from fishaudio.exceptions import APIError, NotFoundError

from tests.conftest import ROOT, wait_for
from tests.sandbox.running import client

HOSTED = "https://api.fish.audio"
MODEL = "s2.1-pro-free"
TEXT = "The lamp was lit, and nobody had lit it."
TRAINING_SECONDS = 300
VOICE = {"_id", "type", "title", "description", "state", "tags", "samples", "created_at", "languages", "visibility", "author"}
STARTS: dict[str, tuple[bytes, ...]] = {
    "wav": (b"RIFF",),
    "mp3": (b"\xff\xfb", b"\xff\xf3", b"ID3"),
    "opus": (b"OggS",),
    "pcm": (b"",),
}


@dataclass(frozen=True)
class Api:
    """
    An API to be asked by bare HTTP, with the official SDK, and by somebody without a key.
    """

    http: httpx.Client
    sdk: Any
    stranger: httpx.Client

    def speak(self, *, packed: bool = True, **parameters: Any) -> httpx.Response:
        """
        Ask for speech.
        """
        body = {"text": TEXT, "format": "mp3", **parameters}
        content, kind = (ormsgpack.packb(body), "msgpack") if packed else (json.dumps(body).encode(), "json")
        headers = {"content-type": f"application/{kind}", "model": MODEL}
        return self.http.post("/v1/tts", content=content, headers=headers)

    def create(self, **fields: str) -> httpx.Response:
        """
        Make a voice of the project's recording.
        """
        parts = {"type": "tts", "title": "Contract", "train_mode": "fast", "visibility": "private", **fields}
        return self.http.post("/model", data=parts, files={"voices": recording()})


def recording() -> bytes:
    """
    Give a recording to make a voice of.
    """
    return (ROOT / "data" / "reference.wav").read_bytes()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Ask the hosted API where that is wanted.
    """
    live = metafunc.config.getoption("--live")
    metafunc.parametrize("which", ["sandbox", "hosted"] if live else ["sandbox"], indirect=False, scope="module")


@pytest.fixture(name="api")
def _api(which: str, request: pytest.FixtureRequest) -> Iterator[Api]:
    if which == "hosted":
        url, key = HOSTED, os.environ["FISH_API_KEY"]
    else:
        url, key = request.getfixturevalue("sandbox"), "test-key"
        httpx.patch(f"{url}/_config", json={"training": "at-once"}, trust_env=False).raise_for_status()
    with (
        client(url, key) as http,
        FishAudio(api_key=key, base_url=url) as sdk,
        httpx.Client(base_url=url, trust_env=False) as stranger,
    ):
        yield Api(http, sdk, stranger)


@pytest.fixture(name="voice_id")
def _voice_id(api: Api) -> Iterator[str]:
    voice_id = str(api.create().raise_for_status().json()["_id"])

    def trained() -> bool | None:
        """
        Look whether it is.
        """
        state = api.http.get(f"/model/{voice_id}").json()["state"]
        assert state != "failed"
        return state == "trained" or None

    try:
        wait_for(trained, what="the end of the training", seconds=TRAINING_SECONDS, every=5)  # as the documentation polls
        yield voice_id
    finally:
        api.http.delete(f"/model/{voice_id}")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/model"), ("POST", "/v1/tts"), ("GET", "/wallet/self/api-credit"), ("POST", "/v1/asr"), ("POST", "/model")],
)
def test_without_a_key_nothing_is_told(api: Api, method: str, path: str) -> None:
    """
    Everything needs a key, and says so before it looks at anything else.
    """
    assert api.stranger.request(method, path).status_code == 401


def test_the_wallet(api: Api) -> None:
    """
    Credit is a decimal number as text, the same to the SDK.
    """
    told = api.http.get("/wallet/self/api-credit").raise_for_status().json()

    assert {"_id", "user_id", "credit", "created_at", "updated_at"} <= told.keys()
    assert isinstance(told["credit"], str)
    assert Decimal(told["credit"]) >= Decimal(str(api.sdk.account.get_credits().credit)) >= 0


def test_a_voice_from_birth_to_death(api: Api) -> None:
    """
    By bare HTTP: made with 201, shown, listed, changed and gone.
    """
    made = api.create(tags="contract")
    voice = made.json()
    shown = api.http.get(f"/model/{voice['_id']}").json()
    listed = api.http.get("/model", params={"self": "true", "title": "Contract", "page_size": 10}).json()
    changed = api.http.patch(f"/model/{voice['_id']}", json={"title": "Contract, changed"})
    again = api.http.get(f"/model/{voice['_id']}").json()
    deleted = api.http.delete(f"/model/{voice['_id']}")

    assert (made.status_code, made.json()["state"] in ("created", "training", "trained")) == (201, True)
    assert voice.keys() >= VOICE
    assert shown.keys() >= VOICE
    assert {"items", "total"} <= listed.keys()
    assert voice["_id"] in [item["_id"] for item in listed["items"]]
    assert changed.is_success
    assert ("Contract, changed", ["contract"], "private") == (again["title"], again["tags"], again["visibility"])
    assert deleted.status_code in (200, 204)
    assert api.http.get(f"/model/{voice['_id']}").status_code == 404


def test_a_voice_of_the_sdk(api: Api) -> None:
    """
    The same through the SDK.
    """
    made = api.sdk.voices.create(title="Contract of the SDK", voices=[recording()], texts=["What is said in it."])
    try:
        found = api.sdk.voices.get(made.id)
        listed = api.sdk.voices.list(self_only=True, title="Contract of the SDK", page_size=10)
        api.sdk.voices.update(made.id, description="changed")
        assert (made.id, "private", "changed") == (found.id, found.visibility, api.sdk.voices.get(made.id).description)
        assert made.id in [item.id for item in listed.items]
    finally:
        api.sdk.voices.delete(made.id)
    with pytest.raises(NotFoundError):
        api.sdk.voices.get(made.id)


def test_the_public_library(api: Api) -> None:
    """
    Pages of the size asked for, of other voices each, which a stranger's own list is none of.
    """
    pages = [api.http.get("/model", params={"page_size": 3, "page_number": number}).json() for number in (1, 2)]
    ids = [voice["_id"] for page in pages for voice in page["items"]]

    assert len(ids) == len(set(ids)) == 6
    assert pages[0]["total"] >= 6


@pytest.mark.parametrize("packed", [True, False], ids=["msgpack", "json"])
@pytest.mark.parametrize("kind", STARTS)
def test_speech_in_every_format(api: Api, kind: str, packed: bool) -> None:
    """
    Sound of the kind asked for, in chunks of a length nobody told.
    """
    answer = api.speak(packed=packed, format=kind)

    assert answer.status_code == 200
    assert answer.content.startswith(STARTS[kind])
    assert len(answer.content) > 2000
    assert "content-length" not in answer.headers


def test_speech_tells_the_limit(api: Api) -> None:
    """
    Each answer tells how many requests may be under way.
    """
    assert api.speak().headers["ratelimit-limit-concurrency"].isdecimal()


def test_a_voice_of_ones_own_speaks(api: Api, voice_id: str) -> None:
    """
    By bare HTTP and through the SDK.
    """
    spoken = api.sdk.tts.convert(text=TEXT, reference_id=voice_id, model=MODEL, config=TTSConfig(format="wav"))

    assert api.speak(reference_id=voice_id).content.startswith(STARTS["mp3"])
    assert spoken.startswith(STARTS["wav"])


def test_a_reference_in_the_request(api: Api) -> None:
    """
    No voice has to be made for a voice to be used.
    """
    references = [ReferenceAudio(audio=recording(), text="What is said in it.")]

    assert api.sdk.tts.convert(text=TEXT, references=references, model=MODEL).startswith(STARTS["mp3"])


@pytest.mark.parametrize(
    "wrong",
    [{"format": "aiff"}, {"chunk_length": 5}, {"mp3_bitrate": 7}, {"latency": "never"}, {"top_p": 3}, {"sample_rate": 1}],
    ids=str,
)
def test_what_is_out_of_range_is_refused(api: Api, wrong: dict[str, Any]) -> None:
    """
    With 400 or 422, by which page one believes.
    """
    assert api.speak(**wrong).status_code in (400, 422)


def test_an_unknown_voice_is_refused(api: Api) -> None:
    """
    It is a wrong request, and no wrong address.
    """
    with pytest.raises(APIError, match="Reference not found") as refused:
        api.sdk.tts.convert(text=TEXT, reference_id="0" * 32, model=MODEL)

    assert refused.value.status == 400
    assert api.http.get(f"/model/{'0' * 32}").status_code == 404


def test_a_body_that_is_none_is_refused(api: Api) -> None:
    """
    Whatever is not msgpack is no request.
    """
    headers = {"content-type": "application/msgpack", "model": MODEL}

    assert 400 <= api.http.post("/v1/tts", content=b"\xc1", headers=headers).status_code < 500


def test_words_have_times(api: Api) -> None:
    """
    The stream with timestamps holds every word once and in order, and the sound they are said in.
    """
    headers = {"model": MODEL}
    answer = api.http.post("/v1/tts/stream/with-timestamp", json={"text": TEXT, "format": "mp3"}, headers=headers)
    events = [json.loads(line[5:]) for line in answer.raise_for_status().text.splitlines() if line.startswith("data:")]
    last = {event["chunk_seq"]: event["alignment"]["segments"] for event in events if event.get("alignment")}
    words = [word["text"].strip(" ,.").lower() for part in sorted(last) for word in last[part]]

    assert b"".join(base64.b64decode(event["audio_base64"]) for event in events).startswith(STARTS["mp3"])
    assert TEXT.replace(",", "").replace(".", "").lower().split() == [word for word in words if word]


def test_speech_while_it_is_written(api: Api) -> None:
    """
    The live WebSocket takes a text in pieces.
    """
    pieces = (piece + " " for piece in TEXT.split())
    heard = b"".join(api.sdk.tts.stream_websocket(pieces, config=TTSConfig(format="mp3"), model=MODEL))

    assert heard.startswith(STARTS["mp3"])
    assert len(heard) > 2000


def test_what_is_said_is_heard(api: Api, which: str) -> None:
    """
    Recognition answers with a text and how long the sound is.
    """
    pytest.importorskip("faster_whisper")
    if which == "hosted":
        pytest.skip("recognition is never free of charge")
    heard = api.sdk.asr.transcribe(audio=recording(), language="en")

    assert len(heard.text.split()) > 10
    assert heard.duration > 5
