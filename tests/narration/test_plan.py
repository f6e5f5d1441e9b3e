"""
What a run has to do, by what is in the folder of scripts and what is in OUT: no service is asked.
"""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.narration import plan as planning
from flows.narration.assemble import Sound
from flows.narration.errors import ScriptUnreadable, StorageAway, UsageError
from flows.narration.judge import Heard
from flows.narration.limiter import Patience
from flows.narration.manifest import SegmentsFile, segments_path
from flows.narration.order import Order
from flows.narration.plan import Estimate, Planned, Survey, estimate, planned, survey
from flows.narration.production import Production
from flows.narration.segments import Cutting
from flows.narration.speech import SAMPLE_RATE, Delivery
from flows.narration.takes import TakeStore, take_key

WAV = Sound(format="wav")
HEARD = Heard((9000 * np.sin(np.arange(4410) / 10)).astype(np.int16), SAMPLE_RATE)


class House:
    """
    A folder of scripts and an OUT, with takes for whatever is asked.
    """

    def __init__(self, folder: Path) -> None:
        self.scripts, self.out = folder / "scripts", folder / "out"
        self.store = TakeStore(self.out / ".takes")
        self.scripts.mkdir()

    def write(self, **texts: str) -> None:
        """
        Write scripts; a double underscore in a name is a folder.
        """
        for name, text in texts.items():
            path = self.scripts / f"{name.replace('__', '/')}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def survey(self, sound: Sound = WAV, **cutting: Any) -> Survey:
        """
        Read the scripts.
        """
        return survey(self.scripts, out=self.out, sound=sound, cutting=Cutting(**cutting), encoding=None)

    def plans(self, sound: Sound = WAV, artist: str = "Ann", voice: str = "v", **cutting: Any) -> dict[str, Planned]:
        """
        Plan by script.
        """
        plans = planned(self.survey(sound, **cutting), out=self.out, sound=sound, artist=artist, key_of=key_of(voice))
        return {plan.reading.script.name: plan for plan in plans}

    def make(self, sound: Sound = WAV) -> None:
        """
        Make every narration, as a run does once it has all takes.
        """
        plans = self.plans(sound)
        order = Order(self.survey(sound), self.out, self.store, Delivery(), sound, Patience())
        for plan in plans.values():
            for piece in plan.pieces:
                self.store.keep(piece.take, HEARD)
            Production(order)._assemble(plan)


def key_of(voice: str = "v") -> Callable[[str], str]:
    """
    Name takes as a run with *voice* does.
    """
    return lambda text: take_key(text, voice=voice, delivery=Delivery(), host="h")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """
    Two scripts that are narrated already.
    """
    house = House(tmp_path)
    house.write(one="First.\n\nSecond.", two="Third.")
    house.make()
    return house


def _unmade(house: House, **options: Any) -> list[str]:
    return [name for name, plan in house.plans(**options).items() if plan.made is None]


def test_an_unchanged_narration_is_recognised(house: House) -> None:
    """
    With all that is written down of it.
    """
    made = house.plans()["one.txt"].made
    record = SegmentsFile.read(segments_path(house.out, "one.txt"))

    assert [] == _unmade(house)
    assert made is not None
    assert record is not None
    assert (0.9, 0.2, 0.7) == (made.seconds, made.speech_seconds, made.pause_seconds)
    assert [(1, "First.", "paragraph", 0.0, 0.1), (3, "Second.", "end", 0.8, 0.9)] == [
        (segment.line, segment.text, segment.joint, segment.start, segment.end) for segment in record.segments
    ]


def test_a_changed_paragraph_is_to_be_made_and_keeps_the_other_takes(house: House) -> None:
    """
    Only the script it is in, and of that only the paragraph.
    """
    before = house.plans()["one.txt"].pieces
    house.write(one="First.\n\nAnother.")

    after = house.plans()["one.txt"].pieces
    assert ["one.txt"] == _unmade(house)
    assert (True, False) == (before[0] == after[0], before[1].take == after[1].take)


def test_a_touched_script_is_unchanged(house: House) -> None:
    """
    White space at its end, another time stamp: what is spoken is the same.
    """
    house.write(one="First.\n\nSecond.\n\n\n")

    assert [] == _unmade(house)


def test_a_renamed_script_keeps_its_takes(house: House) -> None:
    """
    Its title and its place are others, so it is joined again, and nothing is paid.
    """
    before = house.plans()["two.txt"].pieces
    (house.scripts / "two.txt").rename(house.scripts / "zwei.txt")

    assert ["zwei.txt"] == _unmade(house)
    assert before == house.plans()["zwei.txt"].pieces


@pytest.mark.parametrize(
    ("options", "unmade"),
    [
        ({"sound": WAV.model_copy(update={"pause_paragraph": 0.9})}, ["one.txt"]),
        ({"sound": WAV.model_copy(update={"pause_heading": 9.0})}, []),
        ({"artist": "Bob"}, ["one.txt", "two.txt"]),
        ({"voice": "w"}, ["one.txt", "two.txt"]),
        ({"sound": Sound(format="flac")}, ["one.txt", "two.txt"]),
    ],
    ids=str,
)
def test_a_changed_setting_makes_anew_what_it_changes(house: House, options: dict[str, Any], unmade: list[str]) -> None:
    """
    And nothing else.
    """
    assert unmade == _unmade(house, **options)


def test_what_is_not_as_it_was_made_is_made_anew(house: House) -> None:
    """
    A file cut short, a record that is gone, audio that is gone, a narration of another script in its place.
    """
    house.write(six="Sixth.\n\nSeventh.")
    house.make()
    one = house.out / "one.wav"
    whole, other = one.read_bytes(), (house.out / "six.wav").read_bytes()
    assert len(whole) == len(other)
    record = segments_path(house.out, "one.txt")
    written = record.read_bytes()
    ends = []
    for change in (
        lambda: one.write_bytes(whole[:-100]),
        lambda: one.write_bytes(other),
        lambda: one.unlink(),
        lambda: record.unlink(),
        lambda: record.write_bytes(written.replace(b'"schema": 1', b'"schema": 2')),
        lambda: record.write_bytes(segments_path(house.out, "two.txt").read_bytes()),
    ):
        change()
        ends.append(_unmade(house))
        one.write_bytes(whole)
        record.write_bytes(written)

    assert [["one.txt"]] * 6 == ends
    assert [] == _unmade(house)


def test_a_file_of_somebody_else_is_refused_by_name(house: House) -> None:
    """
    Before anything is sent: the recording that lies there may be the only one.
    """
    foreign = house.out / "one.wav"
    foreign.write_bytes(b"my own recording")

    with pytest.raises(UsageError) as refused:
        house.survey()

    assert f"{foreign} is there already and was not made by Narrate." == refused.value.fact
    assert b"my own recording" == foreign.read_bytes()


def test_a_folder_in_a_narrations_place_is_refused_by_name(house: House) -> None:
    """
    It would be found out only when everything had been paid.
    """
    (house.out / "one.flac").mkdir()

    with pytest.raises(UsageError, match=r"one\.flac is there already"):
        house.survey(Sound(format="flac"))


def test_a_script_that_is_no_text_is_refused(house: House) -> None:
    """
    All of a run's scripts are read before anything is sent.
    """
    (house.scripts / "three.txt").write_bytes(b"caf\xe9")

    with pytest.raises(ScriptUnreadable, match=r"three\.txt"):
        house.survey()


def test_tags_tell_the_place_in_the_book(tmp_path: Path) -> None:
    """
    Tracks count in each folder from 1 in natural order; an album is a folder; a title is the script's own, or its name.
    """
    house = House(tmp_path)
    house.write(chapter10="Ten.", chapter2="Two.", part__one="One.", part__deep__x="X.")
    (house.scripts / "part" / "two.md").write_text("# The *Second*\n\nTwo.")

    tags = {name: plan.tags for name, plan in house.plans().items()}

    common = {"artist": "Ann", "genre": "Speech"}
    assert {
        "chapter2.txt": common | {"title": "chapter2", "track": "1", "album": "scripts"},
        "chapter10.txt": common | {"title": "chapter10", "track": "2", "album": "scripts"},
        "part/deep/x.txt": common | {"title": "x", "track": "1", "album": "deep"},
        "part/one.txt": common | {"title": "one", "track": "1", "album": "part"},
        "part/two.md": common | {"title": "The Second", "track": "2", "album": "part"},
    } == tags


def test_an_estimate_counts_distinct_segments_once(tmp_path: Path) -> None:
    """
    A refrain is spoken twice, and paid for once.
    """
    house = House(tmp_path)
    house.write(one="Refrain.\n\nÖne.\n\nRefrain.", two="Refrain.")

    without = estimate(house.survey(), model="s2.1-pro", speed=1.0, store=None, key_of=None)

    spoken = 3 * len("Refrain.") + len("Öne.".encode())
    assert (
        Estimate(
            characters=28,
            bytes=13,
            segments=4,
            usd=13 * 15e-6,
            hours=round(spoken / 15 / 3600, 4),
            bytes_covered=None,
        )
        == without
    )


def test_an_estimate_leaves_out_what_is_there(house: House) -> None:
    """
    For the voice that is known; another voice has to speak it all.
    """
    house.write(three="First.\n\nNew.")

    known, other = (
        estimate(house.survey(), model="s2.1-pro", speed=1.0, store=house.store, key_of=key_of(voice)) for voice in "vw"
    )

    assert (23, 19, 0.00006) == (known.bytes, known.bytes_covered, known.usd)
    assert (23, 0, 0.000345) == (other.bytes, other.bytes_covered, other.usd)


def test_a_reading_knows_its_script(house: House) -> None:
    """
    The digest is of the file's bytes, so that it can be checked with `sha256sum`.
    """
    house.write(one="x")
    (reading, _) = house.survey().readings

    assert "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" == reading.digest
    assert ("one", 1, 1, "one.wav") == (reading.title, reading.track, reading.size, reading.script.audio)


@pytest.mark.parametrize(
    ("scripts", "there", "named"),
    [
        (["a.txt", "a.wav/b.txt"], [], "a.wav"),
        (["part-1/a.txt"], ["part-1"], "part-1"),
        (["run.json/a.txt"], [], "run.json"),
        (["x" * 251 + ".txt"], [], "too long"),
        (["/".join(["x" * 200] * 19) + "/a.txt"], [], "too long"),
        (["a.txt"], ["run.json"], "run.json"),
    ],
    ids=[
        "a narration and a folder",
        "a file for a folder",
        "the manifest's place",
        "a long name",
        "a long path",
        "a manifest of another's",
    ],
)
def test_what_cannot_be_written_is_found_before_it_is_paid_for(
    tmp_path: Path, scripts: list[str], there: list[str], named: str
) -> None:
    """
    Found after the takes were bought, each of these ended in a traceback.
    """
    house = House(tmp_path)
    for name in scripts:
        (house.scripts / name).parent.mkdir(parents=True, exist_ok=True)
        (house.scripts / name).write_text("One.")
    for name in there:
        house.out.mkdir(exist_ok=True)
        (house.out / name).write_text('{"mine": 1}')

    with pytest.raises(UsageError, match=named):
        house.survey()


@pytest.mark.parametrize(
    ("scripts", "fold", "named"),
    [
        (["A.txt", "a.txt"], str.casefold, ["A.txt", "a.txt"]),
        (
            ["Teil/\u00e9.txt", "teil/E\u0301.md"],
            lambda name: unicodedata.normalize("NFC", name).casefold(),
            ["Teil/", "teil/"],
        ),
        (["\u00e9.txt", "e\u0301.txt"], lambda name: unicodedata.normalize("NFC", name), ["would become one file"]),
        (["\u00e9.txt", "E\u0301.txt"], str.casefold, []),
        (["a/A.txt", "a/a.txt"], str, []),
    ],
)
def test_names_that_the_output_folder_does_not_tell_apart_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripts: list[str], fold: Callable[[str], str], named: list[str]
) -> None:
    """
    And only there: the machine of this test has no such file system, so its answer is replaced.
    """
    house = House(tmp_path)
    for name in scripts:
        (house.scripts / name).parent.mkdir(parents=True, exist_ok=True)
        (house.scripts / name).write_text("One.")
    house.out.mkdir()
    survey = house.survey()
    planning.refuse_folded(survey, out=house.out)
    monkeypatch.setattr(planning, "_one_part", lambda one, other, **_: fold(one) == fold(other))

    if not named:
        planning.refuse_folded(survey, out=house.out)
        return
    with pytest.raises(UsageError) as refused:
        planning.refuse_folded(survey, out=house.out)

    assert [] == [name for name in named if name not in refused.value.fact]
    assert [] == list(house.out.iterdir())


@pytest.mark.parametrize("text", ["![" * 100_000, "^[a" * 100_000, "[" * 200_000 + "]" * 200_000])
def test_a_thicket_of_brackets_is_refused_before_it_is_parsed(tmp_path: Path, text: str) -> None:
    """
    It would take minutes, and ten times as much hours; in a plain text brackets are nothing special.
    """
    house = House(tmp_path)
    (house.scripts / "a.md").write_text(f"One.\n\n{text}\n")

    with pytest.raises(ScriptUnreadable, match=r"a\.md, line 3: more than 10000 brackets"):
        house.survey()


def test_a_paragraph_of_many_lines_is_read(tmp_path: Path) -> None:
    """
    Every word of it, in segments as long as any other.
    """
    house = House(tmp_path)
    (house.scripts / "a.txt").write_text("word\n" * 20_000)

    [reading] = house.survey().readings

    assert 20_000 == sum(len(segment.text.split()) for segment in reading.segments)
    assert 600 >= max(len(segment.text.encode()) for segment in reading.segments)


def test_a_take_store_that_is_away_is_told_and_not_taken_for_an_empty_one(house: House, tmp_path: Path) -> None:
    """
    With what is to be checked; a store in object storage whose server is away refuses as a file in a folder's place does.
    """
    house.write(a="One sentence.")

    class Away(TakeStore):
        def covers(self, key: str) -> bool:
            """
            Refuse, as no folder does it on demand where tests run as root.
            """
            raise ConnectionRefusedError(111, "Connection refused", key)

    with pytest.raises(StorageAway, match=r"takes cannot be reached: Connection refused\. Check the network"):
        estimate(house.survey(), model="s2-pro", speed=1.0, store=Away(tmp_path / "takes"), key_of=key_of("v"))
