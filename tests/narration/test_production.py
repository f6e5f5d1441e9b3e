"""
Whole runs without Prefect against a running sandbox: what is made, what is paid, and what `run.json` says of it.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from flows.narration import budget
from flows.narration.assemble import read_mark
from flows.narration.ending import worst
from flows.narration.errors import (
    ExitCode,
    Interrupted,
    KeyRefused,
    MoneyError,
    NarrateError,
    ScriptsFailed,
    ServiceAway,
    TakeFailed,
    VoiceFailed,
    VoiceTimeout,
)
from flows.narration.ffmpeg import FfmpegFailed
from flows.narration.judge import Samples
from flows.narration.manifest import Manifest, ScriptEntry, segments_path
from flows.narration.ours import CAPTIONS_NOTE
from flows.narration.production import Production, watching
from flows.narration.speech import Delivery
from flows.narration.takes import TakeDamaged, TakeStore
from tests.conftest import wait_for
from tests.house import QUICK, House


def _states(manifest: Manifest) -> dict[str, str]:
    return {entry.script: entry.state for entry in manifest.scripts}


async def test_a_run_is_written_down(house: House) -> None:
    """
    With its schema, all paths relative to OUT, and every number of it: they are what people are billed by.
    """
    house.write(one="Öne.\n\nTwo. [Three]", part__two="Two.", three="* * *")
    (house.scripts / "cover.jpg").touch()

    await house.run()

    text = (house.out / "run.json").read_text(encoding="utf-8")
    written = json.loads(text)
    assert [64] * 3 == [len(entry.pop("digest")) for entry in written["scripts"]]
    assert written.pop("started") <= written.pop("finished")
    speech = written.pop("speech")
    assert ("s2.1-pro", 1.0, "wav", 0.7) == tuple(speech[name] for name in ("model", "speed", "format", "pause_paragraph"))
    nothing: dict[str, Any] = {
        **dict.fromkeys(("seconds", "speech_seconds", "pause_seconds", "usd"), 0.0),
        **dict.fromkeys(("bytes_billed", "bytes_unknown", "bytes_reused", "requests", "retries", "segments"), 0),
        "audio": None,
        "error": None,
        "notes": [],
    }
    one = {"script": "one.txt", "audio": "one.wav", "state": "narrated", "segments": 2, "requests": 2, "bytes_billed": 17}
    one |= {"usd": 0.000255, "seconds": 1.9667, "speech_seconds": 1.2667, "pause_seconds": 0.7}
    one |= {"notes": ['line 3: sent "[Three]" as "(Three)"']}
    two = {"script": "part/two.txt", "audio": "part/two.wav", "state": "narrated", "segments": 1, "requests": 1}
    two |= {"bytes_billed": 4, "usd": 0.00006, "seconds": 0.3333, "speech_seconds": 0.3333}
    totals = dict.fromkeys(("unchanged", "failed", "pending", "bytes_unknown", "bytes_reused", "retries"), 0)
    assert {
        "schema": 1,
        "flow_run_id": "r",
        "state": "completed",
        "error": None,
        "voice": {"id": house.voice, "title": "Ann", "reference": None, "attached": False},
        "left_out": [{"name": "cover.jpg", "reason": "not a .txt or .md file"}],
        "totals": totals
        | {"scripts": 3, "narrated": 2, "empty": 1, "segments": 3, "seconds": 2.3}
        | {"requests": 3, "bytes_billed": 21, "usd": 0.000315},
        "scripts": [nothing | one, nothing | two, nothing | {"script": "three.txt", "state": "empty"}],
    } == written
    assert str(house.out.parent) not in text
    assert 21 == house.billed()
    assert all(read_mark(house.out / name) for name in ("one.wav", "part/two.wav"))
    assert segments_path(house.out, "part/two.txt").is_file()


async def test_a_second_run_sends_nothing(house: House) -> None:
    """
    All that was paid for counts as reused, and the narrations are not touched.
    """
    house.write(one="One.\n\nTwo.", two="Three.")
    first, _ = await house.run()
    stamps = [path.stat().st_mtime_ns for path in sorted(house.out.rglob("*.wav"))]
    house.sandbox.forget()

    second, error = await house.run()

    assert (None, []) == (error, house.sandbox.requests("/v1/tts"))
    assert {"one.txt": "unchanged", "two.txt": "unchanged"} == _states(second)
    assert [(entry.seconds, entry.bytes_billed, 0) for entry in first.scripts] == [
        (entry.seconds, entry.bytes_reused, entry.bytes_billed) for entry in second.scripts
    ]
    assert stamps == [path.stat().st_mtime_ns for path in sorted(house.out.rglob("*.wav"))]


async def test_a_failed_script_keeps_the_rest(house: House) -> None:
    """
    It says file, line and sentence; what was recorded of it stays, and the next run records only what is missing.
    """
    house.write(one="One.", two="Two.\n\nPoison here.\n\nThree.\n\nMore poison.", three="Four.")
    house.sandbox.config(faults=[{"kind": "silence", "match": "oison"}])

    manifest, error = await house.run()

    why = "No sound take after 3 attempts: The take is silent"
    (failed,) = [entry for entry in manifest.scripts if entry.state == "failed"]
    told = (failed.error or "").splitlines()
    assert {"one.txt": "narrated", "two.txt": "failed", "three.txt": "narrated"} == _states(manifest)
    assert [(0, "Missing: “Poison here.”"), (0, "Missing: “More poison.”")] == [
        (line.index(f"two.txt, line {number}: {why}"), line[line.index("Missing") :])
        for line, number in zip(told, (3, 7), strict=True)
    ]
    assert isinstance(error, ScriptsFailed)
    assert error.fact.startswith("1 of 3 scripts failed:\n  two.txt, line 3: ")
    assert (failed.bytes_billed, failed.retries, failed.requests) == (10 + 3 * 24, 4, 8)
    assert house.billed() == manifest.totals.bytes_billed
    assert not (house.out / "two.wav").exists()

    house.sandbox.config(faults=[])
    house.sandbox.forget()
    again, error = await house.run()

    assert (None, ["More poison.", "Poison here."]) == (error, sorted(house.sandbox.spoken()))
    assert [("two.txt", "narrated", 24, 10)] == [
        (entry.script, entry.state, entry.bytes_billed, entry.bytes_reused) for entry in again.scripts if entry.requests
    ]


async def test_what_scripts_share_is_paid_once_and_entered_once(house: House) -> None:
    """
    Over all entries what was billed is what the service billed, and billed and reused together are all that is spoken.
    """
    refrain = "Refrain of it all."
    house.write(one=f"{refrain}\n\nOne.\n\n{refrain}", two=f"{refrain}\n\nTwo.", three=refrain)

    manifest, _ = await house.run()

    assert sorted([refrain, "One.", "Two."]) == sorted(house.sandbox.spoken())
    assert house.billed() == manifest.totals.bytes_billed == 18 + 4 + 4
    assert [("one.txt", 40), ("two.txt", 22), ("three.txt", 18)] == sorted(
        ((entry.script, entry.bytes_billed + entry.bytes_reused) for entry in manifest.scripts), key=lambda pair: -pair[1]
    )
    assert 3 * 18 == manifest.totals.bytes_reused


async def test_a_bad_take_is_billed_and_is_no_reuse(house: House) -> None:
    """
    What is paid twice for one segment is not taken off what was there already.
    """
    house.write(one="One.")
    await house.run()
    house.write(one="One.\n\nTwo.")
    house.sandbox.config(faults=[{"kind": "silence", "count": 1}])

    manifest, _ = await house.run()

    (entry,) = manifest.scripts
    assert (8, 4, 1, 2) == (entry.bytes_billed, entry.bytes_reused, entry.retries, entry.requests)


async def test_the_books_balance_in_any_weather(house: House) -> None:
    """
    What is known to be billed, and with what may have been, frame what the service billed, failed attempts included.
    """
    house.write(**{f"script{number}": f"Common words.\n\nOwn words {number}." for number in range(12)})
    kinds = ("silence", "truncate", "reset", "tiny", "html")
    house.sandbox.config(faults=[{"kind": kind, "rate": 0.15} for kind in kinds])

    manifest, error = await house.run(patience=QUICK.model_copy(update={"attempts": 20, "patience": 30}))

    totals = manifest.totals
    assert error is None
    assert totals.bytes_billed <= house.billed() <= totals.bytes_billed + totals.bytes_unknown
    assert (len(house.sandbox.requests("/v1/tts")), totals.requests - 13) == (totals.requests, totals.retries)
    assert totals.retries > 0


async def test_captions_of_before_do_not_stay_beside_a_new_narration(house: House) -> None:
    """
    A run that is killed before it makes those of what it narrated leaves none, and none of another text.
    """
    house.write(one="As it was.", two="As it stays.", three="As it was, and captions of others beside it.")
    await house.run()
    for name, note in {"one": CAPTIONS_NOTE, "two": CAPTIONS_NOTE, "three": "mine"}.items():
        (house.out / f"{name}.vtt").write_text(f"WEBVTT\n\n{note}\n")
        (house.out / f"{name}.srt").write_text("1")
    house.write(one="As it is by now.")

    await house.run()

    assert ["three.srt", "three.vtt", "two.srt", "two.vtt"] == sorted(path.name for path in house.out.glob("*.[vs][tr]t"))


async def test_a_damaged_take_is_recorded_anew_and_said(house: House) -> None:
    """
    Only that one; the script that is made of it is right.
    """
    house.write(one="One.\n\nTwo is damaged.\n\nThree.")
    await house.run()
    before = (house.out / "one.wav").read_bytes()
    house.damage("Two is damaged.")
    (house.out / "one.wav").unlink()
    house.sandbox.forget()

    manifest, error = await house.run()

    (entry,) = manifest.scripts
    assert (None, ["Two is damaged."]) == (error, house.sandbox.spoken())
    assert ["line 3: recorded anew, as the take in the store was damaged"] == entry.notes
    assert ("narrated", 15, 10, 1) == (entry.state, entry.bytes_billed, entry.bytes_reused, entry.requests)
    assert before == (house.out / "one.wav").read_bytes()


async def test_a_damaged_take_that_scripts_share_is_paid_once(house: House) -> None:
    """
    Whichever script finds out first; the others wait for the same new take instead of throwing it away.
    """
    house.write(**{f"script{number}": f"Own words {number}.\n\nShared words." for number in range(8)})
    await house.run()
    house.damage("Shared words.")
    for audio in house.out.glob("*.wav"):
        audio.unlink()
    house.sandbox.forget()
    house.sandbox.config(latency=0.2)

    manifest, error = await house.run()

    assert (None, ["Shared words."]) == (error, house.sandbox.spoken())
    assert {"narrated"} == set(_states(manifest).values())
    assert 1 == sum(len(entry.notes) for entry in manifest.scripts)


class _Rotten(TakeStore):
    """
    A store on a disk that returns other bits than it was given: no such disk is at hand.
    """

    def read(self, key: str) -> Iterator[Samples]:
        """
        Find every take damaged.
        """
        raise TakeDamaged(f"The take {key[:4]} is not what was stored.", key)


async def test_a_disk_that_fails_is_not_paid_for_for_ever(house: House) -> None:
    """
    A take that is damaged again after it was recorded anew fails its script.
    """
    house.write(one="One.")

    manifest, error = await asyncio.wait_for(house.run(store=_Rotten(house.out / ".takes")), 10)

    (entry,) = manifest.scripts
    assert ["One.", "One."] == house.sandbox.spoken()
    assert isinstance(error, ScriptsFailed)
    assert ("failed", 8, 0) == (entry.state, entry.bytes_billed, entry.bytes_reused)
    assert (entry.error or "").startswith("one.txt, line 1: The take ")


async def test_a_run_without_an_encoder_does_not_end_green(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An error that is neither the script's text nor the service's is a failure of the script all the same.
    """

    def missing() -> str:
        """
        Be an ffmpeg that is not there.
        """
        raise RuntimeError("no ffmpeg")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", missing)  # it cannot be uninstalled for one test
    house.write(one="One.")

    manifest, error = await house.run()

    assert {"one.txt": "failed"} == _states(manifest)
    assert isinstance(error, ScriptsFailed)
    assert (manifest.scripts[0].error or "").startswith("one.txt: There is no ffmpeg")
    assert 4 == manifest.totals.bytes_billed


@pytest.mark.parametrize(
    ("faults", "options", "kind"),
    [
        ([{"kind": "status", "status": 401, "after": 1}], {}, KeyRefused),
        ([{"kind": "status", "status": 402, "after": 1}], {}, MoneyError),
        ([{"kind": "status", "status": 503, "after": 1}], {}, ServiceAway),
        ([], {"budget_usd": 12 * 15e-6}, MoneyError),
    ],
    ids=["key", "credit", "service", "budget"],
)
async def test_what_ends_the_run_leaves_scripts_pending(
    house: House, faults: list[dict[str, Any]], options: dict[str, Any], kind: type[NarrateError]
) -> None:
    """
    They did not fail: the next run goes on with them, and what was paid is in their entries.
    """
    house.write(**{f"script{number}": f"Script {number}." for number in range(4)})
    house.sandbox.config(faults=faults)
    patience = QUICK.model_copy(update={"concurrency": 1})

    manifest, error = await house.run(patience=patience, **options)

    assert kind is type(error)
    assert ["narrated", "pending", "pending", "pending"] == sorted(_states(manifest).values())
    assert house.billed() == manifest.totals.bytes_billed == 9
    assert [error.fact if error else ""] * 3 == [entry.error for entry in manifest.scripts if entry.state == "pending"]

    house.sandbox.config(faults=[])
    again, error = await house.run()

    assert error is None
    assert ["narrated", "narrated", "narrated", "unchanged"] == sorted(_states(again).values())
    assert 36 == house.billed()


async def test_a_cancelled_run_knows_what_it_paid(house: House) -> None:
    """
    What was answered is billed and kept; what was in flight may have been billed.
    """
    house.write(one="Spoken.\n\nThis one hangs.", two="This one hangs, too.")
    await house.run(budget_usd=0.0)  # makes the voice
    house.sandbox.config(faults=[{"kind": "hang", "match": "hangs"}])
    production = house.production()
    run = asyncio.create_task(house.recorded(production))

    def hanging() -> bool | None:
        """
        Tell when one take is there and two requests hang.
        """
        return (house.flac("Spoken.").exists() and len(house.sandbox.requests("/v1/tts")) == 3) or None

    await asyncio.to_thread(wait_for, hanging, what="one take, and two requests that hang")
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    manifest = production.finish(state="cancelled")
    told = production.progress
    assert (1, 0) == (told.segments_done, told.segments_failed)

    assert manifest == Manifest.read(house.out / "run.json")
    assert [("one.txt", "pending", 7, 15), ("two.txt", "pending", 0, 20)] == [
        (entry.script, entry.state, entry.bytes_billed, entry.bytes_unknown) for entry in manifest.scripts
    ]


async def test_money_is_checked_before_anything_is_sent(house: House) -> None:
    """
    Against the budget and against the credit, for what is still to be sent; exactly enough is enough.
    """
    house.write(one="0123456789", two="0123456789")
    enough = house.production(budget_usd=0.00015)
    house.planned(enough)
    short = house.production(budget_usd=0.000149)
    house.planned(short)

    need = enough.estimate()
    assert (10, 0, 0.00015) == (need.bytes, need.bytes_covered, need.usd)
    enough.check_money(need, credit_usd=0.00015)
    for production, credit, name in ((short, None, "--budget"), (enough, 0.0001, "the account's API credit")):
        with pytest.raises(MoneyError) as refused:
            production.check_money(need, credit_usd=credit)
        assert refused.value.fact.startswith(f"This run needs about 0.0001 USD, but {name} is 0.0001 USD")
    free = house.production(budget_usd=0.0, delivery=Delivery(model="s2.1-pro-free"))
    house.planned(free)
    free.check_money(free.estimate(), credit_usd=0.0)
    assert [] == house.sandbox.requests()


async def test_what_is_narrated_already_needs_no_money(house: House) -> None:
    """
    Also where its takes were thrown away to save room: it is not going to be made again.
    """
    house.write(one="A long and costly script.")
    await house.run()
    house.flac("A long and costly script.").unlink()
    house.write(two="New.")
    house.run_id = "the next"
    production = house.production(budget_usd=4 * 15e-6)

    assert ["two.txt"] == house.planned(production)
    need = production.estimate()
    assert (4, 0) == (need.bytes, need.bytes_covered)
    production.check_money(need, credit_usd=None)


async def test_all_attempts_of_a_run_have_one_budget(house: House) -> None:
    """
    Suspended, retried or taken up again: what it was billed before counts; another run has a budget of its own.
    """
    house.write(one="0123456789")
    await house.run(budget_usd=0.0002)
    house.write(two="Eight on.")
    again = house.production(budget_usd=0.0002)
    house.planned(again)

    with pytest.raises(MoneyError, match=r"left to this run of --budget 0\.0002 is 0\.0001 USD: 0\.0001 USD short"):
        again.check_money(again.estimate(), credit_usd=None)
    _, error = await house.run(budget_usd=0.0002)
    assert isinstance(error, MoneyError)
    assert 10 == house.billed()
    house.run_id = "another"
    _, error = await house.run(budget_usd=0.0002)
    assert (None, 19) == (error, house.billed())


async def test_what_is_spent_of_a_budget_is_of_all_attempts(house: House) -> None:
    """
    By that people are told that it is nearly spent.
    """
    house.write(one="0123456789")
    await house.run(budget_usd=1.0)
    house.write(two="Eight on.")
    again = house.production(budget_usd=1.0)

    await house.recorded(again)

    assert 19 * 15e-6 == pytest.approx(again.spent_of_budget)


def test_a_budget_that_is_enough_to_the_byte_is_enough() -> None:
    """
    What is left of it is a difference of binary fractions; a byte more than there is is refused all the same.
    """
    byte = 15e-6
    for spent in range(1, 3000, 7):
        left = (spent + 1000) * byte - spent * byte
        budget.refuse_short(1000 * byte, budget_usd=1.0, left_usd=left, credit_usd=None)
        with pytest.raises(MoneyError):
            budget.refuse_short(1001 * byte, budget_usd=1.0, left_usd=left, credit_usd=None)


async def test_progress_is_of_what_has_to_be_made(house: House) -> None:
    """
    Whoever watches is handed the run when it begins, and can look at any time.
    """
    house.write(one="One.")
    await house.run()
    house.write(two="Two.\n\nThree.")
    seen: list[Production] = []
    token = watching.set(seen.append)
    try:
        await house.run()
    finally:
        watching.reset(token)

    progress = seen[0].progress
    assert (1, 1, 2, 2, 0.00015, 0.00015) == (
        progress.scripts,
        progress.scripts_done,
        progress.segments,
        progress.segments_done,
        progress.usd,
        progress.usd_expected,
    )
    assert progress.minutes > 0


FAILED = [ScriptEntry(script="a.txt", state="failed", error="a.txt, line 1: x"), ScriptEntry(script="b.txt", state="narrated")]
ERRORS = {
    ExitCode.INTERRUPTED: Interrupted.by_a_person(),
    ExitCode.KEY: KeyRefused("key"),
    ExitCode.MONEY: MoneyError("money"),
    ExitCode.SERVICE: ServiceAway("service"),
    ExitCode.VOICE: VoiceFailed("voice"),
    ExitCode.VOICE_TIMEOUT: VoiceTimeout("late"),
    ExitCode.SCRIPTS_FAILED: TakeFailed("take"),
}


@pytest.mark.parametrize("place", range(len(ERRORS)))
def test_of_several_errors_the_gravest_ends_the_run(place: int) -> None:
    """
    Interrupted before key before money before service before voice before scripts, in whatever order they came.
    """
    codes = list(ERRORS)[place:]

    for order in (codes, codes[::-1]):
        error = worst([ERRORS[code] for code in order], entries=FAILED)
        assert error is not None
        assert codes[0] == error.exit_code


@pytest.mark.parametrize(
    ("errors", "entries", "fact"),
    [
        ([], FAILED[1:], None),
        ([TakeFailed("x")], FAILED, "1 of 2 scripts failed:\n  a.txt, line 1: x\n"),
        ([FfmpegFailed("no ffmpeg")], FAILED, "1 of 2 scripts failed:\n  a.txt, line 1: x\n"),
    ],
)
def test_scripts_that_failed_are_told_together(
    errors: Sequence[NarrateError], entries: list[ScriptEntry], fact: str | None
) -> None:
    """
    One error of them all; and none where all is well.
    """
    error = worst(errors, entries=entries)

    assert fact == (error.fact if error else None)


def test_a_fault_of_the_program_is_never_hidden() -> None:
    """
    Not behind an error that a user can do something about either.
    """
    with pytest.raises(ZeroDivisionError):
        worst([KeyRefused("key"), ZeroDivisionError()], entries=FAILED)


async def test_scripts_keep_their_order_whichever_was_made_first(house: House) -> None:
    """
    The next run goes by the order that this one leaves: another would be other track numbers, and every narration made anew.
    """
    long = "\n\n".join(f"This is paragraph {place} of the first." for place in range(12))
    house.write(**{"chapter-1": long, "chapter-2": "Two.", "chapter-10": "Ten."})
    await house.run()

    manifest, _ = await house.run()

    assert ["chapter-1.txt", "chapter-2.txt", "chapter-10.txt"] == [entry.script for entry in manifest.scripts]
    assert 3 == manifest.totals.unchanged
