"""
A way to a server on which one answer is late.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16


@contextmanager
def delaying(url: str, *, to: bytes, seconds: float) -> Iterator[str]:
    """
    Serve an address that leads to *url* while the block runs: the first answer to a request with *to* in it is late.
    """
    there = urlsplit(url)
    late = threading.Semaphore(1)

    def forward(source: socket.socket, target: socket.socket, waits: threading.Event, *, asks: bool) -> None:
        """
        Pass on what comes from *source*, until it ends.
        """
        try:
            while chunk := source.recv(CHUNK):
                if asks and to in chunk and late.acquire(blocking=False):
                    waits.set()
                if not asks and waits.is_set():
                    waits.clear()
                    time.sleep(seconds)  # nothing is waited for: this is the delay
                target.sendall(chunk)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def accept() -> None:
        """
        Connect whoever comes.
        """
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = socket.create_connection((there.hostname or "", there.port or 80))
            waits = threading.Event()
            for source, target, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=forward, args=(source, target, waits), kwargs={"asks": asks}, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield urlunsplit(there._replace(netloc=f"127.0.0.1:{listening.getsockname()[1]}"))
