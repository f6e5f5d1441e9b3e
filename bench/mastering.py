"""
What mastering a book and binding it takes, against the same filters, encoders and measurements run by hand, and against pydub.

*Bare* is ffmpeg and libsndfile on chapters that lie ready as PCM, two at once: a pass that measures loudness, one that encodes
MP3 and AAC, two that measure the MP3, one that measures the AAC, and the muxer. It reads no takes, checks nothing, and needs no
rehearsal as it need not hit a level. *pydub* joins the same takes, sets one gain and exports MP3s: no limiter, no room tone,
nothing measured, no M4B.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from bench import measure
from bench.stage import ROOT
from flows.narration import ffmpeg
from flows.narration.assemble import Piece, Sound
from flows.narration.binding import bind
from flows.narration.ffmpeg import Chain
from flows.narration.judge import Heard
from flows.narration.mastering import Book, Chapter, Studio, level_profile, master
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeStore

AT_ONCE = 2
TAKES = 250
"""Different takes; a longer book says them again."""

CHAPTER_MINUTES = 30.0
PYDUB_MINUTES = 20.0
"""pydub holds a chapter several times over: one of this length shows what it takes."""


def table(hours: float) -> str:
    """
    Master a book of so many *hours* both ways, and one chapter with pydub.
    """
    with tempfile.TemporaryDirectory(dir=ROOT / "data") as name:
        folder = Path(name)
        chapters = _write(folder, hours)
        found: dict[str, measure.Taken] = {}
        for contender in CONTENDERS:
            print(f"{contender}, {hours:g} h of sound", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "bench.mastering", contender, str(folder), str(chapters)]
            found[contender] = measure.run(command, cwd=ROOT, env={"PATH": ""}, log=folder / f"{contender}.log")
        seconds = dict.fromkeys(CONTENDERS, hours * 3600)
        seconds["pydub"] = min(hours * 3600, PYDUB_MINUTES * 60)
        size = sum(path.stat().st_size for path in (folder / "narrate").glob("*.m4b"))
    rows = [
        f"| {hours:g} h, {chapters} chapters, {AT_ONCE} at once "
        "| wall (÷ bare) | CPU (÷ bare) | × real time | peak MB: Python, all |",
        "|---|--:|--:|--:|--:|",
    ]
    bare = found["bare"]
    for contender, taken in found.items():
        each = seconds["bare"] / seconds[contender]
        wall, cpu = taken.wall * each, (taken.cpu + taken.children) * each
        about = "≈ " if each > 1 else ""
        rows.append(
            f"| {contender} | {about}{wall:,.1f} s ({wall / bare.wall:.2f}) "
            f"| {about}{cpu:,.1f} s ({cpu / (bare.cpu + bare.children):.2f}) "
            f"| {hours * 3600 / wall:.0f} | {taken.own / 1e6:.0f}, {taken.memory / 1e6:.0f} |"
        )
    again = found["again"]
    rows.append(
        f"\nThe M4B has {size / 1e6:.0f} MB; `again` is `narrate` a second time, with nothing changed: {again.wall:.2f} s."
    )
    return "\n".join(rows)


def _write(folder: Path, hours: float) -> int:
    """
    Keep takes, and the chapters made of them as PCM; return how many chapters.
    """
    store = TakeStore(folder / "takes")
    raw, rate = soundfile.read(ROOT / "data" / "reference.wav", dtype="int16")
    voice = ffmpeg.resample(raw, source_rate=rate, target_rate=SAMPLE_RATE)
    for place in range(TAKES):
        start = place * 7919 % (len(voice) // 2)
        store.keep(_key(place), Heard(voice[start : start + 6 * SAMPLE_RATE + place * 101], SAMPLE_RATE))
    chapters = max(AT_ONCE, round(hours * 60 / CHAPTER_MINUTES))
    for chapter in range(chapters):
        with (folder / f"{chapter:03}.pcm").open("wb") as file:
            for piece in _pieces(chapter, hours * 3600 / chapters):
                for block in store.read(piece.take):
                    file.write(block.tobytes())
                file.write(bytes(2 * Sound().pause(piece.joint)))
    return chapters


def _key(place: int) -> str:
    return hashlib.sha256(f"take {place}".encode()).hexdigest()


def _pieces(chapter: int, seconds: float) -> list[Piece]:
    """
    Choose takes of about 6.8 s with their pauses for a chapter of so many *seconds*.
    """
    many = max(1, round(seconds / 6.65))
    places = [(chapter * 31 + place) % TAKES for place in range(many)]
    return [Piece(_key(place), Joint.PARAGRAPH if place % 4 == 0 else Joint.SENTENCE) for place in places]


def _seconds(folder: Path, chapter: int) -> float:
    return (folder / f"{chapter:03}.pcm").stat().st_size / 2 / SAMPLE_RATE


def _narrate(folder: Path, chapters: int) -> None:
    """
    Master and bind as the flow does.
    """
    book = Book(title="Bench", author="A", narrator="B", chapters=chapters)
    out, store = folder / "narrate", TakeStore(folder / "takes")
    studio = Studio(book=book, store=store, sound=Sound(), profile=level_profile("acx"), folder=out, work=out / ".work")

    def one(chapter: int) -> Chapter:
        return Chapter(f"Chapter {chapter + 1}", _pieces(chapter, _seconds(folder, chapter)), chapter + 1)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda chapter: master(one(chapter), studio), range(chapters)))
    bind(made, book=book, work=studio.work, target=out / "Bench.m4b")


def _bare(folder: Path, chapters: int) -> None:
    """
    Run the same by hand, from PCM that lies ready.
    """
    out = folder / "bare"
    out.mkdir()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda chapter: _bare_chapter(folder / f"{chapter:03}.pcm", out / f"{chapter:03}"), range(chapters)))
    command = [
        *("-f", "aac", "-i", "pipe:0", "-map", "0:a", "-c", "copy", "-movie_timescale", "44100", "-movflags", "+faststart"),
        *("-f", "ipod", str(out / "book.m4b")),
    ]
    with subprocess.Popen([ffmpeg.executable(), "-v", "error", *command], stdin=subprocess.PIPE) as muxer:
        assert muxer.stdin is not None  # noqa: S101 - asked for as a pipe
        for chapter in range(chapters):
            with (out / f"{chapter:03}.aac").open("rb") as file:
                shutil.copyfileobj(file, muxer.stdin, 1_000_000)
        muxer.stdin.close()
    if muxer.returncode:
        raise SystemExit("the muxer failed")


def _bare_chapter(pcm: Path, target: Path) -> None:
    chain = Chain(gain=6.0, ceiling=-3.8)
    mp3 = target.with_suffix(".mp3")
    source = ("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", str(pcm))
    _run(*source, "-af", f"{chain.cleaned},ebur128=metadata=1", "-f", "null", "-")
    _run(
        *(*source, "-filter_complex", chain.graph(SAMPLE_RATE, mp3_kbps=192)),
        *("-map", "[mp3]", "-c:a", "libmp3lame", "-b:a", "192k", str(mp3)),
        *("-map", "[aac]", "-c:a", "aac", "-aac_coder", "fast", "-b:a", "96k", "-f", "adts", str(target.with_suffix(".aac"))),
    )
    _run("-i", str(mp3), "-af", "ebur128=metadata=1:peak=true", "-f", "null", "-")
    _run("-i", str(target.with_suffix(".aac")), "-af", "ebur128=metadata=1:peak=sample", "-f", "null", "-")
    energies, peak = [], 0.0
    with soundfile.SoundFile(mp3) as file:
        for block in file.blocks(file.samplerate // 2 * 20, dtype="float32"):
            whole = block[: len(block) // 22_050 * 22_050].reshape(-1, 22_050)
            energies.append(np.einsum("ij,ij->i", whole, whole))
            peak = max(peak, float(np.abs(block).max(initial=0)))


def _run(*arguments: str) -> None:
    subprocess.run([ffmpeg.executable(), "-nostdin", "-v", "error", *arguments], check=True)


def _pydub(folder: Path, chapters: int) -> None:
    """
    Join the takes of one chapter, set a gain and export an MP3.
    """
    from pydub import AudioSegment  # type: ignore[import-untyped,unused-ignore]

    AudioSegment.converter = ffmpeg.executable()
    store, parts = TakeStore(folder / "takes"), []
    seconds = min(PYDUB_MINUTES * 60, sum(_seconds(folder, chapter) for chapter in range(chapters)))
    for piece in _pieces(0, seconds):
        data = b"".join(block.tobytes() for block in store.read(piece.take))
        parts += [data, bytes(2 * Sound().pause(piece.joint))]
    chapter = AudioSegment(b"".join(parts), sample_width=2, frame_rate=SAMPLE_RATE, channels=1)
    chapter.apply_gain(-20 - chapter.dBFS).export(str(folder / "pydub.mp3"), format="mp3", bitrate="192k")


CONTENDERS: dict[str, Callable[[Path, int], None]] = {"bare": _bare, "narrate": _narrate, "again": _narrate, "pydub": _pydub}


def main(arguments: Sequence[str]) -> None:
    """
    `python -m bench.mastering HOURS` prints the table; with the name of a contender it is that one.
    """
    if arguments and arguments[0] in CONTENDERS:
        os.nice(19)  # as Narrate's encoders are: on a busy machine, others would be ahead for that alone
        CONTENDERS[arguments[0]](Path(arguments[1]), int(arguments[2]))
    else:
        print(table(float(arguments[0]) if arguments else 10.0))


if __name__ == "__main__":
    main(sys.argv[1:])
