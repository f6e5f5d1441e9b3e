"""
A watched folder: what lands in it is narrated by a deployment, once it has settled.
"""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Narrate, Sandbox, wait_for
from tests.deployed import Deployed, deployed


@pytest.fixture
def office(narrate: Narrate, sandbox: Sandbox, clip: Path) -> Iterator[Deployed]:
    """
    A deployment with a worker, and one script to narrate.
    """
    sandbox.config(training="at-once")
    with deployed(narrate, name="watched", clip=clip) as made:
        made.write(one="The lamps are lit.")
        yield made


class _Watch:
    """
    A watching command, and what it said.
    """

    def __init__(self, narrate: Narrate, office: Deployed) -> None:
        self.lines: list[str] = []
        self._process = narrate.start("watch", office.folder / "scripts", "--deployment", "narrate/watched", "--settle", "1")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def ends(self, count: int) -> list[str]:
        """
        Wait until it told of *count* ends.
        """

        def look() -> list[str] | None:
            told = [line for line in self.lines if line.startswith(("completed", "failed"))]
            return told if len(told) >= count else None

        return wait_for(look, what=f"{count} runs at their end", seconds=90)

    def stop(self) -> int:
        """
        Stop it by Ctrl-C, and return its exit code.
        """
        self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(timeout=60)
        finally:
            self._reader.join(timeout=5)
            if self._process.poll() is None:
                self._process.kill()


@pytest.mark.long
def test_what_lands_is_narrated(narrate: Narrate, office: Deployed, sandbox: Sandbox) -> None:
    """
    The first look narrates what is there, a change narrates what is new, and what changed unwatched is found by the next.
    """
    watch = _Watch(narrate, office)
    watch.ends(1)
    assert ["The lamps are lit."] == sandbox.spoken()
    office.write(two="Nobody came.")
    watch.ends(2)
    assert ["The lamps are lit.", "Nobody came."] == sandbox.spoken()
    code = watch.stop()
    office.write(three="It rained.")

    watch = _Watch(narrate, office)
    ends = watch.ends(1)
    watch.stop()

    assert 130 == code
    assert ["completed narrate scripts as Ada"] == ends
    assert ["The lamps are lit.", "Nobody came.", "It rained."] == sandbox.spoken()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scripts", "--deployment", "narrate/none-such"], "no deployment “narrate/none-such”"),
        (["scripts", "--settle", "0"], "no number of seconds"),
    ],
)
def test_what_cannot_be_watched_is_refused(narrate: Narrate, arguments: list[str], said: str) -> None:
    """
    Exit 2, with a sentence.
    """
    (narrate.folder / "scripts").mkdir()

    done = narrate("watch", *arguments)

    assert 2 == done.code
    assert said in done.err
