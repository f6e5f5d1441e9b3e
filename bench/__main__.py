"""
`make bench`: every comparison of this folder, as ratios. `python -m bench --segments 200` runs the contest at one size.
"""

import argparse
import os
from datetime import UTC, datetime

from bench import contest, figures, mastering, rerun, segment_size
from bench.stage import stage

SIZES = (200, 1_000, 10_000)
LIMITED = 200
PARTS = ("contest", "apart", "limit", "rerun", "size", "mastering", "fleet")
LONG = {"fleet"}
"""Parts that run only where they are named: it takes twenty minutes and a machine to itself."""


def main() -> None:
    """
    Print one table after the other on standard output, and what is going on on standard error.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description="Comparisons, as ratios.")
    parser.add_argument("--segments", type=int, nargs="+", default=SIZES, help="Sizes of the contest.")
    parser.add_argument("--hours", type=float, default=10.0, help="Length of the book that is mastered.")
    parser.add_argument("--books", type=int, default=figures.BOOKS, help="Books of the fleet.")
    parser.add_argument("--each", type=int, default=figures.SEGMENTS, help="Segments of each of these.")
    parser.add_argument("--only", choices=PARTS, nargs="+", help="Parts; all but fleet by default.")
    arguments = parser.parse_args()
    parts = set(arguments.only or PARTS) - (set() if arguments.only else LONG)
    if parts - {"size", "mastering", "fleet"}:
        _contest(parts, arguments.segments)
    if "size" in parts:
        segment_size.main()
    if "mastering" in parts:
        print(f"\n{mastering.table(arguments.hours)}\n", flush=True)
    if "fleet" in parts:
        figures.main(books=arguments.books, segments=arguments.each)


def _contest(parts: set[str], sizes: list[int]) -> None:
    day, cores = f"{datetime.now(UTC):%Y-%m-%d}", os.cpu_count()
    print(f"{day}, {cores} cores, {contest.AT_ONCE} at once, {contest.LATENCY:g} s and a second of sound each:\n", flush=True)
    with stage() as set_up:
        runs = contest.Contest(set_up)
        if "contest" in parts:
            print(contest.table(contest.rows(runs, sizes)) + "\n", flush=True)
        if "apart" in parts:
            print(contest.apart(runs, min(1_000, max(sizes))) + "\n", flush=True)
        if "rerun" in parts:
            print(rerun.table(set_up) + "\n", flush=True)
        if "limit" in parts:
            print(contest.limited(runs, min(LIMITED, max(sizes))) + "\n", flush=True)


if __name__ == "__main__":
    main()
