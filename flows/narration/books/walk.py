"""
A document of a book → stretches, by the rules of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from flows.narration.books.markup import Element, local, numbered, words_of
from flows.narration.books.numbers import item_numbers
from flows.narration.books.rules import RULES, Treatment, rule_for
from flows.narration.books.seen import Seen, is_listing, look, opens_block
from flows.narration.books.stretches import Stretch, Weaver
from flows.narration.books.wellknown import GENERIC_TYPES, called, matter
from flows.narration.errors import UsageError
from flows.narration.prose import BlockKind, excerpt

_T = Treatment
_SECTIONS = frozenset("body section article div header footer main aside nav blockquote p ol ul dl figure table".split())  # noqa: SIM905


@dataclass(frozen=True)
class _State:
    """
    What holds for an element and all within it.
    """

    kind: BlockKind = BlockKind.PARAGRAPH
    level: int = 0
    verse: bool = False
    lines: bool = False
    cell: bool = False
    address: bool = False
    left: str = ""
    sure: bool = False


@dataclass
class Walker:
    """
    Walks the document *root* called *href*.

    *starts* are the elements at which something begins, *targets* the ids that marks of notes lead to; *reading* tells to
    speak the reading of ruby instead of its base. *begun* tells where in *stretches* each start is.
    """

    href: str
    root: Element
    starts: Mapping[Element, int] = field(default_factory=dict)
    targets: frozenset[str] = frozenset()
    reading: bool = False
    stretches: list[Stretch] = field(default_factory=list)
    begun: dict[int, int] = field(default_factory=dict)

    def walk(self) -> list[Stretch]:
        """
        Return the document's stretches in order.
        """
        self.number = numbered(self.root)
        self.weaver = Weaver()
        self.state = _State()
        self.item = ""
        self.lists: dict[Element, dict[Element, str]] = {}
        self.cells = 0
        try:
            self._element(self.root, _State())
        except RecursionError as error:
            raise UsageError(f"{self.href} is nested too deeply to be read.", "Convert the book anew.") from error
        self._flush(self.state)
        return self.stretches

    def _element(self, element: Element, state: _State) -> None:
        """
        Walk one element and all within it.
        """
        if element in self.starts:
            self._begin(element, state)
        seen = look(element)
        rule = rule_for(seen)
        if seen.types and seen.tag in _SECTIONS and state.left in ("", *GENERIC_TYPES):
            left, said = matter(seen.types)
            if said:
                state = replace(state, left=left, sure=not left)
        if not self.weaver.length and self.stretches and is_listing(seen) and called(self.stretches[-1].text, 0) == "contents":
            rule = next(rule for rule in RULES if rule.name == "contents")
        if rule.treatment not in (_T.MUTE, _T.LEFT) and self._is_note(seen):
            state = self._leave(state, "notes")
        match rule.treatment:
            case _T.MUTE:
                self._starts_within(element, state)
            case _T.NOTED:
                self._note(f"left out: {rule.name}, {excerpt(words_of(element) or seen.tag)}", state)
                self._starts_within(element, state)
            case _T.LEFT:
                self._flush(state)
                if rule.name == "contents" and self.stretches and called(self.stretches[-1].text, 0) == "contents":
                    self.stretches[-1].left = self.stretches[-1].left or "contents"
                self._block(element, self._leave(state, rule.name))
            case _T.PICTURE | _T.FORMULA:
                self._picture(element, seen, state)
            case _T.READING:
                if self.reading:
                    self._children(element, state)
            case _T.WITHIN if seen.tag == "ruby" and self.reading and any(map(_has_reading, element)):
                self._ruby(element, state)
            case _T.WITHIN | _T.ADDRESS:
                self._children(element, replace(state, address=rule.treatment is _T.ADDRESS))
            case _T.STRUCK:
                self.weaver.notes.append(f"spoken although it is struck out: {excerpt(words_of(element))}")
                self._children(element, state)
            case _T.LINE_BREAK:
                self.weaver.line_break()
            case _T.SCENE_BREAK:
                self._flush(state)
                self.stretches.append(self._with(Stretch(BlockKind.SCENE_BREAK, "* * *", self.href), state))
            case _T.HEADING:
                level = int(seen.tag[1]) if len(seen.tag) == 2 else 7
                self._block(element, replace(state, kind=BlockKind.HEADING, level=min(level, state.level or level)))
            case _T.STANZA:
                self._flush(state)
                self._children(element, replace(state, verse=True))
                self._flush(state)
            case _T.LINES:
                self._block(element, replace(state, lines=True))
            case _T.TABLE:
                self._table(element, state)
            case _T.BLOCK:
                self._block(element, state)

    def _children(self, element: Element, state: _State) -> None:
        """
        Walk what is in an element: its text, and each child with the text behind it.
        """
        number = self.number[element]
        if element.text:
            self._text(element.text, 2 * number, state)
        for child in element:
            self._element(child, state)
            if child.tail:
                self._text(child.tail, 2 * self.number[child] + 1, state)

    def _text(self, text: str, node: int, state: _State) -> None:
        """
        Add text to the block in the making.
        """
        if not text.isspace():
            if not self.weaver.length:
                self.state = state
                if self.item:
                    self.weaver.made(self.item)
                    self.item = ""
            elif self.cells == 1:
                self.weaver.gap = 0
                self.weaver.made(", ")
            if self.cells:
                self.cells = 2
        if state.lines and "\n" in text:
            self._rows(text, node)
        elif state.address:
            self.weaver.address(text, node)
        else:
            self.weaver.add(text, node)

    def _rows(self, text: str, node: int) -> None:
        """
        Add text whose line breaks count; a blank line parts paragraphs.
        """
        at = 0
        for row in text.splitlines(keepends=True):
            if row.isspace() and self.weaver.length and self.weaver.gap:
                self._flush(self.state)
            self.weaver.add(text, node, at, at + len(row.rstrip("\r\n")))
            at += len(row)
            if row.endswith(("\n", "\r")):
                self.weaver.line_break()

    def _block(self, element: Element, state: _State) -> None:
        """
        Walk a block: it parts paragraphs, or lines within a stanza, or words within a cell.
        """
        seam = self._seam if state.verse or state.cell else self._flush
        seam(state)
        if local(element) == "li" and (parent := element.getparent()) is not None and local(parent) == "ol":
            if parent not in self.lists:
                self.lists[parent] = item_numbers(parent)
            self.item = self.lists[parent].get(element, "")
        self._children(element, state)
        seam(state)
        if local(element) == "li":
            self.item = ""

    def _seam(self, state: _State) -> None:
        """
        Part what would be paragraphs elsewhere.
        """
        if state.cell:
            self.weaver.space()
        else:
            self.weaver.line_break()

    def _table(self, element: Element, state: _State) -> None:
        """
        Read a table row by row, or one that only lays out a page as text.
        """
        parts = [local(part) for part in element.iter()]
        cells = [part for part in element.iter() if local(part) in ("td", "th")]
        paged = "table" in parts[1:] or any(
            sum(local(part) in ("p", "h1", "h2", "h3", "pre") for part in cell.iter()) > 1 for cell in cells
        )
        self._flush(state)
        if paged or len(cells) < 2:
            self._children(element, state)
        else:
            self._note("a table, read row by row", state)
            self._rows_of_table(element, state)
        self._flush(state)

    def _rows_of_table(self, element: Element, state: _State) -> None:
        """
        Walk the parts of a table, each row a block.
        """
        for part in element:
            if part in self.starts:
                self._begin(part, state)
            tag = local(part)
            if tag == "tr":
                self._flush(state)
                for cell in part:
                    self.cells = 1
                    self._element(cell, replace(state, cell=True))
                self.cells = 0
                self._flush(state)
            elif tag in ("thead", "tbody", "tfoot"):
                self._rows_of_table(part, state)
            else:
                self._element(part, state)

    def _picture(self, element: Element, seen: Seen, state: _State) -> None:
        """
        Speak a picture in a paragraph by its alt text: a single letter belongs to the word behind it.
        """
        alt = " ".join((element.get("alt") or element.get("alttext") or "").split())
        alone = seen.tag != "math" and not _beside_text(element)
        if alt and not alone:
            if not self.weaver.length:
                self.state = state
            if len(alt) > 1:
                self.weaver.space()
            self.weaver.made(alt)
            if len(alt) > 1:
                self.weaver.space()
        else:
            what = "a formula" if seen.tag == "math" else "a picture"
            self._note(
                f"left out: {what}" + (f", {excerpt(alt or words_of(element))}" if alt or words_of(element) else ""), state
            )
        self._starts_within(element, state)

    def _ruby(self, element: Element, state: _State) -> None:
        """
        Speak the readings of ruby, and only the base that has none.
        """
        for child in element:
            if _has_reading(child):
                self._element(child, state)

    def _is_note(self, seen: Seen) -> bool:
        """
        Tell whether it is what the mark of a note leads to, and no larger than a note.
        """
        if not self.targets or seen.tag not in ("p", "li", "div", "dd", "dt", "tr", "td", "aside"):
            return False
        ids = [seen.element.get("id")]
        for part in seen.element.iterdescendants() if seen.tag != "div" else ():
            if (part.get("id") or part.get("name")) and opens_block(part):
                ids += [part.get("id"), part.get("name")]
        if self.targets.isdisjoint(filter(None, ids)):
            return False
        return not any(local(part) in ("h1", "h2", "h3", "section") for part in seen.element.iter())

    def _leave(self, state: _State, why: str) -> _State:
        """
        Return the state of what is left out.
        """
        return replace(state, left=state.left or why)

    def _begin(self, element: Element, state: _State) -> None:
        """
        Put down that something begins here.
        """
        if self.weaver.length:
            self._flush(state)
        self.begun.setdefault(self.starts[element], len(self.stretches))

    def _starts_within(self, element: Element, state: _State) -> None:
        """
        Put down what begins in an element that is not walked.
        """
        if self.starts:
            for part in element.iterdescendants():
                if part in self.starts:
                    self._begin(part, state)

    def _note(self, what: str, state: _State) -> None:
        """
        Put down a note, which does not part the paragraph it stands in.
        """
        if self.weaver.length or state.cell or state.verse:
            self.weaver.notes.append(what)
        else:
            self.stretches.append(self._with(Stretch(None, "", self.href, notes=(what,)), state))

    def _flush(self, state: _State) -> None:
        """
        End the block in the making.
        """
        own = self.state if self.weaver.length else state
        stretch = self.weaver.weave(own.kind, self.href)
        self.weaver = Weaver()
        if stretch is not None:
            stretch.level = own.level if own.kind is BlockKind.HEADING else 0
            self.stretches.append(self._with(stretch, own))

    def _with(self, stretch: Stretch, state: _State) -> Stretch:
        """
        Return a stretch that knows why it is left out.
        """
        stretch.left, stretch.sure = state.left, state.sure
        return stretch


def _has_reading(element: Element) -> bool:
    """
    Tell whether an element is a reading that says something.
    """
    return local(element) in ("rt", "rtc") and bool(words_of(element))


def _beside_text(element: Element) -> bool:
    """
    Tell whether a picture stands in a paragraph that has words of its own.
    """
    parent = element.getparent()
    while parent is not None and local(parent) in ("a", "span", "b", "i", "em", "strong", "picture", "small", "sup", "sub"):
        parent = parent.getparent()
    return (
        parent is not None
        and local(parent) in ("p", "h1", "h2", "h3", "h4", "h5", "h6", "li", "dd", "dt", "td", "th")
        and bool(words_of(parent))
    )
