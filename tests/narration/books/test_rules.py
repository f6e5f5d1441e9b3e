"""
How a narrator treats what stands in a book: one piece of markup and what is spoken of it, for each rule.
"""

from pathlib import Path

import pytest

from flows.narration.books import BookPlan, Chapter, read_book
from flows.narration.books.rules import RULES
from flows.narration.prose import BlockKind
from tests.bookmaking import Epub, page

H, P, S = BlockKind.HEADING, BlockKind.PARAGRAPH, BlockKind.SCENE_BREAK

SPOKEN: dict[str, list[tuple[str, list[str]]]] = {
    "mute": [("<p>One<script>var two;</script> three<style>p {}</style>.</p>", ["One three."])],
    "hidden": [
        ('<p>One</p><p hidden="hidden">two</p><p aria-hidden="true">three</p><p style="display: none">four</p>', ["One"]),
        ('<p>One <span style="visibility:hidden">two</span> three</p>', ["One three"]),
    ],
    "number": [
        ('<p>One <span epub:type="pagebreak" id="p3">3</span>two</p>', ["One two"]),
        ('<p>One<span class="pagenum">[Pg 12]</span> two</p>', ["One two"]),
        ('<p>A line<span class="lnum">20</span></p>', ["A line"]),
        ('<p class="pagebreak">Words after a page.</p>', ["Words after a page."]),
    ],
    "address": [('<p>See <a href="http://x.y/">this</a><span class="link-target"> [http://x.y/]</span>.</p>', ["See this."])],
    "noteref": [
        ('<p>Word<a epub:type="noteref" href="#n1">1</a>.</p>', ["Word."]),
        ('<p>Word<sup><a href="#n1">1</a></sup>.</p>', ["Word."]),
        ('<p>Word<a href="#n1"><sup>12</sup></a>.</p>', ["Word."]),
        ('<p>Word<a href="notes.xhtml#n1">[3]</a>.</p>', ["Word."]),
        ('<p>Word.<a href="#n1"><span class="s">12</span></a> Next.</p>', ["Word. Next."]),
        ('<p>E = mc<sup>2</sup>, see <a href="#n9">4</a>.</p>', ["E = mc2, see 4."]),
    ],
    "backlink": [('<p>Word <a role="doc-backlink" href="#r1">back</a></p>', ["Word"])],
    "notes": [
        ('<p>Word.</p><aside epub:type="footnote" id="n1"><p>A note.</p></aside><p>More.</p>', ["Word.", "More."]),
        ('<p>Word.</p><section role="doc-endnotes"><h2>Notes</h2><p>A note.</p></section>', ["Word."]),
        (
            '<p>Word<a id="r1" href="#f1">[1]</a>.</p><p>More.</p><p><a id="f1" href="#r1"><span>[1]</span></a> A note.</p>',
            ["Word.", "More."],
        ),
        ('<p>Word<sup><a href="#f1">1</a></sup>.</p><p>More.</p><p id="f1">1. A note.</p>', ["Word.", "More."]),
        ('<p>Word<sup><a href="#f1">1</a></sup>.</p><p>More.</p><p><a id="f1"></a>1. A note.</p>', ["Word.", "More."]),
    ],
    "contents": [
        ('<nav><ol><li><a href="#a">A</a></li></ol></nav><p>One</p>', ["One"]),
        ('<p>One</p><ul><li><a href="#a">A</a></li><li><a href="#b">B</a></li></ul><p>Two</p>', ["One", "Two"]),
        (
            '<h2>Contents</h2><table><tr><td>I.</td><td><a href="#a">A</a></td><td>3</td></tr>'
            '<tr><td>II.</td><td><a href="#b">B</a></td></tr></table><p>Two</p>',
            ["Two"],
        ),
        ('<ul><li><a href="http://x.y/">A</a></li><li><a href="#b">B</a></li></ul>', ["A", "B"]),
    ],
    "licence": [('<p>One</p><section class="pg-boilerplate" id="pg-footer"><p>Licence.</p></section>', ["One"])],
    "code": [
        ("<p>Type:</p><pre><code>rm -rf /</code></pre><p>Done.</p>", ["Type:", "Done."]),
        ('<div class="highlight"><pre>rm</pre></div><p>Type <code>ls</code> now.</p>', ["Type ls now."]),
    ],
    "asides": [("<p>One</p><aside><p>A box.</p></aside><p>Two</p>", ["One", "Two"])],
    "picture": [
        ('<p><img src="t.png" alt="T"/>he end.</p>', ["The end."]),
        ('<p>A <img src="h.png" alt="red heart"/>beats.</p>', ["A red heart beats."]),
        ('<figure><img src="m.png" alt="A map of it."/><figcaption>The map.</figcaption></figure>', ["The map."]),
        ('<p><img src="m.png" alt="A map of it."/></p><p>One</p>', ["One"]),
        ("<svg><title>Logo</title><text>Word</text></svg><p>One</p>", ["One"]),
    ],
    "formula": [
        ('<p>So <math alttext="x squared"><mi>x</mi></math> it is.</p>', ["So x squared it is."]),
        ("<p>So <math><mi>x</mi></math> it is.</p>", ["So it is."]),
    ],
    "media": [('<p>One</p><audio src="a.mp3">No sound.</audio><p>Two <button>Press</button>.</p>', ["One", "Two ."])],
    "lines": [("<pre>Dear Sir,\n  I write\nto you.\n\nYours</pre>", ["Dear Sir, I write to you.", "Yours"])],
    "ruby": [("<p><ruby>山路<rp>(</rp><rt>やまみち</rt><rp>)</rp></ruby>を\n登る</p>", ["山路を登る"])],
    "table": [
        ("<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ada</td><td>36</td></tr></table>", ["Name, Age", "Ada, 36"]),
        ("<table><tr><td></td><td>One</td><td><b>Two</b></td></tr></table>", ["One, Two"]),
        ("<table><tr><td><p>A page.</p><p>Laid out.</p></td><td>x</td></tr></table>", ["A page.", "Laid out.", "x"]),
    ],
    "break": [("<p>One<br/>two<br/>三\n<br/>四</p>", ["One two 三 四"])],
    "scene": [
        ("<p>One</p><hr/><p>Two</p><p>* * *</p><p>Three</p>", ["One", "*", "Two", "*", "Three"]),
        ('<p>One</p><div class="scene-break"/>', ["One", "*"]),
    ],
    "heading": [("<h2>II</h2><p>One</p><hgroup><h3>A</h3><p>B</p></hgroup>", ["#II", "One", "#A", "#B"])],
    "stanza": [
        ('<div class="stanza"><div>One,</div><div>two;</div></div><p class="lg">three.</p>', ["One, two;", "three."]),
    ],
    "block": [
        ("<div>One<p>Two</p>Three</div><ul><li>A</li><li><p>B</p></li></ul>", ["One", "Two", "Three", "A", "B"]),
        ('<ol start="3"><li>C</li><li><p>D</p><p>E</p></li></ol>', ["3. C", "4. D", "E"]),
        ('<ol type="i"><li>C</li></ol><ol style="list-style: none"><li>F</li></ol>', ["i. C", "F"]),
    ],
    "struck": [("<p>One <del>two</del> three</p>", ["One two three"])],
    "host": [
        ('<p>See <a href="http://www.x.org/a/b">http://www.x.org/a/b</a>.</p>', ["See x.org."]),
        ("<p>See http://x.org/a.</p>", ["See http://x.org/a."]),
    ],
    "within": [
        ("<p><b>D</b>rop <i>cap</i>s, a&#160;b</p>", ["Drop caps, a b"]),
        ("<p>soft\u00adhyphen, un<wbr/>broken, w\u2060j</p>", ["softhyphen, unbroken, wj"]),
        ("<p>One\n\t<em>two </em> three<unknown>four</unknown></p>", ["One two threefour"]),
        ("<p>a &amp; b &lt; c &mdash; d&nbsp;&eacute;</p>", ["a & b < c — d é"]),
    ],
}  # fmt: skip


def read(tmp_path: Path, body: str, plan: BookPlan | None = None) -> Chapter:
    """
    Read a chapter with this in it.
    """
    path = Epub({"one.xhtml": page(f"<h1>Title</h1>{body}<p>Last.</p>")}, nav=[("Title", "one.xhtml")]).write(
        tmp_path / "b.epub"
    )
    return read_book(path, plan).chapters[0]


def spoken(chapter: Chapter) -> list[str]:
    """
    Return what is spoken of it: headings with a #, scene breaks as *.
    """
    marks = {H: "#", P: "", S: ""}
    texts = [marks[block.kind] + ("*" if block.kind is S else block.text) for block in chapter.prose.blocks]
    assert texts[0] == "#Title"
    assert texts[-1] == "Last."
    return texts[1:-1]


@pytest.mark.parametrize(("name", "body", "said"), [(name, *case) for name, cases in SPOKEN.items() for case in cases])
def test_a_rule_speaks(tmp_path: Path, name: str, body: str, said: list[str]) -> None:
    """
    What the table says is what happens.
    """
    assert spoken(read(tmp_path, body)) == said


def test_every_rule_is_shown() -> None:
    """
    No rule without a piece of markup, in the table's order.
    """
    assert list(SPOKEN) == [rule.name for rule in RULES]


def test_a_plan_may_choose_the_reading_of_ruby(tmp_path: Path) -> None:
    """
    The reading takes the place of its base, and of nothing else.
    """
    body = "<p><ruby>山<rt>やま</rt>路<rt>みち</rt></ruby>を<ruby>登<rt></rt></ruby>る</p>"

    assert spoken(read(tmp_path, body, BookPlan(ruby="reading"))) == ["やまみちを登る"]


def test_what_is_left_out_is_noted_or_listed(tmp_path: Path) -> None:
    """
    No word disappears in silence.
    """
    body = '<p hidden="">secret</p><p><img alt="A map" src="m"/></p><p><s>old</s></p>'
    body += "<aside>A box.</aside><pre><code>rm x</code></pre>"
    path = Epub({"one.xhtml": page(f"<p>One</p>{body}")}, nav=[("Title", "one.xhtml")]).write(tmp_path / "b.epub")

    book = read_book(path)

    notes = " ".join(note.what for note in book.chapters[0].prose.notes)
    assert "secret" in notes
    assert "A map" in notes
    assert "struck out" in notes
    assert {left.source: left.words for left in book.left_out} == {"OPS/one.xhtml#:asides": 2, "OPS/one.xhtml#:code": 2}


def test_what_a_document_leaves_out_is_brought_in_by_its_name(tmp_path: Path) -> None:
    """
    As the list of what is left out says.
    """
    plan = BookPlan.model_validate({"chapters": [{"source": "OPS/one.xhtml#:asides"}]})

    assert spoken(read(tmp_path, "<p>One</p><aside>A box.</aside>", plan)) == ["One", "A box."]
