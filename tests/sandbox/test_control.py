"""
The control plane: what can be turned, and what is refused.
"""

from typing import Any

import httpx
import pytest

from flows.sandbox.config import Fault, Knobs
from tests.sandbox.running import journal, upload


def test_defaults(http: httpx.Client) -> None:
    """
    A new sandbox has the documented defaults.
    """
    assert Knobs().model_dump(mode="json") == http.get("/_config").json()


def test_every_knob_is_described(sandbox: str) -> None:
    """
    Every knob says what it does, also on the page a visitor sees.
    """
    page = httpx.get(sandbox, trust_env=False).text
    described = [field.description for model in (Knobs, Fault) for field in model.model_fields.values()]

    assert all(described)
    assert "not a clone" in page
    assert all(f"  {name}: " in page for name in Knobs.model_fields)


def test_merge(http: httpx.Client) -> None:
    """
    A patch changes what it names; null gives the default back.
    """
    first = http.patch("/_config", json={"latency": 0.5, "training_looks": 4}).json()
    second = http.patch("/_config", json={"latency": None}).json()

    assert (first["latency"], first["training_looks"]) == (0.5, 4)
    assert (second["latency"], second["training_looks"]) == (0.0, 4)


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ({"trainings": "never", "delay": 1}, ["trainings", "delay"]),
        ({"latency": -1}, ["latency"]),
        ({"training": "quick"}, ["training"]),
        ({"voice": "human"}, ["voice"]),
        ({"faults": [{"kind": "status", "code": 500}]}, ["faults.0.code"]),
        ({"faults": [{"kind": "explode"}]}, ["faults.0.kind"]),
        ({"faults": [{"kind": "silence", "path": "/model"}]}, ["kind silence"]),
        ({"faults": [{"kind": "lost", "path": "/v1/tts"}]}, ["kind lost"]),
    ],
)
def test_wrong_knobs(http: httpx.Client, patch: dict[str, Any], named: list[str]) -> None:
    """
    What is wrong is named, and nothing changes, not even what was right beside it.
    """
    answer = http.patch("/_config", json={"seed": 9, **patch})

    assert answer.status_code == 400
    assert all(name in answer.json()["message"] for name in named)
    assert http.get("/_config").json()["seed"] == 0


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_not_an_object(http: httpx.Client, body: bytes) -> None:
    """
    Only an object of knobs is a configuration.
    """
    assert http.patch("/_config", content=body).status_code == 400


def test_reset(http: httpx.Client) -> None:
    """
    A reset forgets knobs, voices, spending and the journal.
    """
    upload(http)
    http.post("/v1/tts", json={"text": "Hi"})
    http.patch("/_config", json={"latency": 1})

    assert Knobs().model_dump(mode="json") == http.post("/_config/reset").json()
    assert journal(http) == []
    assert http.get("/model?self=true").json()["total"] == 0
    assert http.get("/wallet/self/api-credit").json()["credit"] == "10"


def test_journal_order(http: httpx.Client) -> None:
    """
    The journal has the API's requests in order, not the control plane's; it can be emptied alone.
    """
    for path in ("/model", "/_config", "/nowhere", "/", "/wallet/self/package"):
        http.get(path)

    assert [(row["number"], row["path"], row["status"]) for row in journal(http)] == [
        (1, "/model", 200),
        (2, "/nowhere", 404),
        (3, "/wallet/self/package", 200),
    ]
    assert http.delete("/_config/requests").status_code == 204
    assert journal(http) == []
