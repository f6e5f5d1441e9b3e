"""
The demo in a checkout of its own, as a newcomer meets it: no key, no cost, and nothing sent the second time.
"""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, Narrate

pytestmark = pytest.mark.alone


@pytest.mark.long
def test_the_demo_sends_nothing_the_second_time(narrate: Narrate, tmp_path: Path) -> None:
    """
    It narrates all of data/scripts into data/demo, says where to listen and that its voice is no clone; again, it is done.
    """
    checkout = tmp_path / "checkout"
    for folder in ("flows", "data"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("demo", "audio", "__pycache__"))
    scripts = checkout / "data/scripts"
    alone = {"PYTHONPATH": str(checkout), "FISH_API_KEY": "", "FISH_BASE_URL": "http://127.0.0.1:9"}

    first = narrate("demo", "--voice", "quick", "--json", **alone)
    again = narrate("demo", "--voice", "quick", "--json", **alone)

    assert [0, 0] == [first.code, again.code], first.err + again.err
    texts = [path for path in scripts.rglob("*") if path.suffix in (".txt", ".md")]
    expected = {path.relative_to(scripts).with_suffix(".mp3").as_posix() for path in texts}
    out = checkout / "data/demo"
    assert expected == {path.relative_to(out).as_posix() for path in out.rglob("*.mp3")}
    assert {"narrated"} == {entry["state"] for entry in first.json["scripts"]}
    assert {"unchanged"} == {entry["state"] for entry in again.json["scripts"]}
    assert (0, 0) == (again.json["totals"]["requests"], again.json["totals"]["bytes_billed"])
    assert first.json["voice"]["id"] == again.json["voice"]["id"]
    assert "no clone" in first.err
    assert str(out) in first.err


def test_the_demo_needs_its_scripts(narrate: Narrate, tmp_path: Path) -> None:
    """
    Where there is no checkout, it says so.
    """
    shutil.copytree(ROOT / "flows", tmp_path / "installed/flows", ignore=shutil.ignore_patterns("__pycache__"))

    done = narrate("demo", PYTHONPATH=str(tmp_path / "installed"))

    assert (2, "") == (done.code, done.out)
    assert "checkout" in done.err
