"""
Measure what the size of a segment costs: requests, seams, waiting, and what one changed word bills again.

    python bench/segment_size.py [BOOK.epub | SCRIPTS]

Without an argument it reads `data/scripts`. Two numbers are assumptions and not measurements: 15 bytes are a second of
speech, and a request takes 0.6 s plus 0.35 s for each second it speaks (so that a paragraph of about 33 s takes the 12 s
which the service publishes). The phase is modelled with five requests at a time, the limit of a new account, longest
first within a window of twenty.
"""

import heapq
import random
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

from flows.narration.marked import markdown
from flows.narration.prose import Block, BlockKind, Prose, plain
from flows.narration.scripts import clean, find_scripts, read_script
from flows.narration.segments import Cutting, Joint, cut

SIZES = (200, 300, 400, 600, 800, 1200)
BYTES_PER_SECOND = 15
SLOTS = 5
CHANGES = 300


@dataclass(frozen=True)
class Measures:
    """
    What one segment size costs for a text.
    """

    requests: int
    mean: float
    inner: int
    seams: float
    again: float
    phase: float


def main() -> None:
    """
    Print one line for each segment size.
    """
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "data" / "scripts"
    texts = list(book(source) if source.suffix == ".epub" else scripts(source))
    sizes = [len(block.text.encode()) for prose in texts for block in prose.blocks]
    print(f"{source.name}: {sum(sizes):,} bytes, {len(sizes):,} blocks, {sum(sizes) / BYTES_PER_SECOND / 3600:.1f} h")
    print("   size  requests  mean bytes  seams inside paragraphs  a minute  billed again  minutes at 5 slots")
    for size in SIZES:
        found = measure(texts, Cutting(segment_bytes=size))
        print(
            f"{size:7}{found.requests:10,}{found.mean:12.0f}{found.inner:25,}{found.seams:10.2f}"
            f"{found.again:12.0f} B{found.phase / 60:20.1f}"
        )


def measure(texts: list[Prose], cutting: Cutting) -> Measures:
    """
    Cut all texts; count, and model the phase in which they are spoken.
    """
    segments = [segment for prose in texts for segment in cut(prose, cutting=cutting).segments]
    sizes = [len(segment.text.encode()) for segment in segments]
    inner = sum(segment.joint in (Joint.SENTENCE, Joint.BREATH) for segment in segments)
    minutes = sum(sizes) / BYTES_PER_SECOND / 60
    return Measures(len(sizes), sum(sizes) / len(sizes), inner, inner / minutes, billed_again(texts, cutting), phase(sizes))


def billed_again(texts: list[Prose], cutting: Cutting) -> float:
    """
    Return how many bytes are billed again when one word changes, on average over random words.
    """
    chance = random.Random(1)
    blocks = [block for prose in texts for block in prose.blocks if block.kind is BlockKind.PARAGRAPH]
    weights = [len(block.text) for block in blocks]
    total = 0
    for block in chance.choices(blocks, weights, k=CHANGES):
        words = block.text.split(" ")
        words[chance.randrange(len(words))] = "otherwise"
        before, after = (spoken(one, cutting) for one in (block, replace(block, text=" ".join(words))))
        total += sum(len(text.encode()) for text in after - before)
    return total / CHANGES


def spoken(block: Block, cutting: Cutting) -> set[str]:
    """
    Return the texts of the segments of one block.
    """
    return {segment.text for segment in cut(Prose(None, (block,), ()), cutting=cutting).segments}


def phase(sizes: list[int]) -> float:
    """
    Return how many seconds the requests take together, as the module's docstring models them.
    """
    slots = [0.0] * SLOTS
    waiting = [-size for size in sizes[: 4 * SLOTS]]
    heapq.heapify(waiting)
    for size in [*sizes[4 * SLOTS :], *[0] * len(waiting)]:
        longest = -heapq.heappop(waiting)
        if size:
            heapq.heappush(waiting, -size)
        heapq.heappush(slots, heapq.heappop(slots) + 0.6 + 0.35 * longest / BYTES_PER_SECOND)
    return max(slots)


def scripts(folder: Path) -> Iterator[Prose]:
    """
    Read a folder of scripts, or one script.
    """
    for script in find_scripts(folder, out=Path(tempfile.gettempdir()) / "nowhere", suffix="mp3").scripts:
        read = markdown if script.path.suffix.lower() == ".md" else plain
        yield read(read_script(script.path))


def book(path: Path) -> Iterator[Prose]:
    """
    Read the text of an EPUB, good enough to be measured.
    """
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(("html", "htm")):
                page = re.sub(r"</(?:p|h\d|div|li|tr)>", "\n\n", archive.read(name).decode())
                yield plain(clean(unescape(re.sub(r"<[^>]+>", "", page))))


if __name__ == "__main__":
    main()
