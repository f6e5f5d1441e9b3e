"""
The S3 server of the tests, as a process of its own: moto's, with its writes one after another.

Amazon's conditional writes are one step. Moto looks first and writes then, so that of two at the same moment both would
succeed: here they wait for each other. Each request is a line on standard output.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class OneWriteAtATime:
    """
    The application *inner*, whose writes wait for each other.
    """

    def __init__(self, inner: Callable[..., Iterable[bytes]]) -> None:
        self._inner, self._turn = inner, threading.Lock()

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """
        Answer a request, and tell it.
        """
        method = environment["REQUEST_METHOD"]
        sys.stdout.write(f"{method} {environment['PATH_INFO']} {environment.get('QUERY_STRING', '')}\n")
        sys.stdout.flush()
        if method in ("GET", "HEAD"):
            return self._inner(environment, start)
        with self._turn:
            return [*self._inner(environment, start)]


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = OneWriteAtATime(DomainDispatcherApplication(create_backend_app))
    make_server("127.0.0.1", int(sys.argv[1]), application, threaded=True).serve_forever()
