"""
The page to listen: what is in it, and that nothing of it gets out.
"""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hatchling.builders.wheel import WheelBuilder

from flows.narration.alignment import Word
from flows.narration.deliverables import BookFile, ChapterEntry, FileEntry, Place
from flows.narration.manifest import Manifest, ScriptEntry, SegmentEntry, SegmentsFile, Totals, VoiceEntry, segments_path
from flows.narration.mastering import PROFILES
from flows.narration.page import INDEX, File, Sentence, Track, page_of_book, page_of_folder, write_page
from flows.narration.page.writing import rendered
from tests.listening import Reader, a_page, chapter, levels

HOSTILE = "</script><script>alert(1)</script><!-- \N{LINE SEPARATOR} & \"'"


class Span(NamedTuple):
    """
    A sentence of a segment.
    """

    first: int
    last: int
    start: float
    end: float


def _book(segments: list[Place], *, files: tuple[str, ...] = ("01 - One.mp3",)) -> BookFile:
    return BookFile(
        source="book.epub",
        digest="d" * 64,
        title="A Book",
        authors=["Ada Author", "Bea Author"],
        narrator="Ann",
        language="en",
        publisher="Nobody",
        date="2026",
        identifier="urn:uuid:1",
        profile=PROFILES["acx"].model_dump(),
        voice=VoiceEntry(id="0f3a", title="Ann"),
        model="s2.1-pro",
        usd=0.0123,
        seconds=20,
        files=[
            *(
                FileEntry(file=one, role="chapter", title="One", sha256="0", size=9, seconds=10, levels=levels(10))
                for one in files
            ),
            FileEntry(file="A Book.m4b", role="audiobook", title="A Book", sha256="0", size=9, seconds=20),
        ],
        chapters=[
            ChapterEntry(
                name="one", title="One", number=1, source="one.xhtml", text="0", start=0, seconds=10 * len(files), usd=0.0123,
                files=list(files), segments=segments,
            )
        ],
        left_out=[{"name": "Index (index.xhtml)", "reason": "Nobody listens to it. keep brings it in."}],
    )  # fmt: skip


def _place(text: str, start: float, *, block: int = 0, joint: str = "sentence", file: str = "01 - One.mp3") -> Place:
    return Place(
        text=text, take="t", joint=joint, block=block, first=0, last=len(text), line=block + 1, file=file,
        start=start, end=start + 1, m4b_start=start, m4b_end=start + 1,
    )  # fmt: skip


def test_it_is_one_file_that_asks_for_nothing() -> None:
    """
    No address of the page leads out of its folder, and its policy allows nothing but its own script and style.
    """
    text = rendered(a_page((chapter(1, 9), chapter(2, 4))))
    read = Reader(text)

    assert not read.open
    addresses = [(tag, name, value) for tag, has in read.elements for name, value in has.items() if name in ("src", "href")]
    assert addresses
    assert not [one for one in addresses if re.match(r"\w+:|//", one[2] or "") and one[2] != "data:,"]
    assert not re.findall(r"url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    policy = next(has["content"] for tag, has in read.elements if has.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert 1 == len(inside)
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()}'" in policy
    assert not [has for _, has in read.elements for name in has if name == "style" or name.startswith("on")]
    assert "innerHTML" not in text


def test_ids_and_labels_hold_together() -> None:
    """
    Every id is there once, and all that is referred to is there; every button, field and dialog has a name.
    """
    text = rendered(a_page((chapter(1, 2),)))
    read = Reader(text)

    ids = Counter(has["id"] for _, has in read.elements if "id" in has)
    assert 1 == max(ids.values())
    assert not {has["aria-labelledby"] for _, has in read.elements if "aria-labelledby" in has} - ids.keys()
    assert not set(re.findall(r'\$\("([\w-]+)"\)', text)) - ids.keys()
    assert {"header", "main", "nav", "article"} <= {tag for tag, _ in read.elements}


def test_every_sentence_is_there_once_and_in_order() -> None:
    """
    With its times, its paragraph and its words.
    """
    first, second = chapter(1, 40), chapter(2, 7)
    read = Reader(rendered(a_page((first, second))))

    for at, one in enumerate((first, second)):
        assert [sentence.text for sentence in one.sentences] == read.said(at)
        assert [(s.start, s.end, s.paragraph, s.line) for s in one.sentences] == [
            tuple(told[1:5]) for told in read.data[f"data-{at}"]["sentences"]
        ]
    for told in read.data["data-0"]["sentences"]:
        assert told[0].split(" ") == [told[0][first:last] for first, last in zip(told[5][::4], told[5][1::4], strict=True)]
        assert 0 == told[5][2]


def test_hostile_text_stays_text() -> None:
    """
    Whatever a title, a sentence, a file or a reason holds, it opens and closes nothing.
    """
    one = chapter(1, 2)
    one = replace(one, title=HOSTILE, name=HOSTILE, sentences=(Sentence(HOSTILE, 0, 1),), tracks=(Track(HOSTILE, 3),))
    text = rendered(
        a_page(
            (one,), title=HOSTILE, people=(("by", HOSTILE),), left_out=((HOSTILE, HOSTILE),), files=(File(HOSTILE, HOSTILE),)
        )
    )
    read = Reader(text)

    assert not read.open
    assert HOSTILE == read.title == read.said(0)[0] == read.data["book"]["title"] == read.data["book"]["leftOut"][0][1]
    assert 3 == sum(tag == "script" for tag, _ in read.elements)
    assert "alert(1)</script>" not in text


@pytest.mark.parametrize(
    ("file", "address"),
    [
        ("part 1/a#b?c%20.mp3", "part%201/a%23b%3Fc%2520.mp3"),
        ("javascript:alert(1).mp3", "javascript%3Aalert%281%29.mp3"),
        ("第一章.mp3", "%E7%AC%AC%E4%B8%80%E7%AB%A0.mp3"),
        ("caf\udce9.mp3", "caf%E9.mp3"),
    ],
)
def test_files_of_any_name_are_found_beside_the_page(tmp_path: Path, file: str, address: str) -> None:
    """
    An address is a path, whatever is in it, and bytes that are not UTF-8 come through.
    """
    write_page(a_page((replace(chapter(1, 2), tracks=(Track(file, 3),)),)), tmp_path)

    read = Reader((tmp_path / INDEX).read_text("utf-8"))

    assert [address, 0, 3, file] == read.data["data-0"]["tracks"][0]


def test_what_is_as_it_was_is_not_written_again(tmp_path: Path) -> None:
    """
    A page is a function of what it shows: no date, no machine in it.
    """
    write_page(a_page((chapter(1, 5),)), tmp_path)
    before = (tmp_path / INDEX).stat()
    write_page(a_page((chapter(1, 5),)), tmp_path)

    assert before == (tmp_path / INDEX).stat()
    assert [INDEX] == [path.name for path in tmp_path.iterdir()]


def test_levels_are_told_beside_what_was_asked_for() -> None:
    """
    A number that is not as asked says so.
    """
    one = chapter(1, 2)
    loud = Track("a.mp3", 3, levels=levels(3, peak=-1.0, head=0.1))
    read = Reader(rendered(a_page((replace(one, tracks=(loud,)),))))

    rows = {row[0]: row[1:] for row in read.data["data-0"]["levels"][0]["rows"]}
    assert ["−1.0 dBFS", "at most −3 dBFS", False] == rows["Peak"]
    assert ["−20.3 dBFS", "−23 to −18 dBFS", True] == rows["RMS"]
    assert ["0.10 s", "0.5 to 1 s", False] == rows["Silence before the first word"]
    assert rows["Silence after the last word"][2]
    assert rows["True peak"][2]


def test_a_waveform_is_as_wide_as_is_shown() -> None:
    """
    However long a chapter is.
    """
    wave = Reader(rendered(a_page((chapter(1, 900),)))).data["data-0"]["wave"]

    assert 480 == len(wave["peaks"]) == len(wave["loud"])
    assert max(wave["peaks"]) <= 99


@pytest.mark.parametrize(
    ("language", "direction"), [("ar", "rtl"), ("he_IL", "rtl"), ("en-GB", "ltr"), ("ja", "ltr"), ("", "ltr")]
)
def test_text_runs_as_its_language_does(language: str, direction: str) -> None:
    """
    From right to left where that is so.
    """
    assert direction == Reader(rendered(a_page((), language=language))).data["book"]["direction"]


def test_a_book_is_told_from_its_record(tmp_path: Path) -> None:
    """
    Headings, scene breaks, files, what it cost and what was left out; segments stand for sentences that are not known.
    """
    places = [
        _place("One", 0.7, block=0, joint="heading"),
        _place("It began.", 3, block=1, joint="breath"),
        _place("It went on.", 5, block=1, joint="scene_break"),
        _place("It ended.", 7, block=2, joint="end"),
    ]
    (tmp_path / "01 - One.vtt").write_text("WEBVTT\n")
    (tmp_path / "A Book.epub").write_bytes(b"x")

    page = page_of_book(_book(places), tmp_path)

    only = page.chapters[0]
    assert [place.text for place in places] == [one.text for one in only.sentences]
    assert {0} == only.headings
    assert {2} == only.breaks
    assert [("by", "Ada Author"), ("by", "Bea Author"), ("read by", "Ann")] == list(page.people)
    assert ("Cost", "0.0123 USD to speak all of it once") in page.facts
    assert ("Text sent", "32 bytes") in page.facts
    assert ["A Book.m4b", "A Book.epub"] == [file.file for file in page.files]
    assert ["01 - One.mp3", "01 - One.vtt"] == [file.file for file in only.files]
    assert "Nobody listens to it. keep brings it in." == page.left_out[0][1]


def test_sentences_and_words_that_are_known_are_shown(tmp_path: Path) -> None:
    """
    A segment is cut where its sentences are heard; a word belongs to its sentence, with its mark and without the space.
    """
    places = [_place("He went. 𝄞 she came.", 1)]
    file = places[0].file
    spans = {file: [[Span(0, 8, 1.0, 1.4), Span(9, 20, 1.6, 2.0)]]}
    words = [Word(0, 1.0, 1.2), Word(3, 1.2, 1.4), Word(11, 1.7, 1.8), Word(15, 1.8, 2.0)]
    places[0] = places[0].model_copy(update={"words": words})

    page = page_of_book(_book(places), tmp_path, spans=spans)

    first, second = page.chapters[0].sentences
    assert ("He went.", 1.0, 1.4) == first[:3]
    assert ["He", "went."] == [first.text[word.first : word.last] for word in first.words]
    assert "𝄞 she came." == second.text
    assert ["she", "came."] == [second.text[word.first : word.last] for word in second.words]
    told = Reader(rendered(page)).data["data-0"]["sentences"][1]
    assert [3, 6] == told[5][:2], "a browser counts in UTF-16"


def test_a_chapter_in_two_files_is_one_stretch_of_time(tmp_path: Path) -> None:
    """
    The second file's sentences come after the first file.
    """
    files = ("a.mp3", "b.mp3")

    page = page_of_book(_book([_place("One.", 1, file="a.mp3"), _place("Two.", 1, file="b.mp3")], files=files), tmp_path)

    assert [1, 11] == [one.start for one in page.chapters[0].sentences]
    assert [0, 10] == [one.start for one in page.chapters[0].tracks]
    assert 20 == page.chapters[0].seconds


def test_a_folder_is_told_from_its_manifest(tmp_path: Path) -> None:
    """
    A chapter for each script, with a sentence where there is nothing to hear.
    """
    out = tmp_path / "out"
    entries = [
        ScriptEntry(script="part-1/one.txt", digest="1", audio="part-1/one.mp3", seconds=5, state="narrated", usd=0.01),
        ScriptEntry(script="two.txt", digest="2", state="failed", error="two.txt: the service refused it."),
        ScriptEntry(script="three.txt", digest="3", state="empty"),
    ]
    (out / "part-1").mkdir(parents=True)
    (out / "part-1/one.mp3").write_bytes(b"x")
    segments = [
        SegmentEntry(line=1, text="One", take="t", joint="heading", start=0, end=1),
        SegmentEntry(line=3, text="It began.", take="t", joint="paragraph", start=2, end=3),
        SegmentEntry(line=5, text="It ended.", take="t", joint="end", start=4, end=5),
    ]
    SegmentsFile(narration="n", size=1, seconds=5, speech_seconds=3, pause_seconds=2, segments=segments).write(
        segments_path(out, "part-1/one.txt")
    )
    manifest = Manifest(
        started="2026", state="failed", voice=VoiceEntry(id="0f3a", title="Ann"), speech={"model": "s2.1-pro"},
        left_out=[{"name": "notes.pdf", "reason": "It is no script."}], totals=Totals.of(entries), scripts=entries,
    )  # fmt: skip

    page = page_of_folder(manifest, out, language="en")

    assert [("part-1/one.txt", "One"), ("two.txt", "two")] == [(one.name, one.title) for one in page.chapters]
    first, second = page.chapters
    assert [(0, "One"), (1, "It began."), (2, "It ended.")] == [(one.paragraph, one.text) for one in first.sentences]
    assert {0} == first.headings
    assert "two.txt: the service refused it." == second.missing
    assert [("notes.pdf", "It is no script."), ("three.txt", "It holds nothing that is spoken.")] == list(page.left_out)
    write_page(page, out)


def test_the_wheel_has_all_parts_of_it() -> None:
    """
    Template, style and script are no modules, and are installed all the same.
    """
    root = Path(__file__).parents[2]

    packed = {one.distribution_path for one in WheelBuilder(str(root)).recurse_included_files()}

    assert {f"flows/narration/page/page.{kind}" for kind in ("html", "css", "js")} <= packed
