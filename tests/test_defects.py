"""
Defects that tools of this kind are known for, by the numbers of the table in README: each would come back here first.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tinytag import TinyTag

from flows.narration import entries, plan
from flows.narration.assemble import Narration, Piece, Sound, assemble
from flows.narration.errors import ScriptsFailed, ServiceUnavailable
from flows.narration.judge import Heard
from flows.narration.limiter import Patience
from flows.narration.manifest import SegmentsFile, segments_path
from flows.narration.marked import markdown
from flows.narration.prose import plain
from flows.narration.scripts import Script
from flows.narration.segments import Cutting, Joint, cut
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import MOST_REFUSED, TakeStore
from tests.conftest import ROOT, Narrate, Sandbox, wait_for
from tests.house import QUICK, House

SENTENCES = [f"This is sentence number {number} of the chapter." for number in range(24)]

CONCURRENCY = 2


def _said(house: House, script: str) -> list[str]:
    """
    Texts in a narration, in order.
    """
    written = SegmentsFile.read(segments_path(house.out, script))
    return [segment.text for segment in written.segments] if written else []


@pytest.fixture
def killed(narrate: Narrate, sandbox: Sandbox, clip: Path) -> tuple[str, ...]:
    """
    A run that was killed with -9 in the middle; the command that started it.
    """
    sandbox.config(training="at-once", latency=0.3)
    script = narrate.folder / "chapter.txt"
    script.write_text("\n\n".join(SENTENCES))
    command = ("run", str(script), "--reference", str(clip), "--out", "out", "--concurrency", str(CONCURRENCY))
    process = narrate.start(*command)
    wait_for(lambda: len(sandbox.spoken()) > 8 or None, what="takes", seconds=60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sandbox.config(latency=0.0)
    return command


def test_01_a_killed_run_is_not_paid_for_again(narrate: Narrate, sandbox: Sandbox, killed: tuple[str, ...]) -> None:
    """
    After kill -9 only what was in flight or about to be kept is sent again; run once more, nothing is (2), and no job begins at
    zero (21).
    """
    before = len(sandbox.requests("/v1/tts"))

    done = narrate(*killed)
    sent = [row["text"] for row in sandbox.requests("/v1/tts")]
    again = narrate(*killed)

    assert (0, 0) == (done.code, again.code), done.err + again.err
    assert len(sent) - before <= len(SENTENCES) - before + 2 * CONCURRENCY
    assert set(SENTENCES) == set(sent)
    assert len(sent) == len(sandbox.requests("/v1/tts"))
    assert 1 == len(sandbox.voices())


async def test_02_an_unchanged_run_sends_nothing(house: House) -> None:
    """
    Neither does one whose narrations were thrown away: the takes are there.
    """
    house.write(one="One.\n\nTwo.")
    await house.run()
    house.sandbox.forget()

    await house.run()
    (house.out / "one.wav").unlink()
    manifest, error = await house.run()

    assert [] == house.sandbox.requests()
    assert (None, 0, 8) == (error, manifest.totals.bytes_billed, manifest.totals.bytes_reused)


async def test_03_a_lost_segment_is_no_success(house: House) -> None:
    """
    The run fails with 3 and names the file, the line and the sentence.
    """
    house.write(one="One.\n\nThis one is poison.\n\nThree.")
    house.sandbox.config(faults=[{"kind": "status", "status": 400, "match": "poison"}])

    manifest, error = await house.run()

    assert isinstance(error, ScriptsFailed)
    assert "one.txt, line 3: " in str(error)
    assert "Missing: “This one is poison.”" in str(error)
    assert ("failed", "failed") == (manifest.state, manifest.scripts[0].state)
    assert not (house.out / "one.wav").exists()


async def test_04_a_lost_heading_does_not_move_its_chapter(house: House) -> None:
    """
    What the narrations are comes from the scripts, not from what survived: no chapter flows into another.
    """
    house.write(**{f"chapter-{number}": f"Chapter {number}\n\nText of it, the {number}." for number in (6, 7, 8)})
    house.sandbox.config(faults=[{"kind": "status", "status": 400, "match": "Chapter 7"}])

    _, error = await house.run()

    assert isinstance(error, ScriptsFailed)
    assert ["chapter-6.wav", "chapter-8.wav"] == sorted(path.name for path in house.out.glob("*.wav"))
    assert ["Chapter 6", "Text of it, the 6."] == _said(house, "chapter-6.txt")


async def test_05_one_bad_segment_costs_exactly_itself(house: House) -> None:
    """
    The rest of its script is paid, kept and reused.
    """
    house.write(one="\n\n".join([*SENTENCES, "This one is poison."]))
    house.sandbox.config(faults=[{"kind": "status", "status": 400, "match": "poison"}])
    await house.run()
    house.sandbox.config(faults=[])
    house.sandbox.forget()

    _, error = await house.run()

    assert error is None
    assert ["This one is poison."] == house.sandbox.spoken()


async def test_06_a_take_is_never_another_books(house: House) -> None:
    """
    It is found by what is said, not by a name or a place: same names, same folder, same store, another book.
    """
    house.write(one="A book of mine.\n\nIts second paragraph.")
    await house.run()
    house.write(one="The book of another.\n\nIts second paragraph.")

    _, error = await house.run()

    assert error is None
    assert ["The book of another.", "Its second paragraph."] == _said(house, "one.txt")
    assert 3 == len(house.sandbox.spoken())


@pytest.mark.parametrize("kind", ["html", "empty", "json", "silence"])
async def test_07_a_junk_body_is_no_take(house: House, kind: str) -> None:
    """
    An answer of 200 is judged: where every one is junk the service counts as out of reach, and nothing is called narrated.
    """
    house.write(one="\n\n".join(SENTENCES[:6]))
    house.sandbox.config(faults=[{"kind": kind}])

    manifest, error = await house.run()

    assert isinstance(error, ScriptsFailed | ServiceUnavailable)
    assert 0 == manifest.totals.narrated
    assert [] == list(house.out.rglob("*.flac")) + list(house.out.glob("*.wav"))


async def test_08_a_retry_does_not_double_what_is_heard(house: House) -> None:
    """
    Takes that broke half-way leave nothing behind: the narration holds each segment once, in order.
    """
    house.write(one="\n\n".join(SENTENCES))
    house.sandbox.config(faults=[{"kind": "truncate", "rate": 0.3}, {"kind": "status", "status": 503, "rate": 0.3}])

    _, error = await house.run(patience=QUICK.model_copy(update={"attempts": 10, "patience": 20}))

    assert error is None
    assert SENTENCES == _said(house, "one.txt")
    pieces = sum(soundfile.info(house.flac(text)).frames for text in SENTENCES)
    pauses = (len(SENTENCES) - 1) * round(0.7 * SAMPLE_RATE)
    assert pieces + pauses == soundfile.info(house.out / "one.wav").frames


def test_09_a_crash_in_training_makes_no_second_voice(narrate: Narrate, sandbox: Sandbox, clip: Path) -> None:
    """
    The next run finds the voice of the same reference, so that takes made with it stay good.
    """
    sandbox.config(training="seconds", training_seconds=4)
    script = narrate.folder / "one.txt"
    script.write_text("One.")
    command = ("run", script, "--reference", clip, "--out", "out")
    process = narrate.start(*command)
    wait_for(lambda: sandbox.voices() or None, what="a voice", seconds=60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [voice] = sandbox.voices()

    done = narrate(*command, NARRATE_POLL_INTERVAL="0.5")

    assert 0 == done.code, done.err
    assert [voice["_id"]] == [there["_id"] for there in sandbox.voices()]
    assert voice["_id"] == sandbox.requests("/v1/tts")[0]["reference_id"]


async def test_10_a_429_kills_no_run(house: House) -> None:
    """
    It is waited for, and costs nothing.
    """
    house.write(one="\n\n".join(SENTENCES[:8]))
    house.sandbox.config(faults=[{"kind": "status", "status": 429, "count": 1}])

    manifest, error = await house.run(patience=QUICK.model_copy(update={"patience": 20}))

    assert error is None
    assert sum(map(len, SENTENCES[:8])) == manifest.totals.bytes_billed == house.billed()


def _many(house: House) -> int | None:
    asked = len(house.sandbox.requests("/v1/tts"))
    return asked if asked > 6 else None


async def test_11_patience_outlasts_a_window_of_refusals(house: House) -> None:
    """
    However few tries a segment has: refusals are no tries. They are not hammered against either; the default lasts 15 minutes.
    """
    house.write(one="\n\n".join(SENTENCES))
    house.sandbox.config(faults=[{"kind": "status", "status": 429}])
    patience = QUICK.model_copy(update={"attempts": 1, "patience": 60, "backoff": 0.2})

    run = asyncio.create_task(house.run(patience=patience))
    refused = await asyncio.to_thread(wait_for, lambda: _many(house), what="refusals")
    house.sandbox.config(faults=[])
    _, error = await run

    assert error is None
    assert SENTENCES == _said(house, "one.txt")
    assert refused < 60
    assert Patience().patience >= 600


def test_12_a_table_of_contents_is_not_read_aloud() -> None:
    """
    A list of nothing but links into the script is left out, and said to be; one with a word of its own is read.
    """
    prose = markdown(
        "# Book\n\n- [One](#one)\n  - [One a](#one-a)\n- [Two](#two)\n\n# One\n\n- [A link](#x) and a word\n- more\n"
    )

    assert ["Book", "One", "A link and a word", "more"] == [block.text for block in prose.blocks]
    assert [(3, "left out: a table of contents, a list of nothing but links into the script")] == [
        (note.line, note.what) for note in prose.notes
    ]


def _kept(store: TakeStore, key: str, samples: np.ndarray) -> None:
    store.keep(key, Heard(samples=samples.astype(np.int16), sample_rate=SAMPLE_RATE))


def _noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).integers(-9000, 9000, round(seconds * SAMPLE_RATE))


def test_13_an_mp3_is_encoded_once_and_tells_its_length(tmp_path: Path) -> None:
    """
    No padding at the joints: the length in its header, the decoded one and the sum of its parts are the same.
    """
    store = TakeStore(tmp_path / "takes")
    keys = [f"{place:064x}" for place in range(40)]
    for key in keys:
        _kept(store, key, _noise(0.25))

    made = assemble(
        [Piece(take=key, joint=Joint.SENTENCE) for key in keys],
        store=store, sound=Sound(pause_sentence=0), tags={}, target=tmp_path / "one.mp3",
    )  # fmt: skip

    assert made.samples == round(40 * 0.25 * SAMPLE_RATE)
    told = TinyTag.get(tmp_path / "one.mp3").duration or 0
    heard = soundfile.info(tmp_path / "one.mp3").frames / SAMPLE_RATE
    assert max(abs(told - 10.0), abs(heard - 10.0)) < 0.06


def test_14_no_text_is_cleaned_away() -> None:
    """
    Curly quotes, dashes, ellipses and words longer than fifty letters are spoken.
    """
    text = "“It’s — well… 5 % ‘off’,” said Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetzbuch #7 & Söhne."

    cutting = cut(plain(text), cutting=Cutting())

    assert text == "".join(segment.text for segment in cutting.segments)


MEASURE = """
import resource, sys
from pathlib import Path
from flows.narration.assemble import Piece, Sound, assemble
from flows.narration.scripts import Script
from flows.narration.segments import Joint
from flows.narration.takes import TakeStore

folder, times = Path(sys.argv[1]), int(sys.argv[2])
pieces = [Piece(take="0" * 64, joint=Joint.SENTENCE)] * times
assemble(pieces, store=TakeStore(folder), sound=Sound(format="wav"), tags={}, target=folder / f"{times}.wav")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_15_a_long_narration_takes_no_more_memory(tmp_path: Path) -> None:
    """
    Forty minutes, 200 MB of sound, are made in the memory that one minute takes.
    """
    _kept(TakeStore(tmp_path), "0" * 64, _noise(60))

    short, long = (
        int(subprocess.run(
            [sys.executable, "-c", MEASURE, tmp_path, str(times)], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout)
        for times in (1, 40)
    )  # fmt: skip

    assert 2 * 40 * 60 * SAMPLE_RATE < (tmp_path / "40.wav").stat().st_size
    assert long - short < 20_000


def test_16_times_do_not_wrap_after_a_day() -> None:
    """
    Where a segment stands is told in seconds from the beginning, past 24 hours as well.
    """
    text = plan.Text(title="", notes=[], segments=cut(plain("One.\n\nTwo."), cutting=Cutting()).segments)
    reading = plan.Reading(Script("one.txt", Path(), "one.mp3"), "", "", 1, [], 2, 8, lambda: text)
    pieces = tuple(Piece(take=str(place), joint=Joint.PARAGRAPH) for place in range(2))
    planned = plan.Planned(reading=reading, pieces=pieces, tags={}, narration="", made=None)
    day = 86_400 * SAMPLE_RATE
    made = Narration(places=((0, day), (day + 100, day + 2 * SAMPLE_RATE)), samples=day + 3 * SAMPLE_RATE)

    written = entries.segments_file(planned, made, size=1)

    assert (86_402.0, 86_403.0) == (written.segments[1].end, written.seconds)


def test_17_nothing_that_was_paid_for_is_evicted(tmp_path: Path) -> None:
    """
    Only refused answers are bounded; takes stay, however many and however old.
    """
    store = TakeStore(tmp_path)
    keys = [f"{place:064x}" for place in range(MOST_REFUSED + 20)]
    for key in keys:
        _kept(store, key, _noise(0.05))
        os.utime(next((tmp_path / key[:2]).glob(f"{key}*")), (0, 0))
        store.set_aside(key, key.encode())

    assert MOST_REFUSED == len(list((tmp_path / ".refused").iterdir()))
    assert all(store.find(key) for key in keys)


def test_18_loudness_is_not_changed_behind_ones_back(tmp_path: Path) -> None:
    """
    A narration holds the samples of its takes as they came, bit for bit: no compressor is in the way.
    """
    store = TakeStore(tmp_path / "takes")
    quiet, loud = _noise(0.5) // 50, _noise(0.5) * 3
    _kept(store, "a" * 64, quiet)
    _kept(store, "b" * 64, loud)

    assemble(
        [Piece(take="a" * 64, joint=Joint.SENTENCE), Piece(take="b" * 64, joint=Joint.SENTENCE)],
        store=store, sound=Sound(format="wav", pause_sentence=0), tags={}, target=tmp_path / "one.wav",
    )  # fmt: skip

    heard, _ = soundfile.read(tmp_path / "one.wav", dtype="int16")
    assert np.array_equal(np.concatenate([quiet, loud]).astype(np.int16), heard)


async def test_19_nothing_that_is_not_documented_is_sent(house: House) -> None:
    """
    No field the API does not know, and none that is null where it takes no null: some endpoints answer 400 to that.
    """
    house.write(one="One.")
    await house.run()

    [request] = house.sandbox.requests("/v1/tts")

    assert {
        "chunk_length", "normalize", "format", "sample_rate", "mp3_bitrate", "opus_bitrate", "latency", "temperature", "top_p",
        "references", "reference_id", "prosody", "max_new_tokens", "repetition_penalty", "min_chunk_length",
        "condition_on_previous_chunks", "early_stop_threshold", "text",
    } >= set(request["parameters"])  # fmt: skip
    assert [] == [name for name, value in request["parameters"].items() if value is None]


async def test_20_format_and_rate_are_asked_for_by_name(house: House) -> None:
    """
    Defaults differ between endpoints; what is asked for is checked in what comes.
    """
    house.write(one="One.")
    await house.run()

    [request] = house.sandbox.requests("/v1/tts")

    assert ("wav", SAMPLE_RATE, "s2.1-pro") == (request["format"], request["sample_rate"], request["model"])
    assert SAMPLE_RATE == soundfile.info(house.out / "one.wav").samplerate


def test_21_a_crashed_run_goes_on_where_it_was(narrate: Narrate, sandbox: Sandbox, killed: tuple[str, ...]) -> None:
    """
    The next run reuses what the dead one kept, and the ledger knows of every request of both.
    """
    kept = len(list((narrate.folder / "out/.takes").rglob("*.flac")))

    done = narrate(*killed, "--json")
    total = narrate("ledger", "--out", "out", "--by", "--json").json["total"]

    assert 0 == done.code, done.err
    assert sum(map(len, SENTENCES)) - done.json["totals"]["bytes_reused"] == done.json["totals"]["bytes_billed"]
    assert kept * min(map(len, SENTENCES)) <= done.json["totals"]["bytes_reused"]
    asked = sandbox.requests("/v1/tts")
    assert total["requests"] >= len(asked)
    assert sum(row["bytes"] for row in asked if row["billed"]) <= total["bytes_billed"] + total["bytes_unknown"]


def test_22_a_fault_of_the_program_is_no_success(narrate: Narrate, sandbox: Sandbox, voice_id: str) -> None:
    """
    Whatever was not foreseen ends the run Failed and the command with 1, with its traceback, and what was paid for is kept.
    """
    script = narrate.folder / "one.txt"
    script.write_text("One.")
    faulty = narrate.folder / "sitecustomize.py"
    faulty.write_text(
        "import flows.narration.assemble as room\n"
        "def fault(*_, **__):\n    raise ZeroDivisionError('a fault of the program')\n"
        "room.assemble = fault\n"
    )
    command = ("run", script, "--voice-id", voice_id, "--out", "out")

    done = narrate(*command, PYTHONPATH=f"{narrate.folder}{os.pathsep}{ROOT}")
    faulty.unlink()
    again = narrate(*command)

    assert 1 == done.code, done.err
    assert "ZeroDivisionError: a fault of the program" in done.err
    assert (0, ["One."]) == (again.code, sandbox.spoken()), again.err


def test_each_defect_of_the_table_has_its_test() -> None:
    """
    README's table of defects and the tests here go together, number by number.
    """
    table = (ROOT / "README.md").read_text().partition("| # | elsewhere | here |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    tests = re.findall(r"^(?:async )?def test_(\d\d)_", Path(__file__).read_text(), re.MULTILINE)

    assert list(range(1, 23)) == [int(row) for row in rows] == [int(test) for test in tests]
