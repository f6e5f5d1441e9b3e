"""
Text → prose: titles, lines, notes, and the words that CommonMark would drop.

What whole scripts become is in the golden folders of `test_segments`.
"""

import random
import re
import time

import pytest

from flows.narration.marked import markdown
from flows.narration.prose import Block, BlockKind, Prose, plain
from flows.narration.scripts import clean

H, P, S = BlockKind.HEADING, BlockKind.PARAGRAPH, BlockKind.SCENE_BREAK

SHAPES = (
    "{0} {1}",
    "# {0} {1} #",
    "{0}\n{1}\n===",
    "{0}\n{1}\n---",
    "- {0}\n- {1}",
    "* {0}\n\n  {1}",
    "1. {0}\n2. {1}",
    "1066. {0}\n\n1984. {1}",
    "> {0}\n{1}",
    ">>> {0}\n\n> {1}",
    "*{0}* __{1}__",
    "~~{0}~~ `{1}`",
    "```py\n{0}\n{1}\n```",
    "    {0}\n\n    {1}",
    "| {0} | {1} |\n|---|---|",
    "| a |\n|---|\n| {0} | {1} |",
    "[{0}](http://x.y) ![{1}](z.png)",
    "<div>{0}</div>\n{1}",
    "<b>{0}</b><br>{1} &amp;",
    "[{0}]: {1}",
    "[{0}]\n\n[{1}][]",
    "{0}  \n{1}",
    "{0}\\\n{1}",
    "- [ ] {0}\n  - [x] {1}",
    "{0} http://a.b/c_d_e {1}",
    "- - - {0}\n\n      {1}",
    "{0}\n***\n{1}",
)


def read(prose: Prose) -> list[tuple[BlockKind, str, int]]:
    """
    Return the blocks of a script, without their later lines.
    """
    return [(block.kind, block.text, block.line) for block in prose.blocks]


@pytest.mark.parametrize("seed", range(40))
def test_every_word_of_markdown_is_read_once_and_in_order(seed: int) -> None:
    """
    However shapes of markdown follow each other, each word of theirs is read once, in order, on its line.
    """
    chance = random.Random(seed)
    shapes = [chance.choice(SHAPES).format(f"Word{n}a", f"Word{n}b") for n in range(12)]
    text = "\n\n".join(shapes)
    prose = markdown(text)
    said = re.findall(r"Word\d+[ab]", "\n".join(block.text for block in prose.blocks))
    assert said == re.findall(r"Word\d+[ab]", text)
    rows = text.split("\n")
    for block in prose.blocks:
        for word in re.finditer(r"Word\d+[ab]", block.text):
            assert word[0] in rows[block.line_at(word.start()) - 1]


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Text.\n\n## *The* Title\n\n# Other", "The Title"),
        ("---\ntitle: 'Quoted'\n---\n# Heading", "Quoted"),
        ("---\ntitle: >\n  folded\n---\n# Heading", "Heading"),
        ("Text only.", None),
    ],
)
def test_title(text: str, title: str | None) -> None:
    """
    A script is called what its front matter says, or its first heading.
    """
    assert markdown(text).title == title


@pytest.mark.parametrize("text", ["---\nHe said: no.\nAnd left.\n\n---\nmore", "---\n\nA scene.\n\n---\n", "---\nx: y"])
def test_scene_breaks_are_not_front_matter(text: str) -> None:
    """
    Prose between two rules at the beginning is read.
    """
    prose = markdown(text)
    assert prose.notes == ()
    assert re.findall(r"\w+", " ".join(block.text for block in prose.blocks)) == re.findall(r"\w+", text)


def test_plain_text_is_read_as_it_stands() -> None:
    """
    Markdown in a text file is text; wrapped lines are joined.
    """
    prose = plain("# One *two*\nthree\n\n1. four\n - - -\nfive_")
    assert read(prose) == [(P, "# One *two* three", 1), (P, "1. four", 4), (S, "- - -", 5), (P, "five_", 6)]


def test_lines_are_those_of_an_editor() -> None:
    """
    Form feeds and Unicode separators break lines without counting; a paragraph separator parts paragraphs.
    """
    for form in (plain, markdown):
        assert read(form(clean("a\x0cb\r\nc\r\rd\u2029e\r\nf"))) == [(P, "a b c", 1), (P, "d", 4), (P, "e f", 4)]


@pytest.mark.parametrize(
    "text", ["one `two\nthree` four\nfive", "one [x](\nhttp://a) four\nfive", "one <!-- a\nb --> four\nfive"]
)
def test_lines_after_what_hides_a_break(text: str) -> None:
    """
    Code, links and comments that go over the end of a line do not shift the lines that follow.
    """
    (block,) = markdown("Before.\n\n" + text).blocks[1:]
    assert block.line_at(block.text.index("five")) == 5


@pytest.mark.parametrize("mark", [">", "- ", "1. ", "> - "])
def test_deep_nesting_keeps_its_words(mark: str) -> None:
    """
    Beyond what the parser nests, rows are read with their marks; what follows is not drawn in.
    """
    blocks = markdown(mark * 200 + "Deep.\n\nAfter.").blocks
    assert blocks[-2].text.endswith("Deep.")
    assert blocks[-1] == Block(P, "After.", 3)


def test_footnotes_without_marks_or_with_one_label_are_read() -> None:
    """
    Not one of them is dropped, and the numbers of the others are.
    """
    prose = markdown("[^1]: First.\n\n[^1]: Second.\n\n[^2]: Third.\n\nText[^1].")
    assert read(prose) == [(P, "Text.", 7), (P, "First.", 1), (P, "Second.", 3), (P, "Third.", 5)]
    assert [note.line for note in prose.notes] == [5]


def test_a_comment_that_never_closes_does_not_swallow_the_script() -> None:
    """
    What follows its mark is read, and noted.
    """
    prose = markdown("One.\n\n<!-- two\n\nthree\n")
    assert [block.text for block in prose.blocks] == ["One.", "two", "three"]
    assert [note.line for note in prose.notes] == [3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("see https://www.example.com/a_b_(c).", "see example.com_(c)."),
        ("见https://example.com/页面。", "见example.com页面。"),
        ("<https://user@example.com:8080/?q#f>", "example.com"),
        ("(http://example.com)", "(example.com)"),
        ("<mailto:ann@example.com>", "mailto:ann@example.com"),
        ("xhttp://example.com", "xhttp://example.com"),
        ("`http://example.com/a`", "http://example.com/a"),
    ],
)
def test_urls(text: str, said: str) -> None:
    """
    A URL is spoken as its host, and takes nothing with it that may be a word.
    """
    assert [block.text for block in markdown(text).blocks] == [said]


def test_html_attributes_and_entities() -> None:
    """
    The text of an image is read, an entity is what it stands for, and hidden ones vanish.
    """
    prose = markdown("<img alt=\"A boat\"> soft&shy;ly &#8220;hi&#8221;\n\n<p>a > b <img src=x alt='c'></p>\n\n<hr>")
    assert read(prose) == [(P, "A boat softly “hi”", 1), (P, "a > b c", 3), (S, "* * *", 5)]


@pytest.mark.parametrize("text", ["", "\n\n \n", "\ufeff", "&nbsp;"])
def test_nothing(text: str) -> None:
    """
    Nothing is no block and needs no note.
    """
    for form in (plain, markdown):
        if form is markdown or "&" not in text:
            assert form(clean(text)) == Prose(None, (), ())


@pytest.mark.parametrize("piece", ["A line of words.\n", "- item\n", "|a|b|\n|-|-|\n|1|2|3|\n\n", "<b>x</b> <!-- c -->\n"])
def test_reading_takes_linear_time(piece: str) -> None:
    """
    Four times the text takes about four times as long, and not sixteen.
    """

    def seconds(size: int) -> float:
        start = time.process_time()
        markdown(piece * (size // len(piece)))
        return time.process_time() - start

    seconds(1_000)
    assert seconds(120_000) < 10 * seconds(30_000) + 0.1
