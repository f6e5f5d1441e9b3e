"""
Telling people and machines of runs: events as the server has them, and a webhook that is told the same, signed.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from flows import webhook
from flows.narration.errors import WebhookAway
from flows.telling import KINDS
from tests.conftest import KEY, Narrate, Sandbox
from tests.deployed import events
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.alone

SECRET = "whsec_" + base64.b64encode(b"nobody-may-read-this-in-any-log!").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """
    A receiver of webhooks.
    """
    with receiving() as made:
        yield made


@pytest.fixture
def book(narrate: Narrate) -> Path:
    """
    Two scripts.
    """
    folder = narrate.folder / "book"
    folder.mkdir()
    (folder / "one.txt").write_text("The lamps are lit.")
    (folder / "two.txt").write_text("Nobody came.")
    return folder


def _run_id(narrate: Narrate) -> str:
    return str(json.loads((narrate.folder / "out/run.json").read_text())["flow_run_id"])


def test_a_run_tells_of_itself(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str, book: Path, receiver: Receiver
) -> None:
    """
    Each narration, the budget and the end are events; a signed webhook is told the same under the same ids, once it listens.
    """
    receiver.refusals = {"narrate.run.completed": [500, 404]}
    told = {"NARRATE_WEBHOOK_URL": receiver.url, "NARRATE_WEBHOOK_SECRET": SECRET}

    done = narrate("run", book, "--voice-id", voice_id, "--out", "out", "--budget", "0.0005", **told)

    assert 0 == done.code, done.err
    run_id = _run_id(narrate)
    found = events(prefect_api, run_id, name="narrate.", count=4)
    kinds = ["narrate.budget.near", "narrate.narration.ready", "narrate.narration.ready", "narrate.run.completed"]
    assert kinds == sorted(event["event"] for event in found)
    assert {event["event"] for event in found} <= {f"narrate.{kind}" for kind in KINDS}
    end = next(event for event in found if event["event"] == "narrate.run.completed")
    assert (2, "narrate book as " + voice_id) == (end["payload"]["totals"]["narrated"], end["payload"]["run"]["name"])
    assert {"one.mp3", "two.mp3"} == {row["audio"] for row in end["payload"]["narrated"]}
    assert 6 == len(receiver.received)
    for headers, body in receiver.received:
        Webhook(SECRET).verify(body, headers)
    attempts = [(headers["webhook-id"], json.loads(body)["type"]) for headers, body in receiver.received]
    assert {(event["id"], event["event"]) for event in found} == set(attempts)
    everything = json.dumps(found) + done.out + done.err + json.dumps(receiver.told)
    assert not [secret for secret in (KEY, SECRET, "not-to-be-shown") if secret in everything]


async def test_a_webhook_that_hangs_is_given_up(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    It has so many seconds for its answer, not for each byte of it.
    """
    monkeypatch.setattr(webhook, "ANSWER_SECONDS", 2.0)
    receiver.hangs = 30.0
    hook = webhook.SignedWebhook(url=SecretStr(receiver.url), secret=SecretStr(SECRET))

    with pytest.raises(WebhookAway):
        await webhook.post.fn(hook, "narrate.run.failed", "1", '{"type": "narrate.run.failed"}')

    assert 1 == len(receiver.received)


@pytest.mark.long
def test_a_webhook_that_stays_away_floods_no_log(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, voice_id: str, book: Path
) -> None:
    """
    Only the end is insisted upon; of the narrations it is said once that they were not told.
    """
    for number in range(8):
        (book / f"more-{number}.txt").write_text(f"This is number {number}.")
    away = {"NARRATE_WEBHOOK_URL": "http://127.0.0.1:9/x", "NARRATE_WEBHOOK_SECRET": SECRET}

    done = narrate("run", book, "--voice-id", voice_id, "--out", "out", **away)

    assert 0 == done.code, done.err
    assert 1 == done.err.count("127.0.0.1 was not told of narrate.narration.ready")
    assert 1 == done.err.count("127.0.0.1 was not told of narrate.run.completed")
    assert len(webhook.WAITS) + 4 >= len(
        [line for line in done.err.splitlines() if "webhook" in line or "was not told" in line]
    )
    assert 11 <= len(events(prefect_api, _run_id(narrate), name="narrate.", count=11))


@pytest.mark.long
def test_a_webhook_that_stays_away_fails_nothing(narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path) -> None:
    """
    It is told in a line what was not delivered; the run that failed before it began is told of as well.
    """
    away = {"NARRATE_WEBHOOK_URL": "http://127.0.0.1:9/x", "NARRATE_WEBHOOK_SECRET": SECRET}

    done = narrate("run", book, "--voice-id", "no-such-voice", "--out", "out", **away)

    assert 4 == done.code, done.err
    assert "127.0.0.1 was not told of narrate.run.failed" in done.err
    assert "Traceback" not in done.err
    [event] = events(prefect_api, _run_id(narrate), name="narrate.run.")
    assert "narrate.run.failed" == event["event"]
    assert "no-such-voice" in event["payload"]["message"]


def test_a_webhook_that_cannot_be_one_is_told(narrate: Narrate, sandbox: Sandbox, voice_id: str, book: Path) -> None:
    """
    A secret that is none, or an address that anyone on the way could read, stops no run.
    """
    wrong = {"NARRATE_WEBHOOK_URL": "http://example.org/?token=t0ken", "NARRATE_WEBHOOK_SECRET": "sesame"}

    done = narrate("run", book, "--voice-id", voice_id, "--out", "out", **wrong)

    assert 0 == done.code, done.err
    assert "No webhook is told" in done.err
    assert not [secret for secret in ("t0ken", "sesame") if secret in done.err]


@pytest.mark.long
def test_the_webhook_may_be_in_a_block(
    narrate: Narrate, sandbox: Sandbox, voice_id: str, book: Path, receiver: Receiver
) -> None:
    """
    What `narrate alerts install --signed-webhook` saved is used where the environment names none, with the secret it printed.
    """
    installed = narrate("alerts", "install", "--signed-webhook", receiver.url)
    try:
        done = narrate("run", book, "--voice-id", voice_id, "--out", "out")
    finally:
        narrate("alerts", "remove")

    assert (0, 0) == (installed.code, done.code), installed.err + done.err
    assert ["narrate.narration.ready"] * 2 + ["narrate.run.completed"] == [told["type"] for told in receiver.told]
    for headers, body in receiver.received:
        Webhook(installed.out.strip()).verify(body, headers)
    assert installed.out.strip() not in done.err + installed.err
