"""
The sandbox as a process: how it starts, what it keeps, and how it ends.
"""

import signal
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from flows.sandbox.app import create_app
from flows.sandbox.errors import Refused
from flows.sandbox.neural import Reader
from flows.sandbox.server import serve
from tests.sandbox.running import KEY, client, clip, running, trained, upload


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly(number: signal.Signals) -> None:
    """
    A signal ends it with code 0 and nothing more on standard output, even while a request hangs.
    """
    with running() as server, client(server.url) as http:
        http.patch("/_config", json={"faults": [{"kind": "hang"}]})

        def hang() -> None:
            with pytest.raises(httpx.TransportError):
                http.post("/v1/tts", json={"text": "Hi"})

        thread = threading.Thread(target=hang)
        thread.start()
        while not http.get("/_config/requests").json():
            pass
        started = time.monotonic()
        server.process.send_signal(number)
        output, _ = server.process.communicate(timeout=5)
        thread.join()

    assert (server.process.returncode, output) == (0, "")
    assert time.monotonic() - started < 3


def test_voices_survive(tmp_path: Path) -> None:
    """
    Voices and how far their training is come back even after a kill; a deleted one does not.
    """
    with running(state=tmp_path) as server, client(server.url) as http:
        voice = upload(http, title="Kept", sample=clip(140)).json()["_id"]
        gone = upload(http).json()["_id"]
        before = http.get(f"/model/{voice}").json()
        http.delete(f"/model/{gone}")
        server.process.kill()
    with running(state=tmp_path) as server, client(server.url) as http:
        after = http.get(f"/model/{voice}").json()

        assert (before.pop("state"), after.pop("state")) == ("training", "trained")
        assert before == after
        assert http.get(f"/model/{gone}").status_code == 404
        assert http.get("/model?self=true").json()["total"] == 1
        assert {f"{voice}.voice", f"{voice}.samples"} == {path.name for path in tmp_path.iterdir()}


def test_reset_empties_the_folder(tmp_path: Path) -> None:
    """
    A reset takes the kept voices along.
    """
    with running(state=tmp_path) as server, client(server.url) as http:
        trained(http)
        http.post("/_config/reset")

        assert list(tmp_path.iterdir()) == []


async def test_in_process() -> None:
    """
    The application also serves without its server, and says so where it cannot drop a connection.
    """
    transport = httpx.ASGITransport(create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=KEY) as http:
        assert (await http.post("/v1/tts", json={"text": "Hi"})).status_code == 200
        await http.patch("/_config", json={"faults": [{"kind": "reset"}]})
        with pytest.raises(ConnectionResetError, match="its own server"):
            await http.post("/v1/tts", json={"text": "Hi"})


def test_without_hibari(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without hibari-tts the neural voice says what to install, at the start or with 501.
    """
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        serve(port=0, voice="neural", state=None)
    with pytest.raises(Refused, match="pip install") as refused:
        Reader().speak("Hi", [], rate=24000)

    assert refused.value.status == 501


def test_taken_port() -> None:
    """
    A port that is taken is an error at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(port=taken.getsockname()[1], voice="quick", state=None)


def test_unknown_voice() -> None:
    """
    A voice that does not exist is an error at once.
    """
    with pytest.raises(ValueError, match="voice"):
        serve(port=0, voice="human", state=None)
