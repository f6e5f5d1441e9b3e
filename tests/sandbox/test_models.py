"""
Voices over bare HTTP: created, looked at, listed, changed and deleted as documented.
"""

import io
import re
from typing import Any

import httpx
import numpy as np
import ormsgpack
import pytest
import soundfile

from tests.sandbox.running import client, clip, journal, trained, upload

LIBRARY = "0" * 32
"""Who owns the public library."""


def states(http: httpx.Client, voice: str, looks: int) -> list[str]:
    """
    Look at a voice so many times and tell what each look saw.
    """
    return [http.get(f"/model/{voice}").json()["state"] for _ in range(looks)]


def test_create_answers_everything(http: httpx.Client) -> None:
    """
    The answer to a new voice has every field that the SDK and the document require.
    """
    answer = upload(http, title="Jöhn", description="d", tags=["a", "b"], texts=["one"], enhance_audio_quality="false")
    body = answer.json()
    own = {key: body.pop(key) for key in ("_id", "created_at", "updated_at", "author")}

    assert answer.status_code == 201
    assert re.fullmatch("[0-9a-f]{32}", own["_id"])
    assert own["created_at"] == own["updated_at"]
    assert {"_id", "nickname", "avatar"} == set(own["author"])
    assert body == {
        "type": "tts",
        "title": "Jöhn",
        "description": "d",
        "cover_image": "",
        "train_mode": "fast",
        "state": "created",
        "tags": ["a", "b"],
        "samples": [{"title": "sample 0", "text": "one", "task_id": "", "audio": ""}],
        "languages": ["en"],
        "visibility": "private",
        "lock_visibility": False,
        "dmca_taken_down": False,
        "default_text": "",
        "source": None,
        "like_count": 0,
        "mark_count": 0,
        "shared_count": 0,
        "task_count": 0,
        "unliked": False,
        "liked": False,
        "marked": False,
    }


@pytest.mark.parametrize(
    ("knobs", "seen"),
    [
        ({}, ["created", "training", "trained", "trained"]),
        ({"training_looks": 3}, ["created", "training", "training", "trained"]),
        ({"training": "at-once"}, ["trained", "trained"]),
        ({"training": "failed"}, ["created", "training", "failed", "failed"]),
        ({"training": "never"}, ["created", "training", "training", "training"]),
        ({"training": ["training", "paused", "trained"]}, ["created", "training", "paused", "trained", "trained"]),
        ({"training": "seconds", "training_seconds": 600}, ["created", "training", "training"]),
        ({"training": "seconds", "training_seconds": 0}, ["trained", "trained"]),
    ],
)
def test_training(http: httpx.Client, knobs: dict[str, Any], seen: list[str]) -> None:
    """
    A voice trains look by look as the knob says.
    """
    http.patch("/_config", json=knobs)
    made = upload(http).json()

    assert seen == [made["state"], *states(http, made["_id"], len(seen) - 1)]


def test_listing_is_no_look(http: httpx.Client) -> None:
    """
    Listing voices and speaking do not move the training on.
    """
    voice = upload(http).json()["_id"]
    for _ in range(3):
        http.get("/model?self=true")
        http.post("/v1/tts", json={"text": "Hi", "reference_id": voice})

    assert states(http, voice, 2) == ["training", "trained"]


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"title": None}, "title"),
        ({"type": None}, "type"),
        ({"type": "svc"}, "type"),
        ({"train_mode": None}, "train_mode"),
        ({"train_mode": "full"}, "train_mode"),
        ({"visibility": "secret"}, "visibility"),
        ({"visibility": None}, "cover_image"),
        ({"texts": ["t"] * 21}, "texts"),
        ({"enhance_audio_quality": "maybe"}, "enhance_audio_quality"),
        ({"sample": b"/home/me/reference.wav"}, "voices"),
    ],
)
def test_create_refuses(http: httpx.Client, fields: dict[str, Any], loc: str) -> None:
    """
    A wrong field is answered with 422 and a list, which is the shape that breaks SDK 1.3.0; no voice is made.
    """
    answer = upload(http, **fields)

    assert answer.status_code == 422
    assert [[loc]] == [row["loc"] for row in answer.json()]
    assert {"loc", "type", "msg", "in"} == set(answer.json()[0])
    assert http.get("/model?self=true").json()["total"] == 0


@pytest.mark.parametrize("tags", [[1], [{}], [None, "a"], [["a"]]])
def test_text_is_text(http: httpx.Client, tags: list[Any]) -> None:
    """
    What the document calls text is refused as anything else, when a voice is made and when it is changed.
    """
    fields = {"title": "T", "type": "tts", "train_mode": "fast", "visibility": "private", "voices": [clip()], "tags": tags}
    kind = {"Content-Type": "application/msgpack"}
    made = http.post("/model", content=ormsgpack.packb(fields), headers=kind)
    changed = http.patch(f"/model/{upload(http).json()['_id']}", json={"tags": tags})

    assert [(422, ["tags"])] * 2 == [(answer.status_code, answer.json()[0]["loc"]) for answer in (made, changed)]


def test_cover(http: httpx.Client) -> None:
    """
    A voice gets its cover later, too.
    """
    voice = upload(http).json()["_id"]
    http.patch(f"/model/{voice}", files={"cover_image": ("upload", b"picture")}).raise_for_status()

    assert http.get(f"/model/{voice}").json()["cover_image"]


def test_create_without_samples(http: httpx.Client) -> None:
    """
    A form without files is not multipart; the missing samples are still told.
    """
    answer = http.post("/model", data={"title": "T", "type": "tts", "train_mode": "fast", "visibility": "private"})

    assert (answer.status_code, [row["loc"] for row in answer.json()]) == (422, [["voices"]])


def test_create_sniffs(http: httpx.Client) -> None:
    """
    Every container the document names counts as audio, by its bytes alone.
    """
    sounds = [b"\x00\x00\x00\x20ftypM4A rest", b"\x1aE\xdf\xa3 webm"]
    for kind in ("MP3", "FLAC", "OGG"):
        file = io.BytesIO()
        soundfile.write(file, np.zeros(16000), 16000, format=kind)
        sounds.append(file.getvalue())

    assert [upload(http, sample=sound).status_code for sound in sounds] == [201] * 5


def test_unknown_voice(http: httpx.Client) -> None:
    """
    An unknown voice is 404 in the envelope, whatever is wanted of it.
    """
    answers = [http.request(method, f"/model/{'0' * 32}") for method in ("GET", "PATCH", "DELETE")]

    assert [(a.status_code, a.json()) for a in answers] == [(404, {"status": 404, "message": "Model not found"})] * 3


def test_strangers(sandbox: str, http: httpx.Client) -> None:
    """
    Another key is another account: private voices are closed to it, unlisted ones open but not listed.
    """
    closed, opened = trained(http), trained(http, visibility="unlist")
    with client(sandbox, "other-key") as other:
        seen = [other.get(f"/model/{voice}").status_code for voice in (closed, opened)]
        spoken = [other.post("/v1/tts", json={"text": "Hi", "reference_id": voice}).status_code for voice in (closed, opened)]

        assert seen == [403, 200]
        assert spoken == [400, 200]
        assert other.delete(f"/model/{opened}").status_code == 403
        assert other.get("/model?self=true").json()["total"] == 0
        assert {LIBRARY} == {voice["author"]["_id"] for voice in other.get("/model?page_size=100").json()["items"]}


def test_listing_filters(http: httpx.Client) -> None:
    """
    Title, every tag, language and author narrow the list; newest first.
    """
    upload(http, title="Old John", tags=["digest-1", "x"])
    upload(http, title="New john", tags=["digest-2", "x"])
    upload(http, title="Mary", tags=["digest-3"])

    def titles(query: str) -> list[str]:
        return [item["title"] for item in http.get(f"/model?self=true&{query}").json()["items"]]

    assert titles("") == ["Mary", "New john", "Old John"]
    assert titles("title=JOHN") == ["New john", "Old John"]
    assert titles("tag=x&tag=digest-1") == ["Old John"]
    assert titles("language=en&language=zh&sort_by=created_at") == ["Mary", "New john", "Old John"]
    assert titles("language=zh") == []
    assert {LIBRARY} == {item["author"]["_id"] for item in http.get("/model").json()["items"]}


def test_listing_pages(http: httpx.Client) -> None:
    """
    Pages tell the total and whether there is more; sizes out of range are refused.
    """
    for number in range(3):
        upload(http, title=str(number))
    pages = [http.get(f"/model?self=true&page_size=2&page_number={page}").json() for page in (1, 2, 3)]
    refused = [http.get(f"/model?{query}").status_code for query in ("page_size=101", "page_size=0", "sort_by=name")]

    assert [(page["total"], [item["title"] for item in page["items"]], page["has_more"]) for page in pages] == [
        (3, ["2", "1"], True),
        (3, ["0"], False),
        (3, [], False),
    ]
    assert refused == [422, 422, 422]


def test_listing_by_use(http: httpx.Client) -> None:
    """
    Voices that spoke more come first when asked so.
    """
    used = trained(http, title="used")
    trained(http, title="new")
    http.post("/v1/tts", json={"text": "Hi", "reference_id": used})

    assert [item["title"] for item in http.get("/model?self=true&sort_by=task_count").json()["items"]] == ["used", "new"]


def test_listing_full_voice(http: httpx.Client) -> None:
    """
    A stranger's fully trained voice can be put on the public page.
    """
    http.patch("/_config", json={"full_voice": True})

    modes = [item["train_mode"] for item in http.get("/model?page_size=100").json()["items"]]

    assert ["full", *["fast"] * (len(modes) - 1)] == modes
    assert http.get("/model?self=true").json()["items"] == []


@pytest.mark.parametrize("how", ["data", "json", "files"])
def test_update(http: httpx.Client, how: str) -> None:
    """
    Fields change in whatever kind of body they come; the others stay.
    """
    voice = upload(http, title="Old", description="kept").json()["_id"]
    body_of_kind: dict[str, Any] = {how: {"title": (None, "New") if how == "files" else "New"}}
    http.patch(f"/model/{voice}", **body_of_kind).raise_for_status()
    body = http.get(f"/model/{voice}").json()

    assert (body["title"], body["description"]) == ("New", "kept")
    assert body["updated_at"] > body["created_at"]


def test_update_nothing(http: httpx.Client) -> None:
    """
    An empty body changes nothing and is no error; a wrong visibility is one.
    """
    voice = upload(http, tags=["t"]).json()["_id"]

    assert http.patch(f"/model/{voice}").status_code == 200
    assert http.get(f"/model/{voice}").json()["tags"] == ["t"]
    assert http.patch(f"/model/{voice}", data={"visibility": "secret"}).status_code == 422


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b'{"status":"ok"}')])
def test_delete(http: httpx.Client, status: int, body: bytes) -> None:
    """
    Deleting answers as switched, and the voice is gone.
    """
    http.patch("/_config", json={"delete_status": status})
    voice = upload(http).json()["_id"]
    answer = http.delete(f"/model/{voice}")

    assert (status, body) == (answer.status_code, answer.content)
    assert http.get(f"/model/{voice}").status_code == 404


def test_unreadable_bodies(http: httpx.Client) -> None:
    """
    A body that cannot be read is 400 in plain text.
    """
    answers = [
        http.post("/model", content=b"not a form", headers={"Content-Type": "multipart/form-data; boundary=x"}),
        http.post("/model", content=b"{", headers={"Content-Type": "application/json"}),
        http.post("/model", content=b"[]", headers={"Content-Type": "application/json"}),
    ]

    assert [(a.status_code, a.headers["content-type"]) for a in answers] == [(400, "text/plain; charset=utf-8")] * 3


def test_journal_of_a_voice(http: httpx.Client) -> None:
    """
    The journal tells what a voice was made of, and of its samples only their length.
    """
    sample = clip()
    upload(http, sample=sample, tags=["t"])

    assert {
        "title": ["Voice"],
        "visibility": ["private"],
        "type": ["tts"],
        "train_mode": ["fast"],
        "tags": ["t"],
        "voices": [f"{len(sample)} bytes"],
    } == journal(http)[0]["parameters"]


@pytest.mark.parametrize(("early", "status"), [("speak", 200), ("refuse", 400)])
def test_a_voice_in_training_speaks_or_not(http: httpx.Client, early: str, status: int) -> None:
    """
    By default as fast voices do, which are there at once; one that will never be trained does not.
    """
    http.patch("/_config", json={"early": early})
    voice = upload(http).json()
    http.patch("/_config", json={"training": "failed"})
    hopeless = upload(http).json()

    def speak(voice_id: str) -> int:
        """
        Have it speak.
        """
        return http.post("/v1/tts", json={"text": "Hi", "reference_id": voice_id}).status_code

    assert ("created", status, 400) == (voice["state"], speak(voice["_id"]), speak(hopeless["_id"]))
