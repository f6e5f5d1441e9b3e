"""
The key is nowhere but in the request's header: run everything, also failing, then search every byte that was written.
"""

import base64
import html
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import COMMAND_SECONDS, Done, Narrate, Sandbox
from tests.searching import BLOCK_CORE, CORE, SECRET, found, watched, written

pytestmark = pytest.mark.long  # whole runs with every log there is

QUICK = {"NARRATE_BACKOFF": "0.05", "NARRATE_ATTEMPTS": "2", "NARRATE_PATIENCE": "0.5"}
NOISY = {
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "fishaudio,flows",
}
"""Every library says all it can on the screen, and in Prefect's database but for those that send it there."""

CRASH = """
import sys
from flows.__main__ import main
from flows.narration.speech import Speech

async def broken(self, text, **_):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ZeroDivisionError("a fault of the program") from error

Speech.speak = broken
sys.exit(main())
"""
"""The command line with a fault at the deepest place that knows the key."""


def test_every_form_of_the_key_would_befound() -> None:
    """
    A search that finds nothing proves nothing by itself.
    """
    for core in (CORE, BLOCK_CORE):
        key = f"sk-{core}"
        for shift in range(3):
            written = f"{'x' * shift}Bearer {key}"
            assert found(json.dumps({"key": written}).encode())
            assert found(base64.b64encode(written.encode()))
            assert found(quote(written).encode())


class _Echo(BaseHTTPRequestHandler):
    """
    A service that repeats what it was sent, by the first part of the path: its status, and how it writes the key.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the standard library's name
        """
        Show a trained voice.
        """
        voice = {"_id": "v", "title": "Ada", "state": "trained", "tags": [], "visibility": "private"}
        self._answer(200, "application/json", json.dumps(voice))

    def do_POST(self) -> None:  # as do_GET
        """
        Refuse, with the key in it.
        """
        self.rfile.read(int(self.headers["content-length"]))
        sent = self.headers["authorization"]
        shown = f"{sent} {quote(sent)} {base64.b64encode(sent.removeprefix('Bearer ').encode()).decode()}"
        status, kind = self.path.split("/")[1].split("-")
        page = f"<html><h1>{html.escape(shown)}</h1>{sent}</html>"
        bodies = {
            "json": json.dumps({"status": status, "message": shown}),
            "list": json.dumps([{"loc": ["header", shown], "msg": shown}]),
            "html": page,
        }
        self._answer(int(status), "text/html" if kind == "html" else "application/json", bodies[kind])

    def _answer(self, status: int, kind: str, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """
        Say nothing.
        """


@pytest.fixture
def echo() -> Iterator[str]:
    """
    The address of a service that repeats what it was sent.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """
    A script of two segments.
    """
    path = tmp_path / "book" / "one.txt"
    path.parent.mkdir()
    path.write_text("Nobody came.\n\n" + "The lamps were lit one by one. " * 30)
    return path


@pytest.mark.parametrize(
    "kinds",
    [
        ["401-json", "500-html", "200-html"],
        pytest.param(["402-json", "422-list", "403-html", "429-json"], marks=pytest.mark.long),
    ],
    ids=["three kinds", "the others"],
)
def test_failing_runs_do_not_tell_the_key(
    narrate: Narrate, prefect_home: Path, echo: str, script: Path, kinds: list[str]
) -> None:
    """
    However a service repeats it: refused keys, no credit, refused requests, pages of errors, pages in place of sound.
    """

    def run(kind: str) -> Done:
        environment = {**QUICK, **NOISY, "FISH_API_KEY": SECRET, "FISH_BASE_URL": f"{echo}/{kind}"}
        return narrate("run", script, "--voice-id", "v", "--out", f"out-{kind}", **environment)

    with watched() as arguments, ThreadPoolExecutor(len(kinds)) as pool:
        runs = dict(zip(kinds, pool.map(run, kinds), strict=True))

    assert [] == [(kind, done) for kind, done in runs.items() if done.code not in (3, 6, 7, 8)]
    assert [] == arguments
    assert {} == {kind: forms for kind, done in runs.items() if (forms := found((done.out + done.err).encode()))}
    assert {} == written(narrate.folder) | written(prefect_home)
    assert [] == [kind for kind, done in runs.items() if "httpcore.http11" not in done.err]
    kept = [path.read_text() for path in narrate.folder.glob("out-200-html/.takes/.refused/*.html")]
    assert [] == [page for page in kept if "Bearer *****" not in page]


def test_a_run_that_ends_well_does_not_tell_the_key(
    narrate: Narrate, prefect_home: Path, sandbox: Sandbox, script: Path, clip: Path
) -> None:
    """
    Nor do the answers of a command that only asks.
    """
    sandbox.config(training="at-once", keys=[SECRET])
    environment = {**NOISY, "FISH_API_KEY": SECRET}

    with watched() as arguments:
        run = narrate("run", script, "--reference", clip, "--out", "out", "--json", **environment)
        voices = narrate("voices", "list", "--json", **environment)

    assert (0, 0) == (run.code, voices.code), run.err + voices.err
    assert [] == arguments
    assert [] == found("".join((run.out, run.err, voices.out, voices.err)).encode())
    assert {} == written(narrate.folder) | written(prefect_home)


def test_a_crash_does_not_tell_the_key(bare_narrate: Narrate, echo: str, script: Path) -> None:
    """
    A traceback through all that knows it, on the screen and in the database of the embedded server.
    """
    done = subprocess.run(
        [sys.executable, "-c", CRASH, "run", str(script), "--voice-id", "v", "--out", "out"],
        cwd=bare_narrate.folder,
        env={**bare_narrate.environment, **NOISY, "FISH_API_KEY": SECRET, "FISH_BASE_URL": f"{echo}/500-html"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )

    assert 1 == done.returncode, done.stderr
    assert b"ZeroDivisionError: a fault of the program" in done.stderr
    assert [] == found(done.stdout + done.stderr)
    assert {} == written(bare_narrate.folder)
