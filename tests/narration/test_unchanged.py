"""
What the last run knew is only a shortcut: with it and without it, a run finds the same.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.narration import unchanged
from flows.narration.assemble import Sound
from flows.narration.errors import UsageError
from flows.narration.limiter import Patience
from flows.narration.manifest import Manifest, VoiceEntry, segments_path
from flows.narration.order import Order
from flows.narration.plan import Planned, survey
from flows.narration.production import Production
from flows.narration.segments import Cutting
from flows.narration.speech import Delivery, Voice
from flows.narration.unchanged import FILE, Memory
from tests.narration.test_plan import WAV, House

ALL = ["one.txt", "two.txt"]


def run(house: House) -> Manifest:
    """
    Do what a run over narrations that are all there does.
    """
    production = Production(Order(house.survey(), house.out, house.store, Delivery(), WAV, Patience()))
    voice = Voice(id="v", title="Ann", state="trained")
    assert [] == production.plan(voice=voice, entry=VoiceEntry(id="v", title="Ann"), host="h")
    return production.finish(state="completed")


def known(plans: dict[str, Planned]) -> list[str]:
    """
    The scripts that were neither cut nor looked into.
    """
    return [name for name, plan in plans.items() if plan.made and not plan.pieces and "segments" not in vars(plan.reading)]


def found(plans: dict[str, Planned]) -> dict[str, Any]:
    """
    What a run goes by, down to the segments that would be sent.
    """
    return {
        name: (plan.narration, plan.made, plan.reading.title, plan.reading.notes, plan.reading.segments, plan.reading.size)
        for name, plan in plans.items()
    }


@pytest.fixture
def house(tmp_path: Path) -> House:
    """
    Two scripts that are narrated, and a run that saw them unchanged.
    """
    house = House(tmp_path)
    house.write(one="First [sic].\n\nSecond.", two="Third.")
    house.make()
    run(house)
    return house


def test_what_did_not_change_is_neither_cut_nor_looked_into(house: House) -> None:
    """
    And all that is told of it is what a run without the shortcut tells.
    """
    short, shortened = house.plans(), run(house)
    (house.out / FILE).unlink()
    full = run(house)

    assert (ALL, 2) == (known(short), shortened.totals.unchanged)
    assert (full.totals, full.scripts) == (shortened.totals, shortened.scripts)
    assert ['line 1: sent "[sic]" as "(sic)"'] == shortened.scripts[0].notes


def test_nothing_is_written_where_nothing_new_is_known(house: House) -> None:
    """
    The file is the same one afterwards.
    """
    before = unchanged.look(house.out, FILE)
    run(house)

    assert before == unchanged.look(house.out, FILE)


def _edit_the_tag(house: House) -> None:
    """
    As a careful editor of tags does: in place, as long as before, and the date put back.
    """
    path = house.out / "one.wav"
    seen, data = path.stat(), path.read_bytes()
    with path.open("r+b") as file:
        file.seek(data.index(b"narrate:"))
        file.write(b"Narrate:")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert seen.st_size == path.stat().st_size
    assert seen.st_mtime_ns == path.stat().st_mtime_ns


def _move(house: House) -> None:
    shutil.copytree(house.out, house.out.with_name("copy"))
    shutil.rmtree(house.out)
    house.out.with_name("copy").rename(house.out)


def _flip(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


CHANGES: dict[str, tuple[Callable[[House], Any], list[str], list[str]]] = {
    "nothing": (lambda house: None, ALL, ALL),
    "a word": (lambda house: house.write(one="First [sic].\n\nAnother."), ["two.txt"], ["two.txt"]),
    "white space": (lambda house: house.write(one="First [sic].\n\nSecond.\n\n"), ["two.txt"], ALL),
    "a script before": (lambda house: house.write(a="New."), [], []),
    "a script behind": (lambda house: house.write(z="New."), ALL, ALL),
    "a script gone": (lambda house: (house.scripts / "one.txt").unlink(), [], []),
    "the narration gone": (lambda house: (house.out / "one.wav").unlink(), ["two.txt"], ["two.txt"]),
    "the narration cut": (lambda house: os.truncate(house.out / "one.wav", 999), ["two.txt"], ["two.txt"]),
    "the record gone": (lambda house: segments_path(house.out, "one.txt").unlink(), ["two.txt"], ["two.txt"]),
    "the record damaged": (lambda house: segments_path(house.out, "one.txt").write_text("{"), ["two.txt"], ["two.txt"]),
    "moved": (_move, [], ALL),
    "the takes gone": (lambda house: shutil.rmtree(house.store.folder), ALL, ALL),
    "forgotten": (lambda house: (house.out / FILE).unlink(), [], ALL),
    "forgetful": (lambda house: (house.out / FILE).write_bytes(b""), [], ALL),
    "damaged": (lambda house: _flip(house.out / FILE, b"0.", b"1."), [], ALL),
}  # fmt: skip


@pytest.mark.parametrize(("change", "short", "there"), CHANGES.values(), ids=CHANGES)
def test_after_a_change_the_shortcut_finds_what_the_long_way_finds(
    house: House, change: Callable[[House], Any], short: list[str], there: list[str]
) -> None:
    """
    *short* is what it is taken for, *there* what is not to be made again.
    """
    change(house)
    plans = house.plans()
    taken, with_it = known(plans), found(plans)
    (house.out / FILE).unlink(missing_ok=True)
    without_it = found(house.plans())

    assert (short, there) == (taken, [name for name, plan in plans.items() if plan.made])
    assert without_it == with_it


@pytest.mark.parametrize(
    "options",
    [
        {"segment_bytes": 40},
        {"language": "de"},
        {"cues": True},
        {"artist": "Bob"},
        {"voice": "w"},
        {"sound": WAV.model_copy(update={"pause_scene_break": 9.0})},
        {"sound": WAV.model_copy(update={"bitrate": 64})},
        {"sound": Sound(format="flac")},
    ],
    ids=str,
)
def test_with_another_setting_the_long_way_is_taken(house: House, options: dict[str, Any]) -> None:
    """
    And with the first ones again, the short one.
    """
    plans = house.plans(**options)
    taken, with_it = known(plans), found(plans)
    again = known(house.plans())
    (house.out / FILE).unlink()

    assert [] == taken
    assert found(house.plans(**options)) == with_it
    assert ALL == again


@pytest.mark.parametrize("change", [_edit_the_tag, lambda house: (house.out / "one.wav").write_bytes(b"my own recording")])
def test_what_is_no_more_ours_is_refused_although_it_was(house: House, change: Callable[[House], None]) -> None:
    """
    A tag edited without a trace in size or date, and another's recording.
    """
    change(house)

    with pytest.raises(UsageError, match=r"one\.wav is there already and was not made by Narrate"):
        house.survey()


def test_a_script_is_cut_as_it_was_read(house: House) -> None:
    """
    Its narration vanishes and it changes after it was read: what is made, and its digest, are of the text that was read.
    """
    survey = house.survey()
    house.write(one="Quite another text.")

    assert ["First (sic).", "Second."] == [segment.text for segment in survey.readings[0].segments]


def test_another_program_knows_nothing(house: House) -> None:
    """
    What decides how a script is cut is a part of what is known.
    """
    cutting = house.survey().memory.cutting

    assert ALL == list(Memory.read(house.out, cutting=cutting).made)
    assert {} == Memory.read(house.out, cutting="another").made


def test_a_run_does_without_where_nothing_can_be_left(house: House) -> None:
    """
    A shortcut that cannot be written is no reason to fail.
    """
    (house.out / FILE).unlink()
    (house.out / FILE).mkdir()

    assert 2 == run(house).totals.unchanged
    assert [] == known(house.plans())


def test_what_was_not_there_when_it_was_looked_at_is_not_there(house: House) -> None:
    """
    A narration that vanished in the moment it was made looks like nothing, before and after.
    """
    memory = house.survey().memory
    made = {name: made._replace(audio=[]) for name, made in memory.made.items()}
    Memory(cutting=memory.cutting, making=memory.making, made=made).write(house.out)
    for name in ("one.wav", "two.wav"):
        (house.out / name).unlink()

    assert [None, None] == [plan.made for plan in house.plans().values()]


def test_another_encoding_is_another_text(house: House) -> None:
    """
    Also where the bytes are the same.
    """
    as_it_was, other = (
        survey(house.scripts, out=house.out, sound=WAV, cutting=Cutting(), encoding=encoding) for encoding in (None, "cp1252")
    )

    assert ALL == list(as_it_was.memory.made)
    assert {} == other.memory.made
