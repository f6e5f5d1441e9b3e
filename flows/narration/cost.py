"""
What speech costs: prices with their date and source, and estimates.

A price is in USD per UTF-8 byte of the text that is sent, as published in
https://docs.fish.audio/developer-guide/models-pricing/pricing-and-rate-limits (read 2026-08-19): 15 USD for a million bytes
of s2.1-pro and s2-pro, nothing for s2.1-pro-free while its free window lasts.
"""

from dataclasses import dataclass
from typing import NamedTuple

USD_PER_BYTE = {"s2.1-pro": 15e-6, "s2-pro": 15e-6, "s2.1-pro-free": 0.0}
PRICES_READ = "2026-08-19"

SECONDS_PER_BYTE = 1 / 15
"""
English read aloud at 155 words a minute is 15 bytes a second; the narrations of data/scripts come to 14, pauses included. (The
price page puts a million bytes at about 12 hours, which is 23 bytes a second: faster than anybody narrates.)
"""


def billed_bytes(text: str) -> int:
    """
    Count the UTF-8 bytes that sending *text* once is billed for.
    """
    return len(text.encode())


def usd(billed: int, *, model: str) -> float:
    """
    Price *billed* UTF-8 bytes of *model* in USD.
    """
    return round(billed * USD_PER_BYTE[model], 6)


def hours(text_bytes: int, *, speed: float = 1.0) -> float:
    """
    Guess how many hours of speech *text_bytes* UTF-8 bytes become; a guess, good to about a third for English.
    """
    return text_bytes * SECONDS_PER_BYTE / speed / 3600


@dataclass
class Tally:
    """
    What recording cost: requests sent, UTF-8 bytes billed for sure, bytes perhaps billed, attempts beyond the first; and the
    bytes of the segments that were recorded by it.
    """

    requests: int = 0
    bytes_billed: int = 0
    bytes_unknown: int = 0
    retries: int = 0
    bytes_recorded: int = 0

    def add(self, other: "Tally") -> None:
        """
        Add *other* to this.
        """
        self.requests += other.requests
        self.bytes_billed += other.bytes_billed
        self.bytes_unknown += other.bytes_unknown
        self.retries += other.retries
        self.bytes_recorded += other.bytes_recorded


class Spent(NamedTuple):
    """
    USD that were billed, and those that were or may have been.
    """

    usd: float = 0.0
    at_most: float = 0.0
