"""
Ways to have a folder of scripts spoken, on the same service, at the same latency and limit, each as a process of its own.

The *ideal* is what costs nothing but the service's own time: segments × latency ÷ requests at once. The *recipe* is the loop
that the API's documentation publishes, the *script* what a good engineer writes in an hour, and *Narrate* is `narrate run` with
a standing Prefect server. CPU is user and system time of the contender's own process, with that of an empty run (one segment)
taken off; what ffmpeg takes to encode the narrations, which only Narrate makes, is told apart. The TTS phase lasts from the
first request that the service received to the last answer it sent.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import measure
from bench.measure import Failed, Taken
from bench.service import Journal, Terms
from bench.stage import ROOT, Stage

AT_ONCE = 50
LATENCY = 1.0
EACH = 50
"""Segments of a script."""
RECIPE_SEGMENTS = 200
RECIPE_LATENCY = 0.05
"""One after the other would take hours: what the recipe takes beside waiting is measured, and the waiting is added."""
KILL_LATENCY = 0.1
KILL_SECONDS = 2.0
"""How long a run that is to be killed midway takes at least, so that there is a midway."""


@dataclass(frozen=True)
class Contender:
    """
    A way to have scripts spoken; *command* takes the scripts, a folder for what is made, and how many requests at once.
    """

    name: str
    command: Callable[[Path, Path, int], Sequence[str]]


RECIPE = Contender("recipe", lambda scripts, out, _: ["-m", "bench.recipe", str(scripts), str(out)])
SCRIPT = Contender("script", lambda scripts, out, at_once: ["-m", "bench.script", str(scripts), str(out), str(at_once)])
NARRATE = Contender(
    "Narrate",
    lambda scripts, out, at_once: [
        *("-m", "flows", "run", str(scripts), "--out", str(out), "--concurrency", str(at_once)),
        *("--reference", str(ROOT / "data" / "reference.wav")),
    ],
)


@dataclass(frozen=True)
class Scripts:
    """
    A folder of scripts that together have so many *segments*, and so many *size* bytes of text.
    """

    folder: Path
    segments: int
    size: int


@dataclass(frozen=True)
class Result:
    """
    A run to its end: what it took, what the service was asked, and what Prefect's server took meanwhile (CPU seconds).
    """

    scripts: Scripts
    out: Path
    taken: Taken
    journal: Journal
    prefect_cpu: float

    @property
    def phase(self) -> float:
        """
        Seconds of the TTS phase.
        """
        return (self.journal.last or 0.0) - (self.journal.first or 0.0)

    def cpu_above(self, empty: "Result") -> float:
        """
        CPU seconds for each segment beyond those of an *empty* run.
        """
        return (self.taken.cpu - empty.taken.cpu) / (self.scripts.segments - empty.scripts.segments)


class Contest:
    """
    Runs on a *stage*; each leaves its log there.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._runs = 0
        self._empties: dict[str, Result] = {}

    def scripts(self, segments: int, *, each: int = EACH) -> Scripts:
        """
        Write scripts of *each* segments; every segment is a paragraph, and no two are the same.
        """
        folder, size = self.stage.folder / f"scripts-{segments}-{each}", 0
        folder.mkdir(exist_ok=True)
        for start in range(0, segments, each):
            places = range(start, min(start + each, segments))
            lines = [f"Sentence {place} of a folder that is only there to be timed." for place in places]
            (folder / f"script-{start // each:05}.txt").write_text("\n\n".join(lines))
            size += sum(len(line.encode()) for line in lines)
        return Scripts(folder, segments, size)

    def run(
        self, contender: Contender, scripts: Scripts, *, terms: Terms, at_once: int = AT_ONCE, embedded: bool = False
    ) -> Result:
        """
        Let *contender* speak *scripts*, from nothing; *embedded*: with a Prefect server of its own.
        """
        self.stage.set(terms)
        out, before = self._out(contender), self.stage.prefect_cpu
        taken = self._go(contender, scripts, out, at_once=at_once, embedded=embedded)
        result = Result(scripts, out, taken, self.stage.journal(), self.stage.prefect_cpu - before)
        if result.journal.answered != scripts.segments:
            raise Failed(f"{contender.name} had {result.journal.answered} answers for {scripts.segments} segments")
        _say(f"{contender.name}, {scripts.segments} segments: {taken.wall:.1f} s, TTS phase {result.phase:.2f} s")
        return result

    def billed_after_kill(self, contender: Contender, scripts: Scripts, *, latency: float) -> float:
        """
        Kill *contender* when half of the answers are sent, run it again to its end, and return bytes billed ÷ bytes of text.
        """
        self.stage.set(Terms(latency=latency, limit=AT_ONCE))
        out = self._out(contender)
        half = scripts.segments // 2
        killed = self._go(contender, scripts, out, kill_when=lambda: self.stage.journal().answered >= half)
        if killed.code >= 0:
            raise Failed(f"{contender.name} came to its end before it was killed")
        answered = self.stage.journal().answered
        self._go(contender, scripts, out)
        billed = self.stage.journal().bytes_billed / scripts.size
        _say(f"{contender.name}, {scripts.segments} segments: killed after {answered} answers, billed {billed:.3f} × the text")
        return billed

    def empty(self, contender: Contender) -> Result:
        """
        A run of one segment, made once: the second of two, as the first warms what is cached.
        """
        if contender.name not in self._empties:
            one = self.scripts(1)
            self.run(contender, one, terms=Terms(latency=0))
            self._empties[contender.name] = self.run(contender, one, terms=Terms(latency=0))
        return self._empties[contender.name]

    def _out(self, contender: Contender) -> Path:
        self._runs += 1
        return self.stage.folder / f"out-{self._runs:02}-{contender.name}"

    def _go(
        self,
        contender: Contender,
        scripts: Scripts,
        out: Path,
        *,
        at_once: int = AT_ONCE,
        embedded: bool = False,
        kill_when: Callable[[], bool] | None = None,
    ) -> Taken:
        environment = self.stage.environment(**({} if embedded else {"PREFECT_API_URL": self.stage.prefect}))
        command = [sys.executable, *contender.command(scripts.folder, out, at_once)]
        return measure.run(command, cwd=ROOT, env=environment, log=out.with_suffix(".log"), kill_when=kill_when)


@dataclass(frozen=True)
class Row:
    """
    What is told of a contender at a size; *about*: reckoned from a smaller run.
    """

    name: str
    wall: float
    phase: float
    cpu: float
    memory: float
    refused: int
    billed: float
    about: bool = False


def rows(contest: Contest, sizes: Sequence[int]) -> list[tuple[int, list[Row]]]:
    """
    Run all contenders at all sizes.
    """
    loop = _recipe(contest)
    return [(size, [loop(size), _row(contest, SCRIPT, size), _row(contest, NARRATE, size)]) for size in sizes]


def _row(contest: Contest, contender: Contender, size: int) -> Row:
    scripts = contest.scripts(size)
    result = contest.run(contender, scripts, terms=Terms(latency=LATENCY, limit=AT_ONCE))
    latency = max(KILL_LATENCY, KILL_SECONDS * AT_ONCE / size)
    return Row(
        name=contender.name,
        wall=result.taken.wall,
        phase=result.phase,
        cpu=result.cpu_above(contest.empty(contender)),
        memory=result.taken.memory,
        refused=result.journal.refused,
        billed=contest.billed_after_kill(contender, scripts, latency=latency),
    )


def _recipe(contest: Contest) -> Callable[[int], Row]:
    """
    Measure the recipe once, and return what tells its row at any size.
    """
    scripts, empty = contest.scripts(RECIPE_SEGMENTS), contest.empty(RECIPE)
    result = contest.run(RECIPE, scripts, terms=Terms(latency=RECIPE_LATENCY, limit=AT_ONCE))
    billed = contest.billed_after_kill(RECIPE, scripts, latency=RECIPE_LATENCY)
    more = scripts.segments - 1
    waiting = LATENCY - RECIPE_LATENCY

    def row(size: int) -> Row:
        return Row(
            name=RECIPE.name,
            wall=empty.taken.wall + (size - 1) * (result.taken.wall - empty.taken.wall) / more + size * waiting,
            phase=size * (result.phase / scripts.segments + waiting),
            cpu=result.cpu_above(empty),
            memory=result.taken.memory,
            refused=0,
            billed=billed,
            about=True,
        )

    return row


def table(found: Sequence[tuple[int, Sequence[Row]]]) -> str:
    """
    Tell rows as Markdown: each number with its ratio to the ideal, and to the script's in the same run.
    """
    lines = [
        "| segments | | wall time (÷ ideal) | TTS phase (÷ ideal, ÷ script) | CPU a segment (÷ script) "
        "| peak memory (÷ script) | refused | billed after kill -9 (÷ text) |",
        "|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for size, contenders in found:
        ideal = math.ceil(size / AT_ONCE) * LATENCY
        script = next(row for row in contenders if row.name == SCRIPT.name)
        lines.append(f"| {size:,} | ideal | {ideal:,.1f} s | {ideal:,.1f} s | | | 0 | 1.00 |")
        for row in contenders:
            about = "≈ " if row.about else ""
            cells = [
                f"{about}{row.wall:,.1f} s ({row.wall / ideal:.2f})",
                f"{about}{row.phase:,.2f} s ({row.phase / ideal:.3f}, {row.phase / script.phase:.3f})",
                f"{about}{row.cpu * 1000:.1f} ms ({row.cpu / script.cpu:.1f})",
                f"{about}{row.memory / 1e6:.0f} MB ({row.memory / script.memory:.1f})",
                f"{row.refused}",
                f"{about}{row.billed:.3f}",
            ]
            lines.append(f"| {size:,} | {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def apart(contest: Contest, size: int) -> str:
    """
    Tell what is not in the rows: Narrate's start and end, encoding, Prefect's server, and the stand-in's own part.
    """
    empty = contest.empty(NARRATE)
    embedded = contest.run(NARRATE, empty.scripts, terms=Terms(latency=0), embedded=True)
    many = contest.scripts(size)
    result = contest.run(NARRATE, many, terms=Terms(latency=LATENCY, limit=AT_ONCE))
    single = contest.run(NARRATE, contest.scripts(RECIPE_SEGMENTS, each=1), terms=Terms(latency=LATENCY, limit=AT_ONCE))
    ideal = math.ceil(RECIPE_SEGMENTS / AT_ONCE) * LATENCY
    hours = json.loads((result.out / "run.json").read_text())["totals"]["seconds"] / 3600
    encoding = result.taken.children - empty.taken.children
    scribe = (result.prefect_cpu - empty.prefect_cpu) / (size - 1)
    lines = [
        "| Narrate, apart | |",
        "|---|---|",
        f"| an empty run: one segment, standing Prefect server | {empty.taken.wall:.1f} s, {empty.taken.cpu:.1f} s of CPU, "
        f"{empty.taken.memory / 1e6:.0f} MB |",
        f"| the same, with the embedded Prefect server | {embedded.taken.wall:.1f} s, "
        f"{embedded.taken.cpu + embedded.taken.children:.1f} s of CPU, {embedded.taken.memory / 1e6:.0f} MB |",
        f"| encoding MP3 (ffmpeg), {size:,} segments | {1000 * encoding / (size - 1):.1f} ms of CPU a segment, "
        f"{encoding / hours:.0f} s an hour of narration |",
        f"| standing Prefect server, {size:,} segments | {1000 * scribe:.1f} ms of CPU a segment |",
        f"| stand-in service, {size:,} segments | {1000 * result.journal.cpu / size:.1f} ms of CPU a request, "
        f"{100 * result.journal.cpu / result.phase:.0f} % of a core |",
        f"| {RECIPE_SEGMENTS} scripts of one segment | TTS phase {single.phase / ideal:.3f} × ideal, "
        f"{1000 * single.cpu_above(empty):.1f} ms of CPU a segment |",
    ]
    return "\n".join(lines)


def limited(contest: Contest, size: int, *, limit: int = 5, asked: int = 12) -> str:
    """
    Tell how contenders fare that ask for more at once than the account's *limit*, which the answers tell or do not.
    """
    scripts = contest.scripts(size)
    ideal = math.ceil(size / limit) * LATENCY
    lines = [
        f"| limit {limit}, asked for {asked}, {size:,} segments | TTS phase (÷ ideal) | refused |",
        "|---|--:|--:|",
    ]
    for contender, told in ((SCRIPT, False), (NARRATE, False), (NARRATE, True)):
        terms = Terms(latency=LATENCY, limit=limit, told=told)
        result = contest.run(contender, scripts, terms=terms, at_once=asked)
        name = f"{contender.name}, the limit {'told by' if told else 'not in'} the headers"
        lines.append(f"| {name} | {result.phase:.2f} s ({result.phase / ideal:.3f}) | {result.journal.refused} |")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
