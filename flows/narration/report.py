"""
What a person reads at the end: Markdown for the run's page, lines for the terminal.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.narration.links import Links
from flows.narration.manifest import Manifest, ScriptEntry, Totals, VoiceEntry
from flows.narration.ours import INDEX
from flows.narration.progress import Progress
from flows.narration.reference import Reference

NOTES = 200
"""Notes shown of a run; all of them are in run.json."""

_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_~[]|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_COLUMNS = ("Script", "Minutes", "Segments", "Bytes paid", "Bytes reused", "USD", "Retries", "State")


def run_report(manifest: Manifest, *, out: Path, links: Links | None = None) -> str:
    """
    Tell a run as Markdown: what failed first, where it all is, a row for each script, and what was changed or left out.
    """
    parts = [f"**{headline(manifest.totals)}**"]
    failed = [entry for entry in manifest.scripts if entry.state == "failed"]
    if manifest.error:
        parts.append(f"**{escaped(manifest.error)}**")
    if failed:
        parts.append("## What failed\n\n" + "\n".join(f"* {escaped(entry.error or '')}" for entry in failed))
    if links and (out / INDEX).is_file():
        parts.append(linked("Listen", links.to(out / INDEX)))
    parts.append(f"In {escaped(str(out.resolve()))}; run.json, there, is the manifest.")
    parts.append(_table(manifest, lambda entry: links.to(out / entry.audio) if links and entry.audio else None))
    notes = [f"{entry.script}, {note}" for entry in manifest.scripts for note in entry.notes]
    parts += _list("Changed for speaking", notes)
    parts += _list("Left out", [f"{left['name']}: {left['reason']}" for left in manifest.left_out])
    return "\n\n".join(parts) + "\n"


def counted(number: int, thing: str) -> str:
    """
    Say how many there are, as one would.
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def headline(totals: Totals) -> str:
    """
    Tell a run in one sentence.
    """
    counts = (
        (totals.narrated, "narrated"),
        (totals.unchanged, "unchanged"),
        (totals.empty, "empty"),
        (totals.failed, "failed"),
    )
    told = ", ".join(f"{number} {state}" for number, state in (*counts, (totals.pending, "not done")) if number)
    return (
        f"{counted(totals.scripts, 'script')}: {told or 'none'}; {totals.seconds / 60:.1f} minutes, "
        f"{counted(totals.requests, 'request')}, {totals.bytes_billed} bytes paid ({totals.usd:.4f} USD), "
        f"{totals.bytes_reused} reused."
    )


def progress_line(now: Progress) -> str:
    """
    Tell how far a run is in one sentence.
    """
    scripts, segments = (f" ({failed} failed)" if failed else "" for failed in (now.scripts_failed, now.segments_failed))
    had = now.segments_done - now.segments_failed
    return (
        f"{now.scripts_done} of {counted(now.scripts, 'script')}{scripts}, "
        f"{had} of {counted(now.segments, 'segment')}{segments}, "
        f"{now.minutes:.1f} minutes of speech; {now.usd:.4f} USD so far, about {now.usd_expected:.4f} USD in all."
    )


def costs(days: Sequence[tuple[str, float]], runs: Sequence[tuple[str, str | None, float]]) -> str:
    """
    Tell as Markdown what was paid on each of *days* and by each of *runs* (when it began, its page), in USD, with charts of it.
    """
    rows = "\n".join(f"| {day} | {usd:.4f} |" for day, usd in reversed(days))
    total = sum(usd for _, usd in days)
    chart = _chart([(day[5:], usd) for day, usd in days])
    by_day = f"{chart}| Day (UTC) | USD |\n|---|--:|\n{rows}\n| **All** | {total:.4f} |\n"
    told = [(str(place), began[:16].replace("T", " "), page, usd) for place, (began, page, usd) in enumerate(runs, 1)]
    rows = "\n".join(f"| {place} | {linked(began, page)} | {usd:.4f} |" for place, began, page, usd in reversed(told))
    chart = _chart([(place, usd) for place, _, _, usd in told])  # bars of one name would stand in one place
    by_run = f"{chart}| Run | Began (UTC) | USD |\n|--:|---|--:|\n{rows}\n"
    return f"{by_day}\n## Run by run\n\n{by_run}"


def _chart(bars: Sequence[tuple[str, float]]) -> str:
    most = max(usd for _, usd in bars) * 1.1 or 1
    return (
        "```mermaid\nxychart-beta\n"
        f"    x-axis [{', '.join(label for label, _ in bars)}]\n"
        f'    y-axis "USD" 0 --> {most:.6f}\n    bar [{", ".join(f"{usd:.6f}" for _, usd in bars)}]\n```\n\n'
    )


def voice_line(voice: VoiceEntry) -> str:
    """
    Name the voice in a line of Markdown.
    """
    return f"The voice “{escaped(voice.title)}”"


def voice_card(voice: VoiceEntry, *, state: str, reference: Reference | None) -> str:
    """
    Tell as Markdown whose voice it is and what it was made from.
    """
    rows = [("Voice", voice.title), ("Id", voice.id), ("State", state)]
    rows.append(("Made", "before; found by its reference" if voice.attached else "in this run" if reference else "elsewhere"))
    if reference is not None:
        levels = reference.levels
        rows += [
            ("Reference", ", ".join(reference.recordings)),
            ("Reference digest", reference.digest),
            ("Transcript", "with it" if reference.transcript else "none; the service listens by itself"),
            ("Speech", f"{reference.speech_seconds:.1f} of {reference.seconds:.1f} s"),
            ("Level", f"{levels.rms_dbfs:.1f} dBFS RMS, peak {levels.peak_dbfs:.1f} dBFS"),
            ("Signal to noise", f"{levels.snr_db:.0f} dB"),
            ("Bandwidth", f"{levels.bandwidth_hz / 1000:.1f} kHz"),
            ("Pitch", "none" if levels.pitch_hz is None else f"{levels.pitch_hz:.0f} Hz"),
        ]
        rows += [("Warning", warning) for warning in reference.warnings]
    body = "\n".join(f"| {name} | {escaped(value)} |" for name, value in rows)
    return f"| | |\n|---|---|\n{body}\n"


def linked(text: str, address: str | None) -> str:
    """
    Write *text* as Markdown that leads to an *address*, if there is one.
    """
    return f"[{escaped(text)}]({address})" if address else escaped(text)


def _table(manifest: Manifest, address: Callable[[ScriptEntry], str | None]) -> str:
    totals = manifest.totals
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---|--:|--:|--:|--:|--:|--:|---|"]
    lines += [_row(entry, address(entry)) for entry in manifest.scripts]
    lines.append(
        f"| **All** | {totals.seconds / 60:.2f} | {totals.segments} | {totals.bytes_billed} | {totals.bytes_reused} "
        f"| {totals.usd:.4f} | {totals.retries} | |"
    )
    return "\n".join(lines)


def _row(entry: ScriptEntry, address: str | None) -> str:
    return (
        f"| {linked(entry.script, address)} | {entry.seconds / 60:.2f} | {entry.segments} | {entry.bytes_billed} "
        f"| {entry.bytes_reused} | {entry.usd:.4f} | {entry.retries} | {entry.state} |"
    )


def _list(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    told = [f"* {escaped(line)}" for line in lines[:NOTES]]
    if len(lines) > NOTES:
        told.append(f"* … and {len(lines) - NOTES} more; run.json has them all.")
    return [f"## {title}\n\n" + "\n".join(told)]


def escaped(text: str) -> str:
    """
    Keep a script's text from being read as Markdown or HTML.
    """
    line = " ".join(text.split()).translate(_SPECIAL)
    # At its beginning also what would make a heading, a list or a rule of it.
    if line.startswith(("-", "+", "#")):
        return f"\\{line}"
    return re.sub(r"^(\d+)(?=[.)](\s|$))", r"\1\\", line) if line[:1].isdigit() else line


_SHOWN = {
    "requests": "requests",
    "retaken": "retaken",
    "refused": "refused",
    "unknown": "unknown",
    "bytes_billed": "bytes paid",
    "usd": "USD paid",
    "usd_unknown": "USD perhaps",
}
"""Sums of the ledger in a table, and what they are called there."""

_ANY_WIDTH = 10_000
"""Columns of a table whose lines are never cut: a terminal breaks them, a pipe keeps them whole."""


def print_sums(sums: Iterable[Mapping[str, Any]], *, total: Mapping[str, Any], by: Sequence[str]) -> None:
    """
    Print sums of the ledger as a table on standard output, the total last.
    """
    table = Table(box=None, pad_edge=False, show_footer=bool(by))
    for place, key in enumerate(by):
        table.add_column(key, footer="total" if not place else "", no_wrap=True)
    for name, called in _SHOWN.items():
        table.add_column(called, footer=_shown(name, total), justify="right", no_wrap=True)
    for row in sums if by else [total]:
        table.add_row(*(Text(_printable(row[key])) for key in by), *(_shown(name, row) for name in _SHOWN))
    Console(width=_ANY_WIDTH).print(table)


def _shown(name: str, row: Mapping[str, Any]) -> str:
    return f"{row[name]:.4f}" if name.startswith("usd") else str(row[name])


def _printable(text: str) -> str:
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
