"""
Golden folders and laws for the way from a script to its segments.

A case is a folder in `golden`: `in.md` or `in.txt`, maybe `cutting.json`, and `out.txt`, which has one line for each
segment (line number, joint, text) and then one for each note. A new case is a new folder; a run prints what it lacks.
"""

import re
from difflib import unified_diff
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.narration.marked import markdown
from flows.narration.prose import Block, BlockKind, Prose, plain, runs_on
from flows.narration.scripts import clean, read_script
from flows.narration.segments import Cut, Cutting, Joint, cut

GOLDEN = Path(__file__).parent / "golden"

LETTERS = "abcdefghijkLMNOP0123456789"
SIGNS = " \n\t.,;:!?…—–-'\"“”’()[]<>|*_#~`&\\/"
WORLD = (
    "éßñ\u0301你好。，！世界안녕สวัสดีเกมनमस्ते।\u094dمرحبا؟👩👧\u200d👋🏽🇩🇪🇫"
    "\u200b\u200c\u00ad\u2060\ufeff\u3000\xa0\u2028\x0c\r\x85\x00"
)
texts = st.one_of(
    st.text(max_size=300),
    st.text(st.sampled_from(LETTERS + SIGNS + WORLD), max_size=400),
    st.lists(st.sampled_from(["Yes. ", "no, ", "[sic] ", "<|x|>", "word ", "1984. ", "\n\n", "\n", "好。"]), max_size=90).map(
        "".join
    ),
)
sizes = st.integers(40, 120)


def told(prose: Prose, made: Cut) -> str:
    """
    Write segments and notes as the golden files do.
    """
    lines = [f"{segment.line:3} {segment.joint:11} {segment.text}\n" for segment in made.segments]
    notes = sorted((*prose.notes, *made.notes), key=lambda note: note.line)
    return "".join([*lines, *(f"{note.line:3} {'note':11} {note.what}\n" for note in notes)])


def words(text: str) -> list[str]:
    """
    Return the maximal runs of characters that are neither white space nor brackets.
    """
    return re.sub(r"[\[\]()<>|]", " ", text).split()


def sounds(text: str) -> str:
    """
    Return the letters and digits of a text.
    """
    return "".join(re.findall(r"[^\W_]", text))


def block_texts(prose: Prose) -> list[str]:
    """
    Return what the blocks of a script say.
    """
    return [block.text for block in prose.blocks if block.kind is not BlockKind.SCENE_BREAK]


def made_of(text: str, **cutting: object) -> Cut:
    """
    Cut a plain text.
    """
    return cut(plain(clean(text)), cutting=Cutting.model_validate(cutting))


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden(case: str) -> None:
    """
    A script becomes exactly these segments and notes.
    """
    (script,) = (GOLDEN / case).glob("in.*")
    settings_file, out = GOLDEN / case / "cutting.json", GOLDEN / case / "out.txt"
    cutting = Cutting.model_validate_json(settings_file.read_text()) if settings_file.exists() else Cutting()
    prose = (markdown if script.suffix == ".md" else plain)(read_script(script))
    actual = told(prose, cut(prose, cutting=cutting))
    expected = out.read_text(encoding="utf-8") if out.exists() else ""
    diff = unified_diff(expected.splitlines(True), actual.splitlines(True), "expected", "actual")
    assert expected == actual, "\n" + "".join(diff)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(text=texts, size=sizes)
def test_every_word_is_sent_once_and_in_order(text: str, size: int) -> None:
    """
    The words of the segments are the words of the script; only what runs on, or is too long, is ever cut inside.
    """
    prose = plain(clean(text))
    made = cut(prose, cutting=Cutting(segment_bytes=size))
    assert sounds(clean(text)) == sounds("".join(block_texts(prose))) == sounds("".join(s.text for s in made.segments))
    if any(note.what.startswith("not spoken") for note in made.notes):
        return
    sent = iter(word for segment in made.segments for word in words(segment.text))
    for word in words("\n".join(block_texts(prose))):
        got = next(sent)
        while got != word:
            assert word.startswith(got)
            assert len(word.encode()) > size / 2 or any(runs_on(letter) or letter in "।॥" for letter in word)
            got += next(sent)
    assert list(sent) == []


@settings(max_examples=100, derandomize=True, deadline=None)
@given(text=texts, size=sizes)
def test_segments_are_sound(text: str, size: int) -> None:
    """
    Segments are small enough, clean, in the order of the lines on which they stand, and always the same.
    """
    prose = plain(clean(text))
    made = cut(prose, cutting=Cutting(segment_bytes=size))
    rows = clean(text).split("\n")
    lines = [segment.line for segment in made.segments]
    assert lines == sorted(lines)
    for segment in made.segments:
        assert len(segment.text.encode()) <= size or len(re.findall(r"[^\W_]", segment.text)) == 1
        assert segment.text == " ".join(segment.text.split())
        assert sounds(segment.text)
        assert not re.search(r"[\[\]]|<\||\|>", segment.text)
        assert segment.text[0] in "()" + rows[segment.line - 1]
    assert [segment.joint is Joint.END for segment in made.segments] == [False] * (len(lines) - 1) + [True] * bool(lines)
    assert made == cut(prose, cutting=Cutting(segment_bytes=size))


@settings(max_examples=50, derandomize=True, deadline=None)
@given(text=texts)
def test_markdown_loses_nothing_on_the_way_to_segments(text: str) -> None:
    """
    Whatever markdown is thrown at it: what the blocks say is what the segments say.
    """
    prose = markdown(clean(text))
    made = cut(prose, cutting=Cutting(segment_bytes=60))
    assert sounds("".join(block_texts(prose))) == sounds("".join(segment.text for segment in made.segments))


@pytest.mark.parametrize("marks", ["[", "]", "<|", "|>", "<[|", "[<|]>", "[[x]", "<|x[|>", "<<||>>"])
@pytest.mark.parametrize("cues", [True, False])
def test_unbalanced_brackets_never_reach_the_voice(marks: str, cues: bool) -> None:
    """
    Where brackets do not match, nothing is left that the voice could take for a cue.
    """
    (segment,) = made_of(f"one {marks} two", cues=cues).segments
    assert not re.search(r"\[|\]|<\||\|>", segment.text.replace("[x]", ""))
    assert words(segment.text) == words(f"one {marks} two")


@pytest.mark.parametrize("text", ["", " \n\n\t\n", "\ufeff", "* * *\n", "😀\n", "[long pause]"])
def test_nothing_to_speak(text: str) -> None:
    """
    A script without words has no segments; a cue alone would be a request for silence.
    """
    made = made_of(text, cues=True)
    assert made.segments == ()
    assert [note.what.split(",")[0] for note in made.notes[1:]] == ["not spoken"] * (text == "[long pause]")


def test_a_cue_is_never_cut() -> None:
    """
    A sentence too long is cut around its cues, and no sentence ends within one.
    """
    made = made_of("word, [sigh. So long] " * 200, cues=True, segment_bytes=50)
    assert {s.text.count("[") - s.text.count("]") for s in made.segments} == {0}
    assert sum(segment.text.count("[sigh. So long]") for segment in made.segments) == 200


def test_a_long_sentence_leaves_no_small_remainder() -> None:
    """
    Ten thousand characters without a full stop become parts of about the same size.
    """
    sizes = [len(segment.text) for segment in made_of("someword " * 1111, segment_bytes=600).segments]
    assert sum(sizes) > 9900
    assert min(sizes) > 450
    assert max(sizes) <= 600


@pytest.mark.parametrize("cluster", ["👨‍👩‍👧‍👦", "e\u0301\u0302", "🇩🇪", "👋🏽", "क्ष", "เก", "\u1100\u1161\u11a8"])
def test_no_cut_inside_what_a_reader_sees_as_one_character(cluster: str) -> None:
    """
    Text without spaces is cut between characters with all their marks.
    """
    made = made_of(f"a{cluster}" * 200, segment_bytes=100)
    assert len(made.segments) > 5
    whole = "".join(segment.text for segment in made.segments)
    assert whole == f"a{cluster}" * 200
    assert all(segment.text.replace(cluster, "").strip("a") == "" for segment in made.segments)


def test_a_paragraph_of_100_kb_keeps_its_lines() -> None:
    """
    A huge paragraph is cut by its sentences, each with the line on which it begins.
    """
    text = "".join(f"Sentence number {number} stands here.\n" for number in range(1, 3001))
    made = made_of(text)
    assert len(text) > 100_000
    assert [s.line for s in made.segments] == [int(s.text.split()[2]) for s in made.segments]
    assert {segment.joint for segment in made.segments[:-1]} == {Joint.SENTENCE}


def test_many_chinese_sentences_take_linear_time() -> None:
    """
    What is quadratic in sentencex stays within a window: 20,000 sentences in one paragraph would take seconds.
    """
    made = made_of("你好世界。" * 20_000, language="zh")
    assert sum(segment.text.count("。") for segment in made.segments) == 20_000
    assert {segment.text[-1] for segment in made.segments} == {"。"}


def test_a_number_is_not_a_segment() -> None:
    """
    A sentence without a letter joins its neighbour, as voices misread a number alone.
    """
    made = made_of("1. The first of many words. 2. The second one here. 1984.", segment_bytes=40)
    assert [segment.text for segment in made.segments] == ["1. The first of many words.", "2. The second one here. 1984."]


@pytest.mark.parametrize("language", ["en", "zh-Hans", "xx", "tlh", "pt_BR"])
def test_an_unknown_language_is_cut_as_well(language: str) -> None:
    """
    The splitter falls back where it does not know a language.
    """
    assert len(made_of("Hello there. General.", language=language).segments) == 1


@pytest.mark.parametrize("wrong", [{"segment_bytes": 39}, {"segment_bytes": 5001}, {"language": ""}, {"size": 3}])
def test_cutting_is_checked(wrong: dict[str, object]) -> None:
    """
    Values out of range and unknown names are refused.
    """
    with pytest.raises(ValidationError):
        Cutting.model_validate(wrong)


def test_headings_are_set_apart_on_both_sides() -> None:
    """
    The pauses before and after a heading are a heading's; a scene break is more, the end is the end.
    """
    kinds = [BlockKind.PARAGRAPH, BlockKind.HEADING, BlockKind.PARAGRAPH, BlockKind.SCENE_BREAK, BlockKind.PARAGRAPH]
    prose = Prose(None, tuple(Block(kind, "Text.", line) for line, kind in enumerate(kinds, 1)), ())
    joints = [segment.joint for segment in cut(prose, cutting=Cutting()).segments]
    assert joints == [Joint.HEADING, Joint.HEADING, Joint.SCENE_BREAK, Joint.END]
