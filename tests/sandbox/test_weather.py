"""
Weather and time: tiers, pace, a wallet that lags, bundles of bad days, and how soon the sandbox is there.
"""

import os
import time
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from flows.sandbox.app import create_app
from flows.sandbox.config import Knobs
from flows.sandbox.scenarios import SCENARIOS
from tests.sandbox.running import client, running, trained, upload


@pytest.mark.parametrize(("paid", "limit"), [("0", 5), ("99.99", 5), ("100", 15), ("1000", 50)])
def test_tiers(http: httpx.Client, paid: str, limit: int) -> None:
    """
    How many requests may be under way goes by what was ever paid in.
    """
    http.patch("/_config", json={"cumulative_top_up": paid})
    answer = http.post("/v1/tts", json={"text": "Hi", "format": "wav"})

    assert (str(limit), "1") == (
        answer.headers["ratelimit-limit-concurrency"],
        answer.headers["ratelimit-current-concurrency"],
    )


def test_pace(http: httpx.Client) -> None:
    """
    The first byte comes after the latency, the last one when all of it could be made.
    """
    http.patch("/_config", json={"latency": 0.2, "real_time_factor": 0.1, "seconds": 5})
    asked = time.monotonic()
    with http.stream("POST", "/v1/tts", json={"text": "Hi", "format": "wav"}) as answer:
        pieces = [(time.monotonic() - asked, piece) for piece in answer.iter_raw()]

    assert 0.2 <= pieces[0][0] < 0.6
    assert pieces[-1][0] >= 0.7
    assert sum(len(piece) for _, piece in pieces) == 44 + 5 * 44100 * 2


def test_wallet_lags(http: httpx.Client) -> None:
    """
    What was spent shows after a while, while 402 goes by what is left.
    """

    def told() -> Decimal:
        return Decimal(http.get("/wallet/self/api-credit").json()["credit"])

    http.patch("/_config", json={"wallet_lag": 0.5, "credit": "0.0002"})
    spoken = [http.post("/v1/tts", json={"text": "Hi, there.", "format": "wav"}).status_code for _ in range(2)]
    before, deadline = told(), time.monotonic() + 5
    while told() != Decimal("0.00005") and time.monotonic() < deadline:
        time.sleep(0.05)

    assert ([200, 402], Decimal("0.0002"), Decimal("0.00005")) == (spoken, before, told())


def test_wallets_of_others(http: httpx.Client) -> None:
    """
    An account finds its wallet by its own id too, and no other's.
    """
    own = http.get("/wallet/self/api-credit").json()["user_id"]
    answers = [http.get(f"/wallet/{user}/{what}") for user in (own, "0" * 32) for what in ("api-credit", "package")]

    assert [200, 200, 401, 401] == [answer.status_code for answer in answers]


def test_switches_between_sources(http: httpx.Client) -> None:
    """
    Where sources disagree the other answer can be had.
    """

    def hot() -> int:
        return http.post("/v1/tts", json={"text": "Hi", "format": "wav", "temperature": 1.5}).status_code

    before = hot()
    http.patch("/_config", json={"parameter_status": 422})
    documented = hot()
    http.patch("/_config", json={"hottest": 2, "unauthorized": "permission", "keys": ["other"]})
    stranger = http.get("/model")
    http.patch("/_config", json={"keys": None})

    assert [before, documented, hot()] == [400, 422, 200]
    assert stranger.json() == {"status": 401, "message": "No permission -- see authorization schemes"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios_are_knobs(name: str) -> None:
    """
    Every bundle is made of knobs that exist, and a sandbox started with it goes back to it.
    """
    world = create_app(knobs=SCENARIOS[name]).state.world
    world.configure({"seed": 9})
    world.reset()

    assert world.knobs == Knobs().merged(SCENARIOS[name]) != Knobs()


def test_stuck_training() -> None:
    """
    Started on a bad day, it is that day's weather from the first request on.
    """
    with running(scenario="stuck-training") as server, client(server.url) as http:
        voice = upload(http).json()["_id"]

        assert {"training"} == {http.get(f"/model/{voice}").json()["state"] for _ in range(5)}


def test_outage() -> None:
    """
    An outage begins after a few good answers and spares no endpoint, but for the control plane.
    """
    with running(scenario="outage") as server, client(server.url) as http:
        good = [http.get("/wallet/self/package").status_code for _ in range(3)]
        bad = [http.post("/v1/tts", json={"text": "Hi"}).status_code, http.get("/model").status_code]

        assert ([200] * 3, [503] * 2) == (good, bad)
        assert http.get("/_config").status_code == 200


def test_is_there_at_once() -> None:
    """
    It takes less than two seconds of a processor to start, the neural voice too: that is loaded when first heard.
    """
    with running(voice="neural") as server, client(server.url) as http:
        http.get("/").raise_for_status()
        user, system = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]

        assert (int(user) + int(system)) / os.sysconf("SC_CLK_TCK") < 2
        assert trained(http)
