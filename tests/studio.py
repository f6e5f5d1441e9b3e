"""
`narrate up` as a process, for the tests that need a studio.
"""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT, Narrate, wait_for

READY_SECONDS = 180
"""How long a busy machine may take until the UI lists the deployments; a quiet one takes less than a minute."""

END_SECONDS = 180

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

PARAGRAPHS = 40


class Studio:
    """
    A `narrate up` that is running.
    """

    def __init__(self, process: "subprocess.Popen[str]", log: Path, *, begun: int) -> None:
        self.process, self._log, self._begun = process, log, begun
        self.out: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.out.append(line)

    @property
    def said(self) -> str:
        """
        What it wrote on standard error so far.
        """
        return self._log.read_bytes()[self._begun :].decode()

    def url(self) -> str:
        """
        The UI's address, once it is ready.
        """
        wait_for(lambda: bool(self.out or self.process.poll()) or None, what="ready", seconds=READY_SECONDS)
        assert self.out, self.said
        word, url = self.out[0].split()
        assert "ready" == word
        return url

    def signal(self, number: int) -> None:
        """
        Send it a signal, as a terminal sends Ctrl-C: to it alone, for its runs have groups of their own.
        """
        self.process.send_signal(number)

    def signal_until(self, number: int, words: str) -> None:
        """
        Send it a signal until it says that: two that come close together it counts as one.
        """

        def look() -> bool | None:
            if words in self.said:
                return True
            self.signal(number)
            return None

        wait_for(look, what=words, seconds=END_SECONDS, every=2)

    def hears(self, words: str) -> None:
        """
        Wait until it says that.
        """
        wait_for(lambda: words in self.said or None, what=words, seconds=END_SECONDS)

    def ended(self) -> int:
        """
        Wait for its end.
        """
        code = self.process.wait(timeout=END_SECONDS)
        self._reader.join(timeout=10)
        return code


Up = Callable[..., Studio]


@contextmanager
def studios(person: Narrate, log: Path) -> Iterator[Up]:
    """
    Start studios as that person, and end at last whichever runs.
    """
    started: list[Studio] = []

    def start(*arguments: str) -> Studio:
        with log.open("a") as err:
            begun = err.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "flows", "up", *(arguments or ("--port", "0"))],
                cwd=person.folder,
                env=person.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                start_new_session=True,
            )
        started.append(Studio(process, log, begun=begun))
        return started[-1]

    try:
        yield start
    finally:
        for studio in started:
            if studio.process.poll() is None:
                studio.process.kill()
                studio.process.wait()


@pytest.fixture
def person(bare_narrate: Narrate) -> Narrate:
    """
    Somebody in a folder with a recording and a script that takes a while, and no Prefect server anywhere.
    """
    folder = bare_narrate.folder / "studio"
    scripts = folder / "data/scripts"
    scripts.mkdir(parents=True)
    (scripts / "long.txt").write_text("\n\n".join(f"This is paragraph {number}." for number in range(PARAGRAPHS)))
    shutil.copy(ROOT / "data/reference.wav", folder / "data")
    return Narrate(folder=folder, environment=bare_narrate.environment)


@pytest.fixture
def up(person: Narrate, tmp_path: Path) -> Iterator[Up]:
    """
    Start `narrate up` there.
    """
    with studios(person, tmp_path / "up.log") as start:
        yield start
