"""
Finished chapters, measured by other programs than the one that made them.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mutagen.mp3
import numpy as np
import numpy.typing as npt
import pyloudnorm
import pytest
import scipy.signal
import soundfile

from flows.narration.assemble import Piece, Sound, read_mark
from flows.narration.errors import MasteringFailed
from flows.narration.mastering import (
    Book,
    Chapter,
    Lengths,
    Mastered,
    Studio,
    cut_sample,
    level_profile,
    master,
    measure,
    split,
    tidy,
)
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeDamaged, TakeStore
from tests.speaking import Wave, kept, silence, spoken

TITLE = "A Bøok: of Things"

CHAPTERS: dict[str, list[Wave]] = {
    "plain": [spoken(4), spoken(5, start=4, db=-5), spoken(4, start=9)],
    "five seconds": [spoken(5, start=2)],
    "credits": [spoken(2, start=1)],
    "very quiet": [spoken(4, db=-45), spoken(4, start=6, db=-48)],
    "clipped": [spoken(4, db=18), spoken(3, start=5, db=12)],
    "levels that differ": [spoken(4, db=-1), spoken(4, start=4, db=-14), spoken(4, start=8, db=-6)],
    "silence around": [np.concatenate((silence(2.5), spoken(6), silence(7)))],
    "one word": [spoken(0.6, start=1)],
}


def _clicks(seconds: float) -> Wave:
    wave = spoken(seconds, db=-30)
    wave[:: SAMPLE_RATE // 2] = 1.0
    return wave


def _rumbling(seconds: float) -> Wave:
    wave = spoken(seconds, db=-12)
    return wave + 0.1 * np.sin(2 * np.pi * 20 * np.arange(len(wave)) / SAMPLE_RATE) + 0.05


CHAPTERS |= {"clicks": [_clicks(6)], "rumble": [_rumbling(6)]}
LOUD_ALIKE = [name for name in CHAPTERS if name != "one word"]
"""All but a chapter of one word: most of its file is room tone, so that RMS and loudness cannot both be had."""


def _tagged(path: Path) -> Any:
    """
    Read a file with mutagen, whose functions have no types.
    """
    return mutagen.mp3.MP3(path)  # type: ignore[no-untyped-call]


class Measured:
    """
    An MP3 as other programs hear it.
    """

    def __init__(self, path: Path) -> None:
        self.samples, self.rate = soundfile.read(path, dtype="float64")
        self.loudness = float(pyloudnorm.Meter(self.rate).integrated_loudness(self.samples))
        self.rms = self._db(np.sqrt(np.mean(self.samples**2)))
        self.peak = self._db(np.abs(self.samples).max())
        self.true_peak = self._db(np.abs(scipy.signal.resample_poly(self.samples, 4, 1)).max())
        half = self.rate // 2
        windows = [self.samples[at : at + half] for at in range(0, len(self.samples) - half, half // 10)]
        self.floor = min(self._db(np.sqrt(np.mean(window**2))) for window in windows)
        smooth = np.sqrt(np.convolve(self.samples**2, np.ones(220) / 220, "same"))
        loud = np.flatnonzero(smooth > 10 ** (-46 / 20))
        self.head, self.tail = loud[0] / self.rate, (len(self.samples) - loud[-1]) / self.rate
        self.info: Any = _tagged(path).info

    @staticmethod
    def _db(value: float) -> float:
        return float(20 * np.log10(max(float(value), 1e-9)))


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """
    A studio for a book of ten chapters, to the levels of ACX.
    """
    book = Book(title=TITLE, author="Ann", narrator="A voice", date="2026", language="en", chapters=len(CHAPTERS))
    return Studio(
        book=book,
        store=TakeStore(tmp_path / "takes"),
        sound=Sound(),
        profile=level_profile("acx"),
        folder=tmp_path / "out",
        work=tmp_path / "work",
    )


def _mastered(studio: Studio, name: str, *, number: int | None = 1) -> Mastered:
    return master(Chapter(name, kept(studio.store, CHAPTERS[name], name=name), number), studio)


def _path(studio: Studio, made: Mastered, part: int = 0) -> Path:
    return studio.folder / made.parts[part].file


QUICK = ("five seconds", "clicks")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in CHAPTERS])
def test_a_chapter_is_as_the_profile_of_acx_wants_it(studio: Studio, name: str) -> None:
    """
    Whatever it is made from; and what we tell of it is what others measure.
    """
    made = _mastered(studio, name)
    heard, told = Measured(_path(studio, made)), made.parts[0].levels

    assert -23 <= heard.rms <= -18
    assert heard.peak <= -3
    assert heard.floor <= -60
    assert 0.5 <= heard.head <= 1.0
    assert 1.0 <= heard.tail <= 5.0
    assert (SAMPLE_RATE, 1) == (heard.rate, heard.samples.ndim)
    assert mutagen.mp3.BitrateMode.CBR == heard.info.bitrate_mode
    assert heard.info.bitrate == pytest.approx(192_000, rel=0.001)
    assert told.loudness == pytest.approx(heard.loudness, abs=0.1)
    assert told.rms == pytest.approx(heard.rms, abs=0.02)
    assert told.peak == pytest.approx(heard.peak, abs=0.02)
    assert told.true_peak == pytest.approx(heard.true_peak, abs=0.2)
    assert told.noise_floor == pytest.approx(heard.floor, abs=1.0)
    assert told.seconds == pytest.approx(len(heard.samples) / heard.rate, abs=0.001)
    assert made.parts[0].samples == len(heard.samples)
    if name in LOUD_ALIKE:
        assert heard.loudness == pytest.approx(-19, abs=0.25)


@pytest.mark.long
@pytest.mark.parametrize(
    ("profile", "loudness", "kbps"), [("podcast", -16, 128), ("ebu", -23, 192), ("loudness=-20,peak=-2", -20, 192)]
)
def test_other_profiles_are_met_as_well(studio: Studio, profile: str, loudness: float, kbps: int) -> None:
    """
    By their own numbers.
    """
    studio = replace(studio, profile=level_profile(profile))
    for name in ("plain", "credits", "clicks"):
        heard = Measured(_path(studio, _mastered(studio, name)))

        assert heard.loudness == pytest.approx(loudness, abs=0.3)
        assert heard.true_peak <= -1
        assert heard.info.bitrate == pytest.approx(kbps * 1000, rel=0.001)


@pytest.mark.long
def test_pieces_are_where_they_are_said_to_be(studio: Studio) -> None:
    """
    To a few milliseconds, in the MP3: each take begins with a click of its own.
    """
    takes = []
    for place in range(6):
        wave = spoken(1.5 + place * 0.37, start=place, db=-20)
        wave[: SAMPLE_RATE // 5] = 0
        wave[:8] = 0.5
        takes.append(wave)
    pieces = kept(studio.store, takes, name="clicking")

    made = master(Chapter("Clicking", pieces, 1), studio)

    samples = soundfile.read(_path(studio, made))[0]
    around = round(0.1 * SAMPLE_RATE)
    for start, _ in made.parts[0].places:
        found = int(np.argmax(np.abs(samples[start - around : start + around]))) - around
        assert abs(found) < 0.003 * SAMPLE_RATE


@pytest.mark.long
def test_there_is_room_tone_and_no_digital_silence(studio: Studio) -> None:
    """
    At the head, in pauses and at the tail; it is the same each time.
    """
    made = _mastered(studio, "plain")

    samples = soundfile.read(_path(studio, made))[0]
    places = made.parts[0].places
    quiet = [
        samples[: places[0][0]],
        samples[places[-1][1] :],
        *(samples[a[1] : b[0]] for a, b in pairwise(places)),
    ]
    for stretch in quiet:
        assert len(stretch) > 0.2 * SAMPLE_RATE
        inner = stretch[2500:-2500]
        assert -82 < 20 * np.log10(np.sqrt(np.mean(inner**2))) < -70
    again = replace(studio, folder=studio.folder / "again", work=studio.work / "again")
    assert _path(again, _mastered(again, "plain")).read_bytes() == _path(studio, made).read_bytes()


@pytest.mark.long
def test_one_gain_is_held_through_a_chapter(studio: Studio) -> None:
    """
    What was 13 dB softer than the rest stays so.
    """
    made = _mastered(studio, "levels that differ")

    samples = soundfile.read(_path(studio, made))[0]
    loud, soft, _ = (np.sqrt(np.mean(samples[start:end] ** 2)) for start, end in made.parts[0].places)
    raw = [np.sqrt(np.mean(wave**2)) for wave in CHAPTERS["levels that differ"]]
    assert 20 * np.log10(loud / soft) == pytest.approx(20 * np.log10(raw[0] / raw[1]), abs=1.0)


def test_tags_say_what_it_is(studio: Studio, tmp_path: Path) -> None:
    """
    Title, book, people, place, that it is synthetic, and the mark of what it was made from; as another library reads it.
    """
    cover = _cover(tmp_path)
    studio = replace(studio, book=replace(studio.book, cover=cover))
    made = _mastered(studio, "five seconds", number=2)

    tags = _tagged(_path(studio, made)).tags
    read = {name: str(tags[name]) for name in ("TIT2", "TALB", "TPE1", "TCOM", "TRCK", "TLAN", "TCON")}
    assert read == {
        "TIT2": "five seconds",
        "TALB": TITLE,
        "TPE1": "Ann",
        "TCOM": "A voice",
        "TRCK": "2/10",
        "TLAN": "eng",
        "TCON": "Audiobook",
    }
    assert "Synthetic speech" in str(tags.getall("COMM")[0])
    assert read_mark(_path(studio, made)) == made.parts[0].digest
    assert tags.getall("APIC")[0].data == cover.read_bytes()
    assert _path(studio, made).name == "02 - five seconds.mp3"


def _cover(folder: Path) -> Path:
    from flows.narration import ffmpeg

    source, cover = folder / "cover.bmp", folder / "cover.jpg"
    pixels = np.random.default_rng(1).integers(0, 255, (16, 16, 3), dtype=np.uint8).tobytes()
    header = b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + (16).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
    source.write_bytes(header + pixels)
    assert ffmpeg.picture(source, cover)
    return cover


def test_what_is_no_picture_becomes_no_cover(tmp_path: Path) -> None:
    """
    It is said, and nothing is left behind.
    """
    from flows.narration import ffmpeg

    for content in (b"", b"no picture", b"\xff\xd8\xff" + bytes(500), b"<svg/>", b"#EXTM3U\nfile:///etc/passwd"):
        source = tmp_path / "source"
        source.write_bytes(content)
        assert not ffmpeg.picture(source, tmp_path / "cover.jpg")
        assert not (tmp_path / "cover.jpg").exists()


def test_what_is_as_it_was_is_not_made_again(studio: Studio) -> None:
    """
    Neither MP3 nor AAC; where one of them is gone or was changed, both are.
    """
    made = _mastered(studio, "credits")
    path, aac = _path(studio, made), studio.work / made.parts[0].aac
    os.utime(path, (1, 1))
    again = _mastered(studio, "credits")

    assert (True, made.parts) == (again.unchanged, again.parts)
    assert path.stat().st_mtime == 1
    for broken in (path, aac):
        whole = broken.read_bytes()
        broken.write_bytes(whole[:-1])
        assert not _mastered(studio, "credits").unchanged
        assert broken.read_bytes() == whole
        assert path.stat().st_mtime != 1


def test_other_tags_are_written_without_encoding(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A book of one chapter more, an author's name corrected: the same sound, to the bit, under a new name where that is new.
    """
    first = _mastered(studio, "credits")
    before = soundfile.read(_path(studio, first))[0]
    aac = (studio.work / first.parts[0].aac).stat().st_mtime_ns
    studio = replace(studio, book=replace(studio.book, author="Anne", chapters=123))

    second = _mastered(studio, "credits", number=7)

    tags = _tagged(_path(studio, second)).tags
    assert ("007 - credits.mp3", "Anne", "7/123") == (second.parts[0].file, str(tags["TPE1"]), str(tags["TRCK"]))
    assert np.array_equal(before, soundfile.read(_path(studio, second))[0])
    assert (second.parts[0].levels, aac) == (first.parts[0].levels, (studio.work / second.parts[0].aac).stat().st_mtime_ns)
    assert read_mark(_path(studio, second)) == second.parts[0].digest != first.parts[0].digest
    assert measure(_path(studio, second))[0] == first.parts[0].levels
    assert _mastered(studio, "credits", number=7).unchanged


def test_a_file_that_misses_its_profile_leaves_the_one_before(studio: Studio) -> None:
    """
    The number is told, and nothing else is left behind.
    """
    path = _path(studio, _mastered(studio, "credits"))
    before, files = path.read_bytes(), sorted(studio.work.iterdir())
    impossible = replace(studio, profile=studio.profile.model_copy(update={"noise_floor": -89.0}))

    with pytest.raises(MasteringFailed, match=r"01 - credits\.mp3 misses .* acx: noise floor -7\d\.\d+ dBFS, above -89"):
        _mastered(impossible, "credits")

    assert (before, [path], files) == (path.read_bytes(), list(studio.folder.iterdir()), sorted(studio.work.iterdir()))


@pytest.mark.parametrize("wave", [silence(3), np.full(3 * SAMPLE_RATE, 1 / 32767)], ids=["nothing", "the lowest bit"])
def test_what_cannot_be_heard_is_a_failure_with_a_sentence(studio: Studio, wave: Wave) -> None:
    """
    No gain in the world makes speech of it.
    """
    pieces = kept(studio.store, [wave], name="nothing")

    with pytest.raises(MasteringFailed, match="nothing to hear"):
        master(Chapter("Nothing", pieces, 1), studio)

    assert not list(studio.folder.iterdir())


def test_a_take_that_is_gone_is_named(studio: Studio) -> None:
    """
    By its key, so that it alone is recorded anew.
    """
    pieces = kept(studio.store, CHAPTERS["plain"], name="plain")
    studio.store.discard(pieces[1].take)

    with pytest.raises(TakeDamaged) as damaged:
        master(Chapter("plain", pieces, 1), studio)

    assert pieces[1].take == damaged.value.key


def _long(studio: Studio, *, minutes: float, each: float = 20.0, joint: Joint = Joint.PARAGRAPH) -> list[Piece]:
    pieces = kept(studio.store, [spoken(each)], name="long")
    many = round(minutes * 60 / each)
    return [Piece(pieces[0].take, joint if place < many - 1 else Joint.END) for place in range(many)]


@pytest.mark.long
def test_a_chapter_that_is_too_long_is_split_between_paragraphs(studio: Studio) -> None:
    """
    Into parts of about equal length and of one gain, which say which they are; no piece is lost.
    """
    studio = replace(studio, profile=studio.profile.model_copy(update={"minutes": 0.4}))
    pieces = _long(studio, minutes=0.55, each=1.5)
    pieces[5] = Piece(pieces[5].take, Joint.HEADING)

    made = master(Chapter("Long", pieces, 1), studio)

    assert ["01a - Long.mp3", "01b - Long.mp3", "01c - Long.mp3"] == [part.file for part in made.parts]
    assert ["Long (part 1)", "Long (part 2)", "Long (part 3)"] == [part.title for part in made.parts]
    assert list(range(len(pieces))) == [place for part in made.parts for place in range(part.first, part.last + 1)]
    assert all(part.levels.seconds <= 24 for part in made.parts)
    assert max(part.seconds for part in made.parts) - min(part.seconds for part in made.parts) < 4
    levels = [Measured(_path(studio, made, place)).loudness for place in range(3)]
    assert max(levels) - min(levels) < 0.5
    assert Joint.HEADING not in [pieces[part.last].joint for part in made.parts]
    assert 1 == len({part.gain for part in made.parts})
    pieces[-1] = Piece(kept(studio.store, [spoken(2)], name="other")[0].take, Joint.END)
    changed = master(Chapter("Long", pieces, 1), studio)
    assert 1 == len({part.gain for part in changed.parts}), "a chapter is one, so each part of it is made anew"


def test_a_chapter_is_split_between_sentences_where_it_has_no_paragraphs(studio: Studio) -> None:
    """
    Where it has no sentences either, it cannot be split.
    """
    shape: dict[str, Any] = {"store": studio.store, "sound": studio.sound, "seconds": 110.0}

    assert [range(9), range(9, 18)] == split(_long(studio, minutes=3, each=10, joint=Joint.SENTENCE), **shape)
    with pytest.raises(MasteringFailed, match="no place at which to split"):
        split(_long(studio, minutes=3, joint=Joint.BREATH), **shape)


def test_a_sample_ends_with_a_sentence(studio: Studio) -> None:
    """
    One to five minutes long, with a paragraph where one ends nearby.
    """
    sentences = _long(studio, minutes=20, each=7, joint=Joint.SENTENCE)
    paragraph = [*sentences[:21], Piece(sentences[0].take, Joint.PARAGRAPH), *sentences[21:]]
    breaths = _long(studio, minutes=20, each=7, joint=Joint.BREATH)

    def sample(pieces: Sequence[Piece]) -> Sequence[Piece]:
        """
        Cut it.
        """
        return cut_sample(pieces, lengths=Lengths.of(pieces, store=studio.store, sound=studio.sound))

    assert 60 <= 7.35 * len(sample(sentences)) <= 300
    assert Joint.PARAGRAPH == sample(paragraph)[-1].joint
    assert sentences[:5] == sample(sentences[:5])
    with pytest.raises(MasteringFailed, match="No sentence ends"):
        sample(breaths)


def test_a_finished_chapter_tells_how_long_its_takes_are(studio: Studio) -> None:
    """
    But for silence that was left out at its edges; the takes may be gone.
    """
    pieces = kept(studio.store, [spoken(2), spoken(3, start=2), spoken(1, start=5)], name="told")
    known = Lengths.of(pieces, store=studio.store, sound=studio.sound)
    (part,) = master(Chapter("told", pieces, 1), studio).parts

    told = Lengths.heard(pieces, part.places, sound=studio.sound)

    assert (known.pauses, known.speech[1]) == (told.pauses, told.speech[1])
    assert all(0 <= real - heard < SAMPLE_RATE for real, heard in zip(known.speech, told.speech, strict=True))


def test_credits_and_sample_have_no_number(studio: Studio) -> None:
    """
    They stand beside the chapters under their titles.
    """
    made = _mastered(studio, "credits", number=None)

    tags = _tagged(_path(studio, made)).tags
    assert ("credits.mp3", False) == (made.parts[0].file, "TRCK" in tags)


@pytest.mark.long
def test_work_of_former_chapters_is_tidied_away(studio: Studio) -> None:
    """
    What the book is made from stays.
    """
    old, new = _mastered(studio, "one word"), _mastered(studio, "credits")
    before = len(list(studio.work.iterdir()))

    tidy(studio.work, new.parts)

    assert (4, 2) == (before, len(list(studio.work.iterdir())))
    assert not (studio.work / old.parts[0].aac).exists()
    assert _mastered(studio, "credits").unchanged


def _loudness(samples: npt.NDArray[np.float64]) -> float:
    return float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(samples))


@pytest.mark.long
def test_the_sound_for_the_m4b_is_as_loud_as_the_mp3(studio: Studio, tmp_path: Path) -> None:
    """
    It is made from the same samples, of which LAME takes some away.
    """
    import av

    made = _mastered(studio, "plain")

    with av.open(str(studio.work / made.parts[0].aac)) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    heard = np.concatenate(frames).astype(np.float64)
    assert len(heard) == made.parts[0].frames * 1024
    assert _loudness(heard) == pytest.approx(Measured(_path(studio, made)).loudness, abs=0.1)
    assert np.abs(heard).max() <= 10 ** (-3 / 20)
    assert made.parts[0].aac_loudness == pytest.approx(_loudness(heard), abs=0.1)
    assert made.parts[0].aac_peak == pytest.approx(20 * np.log10(np.abs(heard).max()), abs=0.05)
