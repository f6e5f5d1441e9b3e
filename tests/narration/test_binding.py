"""
The M4B: read by two libraries that had no part in it, and heard where its marks say that something is.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import mutagen.mp4
import numpy as np
import numpy.typing as npt
import pytest

from flows.narration import ffmpeg
from flows.narration.assemble import Sound, read_mark
from flows.narration.binding import Bound, bind
from flows.narration.errors import MasteringFailed
from flows.narration.mastering import Book, Chapter, Mastered, Studio, level_profile, master
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore
from tests.speaking import kept, spoken

BOOK = Book(
    title="A Bøok: of Things",
    author="Ann",
    narrator="A voice",
    date="2026",
    language="en-GB",
    description="About things.",
    chapters=3,
)
HALF = SAMPLE_RATE // 10


def _studio(folder: Path, book: Book = BOOK) -> Studio:
    return Studio(
        book=book,
        store=TakeStore(folder / "takes"),
        sound=Sound(),
        profile=level_profile("acx"),
        folder=folder / "out",
        work=folder / "work",
    )


def _chapter(studio: Studio, number: int, *, title: str = "", seconds: float = 1.5, takes: int = 2) -> Mastered:
    """
    Master a chapter of takes that each begin with a click and a fifth of a second of nothing.
    """
    waves = []
    for place in range(takes):
        wave = spoken(seconds + place * 0.13, start=number + place, db=-20)
        wave[: SAMPLE_RATE // 5] = 0
        wave[:8] = 0.5
        waves.append(wave)
    pieces = kept(studio.store, waves, name=f"chapter {number} of {seconds}")
    return master(Chapter(title or f"Chapter {number}", pieces, number), studio)


def _bound(studio: Studio, chapters: list[Mastered]) -> tuple[Bound, Path]:
    target = studio.folder / "book.m4b"
    return bind(chapters, book=studio.book, work=studio.work, target=target), target


def _read(path: Path) -> tuple[Any, list[tuple[float, str]], list[tuple[float, str]]]:
    """
    Tags and chapters by mutagen (Nero's), and chapters by libavformat (QuickTime's).
    """
    file: Any = mutagen.mp4.MP4(path)  # type: ignore[no-untyped-call]
    with av.open(str(path)) as container:
        others = [(one["start"] * float(one["time_base"] or 0), one["metadata"]["title"]) for one in container.chapters()]
    return file, [(one.start, one.title) for one in file.chapters], others


def _heard(path: Path) -> npt.NDArray[np.float32]:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def _text_track(path: Path) -> bool:
    """
    Say whether there is a track of text, which is where QuickTime has chapters.
    """
    data = path.read_bytes()
    return b"tref" in data and b"chap" in data and b"text" in data[data.index(b"moov") :]


def test_two_libraries_read_the_same_chapters_and_tags(tmp_path: Path) -> None:
    """
    Titles with what is special in the muxer's own format, too; in the tags, that it is synthetic, and the mark of its digest.
    """
    studio = _studio(tmp_path)
    titles = ["One; the #1 = first\\", "[CHAPTER]\nSTART=5", "Трое"]
    chapters = [_chapter(studio, place + 1, title=title, takes=1) for place, title in enumerate(titles)]

    bound, path = _bound(studio, chapters)

    file, nero, quicktime = _read(path)
    starts = [0, *(start[0] / SAMPLE_RATE for start in bound.starts[1:])]
    for marks in (nero, quicktime):
        assert [" ".join(title.split()) for title in titles] == [title.rstrip() for _, title in marks]
        assert starts == pytest.approx([start for start, _ in marks], abs=0.002)
    assert _text_track(path)
    assert file.info.length == pytest.approx(bound.seconds, abs=0.001)
    assert {name: file.tags[name] for name in ("©nam", "©alb", "©ART", "aART", "©wrt", "©gen", "©day", "desc", "stik")} == {
        "©nam": [BOOK.title],
        "©alb": [BOOK.title],
        "©ART": ["Ann"],
        "aART": ["Ann"],
        "©wrt": ["A voice"],
        "©gen": ["Audiobook"],
        "©day": ["2026"],
        "desc": ["About things."],
        "stik": [2],
    }
    assert "Synthetic speech" in file.tags["©cmt"][0]
    assert read_mark(path) == bound.digest
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


@pytest.mark.long
def test_many_chapters_with_titles_of_any_kind(tmp_path: Path) -> None:
    """
    Nero's list ends at 255 chapters, QuickTime's does not.
    """
    studio = _studio(tmp_path)
    chapter = _chapter(studio, 1, takes=1)
    titles = ["\udcff\0bytes", "“" * 200, *(f"Chapter {number}" for number in range(298))]

    _, path = _bound(studio, [replace(chapter, title=title) for title in titles])

    _, nero, quicktime = _read(path)
    wanted = ["?bytes", "“" * 83, *titles[2:]]
    assert (wanted[:255], wanted) == ([title for _, title in nero], [title for _, title in quicktime])


def _marks_are_true(studio: Studio, chapters: list[Mastered]) -> None:
    """
    Find the click at each piece's place in the decoded M4B, and at each chapter's mark and head.
    """
    bound, path = _bound(studio, chapters)
    samples = np.abs(_heard(path))
    assert len(samples) == bound.samples
    _, nero, quicktime = _read(path)
    for number, (chapter, starts) in enumerate(zip(chapters, bound.starts, strict=True)):
        for part, start in zip(chapter.parts, starts, strict=True):
            for place, _ in part.places:
                around = samples[start + place - HALF : start + place + HALF]
                assert abs(int(np.argmax(around)) - HALF) / SAMPLE_RATE < 0.003
        first = starts[0] + chapter.parts[0].places[0][0]
        for marks in (nero, quicktime):
            assert marks[number][0] + chapter.parts[0].places[0][0] / SAMPLE_RATE == pytest.approx(
                first / SAMPLE_RATE, abs=0.03
            )


def test_marks_are_where_the_audio_is(tmp_path: Path) -> None:
    """
    Through three chapters.
    """
    studio = _studio(tmp_path)
    _marks_are_true(studio, [_chapter(studio, number, takes=1) for number in (1, 2, 3)])


@pytest.mark.long
def test_marks_are_where_the_audio_is_at_the_end_of_many(tmp_path: Path) -> None:
    """
    Through twenty chapters of odd lengths, one of them in parts: an error in each would add up.
    """
    studio = _studio(tmp_path, replace(BOOK, chapters=20))
    chapters = [_chapter(studio, number, seconds=1 + number * 0.0713, takes=3) for number in range(1, 20)]
    short = replace(studio, profile=studio.profile.model_copy(update={"minutes": 0.2}))
    parts = _chapter(short, 20, seconds=2.0, takes=12)
    assert len(parts.parts) > 1
    _marks_are_true(studio, [*chapters, parts])


@pytest.mark.long
def test_marks_hold_for_ten_hours(tmp_path: Path) -> None:
    """
    Of the same chapter, 120 times: chapters of minutes and hours are written as well as short ones.
    """
    studio = _studio(tmp_path)
    chapter = _chapter(studio, 1, seconds=2.3, takes=120)
    hours = [chapter] * round(36_000 / chapter.parts[0].seconds)
    # As one long chapter after the first, and short ones at the end.
    long = replace(chapter, title="Hours", parts=chapter.parts * (len(hours) - 2))
    bound, path = _bound(studio, [chapter, long, chapter])

    file, nero, quicktime = _read(path)

    assert bound.seconds > 35_000
    assert file.info.length == pytest.approx(bound.seconds, abs=0.001)
    for marks in (nero, quicktime):
        assert marks[-1][0] == pytest.approx(bound.starts[-1][0] / SAMPLE_RATE, abs=0.002)
        assert marks[1][0] == pytest.approx(bound.starts[1][0] / SAMPLE_RATE, abs=0.002)
    assert _text_track(path)
    with av.open(str(path)) as container:
        container.seek(round((bound.starts[-1][0] / SAMPLE_RATE) * 1_000_000))
        frames = [(frame.pts or 0, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    first = bound.starts[-1][0] + chapter.parts[0].places[0][0]
    samples = np.abs(np.concatenate([samples for _, samples in frames]))
    around = samples[first - frames[0][0] - HALF : first - frames[0][0] + HALF]
    assert abs(int(np.argmax(around)) - HALF) / SAMPLE_RATE < 0.05


def test_after_a_change_in_one_chapter_that_one_alone_is_encoded(tmp_path: Path) -> None:
    """
    The M4B is new; the others' MP3 and AAC are not touched. Without a change, nothing is.
    """
    studio = _studio(tmp_path)
    chapters = [_chapter(studio, number, takes=1) for number in (1, 2)]
    first, path = _bound(studio, chapters)
    when = path.stat().st_mtime_ns
    assert (first, when) == (
        _bound(studio, [_chapter(studio, number, takes=1) for number in (1, 2)])[0],
        path.stat().st_mtime_ns,
    )

    again = [_chapter(studio, 1, takes=1), _chapter(studio, 2, takes=1, seconds=1.7)]
    second, _ = _bound(studio, again)

    assert [True, False] == [chapter.unchanged for chapter in again]
    assert first.digest != second.digest
    assert second.samples > first.samples


@pytest.mark.long
def test_a_damaged_m4b_is_bound_again(tmp_path: Path) -> None:
    """
    Whatever its tags say.
    """
    studio = _studio(tmp_path)
    chapters = [_chapter(studio, 1, takes=1)]
    _, path = _bound(studio, chapters)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])

    _bound(studio, chapters)

    assert whole == path.read_bytes()


def test_damaged_sound_is_not_bound(tmp_path: Path) -> None:
    """
    The book of before stays, and nothing else is left behind.
    """
    studio = _studio(tmp_path)
    chapters = [_chapter(studio, 1, takes=1)]
    _, path = _bound(studio, chapters)
    whole, files = path.read_bytes(), sorted(studio.work.iterdir())
    aac = studio.work / chapters[0].parts[0].aac
    data = bytearray(aac.read_bytes())
    data[-5] ^= 1
    aac.write_bytes(data)
    other = replace(studio, book=replace(BOOK, title="Another"))

    with pytest.raises(MasteringFailed, match="AAC of “Chapter 1” is not as it was made"):
        _bound(other, chapters)
    with pytest.raises(MasteringFailed, match="nothing to bind"):
        _bound(other, [])

    assert (whole, files) == (path.read_bytes(), sorted(studio.work.iterdir()))


@pytest.mark.long
def test_the_cover_is_in_the_book(tmp_path: Path) -> None:
    """
    As the JPEG that it is, beside the chapters.
    """
    pixels = b"\x89PNG"  # no picture
    (tmp_path / "no.png").write_bytes(pixels)
    assert not ffmpeg.picture(tmp_path / "no.png", tmp_path / "cover.jpg")
    with av.open(str(tmp_path / "cover.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 96, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 64, 3), np.uint8), format="rgb24")))
    cover = tmp_path / "cover.jpg"
    assert ffmpeg.picture(tmp_path / "cover.png", cover)
    studio = _studio(tmp_path, replace(BOOK, cover=cover))

    _, path = _bound(studio, [_chapter(studio, 1, takes=1)])

    file, nero, quicktime = _read(path)
    assert cover.read_bytes() == bytes(file.tags["covr"][0])
    assert ["Chapter 1"] == [title for _, title in nero] == [title for _, title in quicktime]
    assert _text_track(path)
