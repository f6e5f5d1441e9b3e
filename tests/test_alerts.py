"""
Messages to people: automations on the standing server, made by a command, that fire for real events.
"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from flows import alerts
from flows.narration.errors import UsageError
from tests.conftest import ROOT, Narrate, Sandbox, wait_for
from tests.receiver import receiving
from tests.standing import ask

pytestmark = pytest.mark.alone

SLACK = "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


@pytest.fixture
def _no_alerts(narrate: Narrate) -> Iterator[None]:
    yield
    assert 0 == narrate("alerts", "remove").code


def _automations(api: str) -> dict[str, Any]:
    rows = ask("POST", f"{api}/automations/filter", json={}).raise_for_status().json()
    return {row["name"]: row for row in rows if row["name"].startswith("narrate-a")}


@contextmanager
def _mail_server(mails: list[str]) -> Iterator[int]:
    """
    Take mails at a port while the block runs.
    """

    class Handler(socketserver.StreamRequestHandler):
        """
        Speaks just enough SMTP.
        """

        def handle(self) -> None:
            """
            Take one mail.
            """
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mails.append("".join(iter(lambda: self.rfile.readline().decode(), ".\r\n")))
                self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")
                if line == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.long
@pytest.mark.usefixtures("_no_alerts")
def test_alerts_reach_people(narrate: Narrate, sandbox: Sandbox, prefect_api: str) -> None:
    """
    A run that fails, and one whose process is gone, is told by mail and to a webhook, in a sentence and with a link.
    """
    mails: list[str] = []
    (narrate.folder / "one.txt").write_text("The lamps are lit.")
    with receiving() as receiver, _mail_server(mails) as port:
        mail = f"mailto://127.0.0.1:{port}?from=narrate@example.org&to=ada@example.org&mode=insecure"
        installed = narrate("alerts", "install", "--webhook", receiver.url, "--mail", mail)
        assert 0 == installed.code, installed.err

        done = narrate("run", "one.txt", "--voice-id", "no-such-voice", "--out", "out")
        assert 4 == done.code, done.err
        wait_for(lambda: (receiver.received and mails) or None, what="the messages", seconds=30)
        run_id = receiver.told[0]["data"]["run"]["id"]
        crashed = {"state": {"type": "CRASHED", "message": "It has sent no heartbeat."}, "force": True}
        ask("POST", f"{prefect_api}/flow_runs/{run_id}/set_state", json=crashed).raise_for_status()
        wait_for(lambda: (len(receiver.received) > 1 and len(mails) > 1) or None, what="the next messages", seconds=30)

    told, crash = receiver.told
    assert ("narrate.run.failed", "narrate one.txt as no-such-voice: failed") == (told["type"], told["subject"])
    assert "no-such-voice" in told["data"]["message"]
    assert ("prefect.flow-run.Crashed", "narrate one.txt as no-such-voice: crashed") == (crash["type"], crash["subject"])
    assert "Subject: narrate one.txt as no-such-voice: failed" in mails[0]
    assert "It has sent no heartbeat." in mails[1]


@pytest.mark.long
@pytest.mark.usefixtures("_no_alerts")
def test_installing_again_changes_nothing(narrate: Narrate, prefect_api: str) -> None:
    """
    Channels add up, automations are made once and keep being switched off, all can be listed and taken away.
    """
    first = narrate("alerts", "install", "--slack", SLACK)
    before = _automations(prefect_api)
    off = before["narrate-alert-failed"]["id"]
    ask("PATCH", f"{prefect_api}/automations/{off}", json={"enabled": False}).raise_for_status()
    second = narrate("alerts", "install", "--signed-webhook", "https://example.org/a")
    third = narrate("alerts", "install", "--webhook", "https://example.org/b", "--signed-webhook", "https://example.org/c")
    after, listed = _automations(prefect_api), narrate("alerts", "list", "--json").json

    names = {alert["name"] for alert in yaml.safe_load((ROOT / "flows/alerts.yaml").read_text())}
    assert names == set(before) == set(after) == set(listed["automations"])
    assert {name: row["id"] for name, row in before.items()} == {name: row["id"] for name, row in after.items()}
    assert [False] == [row["enabled"] for row in after.values() if row["id"] == off]
    assert {2} == {len(row["actions"]) for name, row in after.items() if "late" not in name}
    assert ["slack", "webhook", "signed-webhook"] == listed["channels"]
    assert ("", "whsec_", "") == (first.out, second.out[:6], third.out)
    gone = narrate("alerts", "remove")
    assert ({}, 0) == (_automations(prefect_api), gone.code)
    assert {"channels": [], "automations": []} == narrate("alerts", "list", "--json").json


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("slack", "https://example.org"),
        ("mail", "ada@example.org"),
        ("webhook", "ftp://example.org"),
        ("signed-webhook", "http://example.org"),
    ],
)
def test_an_address_that_is_none_is_refused(channel: str, address: str) -> None:
    """
    It is said which one, and the address, which may hold a password, is not repeated.
    """
    with pytest.raises(UsageError) as refused:
        alerts.refuse(channel, address)

    assert f"--{channel}" in str(refused.value)
    assert address not in str(refused.value)


def test_without_a_server_there_is_nothing_to_install_on(bare_narrate: Narrate) -> None:
    """
    It says which variable to set.
    """
    done = bare_narrate("alerts", "list")

    assert 2 == done.code
    assert "PREFECT_API_URL" in done.err
