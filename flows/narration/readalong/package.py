"""
The package document of a read-along book: the one it had, told of overlays and audio, and brought to EPUB 3 where it was older.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from flows.narration.books.package import Entry
from flows.narration.readalong.edits import Tag, Written
from flows.narration.readalong.overlay import clock, relative

ACTIVE = "-epub-media-overlay-active"
"""The class of the sentence that is heard."""

_OVERLAYS = "application/smil+xml"
_OURS = ("media:duration", "media:narrator", "media:active-class", "media:playback-active-class")
_DOCUMENTS = ("text/html", "text/x-oeb1-document")
_OLD = re.compile(r"(?:[\w.-]+:)?(role|file-as|scheme|event)")


@dataclass(frozen=True)
class Item:
    """
    A file to be listed: an entry of the book, its media type, and what else is said of it.
    """

    id: str
    entry: str
    media: str
    more: str = ""


@dataclass
class Changes:
    """
    What a package is to be told: items to list, the overlay's id and milliseconds by document, and the narrator.

    *there* are the entries of the book: audio that is listed and not among them belonged to overlays of before.
    *properties* are those that EPUB 3 wants of a document, by entry; *missing* is what a book may lack of Dublin Core.
    """

    items: list[Item]
    overlays: Mapping[str, tuple[str, int]]
    narrator: str
    modified: str
    there: Collection[str]
    properties: Mapping[str, set[str]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


class PackageDocument:
    """
    The package document at *place* of a book; *find* returns the entry that an address in it leads to.
    """

    def __init__(self, source: str, place: str, find: Callable[[str], str]) -> None:
        self.written = Written(source)
        self.place = place
        root = self.written.first("package")
        self.prefix = root.prefix if root else ""
        self.root = root
        self.items = {find(tag.get("href")): tag for tag in self.written.tags if tag.local == "item" and tag.kind != "close"}
        self.ids = {tag.get("id") for tag in self.written.tags} - {""}

    @property
    def is_old(self) -> bool:
        """
        Tell whether it is older than EPUB 3.
        """
        return bool(self.root) and not (self.root.get("version") if self.root else "").strip().startswith("3")

    @property
    def former(self) -> list[str]:
        """
        The entries of overlays that the book had before.
        """
        return [entry for entry, tag in self.items.items() if tag.get("media-type").strip() == _OVERLAYS]

    def free(self, name: str) -> str:
        """
        Return an id that is not taken, and take it.
        """
        while name in self.ids:
            name += "-n"
        self.ids.add(name)
        return name

    def changed(self, changes: Changes) -> str:
        """
        Return the document with the changes in it.
        """
        self._forget(changes.there)
        attributes = {entry: f' media-overlay="{overlay}"' for entry, (overlay, _) in changes.overlays.items()}
        for entry, tag in self.items.items():
            said = set(tag.get("properties").split())
            wanted = said | changes.properties.get(entry, set())
            if wanted != said:
                self._set(tag, "properties", " ".join(sorted(wanted)))
            if entry in attributes:
                self.written.put(tag.inside, attributes[entry])
        self._metadata(changes)
        listed = [
            f"<{self.prefix}item id={quoteattr(one.id)} href={quoteattr(relative(self.place, one.entry))} "
            f"media-type={quoteattr(one.media)}{one.more}/>\n"
            for one in changes.items
        ]
        self._into("manifest", "".join(listed))
        if self.is_old:
            self._upgrade()
        return self.written.changed()

    def _into(self, name: str, text: str) -> None:
        """
        Put text in at the end of an element.
        """
        tag = self.written.first(name)
        if tag is None:
            return
        if tag.other:
            self.written.put(tag.other.first, text)
        else:
            self.written.replace(tag.first, tag.last, f"{tag.text.rstrip('/> ')}>{text}</{tag.name}>")

    def _set(self, tag: Tag, name: str, value: str) -> None:
        there = tag.attributes.get(name)
        if there:
            self.written.replace(there.first, there.last, f" {name}={quoteattr(value)}")
        else:
            self.written.put(tag.inside, f" {name}={quoteattr(value)}")

    def _remove(self, tag: Tag) -> None:
        self.written.replace(tag.first, tag.other.last if tag.other else tag.last, "")

    def _forget(self, there: Collection[str]) -> None:
        """
        Take out what was said of the overlays that the book had before.
        """
        lost = {tag.number for entry, tag in self.items.items() if entry and entry not in there}
        gone = {f"#{tag.get('id')}" for tag in self.items.values() if _is_former(tag, lost)}
        for tag in self.written.tags:
            if tag.kind == "close":
                continue
            if (tag.local == "item" and _is_former(tag, lost)) or (
                tag.local == "meta" and (tag.get("property").strip() in _OURS or tag.get("refines") in gone)
            ):
                self._remove(tag)
            elif tag.local == "item" and (former := tag.attributes.get("media-overlay")):
                self.written.replace(former.first, former.last, "")

    def _metadata(self, changes: Changes) -> None:
        total = sum(length for _, length in changes.overlays.values())
        said = [("media:duration", clock(total), ""), ("media:active-class", ACTIVE, "")]
        said += [("media:narrator", changes.narrator, "")] if changes.narrator else []
        said += [("media:duration", clock(length), f"#{overlay}") for overlay, length in changes.overlays.values()]
        modified = [
            tag
            for tag in self.written.tags
            if tag.kind == "open" and tag.local == "meta" and tag.get("property") == "dcterms:modified"
        ]
        if modified and modified[0].other:
            self.written.replace(modified[0].last, modified[0].other.first, changes.modified)
        else:
            said.append(("dcterms:modified", changes.modified, ""))
        rows = [
            f'<{self.prefix}meta property="{name}"{of and f" refines={quoteattr(of)}"}>{escape(value)}</{self.prefix}meta>\n'
            for name, value, of in said
        ]
        there = {tag.name for tag in self.written.tags}
        rows += [
            f'<dc:{name} xmlns:dc="http://purl.org/dc/elements/1.1/"{_identified(self, name)}>{escape(value)}</dc:{name}>\n'
            for name, value in changes.missing.items()
            if value and f"dc:{name}" not in there and self.is_old
        ]
        self._into("metadata", "".join(rows))

    def _upgrade(self) -> None:
        """
        Bring the document to EPUB 3.
        """
        if self.root is None:
            return
        self._set(self.root, "version", "3.0")
        metas: list[str] = []
        dated = False
        for tag in self.written.tags:
            if tag.kind == "close":
                continue
            if tag.local == "item" and tag.get("media-type").strip().lower() in _DOCUMENTS:
                self._set(tag, "media-type", "application/xhtml+xml")
            if tag.local == "date":
                if dated:
                    self._remove(tag)
                    continue
                dated = True
            if tag.name.lower().startswith("dc:"):
                metas += self._refined(tag)
            if tag.local == "tours":
                self._remove(tag)
        self._into("metadata", "".join(metas))

    def _refined(self, tag: Tag) -> list[str]:
        """
        Say in elements what EPUB 2 says in attributes.
        """
        metas = []
        key = tag.get("id")
        for name, attribute in tag.attributes.items():
            old = _OLD.fullmatch(name)
            if not old:
                continue
            self.written.replace(attribute.first, attribute.last, "")
            if tag.local not in ("creator", "contributor") or old[1] not in ("role", "file-as") or not attribute.value:
                continue
            if not key:
                key = self.free(f"{tag.local}-{tag.number}")
                self.written.put(tag.inside, f' id="{key}"')
            said = f'property="{old[1]}"' + (' scheme="marc:relators"' if old[1] == "role" else "")
            metas.append(f'<{self.prefix}meta refines="#{key}" {said}>{escape(attribute.value)}</{self.prefix}meta>\n')
        return metas


def _is_former(tag: Tag, lost: Collection[int]) -> bool:
    """
    Tell whether an item is an overlay, or audio that is not there.
    """
    media = tag.get("media-type").strip()
    return media == _OVERLAYS or (media.startswith("audio/") and tag.number in lost)


def _identified(package: PackageDocument, name: str) -> str:
    """
    Return the id of the book's identifier as an attribute.
    """
    key = package.root.get("unique-identifier") if name == "identifier" and package.root else ""
    return f" id={quoteattr(key)}" if key else ""


def navigation(entries: Sequence[Entry], *, here: str, title: str, language: str) -> str:
    """
    Write a navigation document.
    """
    lang = f" lang={quoteattr(language)} xml:lang={quoteattr(language)}" if language else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        f'<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"{lang}>'
        f"<head><title>{escape(title)}</title></head><body>\n"
        f'<nav epub:type="toc"><h1>{escape(title)}</h1>{_listed(entries, here)}</nav>\n</body></html>\n'
    )


def _listed(entries: Sequence[Entry], here: str) -> str:
    rows = []
    for entry in entries:
        below = _listed(entry.children, here) if entry.children else ""
        label = escape(entry.title.strip() or "—")
        if entry.href:
            fragment = f"#{quote(entry.fragment)}" if entry.fragment else ""
            rows.append(f"<li><a href={quoteattr(relative(here, entry.href) + fragment)}>{label}</a>{below}</li>\n")
        elif below:
            rows.append(f"<li><span>{label}</span>{below}</li>\n")
    return f"<ol>\n{''.join(rows)}</ol>" if rows else ""
