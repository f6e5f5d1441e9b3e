"""
Keys and money: who is let in, what it costs, and when it is refused.
"""

from decimal import Decimal

import httpx
import pytest

from flows.sandbox.wallet import price
from tests.sandbox.running import client, journal


def speak(http: httpx.Client, text: str = "Hello", model: str = "s2.1-pro", **more: object) -> httpx.Response:
    """
    Ask for speech in JSON.
    """
    return http.post("/v1/tts", json={"text": text, "format": "wav", **more}, headers={"model": model})


def credit(http: httpx.Client) -> Decimal:
    """
    Tell the credit left.
    """
    return Decimal(http.get("/wallet/self/api-credit").json()["credit"])


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "test-key"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/tts"), ("GET", "/model"), ("GET", "/wallet/self/package")])
def test_no_key(sandbox: str, header: str | None, method: str, path: str) -> None:
    """
    Without a key nothing is answered but 401 in the envelope, before the body is looked at.
    """
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.request(method, sandbox + path, headers=headers, trust_env=False)

    assert (answer.status_code, answer.json()) == (401, {"status": 401, "message": "Invalid Token"})


def test_listed_keys(sandbox: str, http: httpx.Client) -> None:
    """
    With a list of keys all others are refused.
    """
    http.patch("/_config", json={"keys": ["good"]})
    with client(sandbox, "good") as good:
        assert [speak(http).status_code, speak(good).status_code] == [401, 200]


def test_keys_leave_no_trace(sandbox: str) -> None:
    """
    No key ever gets into the journal.
    """
    with client(sandbox, "very-secret") as http:
        speak(http)

        assert "very-secret" not in http.get("/_config/requests").text


def test_credit_goes_down_by_bytes(http: httpx.Client) -> None:
    """
    A request costs 15 USD a million UTF-8 bytes, to the last digit; the free model costs nothing.
    """
    before = credit(http)
    speak(http, "Größe")
    speak(http, "Größe", "s2.1-pro-free")

    assert Decimal(7) * Decimal("0.000015") == before - credit(http)
    assert [row["cost_usd"] for row in journal(http) if row["path"] == "/v1/tts"] == ["0.000105", "0"]


def test_credit_shape(http: httpx.Client) -> None:
    """
    The wallet tells money as decimal text.
    """
    body = http.get("/wallet/self/api-credit?check_free_credit=true").json()

    assert tuple(body[key] for key in ("credit", "cumulative_top_up", "has_phone_sha256", "has_free_credit")) == (
        "10",
        "10",
        False,
        False,
    )


def test_package_shape(http: httpx.Client) -> None:
    """
    The package has the _id that the SDK needs, unless it is to be as documented.
    """
    before = http.get("/wallet/self/package").json()
    http.patch("/_config", json={"package_id": False})

    assert "_id" in before
    assert before.keys() - {"_id"} == http.get("/wallet/self/package").json().keys()


def test_wallets_are_apart(sandbox: str, http: httpx.Client) -> None:
    """
    Another key pays from another wallet.
    """
    speak(http)
    with client(sandbox, "other-key") as other:
        assert Decimal(10) == credit(other) > credit(http)


def test_not_covered(http: httpx.Client) -> None:
    """
    What the credit does not cover is 402 in the documented words, before the parameters are looked at; not billed.
    """
    http.patch("/_config", json={"credit": "0.0001"})
    covered, refused = speak(http, "123456"), speak(http, "12345", format="flac")
    refilled = http.patch("/_config", json={"credit": 1}).json()["credit"], speak(http).status_code

    assert [covered.status_code, refused.status_code] == [200, 402]
    assert refused.json()["status"] == 402
    assert refused.json()["message"].startswith("Insufficient API credit.")
    assert refused.headers["x-fish-error-code"] == "insufficient_balance"
    assert refilled == ("1", 200)
    assert [row["billed"] for row in journal(http)] == [True, False, True]


def test_empty_wallet(http: httpx.Client) -> None:
    """
    An empty wallet refuses even what has no price yet, and lets the free model speak.
    """
    http.patch("/_config", json={"credit": 0})

    assert [speak(http, "").status_code, speak(http, model="s2.1-pro-free").status_code] == [402, 200]


def test_price() -> None:
    """
    A million bytes cost 15 USD.
    """
    assert Decimal(15) == price("x" * 1_000_000, "s2-pro")
