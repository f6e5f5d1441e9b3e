"""
One sandbox for all tests here, as good as new for each.
"""

from collections.abc import Iterator

import httpx
import pytest

from tests.sandbox.running import client, running


@pytest.fixture(scope="session", name="sandbox_process")
def _sandbox_process() -> Iterator[str]:
    """
    The URL of a sandbox process that serves the whole session.
    """
    with running() as server:
        yield server.url


@pytest.fixture(name="sandbox")
def _sandbox(sandbox_process: str) -> str:
    """
    The URL of a sandbox without voices, journal or any knob turned.
    """
    httpx.post(f"{sandbox_process}/_config/reset", trust_env=False).raise_for_status()
    return sandbox_process


@pytest.fixture(name="http")
def _http(sandbox: str) -> Iterator[httpx.Client]:
    """
    A bare HTTP client with a key.
    """
    with client(sandbox) as http:
        yield http
