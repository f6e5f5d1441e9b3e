"""
How far a run is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """
    How far a run is: of the scripts that had to be made, their segments (done is had or failed), *minutes* of speech at hand,
    USD paid, and what it is likely to cost in the end.
    """

    scripts: int
    scripts_done: int
    scripts_failed: int
    segments: int
    segments_done: int
    segments_failed: int
    minutes: float
    usd: float
    usd_expected: float
