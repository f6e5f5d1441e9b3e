"""
Names of finished files: what every system takes, and what none of them changes.
"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.narration.mastering import deliverable_name, plain_name


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Loomings", "01 - Loomings.mp3"),
        ("I: The Beginning", "01 - I - The Beginning.mp3"),
        ("What? Who/Where\\When *", "01 - What Who-Where-When.mp3"),
        ('He said "no" <loud> |', "01 - He said 'no' (loud) -.mp3"),
        ("The End...", "01 - The End.mp3"),
        (" .hidden ", "01 - hidden.mp3"),
        ("a\n\tb\0c\u202ed", "01 - a bcd.mp3"),
        ("Cafe\u0301", "01 - Café.mp3"),
        ("第一章\u3000始まり", "01 - 第一章 始まり.mp3"),
        ("?", "01 - Untitled.mp3"),
        ("", "01 - Untitled.mp3"),
        ("../../etc/passwd", "01 - -..-etc-passwd.mp3"),
        ("\udcff", "01 - Untitled.mp3"),
    ],
)
def test_a_title_becomes_a_name(title: str, name: str) -> None:
    """
    As near to it as it can be.
    """
    assert name == deliverable_name(title, suffix=".mp3", number=1, count=12)


@pytest.mark.parametrize(
    ("number", "count", "part", "begins"),
    [(1, 5, 0, "01 - "), (7, 100, 0, "007 - "), (1234, 1234, 0, "1234 - "), (1, 5, 1, "01a - "), (3, 5, 27, "03aa - ")],
)
def test_numbers_are_as_wide_as_the_last(number: int, count: int, part: int, begins: str) -> None:
    """
    So that every list of files is in order; parts of a chapter have letters.
    """
    assert f"{begins}A.mp3" == deliverable_name("A", suffix=".mp3", number=number, count=count, part=part)


@pytest.mark.parametrize("title", ["CON", "nul", "Com1", "LPT9.notes", "aux.", "conin$"])
def test_names_that_are_devices_are_not_used(title: str) -> None:
    """
    Windows would open the device.
    """
    assert deliverable_name(title, suffix=".m4b").startswith("_")


@given(st.text(max_size=300))
def test_any_title_makes_a_name_that_every_system_takes(title: str) -> None:
    """
    And which none of them writes otherwise.
    """
    name = deliverable_name(title, suffix=".m4b")
    stem = name.removesuffix(".m4b")

    assert name == unicodedata.normalize("NFC", name)
    assert stem
    assert len(name.encode()) <= 190
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
    assert stem == stem.strip(" .")
    assert plain_name(stem) == stem


def test_a_long_title_is_cut_between_letters() -> None:
    """
    Not within one, and not between one and its accent.
    """
    name = plain_name("𝔄" * 100)

    assert name == "𝔄" * 44 + "…"
    assert plain_name("q\u0323\u0307" * 200).endswith("q\u0323\u0307…")
