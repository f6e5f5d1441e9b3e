"""
Plain text → stretches: headings are told by how they are written, Project Gutenberg's frame by its marks.
"""

import itertools
import re
from dataclasses import dataclass

from flows.narration.books.package import Package
from flows.narration.books.stretches import Stretch
from flows.narration.prose import BlockKind, Draft, Row, rows_of

_FIGURE = (
    r"(?:\d{1,4}|[ivxlcdm]{1,8}|the (?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last)|"
    r"(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|"
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|"
    r"first|second|third|premier|première|erstes?|primero?|primera)"
)
_AFTER = r"(?:\s*[.:—–-]+\s*.*|\s*|[\s:]+(?-i:[A-ZÀ-Þ“\"']).*)"
_PARTS = re.compile(
    rf"(?:part|book|volume|teil|buch|band|partie|livre|tome|parte|libro)\s+{_FIGURE}\b{_AFTER}|第.{{1,6}}[部編篇卷巻].{{0,40}}",
    re.IGNORECASE,
)
_CHAPTERS = re.compile(
    rf"(?:chapter|chap\.|letter|canto|stave|scene|act|story|adventure|kapitel|chapitre|cap[ií]tulo|capitolo)\s+{_FIGURE}\b{_AFTER}"
    r"|(?:prologue|epilogue|preface|introduction|foreword|afterword|conclusion|prolog|epilog|vorwort|nachwort|prólogo|epílogo|épilogue|postscript)\.?"
    r"|第\s?[一二三四五六七八九十百千〇零壱弐参0-9０-９]{1,6}\s?[章回話话節节](?:[\s　：:、．.].{0,40}|.{0,20})"
    r"|(?:序|序章|終章|あとがき|後記)",
    re.IGNORECASE,
)
_ROWS = re.compile(r"\s*第\s?[一二三四五六七八九十百千〇零0-9０-９]{1,6}\s?[章回節节](?:[\s　：:、].{0,40})?")
_ROMANS = re.compile(r"(?=[IVXLC])(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?:\.(?:\s+[A-Z\"“'À-Þ].{0,70})?)?")
_CONTENTS = re.compile(r"(?:table of )?contents[.:]?|inhalt|sommaire|índice|目次|目录", re.IGNORECASE)
_BEGIN = re.compile(r"\*\*\*\s*START OF (?:THE|THIS) PROJECT GUTENBERG.*", re.IGNORECASE)
_END = re.compile(r"(?:\*\*\*\s*END OF (?:THE|THIS) PROJECT GUTENBERG.*|End of (?:the )?Project Gutenberg.*)", re.IGNORECASE)
_FIELDS = re.compile(r"(?P<key>Title|Author|Language|Release date|Publisher):\s*(?P<value>\S.*)", re.IGNORECASE)
_LANGUAGES = {
    "english": "en",
    "german": "de",
    "french": "fr",
    "spanish": "es",
    "italian": "it",
    "japanese": "ja",
    "chinese": "zh",
    "dutch": "nl",
    "portuguese": "pt",
}
_LONGEST = 160


@dataclass
class _Paragraph:
    """
    Rows between blank ones: *level* is that of the heading it is, 0 for text.
    """

    rows: list[Row]
    level: int = 0
    left: str = ""

    @property
    def first(self) -> str:
        """
        Its first row.
        """
        return " ".join(self.rows[0].text.split())


def read_plain(text: str, href: str, package: Package) -> list[Stretch]:
    """
    Read a plain text; what Project Gutenberg's head says of the book goes into *package*.
    """
    paragraphs = _paragraphs(text)
    _frame(paragraphs, package)
    body = [paragraph for paragraph in paragraphs if not paragraph.left]
    for paragraph in body:
        paragraph.level = _level(paragraph)
    if not any(paragraph.level == 2 for paragraph in body):
        for paragraph in body:
            paragraph.level = paragraph.level or (2 if len(paragraph.rows) == 1 and _ROMANS.fullmatch(paragraph.first) else 0)
    _contents(body)
    _subtitles(body)
    stretches: list[Stretch] = []
    for paragraph in paragraphs:
        draft = Draft()
        if paragraph.level:
            draft.add(paragraph.rows, BlockKind.HEADING)
        else:
            draft.paragraphs(paragraph.rows)
        stretches += [
            Stretch(
                block.kind, block.text, href, level=paragraph.level, left=paragraph.left, line=block.line, turns=block.turns
            )
            for block in draft.blocks
        ]
        stretches += [Stretch(None, "", href, line=note.line, notes=(note.what,)) for note in draft.notes]
    return stretches


def _paragraphs(text: str) -> list[_Paragraph]:
    """
    Part a text at its blank rows, and at rows that are a chapter's number in Chinese or Japanese, which often have none.
    """
    found: list[_Paragraph] = []
    rows: list[Row] = []
    for row in [*rows_of(text), Row(0, "")]:
        if _ROWS.fullmatch(row.text):
            found += [_Paragraph(rows)] * bool(rows)
            found.append(_Paragraph([row]))
            rows = []
        elif row.text.strip():
            rows.append(row)
        elif rows:
            found.append(_Paragraph(rows))
            rows = []
    return found


def _frame(paragraphs: list[_Paragraph], package: Package) -> None:
    """
    Leave out what stands before and behind the marks of Project Gutenberg, and read what the head says.
    """
    begin = next((place for place, one in enumerate(paragraphs) if _BEGIN.match(one.first)), -1)
    end = next((place for place, one in enumerate(paragraphs) if place > begin and _END.match(one.first)), len(paragraphs))
    if begin < 0 and end == len(paragraphs):
        return
    for place, paragraph in enumerate(paragraphs):
        if place <= begin or place >= end:
            paragraph.left = "licence"
        for row in paragraph.rows if place <= begin else ():
            if said := _FIELDS.fullmatch(row.text.strip()):
                _told(package, said["key"].lower(), said["value"].strip())


def _told(package: Package, key: str, value: str) -> None:
    """
    Put down one field of the head.
    """
    match key:
        case "title":
            package.title = package.title or value
        case "author":
            package.authors = (*package.authors, value)
        case "language":
            package.language = _LANGUAGES.get(value.lower(), value if len(value) < 6 else "")
        case "publisher":
            package.publisher = value
        case _:
            package.date = value.partition("[")[0].strip()


def _level(paragraph: _Paragraph) -> int:
    """
    Return the level of the heading that a paragraph is, 0 for none.
    """
    if len(paragraph.rows) > 3 or sum(len(row.text) for row in paragraph.rows) > _LONGEST:
        return 0
    if len(paragraph.rows) > 1 and all(_is_entry(row.text) for row in paragraph.rows):
        return 0
    first = paragraph.first.strip("*_ ")
    if _PARTS.fullmatch(first):
        return 1
    return 2 if _CHAPTERS.fullmatch(first) else 0


def _contents(body: list[_Paragraph]) -> None:
    """
    Leave out a table of contents: what is called so, and the titles below it that come again.
    """
    place = next((place for place, one in enumerate(body) if len(one.first) < 40 and _CONTENTS.fullmatch(one.first)), None)
    if place is None:
        return
    body[place].left = "contents"
    for paragraph in body[place + 1 :]:
        entries = sum(_is_entry(row.text) for row in paragraph.rows)
        if 2 * entries <= len(paragraph.rows) or (paragraph.level and not _is_repeated(paragraph, body)):
            return
        paragraph.left, paragraph.level = "contents", 0


def _is_entry(row: str) -> bool:
    """
    Tell whether a row could stand in a table of contents.
    """
    text = " ".join(row.split())
    return bool(
        _CHAPTERS.fullmatch(text) or _PARTS.fullmatch(text) or _ROMANS.match(text) or re.search(r"(?:\s|\.)\d{1,4}$", text)
    )


def _is_repeated(heading: _Paragraph, body: list[_Paragraph]) -> bool:
    """
    Tell whether a heading comes again further down.
    """
    key = heading.first.casefold().rstrip(".")
    places = [
        one for one in body if one is not heading and not one.left and one.first.casefold().rstrip(".").startswith(key[:12])
    ]
    return any(one.rows[0].line > heading.rows[0].line for one in places)


def _subtitles(body: list[_Paragraph]) -> None:
    """
    Read a short row in capitals right below a chapter's number as the rest of its title.
    """
    for before, paragraph in itertools.pairwise(body):
        single = len(paragraph.rows) == 1 and 4 < len(paragraph.first) <= 80 and paragraph.first.isupper()
        bare = before.level == 2 and len(before.rows) == 1 and len(before.first.split()) <= 3
        if single and bare and not paragraph.level and not paragraph.left:
            before.rows.append(paragraph.rows[0])
            paragraph.rows = []
    body[:] = [paragraph for paragraph in body if paragraph.rows]
