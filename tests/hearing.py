"""
What was said and what was heard, word by word.
"""

import re
from difflib import SequenceMatcher


def words(text: str) -> list[str]:
    """
    Tell the words of a text, without what cannot be heard.
    """
    return re.findall(r"[a-z]+", text.lower().replace("'", "").replace("’", ""))


def errors(said: list[str], heard: list[str]) -> int:
    """
    Count the words that were heard wrong, or not, or too much.
    """
    steps = SequenceMatcher(None, said, heard, autojunk=False).get_opcodes()
    return sum(max(b - a, d - c) for step, a, b, c, d in steps if step != "equal")
