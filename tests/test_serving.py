"""
What a studio serves to browsers: what runs made, and nothing else of the folder.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.serving import serving

SOUND = b"0123456789"


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """
    A folder with a run's narrations, its scripts and a recording.
    """
    folder = tmp_path / "studio"
    for name in (
        "data/audio/part 1/café #1.mp3",
        "data/audio/index.html",
        "data/audio/run.json",
        "data/audio/secret.env",
        "data/audio/.takes/ab/take.flac",
        "data/scripts/one.txt",
        "data/reference.wav",
        "data/new/.run.lock",
        "data/new/first.mp3",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SOUND)
    (tmp_path / "other.mp3").write_bytes(SOUND)
    (folder / "data/audio/link.mp3").symlink_to(tmp_path / "other.mp3")
    return folder


@pytest.fixture
def url(studio: Path) -> Iterator[str]:
    """
    Where it is served.
    """
    with serving(studio, port=0) as address:
        yield address


def test_what_was_made_is_heard_from_anywhere_in_it(url: str) -> None:
    """
    A player may begin in the middle, which it asks for by a range.
    """
    whole = httpx.get(f"{url}/data/audio/part%201/caf%C3%A9%20%231.mp3")
    middle = httpx.get(f"{url}/data/audio/part%201/caf%C3%A9%20%231.mp3", headers={"Range": "bytes=4-6"})

    assert (200, SOUND, "audio/mpeg") == (whole.status_code, whole.content, whole.headers["content-type"])
    assert (206, b"456") == (middle.status_code, middle.content)
    assert httpx.get(f"{url}/data/audio/index.html").is_success
    assert httpx.get(f"{url}/data/new/first.mp3").is_success  # of a run that is not at its end


@pytest.mark.parametrize(
    "path",
    [
        "data/audio/run.json",
        "data/audio/secret.env",
        "data/audio/.takes/ab/take.flac",
        "data/audio/link.mp3",
        "data/audio/../reference.wav",
        "data/audio/%2e%2e/reference.wav",
        "data/reference.wav",
        "data/scripts/one.txt",
        "data/audio/",
        "data/audio",
        "",
        "data/audio/none.mp3",
        "../other.mp3",
    ],
)
def test_nothing_else_is_shown(url: str, path: str) -> None:
    """
    Neither what is no narration nor what lies elsewhere, and no listing.
    """
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as plain:
        plain.sendall(f"GET /{path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = plain.makefile("rb").read()

    assert 404 == int(answer.split()[1])
    assert SOUND not in answer


def test_another_host_s_name_is_refused(url: str) -> None:
    """
    A page elsewhere whose name was made to mean this machine cannot read what is here.
    """
    answer = httpx.get(f"{url}/data/audio/index.html", headers={"Host": "evil.example.org"})

    assert 400 == answer.status_code
    assert SOUND not in answer.content


def test_a_port_that_is_taken_gives_way(url: str, studio: Path) -> None:
    """
    To one that is free.
    """
    taken = int(url.rpartition(":")[2])
    with serving(studio, port=taken) as other:
        assert other != url
        assert httpx.get(f"{other}/data/audio/index.html").is_success
