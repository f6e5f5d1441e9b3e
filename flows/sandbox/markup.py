"""
What of a text is read out: the words, the silences, and nothing of the markup.
"""

import re

SILENCE = {"pause": 0.5, "break": 0.5, "long-break": 1.0}
"""Seconds of silence for the cues that ask for it; every other cue in brackets colours the voice and is not heard."""
PHONEMES = re.compile(r"<\|phoneme_start\|>.*?<\|phoneme_end\|>", re.DOTALL)
SPEAKER = re.compile(r"<\|speaker:\d+\|>")
CUE = re.compile(r"\[([^\[\]]*)\]")


def spans(text: str) -> list[str | float]:
    """
    Split *text* into words to say and seconds of silence, in order.
    """
    plain = SPEAKER.sub(" ", PHONEMES.sub(" ", text))
    found: list[str | float] = []
    for index, part in enumerate(CUE.split(plain)):
        if index % 2 == 0 and part.strip():
            found.append(part)
        elif index % 2 and part.strip().lower() in SILENCE:
            found.append(SILENCE[part.strip().lower()])
    return found


def is_english(text: str) -> bool:
    """
    Tell whether an English reader could say what of *text* is read out: most letters are a to z, or it has digits only.
    """
    said = "".join(span for span in spans(text) if isinstance(span, str))
    letters = [character for character in said if character.isalpha()]
    if not letters:
        return any(character.isdigit() for character in said)
    return sum(character.isascii() for character in letters) > len(letters) / 2
