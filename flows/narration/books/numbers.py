"""
The numbers of lists, and numbers as titles write them.
"""

import re

from flows.narration.books.markup import Element, local

_VALUES = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"),
    (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
ROMAN = re.compile(r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_ONES = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
]
NAMED = {word: str(value) for value, word in enumerate(_ONES, 1)}
_TENS = dict(
    zip(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], range(20, 100, 10), strict=True)
)


def roman(number: int) -> str:
    """
    Write a number in Roman figures.
    """
    figures = ""
    for value, sign in _VALUES:
        figures += sign * (number // value)
        number %= value
    return figures


def from_roman(figures: str) -> int:
    """
    Read Roman figures.
    """
    total = 0
    for value, sign in _VALUES:
        while figures.startswith(sign):
            total, figures = total + value, figures[len(sign) :]
    return total


def item_numbers(items: Element) -> dict[Element, str]:
    """
    Return the number of each item of a numbered list as a page shows it before the item ("3. "); none where it shows none.
    """
    style = "".join((items.get("style") or "").split())
    if "list-style:none" in style or "list-style-type:none" in style:
        return {}
    rows = [child for child in items if local(child) == "li"]
    step = -1 if items.get("reversed") is not None else 1
    number = _whole(items.get("start"), len(rows) if step < 0 else 1) - step
    numbers: dict[Element, str] = {}
    for row in rows:
        number = _whole(row.get("value"), number + step)
        shown = str(number)
        if items.get("type") in ("i", "I") and 0 < number < 4000:
            shown = roman(number)
        elif items.get("type") in ("a", "A") and 0 < number <= 26:
            shown = chr(64 + number)
        numbers[row] = f"{shown.lower() if items.get('type') in ('i', 'a') else shown}. "
    return numbers


def _whole(written: str | None, otherwise: int) -> int:
    """
    Read a whole number.
    """
    try:
        return int(written or otherwise)
    except ValueError:
        return otherwise


def folded(title: str) -> str:
    """
    Return a title so that two writings of one compare equal: small, words only, numbers in figures, a blank around each.
    """
    words: list[str] = []
    for word in re.findall(r"[^\W_]+", title):
        if ROMAN.fullmatch(word):
            words.append(str(from_roman(word)))
            continue
        word = word.casefold()
        if words and word in NAMED and words[-1] in {str(tens) for tens in _TENS.values()} and len(NAMED[word]) == 1:
            words[-1] = str(int(words[-1]) + int(NAMED[word]))
        else:
            words.append(NAMED.get(word) or (str(_TENS[word]) if word in _TENS else word))
    return f" {' '.join(words)} "
