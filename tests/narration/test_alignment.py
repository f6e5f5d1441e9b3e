"""
When the words of a take are heard: what the service tells, found in the text that was sent.
"""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from flows.narration.alignment import Told, Word, located, moved, sound_of, unpack
from flows.narration.judge import BadTake


def _told(*words: str, each: float = 0.5) -> list[Told]:
    return [Told(word, round(at * each, 3), round((at + 1) * each, 3)) for at, word in enumerate(words)]


def _found(text: str, *words: str) -> list[str]:
    """
    Which part of *text* has the time of each word that was told.
    """
    found = located(text, _told(*words), seconds=60)
    ends = [*(one.at for one in found[1:]), len(text)]
    return [text[one.at : end].strip() for one, end in zip(found, ends, strict=True)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("I can’t believe it’s been this long.", ["I", "cant", "believe", "its", "been", "this", "long"]),
        ("“Well-known,” he said.", ["Wellknown", "he", "said"]),
        ("“Well-known,” he said.", ["Well", "known", "he", "said"]),
        ("Straße, café; Ärger.", ["strasse", "cafe", "ärger"]),
        ("[whispering] Nobody [break] came.", ["Nobody", "came"]),
    ],
)
def test_each_word_has_its_time(text: str, told: list[str]) -> None:
    """
    Marks, accents and cues do not count; a word that was told in two parts lasts as long as both.
    """
    found = located(text, _told(*told), seconds=60)

    assert [0.0, len(told) * 0.5] == [found[0].start, found[-1].end]
    shown = text.replace("[whispering] ", "").replace("[break] ", "").split()
    assert [text.index(word) for word in shown] == [one.at for one in found]


def test_what_has_no_blanks_is_parted_as_it_was_told() -> None:
    """
    A Japanese sentence is one token: its words are those of the service.
    """
    assert ["山路を", "登り", "ながら、"] == _found("山路を登りながら、", "山路を", "登り", "ながら")


@pytest.mark.parametrize(
    ("text", "told", "place"),
    [
        ("In 1984 it rained.", ["in", "nineteen", "eighty", "four", "it", "rained"], 1),
        ("It cost 5% less.", ["it", "cost", "five", "percent", "less"], 2),
        ("It rained in 1984", ["it", "rained", "in"], 3),
    ],
)
def test_what_is_said_in_other_letters_has_the_time_between(text: str, told: list[str], place: int) -> None:
    """
    Numbers and signs are written out by the service: such a word lies between its neighbours.
    """
    found = located(text, _told(*told), seconds=60)

    assert len(text.split()) == len(found)
    before = found[place - 1].end
    after = found[place + 1].start if place + 1 < len(found) else before
    assert (before, after) == (found[place].start, found[place].end)
    assert [one.start for one in found] == sorted(one.start for one in found)


@pytest.mark.parametrize(
    ("text", "told", "missing"),
    [
        ("Nobody came at all.", ["Nobody", "came"], "at"),
        ("He went home. She stayed there.", ["he", "went", "home", "she", "there"], "stayed"),
        ("Not a word.", [], "Not"),
        ("山路を登りながら", ["山路"], "山路を登りながら"),
    ],
)
def test_a_word_that_was_swallowed_makes_a_bad_take(text: str, told: list[str], missing: str) -> None:
    """
    The error names it.
    """
    with pytest.raises(BadTake, match=missing):
        located(text, _told(*told), seconds=60)


def test_what_is_said_twice_makes_a_bad_take() -> None:
    """
    Many letters that the text does not have are more than a word that is spelled otherwise.
    """
    words = ["It", "was", "the", "best", "of", "times", "and", "it", "was", "the", "worst"]

    with pytest.raises(BadTake, match="More was said"):
        located(" ".join(words), _told(*words, *words), seconds=60)


@pytest.mark.parametrize(
    "told",
    [[Told("one", 0, 1), Told("two", 5, 9)], [Told("one", 2, 3), Told("two", 1, 2)], [Told("one", 1, 0), Told("two", 1, 2)]],
    ids=["beyond the sound", "back", "end before start"],
)
def test_times_that_cannot_be_make_a_bad_take(told: Sequence[Told]) -> None:
    """
    The sound has four seconds.
    """
    with pytest.raises(BadTake, match="times"):
        located("one two", told, seconds=4)


def _event(sound: bytes, seq: int, offset: float, *words: tuple[str, float, float]) -> bytes:
    alignment: dict[str, Any] | None = {
        "segments": [{"text": text, "start": start, "end": end} for text, start, end in words],
        "audio_duration": 1.0,
    }
    event = {
        "audio_base64": base64.b64encode(sound).decode(),
        "content": "",
        "alignment": alignment if words else None,
        "chunk_seq": seq,
        "chunk_audio_offset_sec": offset,
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def test_a_stream_is_put_together() -> None:
    """
    The sound in the order in which it came; of each chunk the last that was told of its words, from where it begins.
    """
    stream = (
        _event(b"RI", 0, 0.0, ("One", 0.0, 0.4))
        + _event(b"FF", 0, 0.0, ("One", 0.0, 0.5), ("two", 0.5, 1.0))
        + _event(b"..", 1, 1.5)
        + _event(b"!!", 1, 1.5, ("three", 0.25, 1.0))
    )

    sound, told = unpack(stream)

    assert b"RIFF..!!" == sound == sound_of(stream)
    assert [("One", 0.0, 0.5), ("two", 0.5, 1.0), ("three", 1.75, 2.5)] == told


@pytest.mark.parametrize(
    "answer",
    [
        b"data: {not json}\n\n",
        b'data: {"audio_base64": "***", "chunk_seq": 0}\n\n',
        b'data: {"audio_base64": ""}\n\ndata: 5\n\n',
        _event(b"RIFF", 0, 0.0),
        _event(b"RIFF", 0, 0.0, ("One", "x", 1.0)),  # type: ignore[arg-type]  # as a broken service may
    ],
)
def test_what_is_no_such_stream_is_a_bad_take(answer: bytes) -> None:
    """
    Be it broken, or without times.
    """
    with pytest.raises(BadTake):
        unpack(answer)


def test_words_are_moved_and_stay_inside() -> None:
    """
    Where silence is cut off a take, no word lies outside of what is left.
    """
    words = [Word(0, 0.1, 0.5), Word(4, 0.5, 1.0)]

    assert [Word(0, 10.0, 10.3), Word(4, 10.3, 10.7)] == moved(words, 9.8, within=(10.0, 10.7))
