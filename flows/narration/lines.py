"""
HTTP clients, each for one request at a time: a line that is free is lent again.

One pool of httpx for all looks at every idle connection whenever a request begins or ends. With 50 requests at once that was
measured to be a third of a run's CPU, on the thread that also sends.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx

TIMEOUT = httpx.Timeout(120, connect=10, pool=None)
"""Seconds for each operation on a socket; a request in all has a deadline of its own."""


class Lines:
    """
    As many clients for *base_url* as there are requests at once; *on_response* sees every answer. To be closed.
    """

    def __init__(self, base_url: str, *, on_response: Callable[[httpx.Response], Awaitable[None]]) -> None:
        self._base_url, self._on_response = base_url, on_response
        self._tls = httpx.create_ssl_context()  # takes 20 ms to make, so they share it
        self._all: list[httpx.AsyncClient] = []
        self._free: list[httpx.AsyncClient] = []

    @contextmanager
    def lent(self) -> Iterator[httpx.AsyncClient]:
        """
        Lend a client for one request, the one that was used last.
        """
        client = self._free.pop() if self._free else self._made()
        try:
            yield client
        finally:
            self._free.append(client)

    def _made(self) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            base_url=self._base_url,
            timeout=TIMEOUT,
            headers={"accept-encoding": "identity"},  # none is undone: a few kilobytes can become gigabytes
            event_hooks={"response": [self._on_response]},
            verify=self._tls,
        )
        self._all.append(client)
        return client

    async def close(self) -> None:
        """
        Close all connections.
        """
        for client in self._all:
            await client.aclose()
