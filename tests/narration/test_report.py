"""
What a person reads at the end, rendered by a Markdown reader.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from flows.narration.links import Links
from flows.narration.manifest import Manifest, ScriptEntry, State, Totals, VoiceEntry
from flows.narration.progress import Progress
from flows.narration.reference import Levels, Reference
from flows.narration.report import NOTES, costs, headline, progress_line, run_report, voice_card

OUT = Path("data/audio")

MARKS = st.sampled_from("ab1 \n\\`*_~[]()<>|&;#-+.!=\"'“”:/")


def _manifest(*entries: ScriptEntry, error: str | None = None, left_out: tuple[tuple[str, str], ...] = ()) -> Manifest:
    return Manifest(
        started="2026-01-01T00:00:00+00:00",
        state="failed" if error else "completed",
        error=error,
        speech={},
        left_out=[{"name": name, "reason": reason} for name, reason in left_out],
        totals=Totals.of(list(entries)),
        scripts=list(entries),
    )


def _entry(
    script: str, state: State = "narrated", *, error: str | None = None, notes: tuple[str, ...] = (), audio: str | None = None
) -> ScriptEntry:
    numbers = {"seconds": 90.0, "segments": 3, "bytes_billed": 40, "bytes_reused": 5, "usd": 0.0006, "retries": 1}
    told = {"script": script, "state": state, "error": error, "notes": list(notes), "audio": audio}
    return ScriptEntry.model_validate({**told, **numbers})


def _tokens(report: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(report)


def _cells(report: str) -> list[list[str]]:
    """
    Return the table of a report as a reader shows it, row by row.
    """
    rows: list[list[str]] = []
    tokens = _tokens(report)
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("th_open", "td_open"):
            rows[-1].append(_said(token))
    return rows


def _said(token: Token) -> str:
    """
    Return an inline token's text, where a mark of Markdown that took effect shows by its name.
    """
    return "".join(part.content if part.type.startswith("text") else f"<{part.type}>" for part in token.children or [])


def _items(report: str) -> list[str]:
    tokens = _tokens(report)
    return [
        _said(token)
        for before, token in pairwise(tokens)
        if token.type == "inline" and before.type == "paragraph_open" and before.level == 2
    ]


def test_the_table_has_one_row_for_each_script() -> None:
    """
    In order, whatever became of it, and the sums at the end.
    """
    states: tuple[State, ...] = ("narrated", "unchanged", "empty", "failed", "pending")
    report = run_report(_manifest(*(_entry(f"part/{state}.txt", state) for state in states)), out=OUT)

    numbers = ["1.50", "3", "40", "5", "0.0006", "1"]
    assert [
        ["Script", "Minutes", "Segments", "Bytes paid", "Bytes reused", "USD", "Retries", "State"],
        *([f"part/{state}.txt", *numbers, state] for state in states),
        ["<strong_open>All<strong_close>", "7.50", "15", "200", "25", "0.0030", "5", ""],
    ] == _cells(report)


def test_what_was_made_is_linked(tmp_path: Path) -> None:
    """
    Each narration and the page to listen, where somebody serves them; names are no Markdown and no address.
    """
    (tmp_path / "index.html").write_text("")
    entries = [_entry("a [b](c).txt", audio="ä/a #b.mp3"), _entry("empty.txt", "empty")]
    links = Links(tmp_path, "https://audio.example.org/n/")

    linked, plain = (run_report(_manifest(*entries), out=tmp_path, links=given) for given in (links, None))

    addresses = ["https://audio.example.org/n/index.html", "https://audio.example.org/n/%C3%A4/a%20%23b.mp3"]
    assert addresses == [part.attrs["href"] for token in _tokens(linked) for part in token.children or [] if part.attrs]
    assert "a [b](c).txt" in [row[0].replace("<link_open>", "").replace("<link_close>", "") for row in _cells(linked)]
    assert "](" not in plain.replace("\\](", "")


def test_what_failed_comes_first_with_its_place_and_sentence() -> None:
    """
    Before the table: it may be a thousand rows long.
    """
    failed = "b.txt, line 7: No sound take after 5 attempts: The take is silent (1.0 s). Missing: “Say it.”"
    entries = [_entry("a.txt"), _entry("b.txt", "failed", error=failed), _entry("c.txt", "pending", error="later")]

    report = run_report(_manifest(*entries, error="1 of 3 scripts failed:\n  b.txt …"), out=OUT)

    assert [failed] == _items(report)
    places = ["**3 scripts", "**1 of 3 scripts failed:", "## What failed", "* b.txt, line 7", "| Script |"]
    assert places == sorted(places, key=report.index)


@given(
    st.text(
        alphabet=st.sampled_from("ab1 \n\\`*_~[]()<>|&;#-+.!=\"'“”:/") | st.characters(exclude_categories=["C", "Z"]),
        min_size=1,
    )
)
@example("# heading")
@example("1. item")
@example("- item")
@example("* * *")
@example("+ item")
@example("    code")
@example("a | b")
@example("~~struck~~ **bold** _it_ `code` ![x](http://a.b) <b>html</b> &amp; \\| [a]: b")
@example("```\ncode")
def test_a_scripts_text_is_shown_as_it_is(text: str) -> None:
    """
    Not one sign of it takes effect, whether in a table, a list or the error of a run.
    """
    shown = " ".join(text.split())
    entry = _entry(text, "failed", error=text)
    if not shown:
        return

    report = run_report(_manifest(entry, error=text), out=OUT)

    assert [shown] == _items(report)
    assert shown == _cells(report)[1][0]
    tokens = _tokens(report)
    bold = next(token for token in tokens[3:] if token.type == "inline")
    assert f"<strong_open>{shown}<strong_close>" == _said(bold)


def test_all_notes_are_counted_and_the_first_are_shown() -> None:
    """
    A book's worth of notes would make the run's page unreadable; what is missing is said.
    """
    notes = tuple(f"line {number}: changed" for number in range(NOTES + 3))

    few = _items(run_report(_manifest(_entry("a.txt", notes=notes[:NOTES])), out=OUT))
    many = _items(run_report(_manifest(_entry("a.txt", notes=notes)), out=OUT))

    assert [f"a.txt, {note}" for note in notes[:NOTES]] == few
    assert [*few, "… and 3 more; run.json has them all."] == many


def test_what_was_left_out_is_told() -> None:
    """
    So that nobody misses a file in silence.
    """
    report = run_report(_manifest(_entry("a.txt"), left_out=(("cover.jpg", "not a .txt or .md file"),)), out=OUT)

    assert ["cover.jpg: not a .txt or .md file"] == _items(report)
    assert "## Left out" in report


def test_a_run_in_one_sentence() -> None:
    """
    States that did not occur are not in it.
    """
    entries = [_entry("a.txt"), _entry("b.txt", "unchanged"), _entry("c.txt", "pending")]

    assert (
        "3 scripts: 1 narrated, 1 unchanged, 1 not done; 4.5 minutes, 0 requests, 120 bytes paid (0.0018 USD), 15 reused."
        == headline(_manifest(*entries).totals)
    )
    assert headline(_manifest().totals).startswith("0 scripts: none;")


def test_a_voice_is_shown_with_what_it_was_made_from() -> None:
    """
    Whether it is the one that was wanted can be seen without listening.
    """
    levels = Levels(
        rms_dbfs=-20.0, peak_dbfs=-3.0, noise_dbfs=-70.0, snr_db=50.0, bandwidth_hz=8_000.0, clipped_runs=0, pitch_hz=180.0
    )
    reference = Reference(
        digest="d",
        wav=Path("r.wav"),
        transcript=None,
        recordings=("a|b.wav",),
        seconds=30.0,
        speech_seconds=27.4,
        levels=levels,
        warnings=("It is dull.",),
    )

    entry = VoiceEntry(id="v", title="*Ann*", reference="d", attached=True)

    rows = _cells(voice_card(entry, state="trained", reference=reference))
    bare = _cells(voice_card(VoiceEntry(id="v", title="Ann"), state="trained", reference=None))

    assert [
        ["Voice", "*Ann*"],
        ["Id", "v"],
        ["State", "trained"],
        ["Made", "before; found by its reference"],
        ["Reference", "a|b.wav"],
        ["Reference digest", "d"],
        ["Transcript", "none; the service listens by itself"],
        ["Speech", "27.4 of 30.0 s"],
        ["Level", "-20.0 dBFS RMS, peak -3.0 dBFS"],
        ["Signal to noise", "50 dB"],
        ["Bandwidth", "8.0 kHz"],
        ["Pitch", "180 Hz"],
        ["Warning", "It is dull."],
    ] == rows[1:]
    assert [["Voice", "Ann"], ["Id", "v"], ["State", "trained"], ["Made", "elsewhere"]] == bare[1:]


def test_progress_in_one_sentence() -> None:
    """
    How much is done, and what it costs so far and in the end.
    """
    counts: dict[str, Any] = {"scripts": 3, "scripts_done": 1, "segments": 40, "segments_done": 12, "minutes": 2.25}
    well = Progress(**counts, scripts_failed=0, segments_failed=0, usd=0.01, usd_expected=0.04)
    ill = Progress(**counts, scripts_failed=2, segments_failed=5, usd=0.01, usd_expected=0.04)

    told = "2.2 minutes of speech; 0.0100 USD so far, about 0.0400 USD in all."
    assert f"1 of 3 scripts, 12 of 40 segments, {told}" == progress_line(well)
    assert f"1 of 3 scripts (2 failed), 7 of 40 segments (5 failed), {told}" == progress_line(ill)


def test_costs_are_drawn_and_added_up() -> None:
    """
    A bar for each day, the newest first in the table.
    """
    runs = [("2026-11-01T02:00:09.5+00:00", "http://127.0.0.1:4200/runs/1", 0.5), ("2026-11-02T02:00:08+00:00", None, 0.25)]
    shown = costs([("2026-11-01", 0.5), ("2026-11-02", 0.25)], runs)

    assert "x-axis [11-01, 11-02]" in shown
    assert 'y-axis "USD" 0 --> 0.550000' in shown
    assert "bar [0.500000, 0.250000]" in shown
    assert "x-axis [1, 2]" in shown
    days = [["2026-11-02", "0.2500"], ["2026-11-01", "0.5000"], ["<strong_open>All<strong_close>", "0.7500"]]
    told = [["2", "2026-11-02 02:00", "0.2500"], ["1", "<link_open>2026-11-01 02:00<link_close>", "0.5000"]]
    assert [*days, ["Run", "Began (UTC)", "USD"], *told] == _cells(shown)[1:]
