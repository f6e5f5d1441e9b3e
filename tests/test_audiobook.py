"""
`narrate book` through its front door: what is spoken, sent, mastered, bound and written down, and what comes of trouble.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile

from flows.narration.cost import USD_PER_BYTE
from tests.bookmaking import Epub, page
from tests.conftest import Done, Narrate, Sandbox
from tests.standing import ask

QUICK = {"NARRATE_BACKOFF": "0.05", "NARRATE_ATTEMPTS": "2", "NARRATE_POLL_INTERVAL": "0.1"}

TITLE = "Ada Author - A Small Book"

CHAPTERS = {
    "one.xhtml": "<h1>The First</h1><p>It was <b>d</b>ark. Nobody spoke.</p><p>The lamps were lit.</p>",
    "two.xhtml": "<h1>The Second</h1><p>Morning came, and with it a ship.</p><p>It was poisoned.</p>",
}
SPOKEN = [
    "A Small Book, written by Ada Author, narrated with a synthetic voice.",
    "The First",
    "It was dark. Nobody spoke.",
    "The lamps were lit.",
    "The Second",
    "Morning came, and with it a ship.",
    "It was poisoned.",
    "This was A Small Book, written by Ada Author, narrated with a synthetic voice. The end.",
]
"""What a listener hears, in order."""


def _epub(path: Path, **pages: str) -> Path:
    chapters = {**CHAPTERS, **{f"{name}.xhtml": body for name, body in pages.items()}}
    return Epub(
        pages={name: page(body) for name, body in chapters.items()} | {"imprint.xhtml": page("<p>All rights kept.</p>")},
        nav=[("The First", "one.xhtml"), ("The Second", "two.xhtml"), ("Imprint", "imprint.xhtml")],
        landmarks={"imprint.xhtml": "copyright-page"},
        cover=True,
    ).write(path)


@pytest.fixture
def book(tmp_path: Path, sandbox: Sandbox) -> Path:
    """
    An EPUB of two chapters with a cover and an imprint; voices are trained at once.
    """
    sandbox.config(training="at-once", concurrency_limit=50)
    return _epub(tmp_path / "books/small.epub")


def _make(narrate: Narrate, *books: Path, clip: Path, **environment: str) -> Done:
    return narrate("book", *books, "--reference", clip, "--out", "out", "--json", **QUICK, **environment)


def _book(folder: Path) -> Any:
    return json.loads((folder / "book.json").read_text())


def _looks(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.m*")}


def _flip(take: Path) -> None:
    data = bytearray(take.read_bytes())
    data[-200] ^= 1
    take.write_bytes(data)


def test_a_book_becomes_mastered_chapters_and_an_m4b(
    narrate: Narrate, sandbox: Sandbox, prefect_api: str, book: Path, clip: Path
) -> None:
    """
    Every word is spoken once and in order; files are named, tagged, as loud as asked for; book.json and UI say what is where.
    """
    done = _make(narrate, book, clip=clip)

    assert 0 == done.code, done.err
    folder = narrate.folder / "out" / TITLE
    written = _book(folder)
    assert SPOKEN == [segment["text"] for chapter in written["chapters"] for segment in chapter["segments"]]
    assert sorted(SPOKEN) == sorted(sandbox.spoken())
    names = ["Opening credits.mp3", "01 - The First.mp3", "02 - The Second.mp3", "Closing credits.mp3", "Sample.mp3"]
    assert [*names, "A Small Book.m4b"] == [file["file"] for file in written["files"]]
    for file in written["files"]:
        assert hashlib.sha256((folder / file["file"]).read_bytes()).hexdigest() == file["sha256"]
    for name in names:
        samples, rate = soundfile.read(folder / name)
        rms, peak = 20 * np.log10(np.sqrt(np.mean(samples**2))), 20 * np.log10(np.abs(samples).max())
        assert (44_100, 1) == (rate, samples.ndim)
        assert -23 <= rms <= -18, name
        assert peak <= -3, name
    marks = [(round(one.start, 2), one.title) for one in mutagen.File(folder / "A Small Book.m4b").chapters]
    assert ["Opening credits", "The First", "The Second", "Closing credits"] == [title for _, title in marks]
    with av.open(str(folder / "A Small Book.m4b")) as container:
        assert [title for _, title in marks] == [mark["metadata"]["title"] for mark in container.chapters()]
    for chapter, (start, _) in list(zip(written["chapters"], marks, strict=True))[1:]:
        assert abs(chapter["start"] - start) < 0.05
    assert "Imprint (OPS/imprint.xhtml)" in [left["name"] for left in written["left_out"]]
    assert done.json["state"] == "completed"
    assert (folder / "run.json").is_file()
    ours = {"artifacts": {"flow_run_id": {"any_": [done.json["flow_run_id"]]}}}
    shown = ask("POST", f"{prefect_api}/artifacts/filter", json=ours).raise_for_status().json()
    texts = {row["key"]: row["data"] for row in shown if row["type"] == "markdown"}
    assert {"narrate-outline", "narrate-levels", "narrate-deliverables", "narrate-report", "narrate-voice"} <= set(texts)
    assert "The Second" in texts["narrate-outline"]
    assert "01 - The First.mp3" in texts["narrate-levels"]
    assert "A Small Book.m4b" in texts["narrate-deliverables"]
    assert 4 == sum(row["type"] == "image" for row in shown)


@pytest.mark.long
def test_places_in_the_audio_hold_the_segment(narrate: Narrate, book: Path, clip: Path) -> None:
    """
    Where book.json says that a segment is, in its MP3 and in the M4B, there is speech; between two there is room tone.
    """
    assert 0 == _make(narrate, book, clip=clip).code
    folder = narrate.folder / "out" / TITLE
    written = _book(folder)
    with av.open(str(folder / "A Small Book.m4b")) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    bound = np.concatenate(frames)

    def level(samples: Any, rate: int, start: float, end: float) -> float:
        """
        RMS of a slice, in dBFS.
        """
        part = samples[int(start * rate) : int(end * rate)]
        return float(20 * np.log10(np.sqrt(np.mean(part**2)) + 1e-9))

    for chapter in written["chapters"]:
        samples, mp3_rate = soundfile.read(folder / chapter["files"][0])
        for one, after in zip(chapter["segments"], chapter["segments"][1:], strict=False):
            assert level(samples, mp3_rate, one["start"], one["end"]) > -30
            assert level(bound, rate, one["m4b_start"], one["m4b_end"]) > -30
            assert level(samples, mp3_rate, one["end"] + 0.1, after["start"] - 0.1) < -60
            assert level(bound, rate, one["m4b_end"] + 0.1, after["m4b_start"] - 0.1) < -60


@pytest.mark.long
def test_a_second_run_sends_nothing_and_a_change_only_what_changed(
    narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path
) -> None:
    """
    Again, nothing is sent and no file touched; a changed chapter is sent and mastered alone, and the M4B has it.
    """
    assert 0 == _make(narrate, book, clip=clip).code
    folder = narrate.folder / "out" / TITLE
    before = _looks(folder)
    sandbox.forget()

    assert 0 == _make(narrate, book, clip=clip).code

    assert [] == sandbox.spoken()
    assert before == _looks(folder)

    _epub(
        book, two="<h1>The Second</h1><p>Evening came at last, and with it a ship out of the north.</p><p>It was poisoned.</p>"
    )
    assert 0 == _make(narrate, book, clip=clip).code
    assert ["Evening came at last, and with it a ship out of the north."] == sandbox.spoken()
    changed = {name for name, look in _looks(folder).items() if before[name] != look}
    assert {"02 - The Second.mp3", "A Small Book.m4b"} == changed


@pytest.mark.long
def test_a_failed_chapter_leaves_the_others_done_and_the_book_unbound(
    narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path
) -> None:
    """
    Exit 3 names chapter and text; the next run sends what is missing, and binds.
    """
    sandbox.config(faults=[{"kind": "status", "status": 400, "match": "poisoned"}])

    failed = _make(narrate, book, clip=clip)

    folder = narrate.folder / "out" / TITLE
    assert 3 == failed.code
    assert "It was poisoned." in failed.err
    assert "Traceback" not in failed.err
    assert {"Opening credits.mp3", "01 - The First.mp3", "Closing credits.mp3"} == set(_looks(folder))

    sandbox.config(faults=[])
    sandbox.forget()
    assert 0 == _make(narrate, book, clip=clip).code
    assert ["It was poisoned."] == sandbox.spoken()
    assert (folder / "A Small Book.m4b").is_file()


@pytest.mark.long
def test_a_damaged_take_is_recorded_anew_for_the_master(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path) -> None:
    """
    A take that is not what was stored is never mastered: it is paid for once more, and the run says so.
    """
    sandbox.config(faults=[{"kind": "status", "status": 400, "match": "poisoned"}])
    assert 3 == _make(narrate, book, clip=clip).code
    for take in (narrate.folder / "out/.takes").rglob("*.flac"):
        _flip(take)
    sandbox.config(faults=[])
    sandbox.forget()

    done = _make(narrate, book, clip=clip)

    assert 0 == done.code, done.err
    assert {"The Second", "Morning came, and with it a ship.", "It was poisoned."} <= set(sandbox.spoken())
    notes = [note for entry in done.json["scripts"] for note in entry["notes"]]
    assert any("damaged" in note for note in notes)


@pytest.mark.long
@pytest.mark.parametrize(("harm", "codes"), [(_flip, [3, 0]), (Path.unlink, [0])])
def test_a_sample_is_made_though_takes_of_its_finished_chapter_are_not_as_they_were(
    narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path, harm: Callable[[Path], None], codes: list[int]
) -> None:
    """
    They are recorded anew: those that are gone at once, damaged ones in the run after the one that meets them. Once the sample
    is there its takes are needed no more.
    """
    told = [f"It was told {number} times, and it is told here again, slowly and at length." for number in range(40)]
    _epub(book, one="<h1>The First</h1>" + "".join(f"<p>{sentence}</p>" for sentence in told))
    sandbox.config(faults=[{"kind": "status", "status": 400, "match": "poisoned"}])
    assert 3 == _make(narrate, book, clip=clip).code
    for take in (narrate.folder / "out/.takes").rglob("*.flac"):
        harm(take)
    sandbox.config(faults=[])
    sandbox.forget()

    ends = [_make(narrate, book, clip=clip) for _ in codes]

    assert codes == [end.code for end in ends], ends[0].err
    assert all("The sample cannot be made." in end.err for end in ends[:-1])
    assert {*told[:20], *SPOKEN[4:7]} <= set(sandbox.spoken())
    assert len(sandbox.spoken()) == len(set(sandbox.spoken()))
    assert (narrate.folder / "out" / TITLE / "A Small Book.m4b").is_file()
    for take in (narrate.folder / "out/.takes").rglob("*.flac"):
        take.unlink()
    sandbox.forget()
    again = _make(narrate, book, clip=clip)
    assert 0 == again.code, again.err
    assert [] == sandbox.spoken()


@pytest.mark.long
def test_the_outline_sends_nothing_and_writes_the_plan_once(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path) -> None:
    """
    What the plan says then counts: a chapter's title, what is left out, credits, level profile and voice.
    """
    shown = narrate("book", book, "--outline", "--write")

    assert 0 == shown.code, shown.err
    assert "The First" in shown.out
    plan = book.parent / "book.toml"
    assert 2 == narrate("book", book, "--outline", "--write").code
    assert [] == sandbox.requests()

    text = plan.read_text().replace('title = "The First"', 'title = "Number One"')
    head, second, tail = text.partition('title = "The Second"')
    text = head + second + tail.replace("include = true", "include = false", 1)
    text = text.replace("opening = true", "opening = false").replace("closing = true", 'closing = "Goodbye."')
    text = 'profile = "podcast"\n' + text.replace("[voice]", f'[voice]\nreference = ["{clip}"]')
    plan.write_text(text)
    done = narrate("book", book, "--out", "out", "--json", **QUICK)

    assert 0 == done.code, done.err
    written = _book(narrate.folder / "out" / TITLE)
    said = [segment["text"] for chapter in written["chapters"] for segment in chapter["segments"]]
    assert ["Number One", "It was dark. Nobody spoke.", "The lamps were lit.", "Goodbye."] == said
    assert "podcast" == written["profile"]["name"]
    assert abs(written["files"][0]["levels"]["loudness"] + 16) <= 0.5


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('titel = "x"\n', "titel"),
        ('[[chapters]]\nsource = "OPS/three.xhtml"\n', "three.xhtml"),
        ('profile = "loud"\n', "loud"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_is_sent(
    narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path, written: str, told: str
) -> None:
    """
    Exit 2 with a sentence that names what is wrong.
    """
    (book.parent / "book.toml").write_text(written)

    done = _make(narrate, book, clip=clip)

    assert 2 == done.code
    assert told in done.err
    assert "Traceback" not in done.err
    assert [] == sandbox.requests()


def test_what_is_not_ours_is_not_overwritten(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path) -> None:
    """
    A stranger's file where one of the book's is to be is exit 2, and nothing is sent.
    """
    other = narrate.folder / "out" / TITLE / "01 - The First.mp3"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")

    done = _make(narrate, book, clip=clip)

    assert 2 == done.code
    assert "01 - The First.mp3" in done.err
    assert [] == sandbox.requests()
    assert b"mine" == other.read_bytes()


@pytest.mark.long
def test_a_folder_of_books_is_made_within_one_budget(narrate: Narrate, sandbox: Sandbox, book: Path, clip: Path) -> None:
    """
    One book after the other; what the first cost is not there for the second, which ends the run with exit 6.
    """
    other = book.with_name("tiny.epub")
    Epub(
        pages={"one.xhtml": page("<h1>Only</h1><p>" + "Quite some words that cost money. " * 12 + "</p>")},
        nav=[("Only", "one.xhtml")],
        metadata="<dc:title>Tiny</dc:title><dc:language>en</dc:language><dc:identifier id='id'>tiny</dc:identifier>",
    ).write(other)

    done = _make(narrate, book.parent, clip=clip, NARRATE_BUDGET="0.008")

    assert 6 == done.code, done.err
    assert ["completed", "failed"] == [result["state"] for result in done.json]
    assert (narrate.folder / "out" / TITLE / "A Small Book.m4b").is_file()
    again = _make(narrate, book.parent, clip=clip)
    assert 0 == again.code, again.err
    assert (narrate.folder / "out/Tiny/Tiny.m4b").is_file()
    assert len(sandbox.spoken()) == len(set(sandbox.spoken()))


@pytest.mark.parametrize("out", ["audio", "."])
def test_what_was_made_is_no_chapter(narrate: Narrate, sandbox: Sandbox, clip: Path, out: str) -> None:
    """
    A book's own folder may be where it goes: made again, there is nothing to do.
    """
    (narrate.folder / "novel").mkdir()
    (narrate.folder / "novel/one.txt").write_text("The only sentence.")
    command = ["book", "novel", "--reference", str(clip), "--out", f"novel/{out}", "--json"]
    assert 0 == narrate(*command, **QUICK).code
    spoken = sandbox.spoken()

    again = narrate(*command, **QUICK)

    assert (0, spoken) == (again.code, sandbox.spoken()), again.err
    assert 0 == again.json["totals"]["narrated"]


@pytest.mark.long
def test_what_one_book_may_have_cost_is_not_there_for_the_next(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    A request whose answer never came is paid for perhaps: it counts for the budget of all books, which is short for the second.
    """
    books = [narrate.folder / "a.md", narrate.folder / "b.md"]
    for book in books:
        book.write_text(f"# Only {book.stem}\n\n{f'Many a word of {book.stem} costs its money. ' * 10}")
    sandbox.config(faults=[{"kind": "drop", "path": "/v1/tts", "match": "word of a", "count": 1}])
    credits, text = 100, 360  # of each, about; the answer that never comes is of one text
    budget = (2 * (credits + text) + text / 2) * USD_PER_BYTE["s2.1-pro"]

    done = _make(narrate, *books, clip=clip, NARRATE_BUDGET=str(budget))

    assert 6 == done.code, done.err
    assert not [text for text in sandbox.spoken() if "word of b" in text]
    [made, *refused] = done.json
    assert "completed" == made["state"]
    assert text - 50 < made["totals"]["bytes_unknown"] < text + 50
    assert [] == [result for result in refused if result["totals"]["requests"]]
    again = _make(narrate, *books, clip=clip, NARRATE_BUDGET=str(budget))
    assert 0 == again.code, again.err
    (twice,) = [said for said, times in Counter(sandbox.spoken()).items() if times > 1]
    assert "word of a" in twice
