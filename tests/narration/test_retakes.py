"""
Segments recorded anew because a person asked: how they are known, named, and what else stays as it is.
"""

from pathlib import Path

import pytest

from flows.narration.errors import UsageError
from flows.narration.retakes import FILE, Retakes
from flows.narration.segments import Joint, Segment
from tests.house import House


def _segments(*texts: str) -> list[Segment]:
    return [Segment(text, 1, Joint.SENTENCE) for text in texts]


def test_a_retake_is_of_one_segment_among_equal_ones() -> None:
    """
    Another script, and an equal text elsewhere in the same, keep their take; asked for twice, it is another take again.
    """
    texts = ["Yes.", "No.", "Yes."]
    once = Retakes().again("a.txt", texts, 2)
    twice = once.again("a.txt", texts, 2)

    assert [0, 0, 1] == once.numbers("a.txt", _segments(*texts))
    assert [0, 0, 2] == twice.numbers("a.txt", _segments(*texts))
    assert [0, 0, 0] == once.numbers("b.txt", _segments(*texts))
    assert [0, 0, 0, 1] == once.numbers("a.txt", _segments("New.", *texts))


def test_what_cannot_be_understood_is_refused(tmp_path: Path) -> None:
    """
    A damaged file is told by its name: to go on without it would throw a person's choice away.
    """
    (tmp_path / FILE).write_text('{"schema": 1, "retakes": [{"script": "a.txt"}]}')

    with pytest.raises(UsageError, match=FILE):
        Retakes.of(tmp_path)
    assert Retakes() == Retakes.of(tmp_path / "nowhere")


@pytest.mark.asyncio
async def test_only_the_retake_is_sent_and_the_first_take_stays(house: House) -> None:
    """
    One segment is sent again, the others and the other script are reused; without the retake the first take is back.
    """
    house.write(one="Yes.\n\nNo.\n\nYes.", two="No.")
    await house.run()
    before = {path.name for path in house.store.folder.rglob("*.flac")}
    house.sandbox.forget()

    asked = Retakes().again("one.txt", ["Yes.", "No.", "Yes."], 2)
    manifest, error = await house.run(retakes=asked)

    assert error is None
    assert ["Yes."] == house.sandbox.spoken()
    assert ["narrated", "unchanged"] == [entry.state for entry in manifest.scripts]
    assert before < {path.name for path in house.store.folder.rglob("*.flac")}
    house.sandbox.forget()
    manifest, error = await house.run(retakes=asked)
    assert ["unchanged", "unchanged"] == [entry.state for entry in manifest.scripts]
    await house.run()
    assert [] == house.sandbox.spoken()
