"""
What may go: never what a manifest needs, or may need.
"""

from pathlib import Path

import pytest

from flows.narration.errors import UsageError
from flows.narration.housekeeping import needed, orphans, superfluous
from flows.narration.speech import Voice
from flows.narration.takes import Kept, TakeStore

DAY = 24 * 3600
NOW = 1_000 * DAY


def _key(letter: str) -> str:
    return letter * 64


def _take(letter: str, *, days: float, size: int = 100) -> Kept:
    return Kept(key=_key(letter), size=size, recorded=NOW - days * DAY)


def test_old_takes_go_unless_they_are_needed() -> None:
    """
    The oldest first.
    """
    takes = [_take("a", days=100), _take("b", days=91), _take("c", days=89), _take("d", days=200)]

    going = superfluous(takes, {_key("b")}, older_than=90 * DAY, keep_bytes=None, now=NOW)

    assert [_key("d"), _key("a")] == [take.key for take in going]


def test_of_too_many_the_oldest_go_until_the_rest_fits() -> None:
    """
    What is needed counts, and stays.
    """
    takes = [_take("a", days=4), _take("b", days=3), _take("c", days=2), _take("d", days=1)]

    going = superfluous(takes, {_key("a")}, older_than=None, keep_bytes=200, now=NOW)

    assert [_key("b"), _key("c")] == [take.key for take in going]
    assert [] == superfluous(takes, set(), older_than=None, keep_bytes=400, now=NOW)


def test_whatever_looks_like_a_take_is_needed(tmp_path: Path) -> None:
    """
    In records of narrations, of books and of their work, in whatever folder below OUT, and also in a file that is torn.
    """
    out = tmp_path / "out"
    written = {
        "run.json": "{}",
        ".segments/one/chapter.json": f'{{"segments": [{{"take": "{_key("a")}"}}',
        "Ada - Book/book.json": f'{{"take": "{_key("b")}-words"}}',
        "Ada - Book/.work/1.json": f'["{_key("c")}"]',
        ".takes/dd/words.json": f'["{_key("d")}"]',
        "notes.txt": _key("e"),
    }
    for name, text in written.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)

    assert {_key("a"), _key("b") + "-words", _key("c")} == needed([out], store=TakeStore(out / ".takes"))


def test_a_folder_without_a_manifest_is_no_output_folder(tmp_path: Path) -> None:
    """
    Nothing would be needed: it is hardly the one that was meant. Nor is one that is not there.
    """
    with pytest.raises(UsageError, match=r"neither run\.json nor book\.json"):
        needed([tmp_path], store=TakeStore(tmp_path / ".takes"))
    with pytest.raises(UsageError, match="cannot be read"):
        needed([tmp_path / "nowhere"], store=TakeStore(tmp_path / ".takes"))


def test_voices_that_nobody_names_are_orphans(tmp_path: Path) -> None:
    """
    Only ours, and only those old enough not to be of a run that is under way.
    """
    (tmp_path / "run.json").write_text('{"voice": {"id": "named"}}')
    old, young = "1970-01-02T00:00:00Z", "1972-09-26T00:00:00Z"
    voices = [
        Voice("named", "Named", "trained", tags=("narrate",), created_at=old),
        Voice("orphan", "Orphan", "trained", tags=("narrate",), created_at=old),
        Voice("young", "Young", "training", tags=("narrate",), created_at=young),
        Voice("foreign", "Foreign", "trained", created_at=old),
        Voice("unknown", "Unknown", "trained", tags=("narrate",), created_at="yesterday"),
    ]

    assert ["orphan"] == [voice.id for voice in orphans(voices, [tmp_path], older_than=DAY, now=NOW)]
