"""
What of a text is read out: the words, the silences, and nothing of the markup.
"""

import re

SILENCE = {"pause": 0.5, "break": 0.5, "long-break": 1.0}
"""Seconds of silence for the cues that ask for it; every other cue in brackets colours the voice and is not heard."""
PHONEMES = re.compile(r"<\|phoneme_start\|>.*?<\|phoneme_end\|>", re.DOTALL)
SPEAKER = re.compile(r"<\|speaker:([0-9]{1,4})\|>")
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
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


def turns(text: str) -> list[tuple[int, str]]:
    """
    Split a dialogue into who says what; what comes before the first speaker is the first one's.
    """
    first, *rest = SPEAKER.split(text)
    said = [(0, first), *((int(number), line) for number, line in zip(rest[::2], rest[1::2], strict=True))]
    return [(speaker, line) for speaker, line in said if line.strip()] or [(0, text)]


def chunks(text: str, size: int) -> list[str]:
    """
    Split *text* at sentence ends into chunks of at most *size* characters, a longer sentence being one by itself.
    """
    found: list[str] = []
    for sentence in SENTENCE_END.split(text):
        if found and len(found[-1]) + 1 + len(sentence) <= size:
            found[-1] += " " + sentence
        elif sentence.strip():
            found.append(sentence)
    return found or [text]


def is_english(text: str) -> bool:
    """
    Tell whether an English reader could say what of *text* is read out: most letters are a to z, or it has digits only.
    """
    said = "".join(span for span in spans(text) if isinstance(span, str))
    letters = [character for character in said if character.isalpha()]
    if not letters:
        return any(character.isdigit() for character in said)
    return sum(character.isascii() for character in letters) > len(letters) / 2
