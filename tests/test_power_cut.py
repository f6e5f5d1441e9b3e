"""
What reaches the disk, and in which order, as the kernel sees it: nothing is paid for that a power cut could make forgotten.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Narrate, Sandbox

STRACE = ["strace", "--seccomp-bpf", "-f", "-y", "-s", "64", "-e", "trace=rename,renameat,renameat2,fsync,fdatasync,sendto"]
RENAMED = re.compile(r'"(?P<source>[^"]+)"(?:\.\.\.)?, .*?"(?P<target>[^"]+)"')


def _can_trace() -> bool:
    return shutil.which("strace") is not None and subprocess.run([*STRACE, "true"], capture_output=True).returncode == 0


def _calls(log: str) -> Iterator[tuple[str, str]]:
    """
    Tell system calls and their arguments in the order in which they took effect: a request when it begins, others at the end.
    """
    begun: dict[str, str] = {}
    for line in log.splitlines():
        process, _, said = line.partition(" ")
        if said.lstrip().startswith("<..."):
            call = begun.pop(process, "")
        elif said.endswith("<unfinished ...>"):
            begun[process] = said
            call = said if said.lstrip().startswith("sendto") else ""
        else:
            call = said
        name, _, arguments = call.strip().partition("(")
        if call and not (name == "sendto" and said.lstrip().startswith("<...")):
            yield name, arguments


def _told(log: str, out: Path) -> list[str]:
    """
    Tell what happened to the files below *out*, and which requests for speech left.
    """
    told = []
    for name, arguments in _calls(log):
        if name == "sendto" and "POST /v1/tts" in arguments:
            told.append("request")
        elif name in ("fsync", "fdatasync") and (path := re.match(r"\d+<([^>]+)>", arguments)) and path[1].startswith(str(out)):
            told.append(f"sync {path[1]}")
        elif name.startswith("rename") and (found := RENAMED.search(arguments)) and found["target"].startswith(str(out)):
            told.append(f"rename {found['source']} {found['target']}")
    return told


@pytest.mark.long
@pytest.mark.skipif(not _can_trace(), reason="only strace can tell what SQLite makes of a commit")
def test_the_order_in_which_a_run_writes(narrate: Narrate, sandbox: Sandbox, clip: Path, tmp_path: Path) -> None:
    """
    The ledger's entry before its request; each file's content, then its name, then its folder; a take before it is settled.
    """
    sandbox.config(training="at-once")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "one.txt").write_text("This is the first sentence.\n\nAnd this is the second one.")
    out = tmp_path / "out"
    command = ["run", "scripts", "--reference", clip, "--out", out, "--format", "wav", "--concurrency", "1"]
    log = tmp_path / "log"

    subprocess.run(
        [*STRACE, "-o", str(log), sys.executable, "-m", "flows", *map(str, command)],
        cwd=tmp_path,
        env={**narrate.environment, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
        capture_output=True,
    )

    told = _told(log.read_text(errors="replace"), out)
    wal = f"sync {out}/.takes/ledger.sqlite-wal"
    requests = [place for place, what in enumerate(told) if what == "request"]
    renames = [place for place, what in enumerate(told) if what.startswith("rename ")]
    names = {Path(told[place].split()[2]).relative_to(out).as_posix() for place in renames}
    takes = {name for name in names if name.endswith(".flac")}
    assert (2, 2) == (len(requests), len(takes))
    others = {name for name in names - takes if not name.startswith(".voice")}
    records = {f"{folder}/one.json" for folder in (".segments", ".sentences", ".contours")}
    assert others == {"one.wav", "one.vtt", "one.srt", "index.html", "run.json", ".asked.json", ".unchanged.json", *records}
    # The second is entered before the first has its answer, so that one commit may hold both.
    assert wal in told[: requests[0]]
    for place in renames:
        _, source, target = told[place].split()
        assert f"sync {source}" in told[:place]
        assert f"sync {Path(target).parent}" in told[place:]
    last = max(place for place in renames if told[place].endswith(".flac"))
    assert wal in told[told.index(f"sync {Path(told[last].split()[2]).parent}", last) :]
