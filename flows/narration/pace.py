"""
How long a text may take to be read: bounds outside of which a take cannot be a reading of it.

Everything is counted in letters of an alphabet, of which English narration reads about 15 a second (155 words a minute), and
other alphabets about as many. Scripts that write more with a character count more for one: a Chinese character is a syllable,
of which 4 to 5 are read in a second, a Japanese kana a mora (7 to 8), a Korean block a syllable (5 to 6). So the bounds hold
for every language without asking for its name, also where a script quotes another one.

The bounds are wide on purpose: what they refuse is paid for and recorded again. They stand outside of what anybody was
measured to speak (the record for intelligible English is 655 words a minute, 55 to 60 letters a second) and inside of what
the service is known to do wrong: a fragment of a long text, a few hundred bytes of nothing, the same sentence over and over.
"""

import re
import unicodedata
from functools import lru_cache

FASTEST = 40.0
"""Letters a second that nobody narrates at: almost three times the common pace."""

SPARED = 60.0
"""Letters that may stay unread before that counts: short texts vary most (an address, a number, a sigh)."""

FASTEST_SHORT = 150.0
"""Letters a second that even a short text cannot be read at."""

SLOWEST = 4.0
"""Letters a second: a quarter of the common pace, slower than dictation."""

SLACK = 8.0
"""Seconds that a take may always last: breath, laughter and a long pause around a single word."""

CUE_SECONDS = 5.0
"""Seconds that a [cue] may add: a long break, a laugh."""

_CUE = re.compile(r"\[[^\[\]]*\]|<\|[^<>|]*\|>")
"""What directs the voice and is not spoken; brackets that are to be spoken are sent as parentheses."""

_LETTERS = {"CJK": 3.0, "HIRAGANA": 2.0, "KATAKANA": 2.0, "HANGUL": 2.5}
"""Letters that a character of these scripts counts for."""

_DIGIT = (1.0, 8.0)
"""A digit is a syllable at the least; written out ("1,000,000,000") it was measured to take half a second."""

_SIGN = (0.0, 12.0)
"""A sign may be silent, or spoken as several words: %, €, ½."""

_MARK = (0.0, 1.0)
"""A stop or a quotation mark is a pause at the most."""


def bounds(text: str, *, speed: float) -> tuple[float, float]:
    """
    Return the fewest and the most seconds that reading *text* at *speed* (a factor of the common pace) can take.
    """
    spoken, cues = _CUE.subn(" ", text)
    sides = [_letters(character) for character in spoken]
    fewest, most = sum(few for few, _ in sides), sum(many for _, many in sides)
    shortest = max(fewest / FASTEST_SHORT, (fewest - SPARED) / FASTEST)
    return shortest / speed, (SLACK + cues * CUE_SECONDS + most / SLOWEST) / speed


def letters(text: str) -> float:
    """
    Return about how many letters of an alphabet *text* takes to read, without what directs the voice.
    """
    return sum(sum(_letters(character)) for character in _CUE.sub(" ", text)) / 2


@lru_cache(maxsize=4096)
def _letters(character: str) -> tuple[float, float]:
    """
    How many letters a character counts for, at the least and at the most.
    """
    category = unicodedata.category(character)
    if category == "Nd":
        return _DIGIT
    if category[0] == "L":
        script = unicodedata.name(character, "").partition(" ")[0]
        letters = _LETTERS.get(script, 1.0)
        return letters, letters
    if category[0] in "SN":
        return _SIGN
    if category[0] == "Z":
        return 1.0, 1.0
    return _MARK
