"""
Captions: every sentence once, in order, when it is heard, in lines that can be read; read by three libraries.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pysubs2
import pytest
import soundfile
import srt
import webvtt

from flows.narration import captions
from flows.narration.alignment import Word
from flows.narration.books import read_book
from flows.narration.captions import Cue
from flows.narration.errors import StorageFailed
from flows.narration.lines import clauses, columns, lines, shown
from flows.narration.manifest import SegmentEntry, SegmentsFile
from flows.narration.timing import STEP, Heard, divided
from tests.bookmaking import Epub, page
from tests.narrating import RATE, Wave, burst, narrated, quiet

NEAR = 0.15
LONG = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, and it was the epoch of incredulity."
)
WIDE = "山路を登りながら、こう考えた。智に働けば角が立つ。情に棹させば流される。意地を通せば窮屈だ。"
STRANGE = "He wrote <b>x</b> & {\\an8}C:\\New --> 5 < 6. Then he slept."


def bare(texts: Iterable[str]) -> str:
    """
    Return the letters of texts, without what a reader does not see.
    """
    return re.sub(r"[\s\u2060]+", "", "".join(texts))


def script(out: Path, segments: list[tuple[str, list[Wave]]]) -> SegmentsFile:
    """
    Write a narration of segments, each made of sounds and silences in turn.
    """
    waves, entries = [quiet(0.2)], []
    for line, (text, parts) in enumerate(segments, 1):
        start = sum(map(len, waves)) / RATE
        waves += parts
        end = sum(map(len, waves)) / RATE
        waves.append(quiet(0.35))
        entries.append(SegmentEntry(line=line, text=text, take="", joint="sentence", start=start, end=end))
    whole = np.concatenate(waves)
    soundfile.write(out / "one.flac", whole, RATE)
    return SegmentsFile(
        narration=str(len(whole)), size=1, seconds=len(whole) / RATE, speech_seconds=1, pause_seconds=1, segments=entries
    )


def test_captions_of_a_narration_are_read_by_three_libraries(tmp_path: Path) -> None:
    """
    Each finds the same cues, whose texts are the script's, letter for letter.
    """
    segments = [(text, [burst(len(text) / 15)]) for text in (LONG, WIDE, STRANGE)]

    captions.write_script(tmp_path, "one.flac", script(tmp_path, segments), language="en")

    web = [(cue.start, cue.end, cue.text) for cue in webvtt.read(str(tmp_path / "one.vtt")).captions]
    rip = list(srt.parse((tmp_path / "one.srt").read_text()))
    assert bare(text for text, _ in segments) == bare(cue.content for cue in rip)
    assert len(web) == len(rip) == len(pysubs2.load(str(tmp_path / "one.vtt"))) == len(pysubs2.load(str(tmp_path / "one.srt")))
    assert "He wrote &lt;b&gt;x&lt;/b&gt; &amp; {\\an8}C:\\New --&gt; 5 &lt; 6." in (tmp_path / "one.vtt").read_text().replace(
        "\n", " "
    )
    for before, after in pairwise(rip):
        assert before.start < before.end <= after.start
    for cue in rip:
        assert len(cue.content.split("\n")) <= 2
        assert all(columns(line) <= 42 for line in cue.content.split("\n"))


def test_what_is_as_it_was_is_neither_heard_nor_written_again(tmp_path: Path) -> None:
    """
    Without the audio, too; another narration is heard anew, and one that is gone is told of.
    """
    found = script(tmp_path, [("One. Two.", [burst(0.5), quiet(0.4), burst(0.5)])])
    captions.write_script(tmp_path, "one.flac", found, language="en")
    looks = [(tmp_path / name).stat().st_mtime_ns for name in ("one.vtt", "one.srt")]
    (tmp_path / "one.flac").unlink()

    captions.write_script(tmp_path, "one.flac", found, language="en")

    assert looks == [(tmp_path / name).stat().st_mtime_ns for name in ("one.vtt", "one.srt")]
    with pytest.raises(StorageFailed, match=r"one\.flac cannot be read"):
        captions.write_script(tmp_path, "one.flac", found.model_copy(update={"narration": "another"}), language="en")


def test_sentences_are_found_by_their_pauses() -> None:
    """
    Also where a comma's pause is as long, and where nothing but the length of the text tells.
    """
    text = "Yes. He went down to the harbour, very slowly, and looked at the boats. Nobody was there! And so he sat down."
    spoken = [0.35, None, 1.9, None, 0.8, None, 1.6, None, 0.9, None, 1.1]
    waves = [quiet(0.35) if seconds is None else burst(seconds) for seconds in spoken]
    truth = [(0.2, 0.55), (0.9, 5.9), (6.25, 7.15), (7.5, 8.6)]

    found = divided(Heard(text, 10.0, 19.0), levels(np.concatenate([quiet(0.2), *waves, quiet(0.3)])), language="en")

    assert ["Yes. ", "He went down to the harbour, very slowly, and looked at the boats. "] == [
        text[one.first : one.last] for one in found[:2]
    ]
    for one, (start, end) in zip(found, truth, strict=True):
        assert abs(one.start - 10 - start) < NEAR
        assert abs(one.end - 10 - end) < NEAR


def levels(wave: Wave) -> "np.typing.NDArray[np.float64]":
    """
    How loud each step of a wave is.
    """
    size = round(STEP * RATE)
    rows = wave[: len(wave) // size * size].reshape(-1, size).astype(np.float64)
    return np.asarray(10 * np.log10((rows**2).mean(axis=1) + 1e-12))


@pytest.mark.parametrize("wave", [quiet(3), burst(3), quiet(0.02), quiet(0)])
def test_every_sentence_has_a_time_whatever_is_heard(wave: Wave) -> None:
    """
    Silence, no pause at all, next to nothing: in order, and inside of the segment.
    """
    end = 5 + len(wave) / RATE

    found = divided(Heard("One. Two, three. Four.", 5.0, end), levels(wave), language="en")

    edges = [edge for one in found for edge in (one.start, one.end)]
    assert 3 == len(found)
    assert edges == sorted(edges)
    assert 5 <= edges[0]
    assert edges[-1] <= round(end, 3)


def test_times_of_words_are_taken_as_they_are(tmp_path: Path) -> None:
    """
    Where they are known the audio is not asked.
    """
    found = script(tmp_path, [("One two. Three.", [burst(1)])])
    found.segments[0].words = [Word(0, 0.21, 0.3), Word(4, 0.3, 0.5), Word(9, 0.7, 1.1)]

    [own] = captions.write_script(tmp_path, "one.flac", found, language="en")

    assert [(0.21, 0.5), (0.7, 1.1)] == [(one.start, one.end) for one in own]


def test_hours_go_on_behind_a_day_and_behind_a_hundred() -> None:
    """
    As both formats allow; a cue whose text is empty of sense stays one line.
    """
    cues = [Cue("A day.", 90_000_500, 90_001_500), Cue("Four days.", 400_000_000, 400_001_000)]

    web, rip = captions.captions(cues, suffix=".vtt"), captions.captions(cues, suffix=".srt")

    assert "25:00:00.500 --> 25:00:01.500\nA day." in web
    assert "2\n111:06:40,000 --> 111:06:41,000\nFour days." in rip
    assert [90_000.5, 400_000.0] == [cue.start.total_seconds() for cue in srt.parse(rip)]
    assert ["25:00:00.500", "111:06:40.000"] == [cue.start for cue in webvtt.from_string(web).captions]


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        WIDE * 3,
        "x" * 300,
        "مرحبا بالعالم، " * 12 + "نهاية.",
        "ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน" * 4,
        "A [whispering very quietly in the dark] word, " * 6,
        "👨‍👩‍👧‍👦" * 60,
    ],
)
def test_long_sentences_are_parted_into_what_two_lines_hold(text: str) -> None:
    """
    Nothing is lost, no line is too long, none begins with what ends a clause.
    """
    slices = clauses(text)

    assert text == "".join(text[first:last] for first, last in slices)
    for first, last in slices:
        rows = lines(shown(text[first:last]))
        assert len(rows) <= 2
        assert all(columns(row) <= 42 for row in rows)
        assert not any(row[:1] in "、。」』）,.;:!?" for row in rows if row)


def test_captions_of_a_book_hold_every_sentence_when_it_is_heard(tmp_path: Path) -> None:
    """
    Of its chapters and, with the audiobook's times, of all of it; those of a chapter that is no more are taken away.
    """
    pages = {
        f"{name}.xhtml": page(f"<h1>{name}</h1><p>{LONG} Short. And so on.</p><p>{STRANGE[40:]}</p>") for name in ("A", "B")
    }
    book = read_book(Epub(pages=pages, nav=[("A", "A.xhtml"), ("B", "B.xhtml")]).write(tmp_path / "b.epub"))
    record, truths = narrated(book, tmp_path / "out")

    names = captions.write_book(tmp_path / "out", record)

    assert ["01 - chapter.vtt", "01 - chapter.srt", "02 - chapter.vtt", "02 - chapter.srt", "Book.vtt", "Book.srt"] == names
    cues = list(srt.parse((tmp_path / "out/Book.srt").read_text()))
    assert bare(one.text for one in truths) == bare(cue.content for cue in cues)
    second = list(srt.parse((tmp_path / "out/02 - chapter.srt").read_text()))
    shift = cues[-1].start - second[-1].start
    assert abs(shift.total_seconds() - record.chapters[1].start) < 0.01
    for audio, places in captions.by_file(record).items():
        found = [one for own in captions.sentences_of(tmp_path / "out", record, audio, places) for one in own]
        for one, truth in zip(found, [one for one in truths if one.file == audio], strict=True):
            assert abs(one.start - truth.start) < NEAR
            assert abs(one.end - truth.end) < NEAR
    shorter = record.model_copy(update={"chapters": record.chapters[:1], "files": [record.files[0], record.files[2]]})
    captions.write_book(tmp_path / "out", shorter)
    assert not list((tmp_path / "out").glob("02 - *.vtt"))
