"""
Where each word of a take is heard, as the service tells it along with the sound.

The timestamp stream is server-sent events: each has a piece of the sound, and what is known by then of the words of one chunk
of the text. Source: https://docs.fish.audio, "Text to Speech Stream with Timestamps".
"""

import base64
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource

from flows.narration.judge import BadTake
from flows.narration.prose import excerpt

KIND = "text/event-stream"

LEAST_SAID = 0.5
"""Share of a word's letters that its alignment must have: less, and the word was swallowed."""

MOST_BEYOND = 0.25
LEAST_BEYOND = 25
"""Share of the text's letters, and letters at least, that an alignment may have besides: more, and something was said twice."""

SLACK = 0.5
"""Seconds by which an alignment may reach beyond its sound."""

_CUE = re.compile(r"\[[^\[\]]*\]|<\|.*?\|>")
_WORD = re.compile(r"\S+")
# In these scripts no blanks stand between words: what the service tells apart is taken for one.
_UNPARTED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Word(NamedTuple):
    """
    A word whose time is known: its offset in the segment's text, and its seconds in the take or the file.
    """

    at: int
    start: float
    end: float


def moved(words: Sequence[Word], by: float, *, within: tuple[float, float]) -> list[Word]:
    """
    Put *words* so many seconds later, none before or behind *within*.
    """
    first, last = within
    return [Word(one.at, *(round(min(max(second + by, first), last), 3) for second in (one.start, one.end))) for one in words]


class Told(NamedTuple):
    """
    What the service says is heard: a text, mostly a word, and its seconds in the take.
    """

    text: str
    start: float
    end: float


class _Letters(NamedTuple):
    """
    The letters and digits of a text, and whose each is.
    """

    letters: str
    owners: list[int]


def unpack(stream: bytes) -> tuple[bytes, list[Told]]:
    """
    Part an answer of the timestamp stream into the sound (a WAV file's bytes) and what is heard when.

    `BadTake` where it is no such stream, or tells of no words.
    """
    sound: list[bytes] = []
    chunks: dict[int, list[Told]] = {}
    try:
        for event in _events(stream):
            sound.append(base64.b64decode(event["audio_base64"], validate=True))
            if event.get("alignment"):
                offset = float(event["chunk_audio_offset_sec"])
                # Each tells of its chunk all that is known by then, anew.
                chunks[int(event["chunk_seq"])] = [
                    Told(str(one["text"]), offset + float(one["start"]), offset + float(one["end"]))
                    for one in event["alignment"]["segments"]
                ]
    except (ValueError, KeyError, TypeError, httpx.HTTPError) as error:
        raise BadTake(f"The answer is no stream of sound and times ({type(error).__name__}: {error}).") from error
    told = [one for seq in sorted(chunks) for one in chunks[seq]]
    if sound and not told:
        raise BadTake("The answer does not tell when its words are heard.")
    return b"".join(sound), told


def sound_of(answer: bytes) -> bytes:
    """
    Return the sound of an answer, or all of it where it is none.
    """
    try:
        return b"".join(base64.b64decode(event["audio_base64"]) for event in _events(answer)) or answer
    except (ValueError, KeyError, TypeError, httpx.HTTPError):
        return answer


def _events(stream: bytes) -> Iterator[dict[str, Any]]:
    response = httpx.Response(200, headers={"content-type": KIND}, content=stream)
    for event in EventSource(response).iter_sse():
        yield event.json()


def located(text: str, told: Sequence[Told], *, seconds: float) -> list[Word]:
    """
    Find every word of *text* in what the service *told* of a take of so many *seconds*.

    `BadTake` where a word is not there, much is there that the text does not have, or times go back or beyond the sound. A word
    with digits or signs may be said in other letters: it has the time that the words around it leave.
    """
    _refuse_times(told, seconds=seconds)
    tokens = [match.span() for match in _WORD.finditer(_CUE.sub(lambda cue: " " * len(cue[0]), text))]
    wanted = _letters([text[first:last] for first, last in tokens])
    heard = _letters([one.text for one in told])
    pairs = _pairs(wanted.letters, heard.letters)
    free = {at for at, (first, last) in enumerate(tokens) if _is_free(text[first:last])}
    said: dict[int, list[int]] = {}
    for here, there in pairs:
        said.setdefault(wanted.owners[here], []).append(heard.owners[there])
    sizes = {at: wanted.owners.count(at) for at in set(wanted.owners)}
    for at, (first, last) in enumerate(tokens):
        if at in sizes and at not in free and len(said.get(at, ())) < LEAST_SAID * sizes[at]:
            raise BadTake(f"The word {excerpt(text[first:last])} is not among those that were said.")
    beyond = len(heard.letters) - len(pairs)
    if not free and beyond > max(LEAST_BEYOND, MOST_BEYOND * len(wanted.letters)):
        raise BadTake(f"More was said than {excerpt(text)}: {beyond} letters that it does not have.")
    words = list(_words(text, tokens, told, said, _first_letters(wanted, heard, pairs, tokens, text)))
    return [Word(one.at, round(min(one.start, seconds), 3), round(min(one.end, seconds), 3)) for one in words]


def _refuse_times(told: Sequence[Told], *, seconds: float) -> None:
    before = 0.0
    for one in told:
        if not 0 <= one.start <= one.end or one.start < before - SLACK:
            raise BadTake(f"The times that came with it go back at {excerpt(one.text)}.")
        before = one.start
    if told and told[-1].end > seconds + SLACK:
        raise BadTake(f"The times that came with it reach to {told[-1].end:.2f} s, and it has {seconds:.2f} s.")


def _letters(parts: Sequence[str]) -> _Letters:
    found: list[str] = []
    owners: list[int] = []
    for owner, part in enumerate(parts):
        plain = unicodedata.normalize("NFKD", part.casefold())
        for letter in plain:
            if letter.isalnum():
                found.append(letter)
                owners.append(owner)
    return _Letters("".join(found), owners)


def _pairs(one: str, other: str) -> list[tuple[int, int]]:
    """
    Pair the letters of two texts that are nearly the same.
    """
    if one == other:
        return [(at, at) for at in range(len(one))]
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return [(block.a + at, block.b + at) for block in blocks for at in range(block.size)]


def _is_free(word: str) -> bool:
    """
    Tell a word that may be said in other letters: with digits, signs (as % or &), or cut short with a point inside.
    """
    return any(letter.isdigit() or unicodedata.category(letter)[0] == "S" or letter in "&%@#/" for letter in word) or bool(
        re.search(r"\w\.\w|^[A-Z][a-z]{0,2}\.$", word)
    )


def _first_letters(
    wanted: _Letters, heard: _Letters, pairs: Sequence[tuple[int, int]], tokens: Sequence[tuple[int, int]], text: str
) -> dict[tuple[int, int], int]:
    """
    Where in *text* what the service tells as one begins inside of a token that has no blanks: by token and by what is told.
    """
    unparted = {at for at, (first, last) in enumerate(tokens) if _UNPARTED.search(text[first:last])}
    if not unparted:
        return {}
    offsets: dict[int, list[int]] = {}
    for at in unparted:
        first, last = tokens[at]
        offsets[at] = [
            first + place
            for place, letter in enumerate(text[first:last])
            for one in unicodedata.normalize("NFKD", letter.casefold())
            if one.isalnum()
        ]
    begins = {at: wanted.owners.index(at) for at in unparted if at in wanted.owners}
    found: dict[tuple[int, int], int] = {}
    for here, there in pairs:
        token = wanted.owners[here]
        if token in begins:
            found.setdefault((token, heard.owners[there]), offsets[token][min(here - begins[token], len(offsets[token]) - 1)])
    return found


def _words(
    text: str,
    tokens: Sequence[tuple[int, int]],
    told: Sequence[Told],
    said: dict[int, list[int]],
    inside: dict[tuple[int, int], int],
) -> Iterator[Word]:
    """
    Give the words in order: tokens, and inside of a token without blanks what was told apart.
    """
    before = 0.0
    known = sorted(said)
    for at, (first, last) in enumerate(tokens):
        owners = sorted(set(said.get(at, ())))
        if not any(letter.isalnum() for letter in text[first:last]):
            continue
        if not owners:
            following = bisect_right(known, at)
            after = told[min(said[known[following]])].start if following < len(known) else (told[-1].end if told else 0.0)
            yield Word(first, before, max(before, after))
            before = max(before, after)
        elif parts := [(inside[at, one], one) for one in owners if (at, one) in inside]:
            for place, one in parts:
                yield Word(place, told[one].start, told[one].end)
                before = told[one].end
        else:
            yield Word(first, told[owners[0]].start, told[owners[-1]].end)
            before = told[owners[-1]].end
