"""
A small HTTP server that writes down what it is told, as a webhook's receiver or a mail server would.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """
    What was received at *url*: headers and body of each request. The first of a type are answered with its *refusals*; nothing
    is answered, for so many seconds, where it *hangs*.
    """

    url: str = ""
    refusals: dict[str, list[int]] = field(default_factory=dict)
    hangs: float = 0.0
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def told(self) -> list[Any]:
        """
        The bodies, as JSON.
        """
        return [json.loads(body) for _, body in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """
    Receive while the block runs.
    """
    receiver, ended = Receiver(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        """
        Answers POST.
        """

        def do_POST(self) -> None:
            """
            Write the request down.
            """
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            refusals = receiver.refusals.get(receiver.told[-1]["type"])
            ended.wait(receiver.hangs)
            self.send_response(refusals.pop(0) if refusals else 204)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """
            Say nothing.
            """

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/told?token=not-to-be-shown"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
