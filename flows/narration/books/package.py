"""
The package of an EPUB: what the book is called, its documents in reading order, its navigation.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from natsort import natsorted

from flows.narration.books.archive import Archive, BrokenEntry, resolve
from flows.narration.books.markup import Element, find, first, local, parse, parse_package, types, words_of
from flows.narration.books.model import Cover
from flows.narration.errors import UsageError

_DOCUMENTS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")
_PICTURES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
}
MIMETYPE = "application/epub+zip"
_FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""How fonts are obfuscated, which is no lock."""


@dataclass
class Entry:
    """
    One entry of the navigation: a title, and the document and fragment it leads to ("" where it leads nowhere).
    """

    title: str
    href: str
    fragment: str
    types: frozenset[str] = frozenset()
    children: list["Entry"] = field(default_factory=list)


@dataclass
class Package:
    """
    What an EPUB says of itself.

    *documents* are those of the spine in order, *aside* those that are not part of the reading order; *matter* is what
    landmarks and guide call a place.
    """

    title: str = ""
    authors: tuple[str, ...] = ()
    language: str = ""
    publisher: str = ""
    date: str = ""
    identifier: str = ""
    cover: Cover | None = None
    documents: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    matter: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    navigation: str = ""


def read_package(archive: Archive) -> Package:
    """
    Read the package; what is missing becomes a warning, `UsageError` where there is no book in it.
    """
    _check_mimetype(archive)
    place = package_place(archive)
    root = parse_package(archive.read(place), place, archive.warnings)
    package = Package()
    _metadata(root, package)
    manifest = _manifest(archive, place, root)
    _refuse_locked(archive, {item.href for item in manifest.values() if item.media in _DOCUMENTS})
    _spine(archive, place, root, manifest, package)
    package.cover = _cover(archive, place, root, manifest)
    _navigation(archive, root, manifest, package)
    for reference in find(root, "reference"):
        href, fragment = _target(archive, place, reference.get("href") or "")
        said = (reference.get("type") or "").lower().removeprefix("other.")
        package.matter.setdefault((href, fragment), frozenset({said}))
    return package


@dataclass(frozen=True)
class _Item:
    """
    An item of the manifest.
    """

    href: str
    media: str
    properties: frozenset[str]


def _check_mimetype(archive: Archive) -> None:
    """
    Warn where the first entry does not say that this is an EPUB.
    """
    name = archive.find("mimetype")
    if name is None:
        archive.warnings.append("The book has no mimetype; it was read nevertheless.")
    elif archive.first != "mimetype":
        archive.warnings.append("The book's mimetype is not its first entry; it was read nevertheless.")
    elif archive.read(name).strip() != MIMETYPE.encode():
        archive.warnings.append(f"The book's mimetype is not {MIMETYPE}; it was read nevertheless.")


def package_place(archive: Archive) -> str:
    """
    Return the entry that describes the book.
    """
    container = archive.find("META-INF/container.xml")
    if container:
        try:
            root = parse_package(archive.read(container), container, archive.warnings)
            for rootfile in find(root, "rootfile"):
                if place := archive.find(resolve("", rootfile.get("full-path") or "")[0]):
                    return place
        except UsageError as error:
            archive.warnings.append(error.fact)
    places = sorted((name for name in archive.infos if name.lower().endswith(".opf")), key=lambda name: (name.count("/"), name))
    if not places:
        raise UsageError(
            f"{archive.path} is no EPUB: there is no package in it.", "Give an .epub file, or convert the book to one."
        )
    archive.warnings.append(f"The book's container does not say where its package is; {places[0]} was read.")
    return places[0]


def _metadata(root: Element, package: Package) -> None:
    """
    Read title, authors, language, publisher, date and identifier.
    """
    metadata = first(root, "metadata")
    if metadata is None:
        return
    refined: dict[tuple[str, str], str] = {}
    for meta in find(metadata, "meta"):
        if meta.get("refines"):
            refined[(meta.get("refines") or "").lstrip("#"), meta.get("property") or ""] = words_of(meta)
    titles: list[tuple[bool, str]] = []
    creators: list[tuple[str, str]] = []
    for element in metadata.iter():
        text, kind = words_of(element), local(element)
        key = element.get("id") or ""
        if not text or (text.lower() == "unknown" and kind != "title"):
            continue
        if kind == "title":
            titles.append((refined.get((key, "title-type"), "main") != "main", text))
        elif kind == "creator":
            role = next((value for name, value in element.attrib.items() if str(name).endswith("role")), "")
            creators.append((str(refined.get((key, "role"), role)), text))
        elif kind in ("language", "publisher", "date"):
            if not getattr(package, kind):
                setattr(package, kind, text)
        elif kind == "identifier" and (not package.identifier or key == root.get("unique-identifier")):
            package.identifier = text
    package.title = min(titles, key=lambda title: title[0])[1] if titles else ""
    authors = tuple(dict.fromkeys(text for role, text in creators if role in ("", "aut")))
    package.authors = authors or tuple(dict.fromkeys(text for _, text in creators))


def _manifest(archive: Archive, place: str, root: Element) -> dict[str, _Item]:
    """
    Return the items of the manifest by id.
    """
    items: dict[str, _Item] = {}
    for item in find(root, "item"):
        href, _ = _target(archive, place, item.get("href") or "")
        properties = frozenset((item.get("properties") or "").lower().split())
        items.setdefault(item.get("id") or href, _Item(href, (item.get("media-type") or "").lower().strip(), properties))
    return items


def _target(archive: Archive, base: str, href: str) -> tuple[str, str]:
    """
    Return the entry and the fragment that *href* leads to, the entry by its own spelling.
    """
    name, fragment = resolve(base, href)
    return archive.find(name) or name, fragment


def _refuse_locked(archive: Archive, documents: set[str]) -> None:
    """
    Raise where documents are encrypted; fonts may be.
    """
    name = archive.find("META-INF/encryption.xml")
    if name is None:
        return
    for data in find(parse_package(archive.read(name), name, archive.warnings), "encrypteddata"):
        method, reference = first(data, "encryptionmethod"), first(data, "cipherreference")
        algorithm = method.get("Algorithm") if method is not None else ""
        href, _ = resolve("", (reference.get("URI") or "") if reference is not None else "")
        if algorithm not in _FONTS and (archive.find(href) or href) in documents:
            raise UsageError(
                f"{archive.path} is locked (DRM): {href} is encrypted.",
                "Narrate reads books without a lock only; ask who sold it.",
            )


def _spine(archive: Archive, place: str, root: Element, manifest: dict[str, _Item], package: Package) -> None:
    """
    List the documents in reading order.
    """
    seen: set[str] = set()
    for reference in find(root, "itemref"):
        item = manifest.get(reference.get("idref") or "")
        if item is None:
            archive.warnings.append(f"The spine names “{reference.get('idref')}”, which the manifest does not have.")
        elif item.href not in archive.infos:
            archive.warnings.append(f"{item.href} is in the spine but not in the book.")
        elif item.href in seen:
            archive.warnings.append(f"{item.href} is in the spine twice; it is read once.")
        elif item.media.partition("/")[0] in ("image", "audio", "video", "font") and "svg" not in item.media:
            archive.warnings.append(f"{item.href} is in the spine but is no document ({item.media}).")
        elif (reference.get("linear") or "").lower() == "no":
            package.aside.append(item.href)
        else:
            package.documents.append(item.href)
        if item is not None:
            seen.add(item.href)
    if not package.documents:
        listed = [item.href for item in manifest.values() if item.media in _DOCUMENTS and "nav" not in item.properties]
        package.documents = [href for href in dict.fromkeys(listed) if href in archive.infos and href not in package.aside]
        if not package.documents:
            found = [name for name in archive.infos if name.lower().endswith((".xhtml", ".html", ".htm"))]
            package.documents = natsorted(set(found) - {item.href for item in manifest.values() if "nav" in item.properties})
        if not package.documents:
            raise UsageError(f"{archive.path} has no document to read.", "Convert the book anew.")
        archive.warnings.append(f"{place} has no spine; the documents were read as the manifest lists them, or by their names.")


def _cover(archive: Archive, place: str, root: Element, manifest: dict[str, _Item]) -> Cover | None:
    """
    Return the picture on the front: the manifest's cover image, or what EPUB 2 calls it.
    """
    named = next((meta.get("content") for meta in find(root, "meta") if meta.get("name") == "cover"), None)
    items = [item for item in manifest.values() if "cover-image" in item.properties]
    items += [item for item in (manifest.get(named or ""),) if item]
    items += [
        item
        for key, item in manifest.items()
        if item.media.startswith("image/") and re.search(r"cover", f"{key} {item.href}", re.I)
    ]
    for item in items:
        media = item.media if item.media.startswith("image/") else _PICTURES.get(item.href.rpartition(".")[2].lower(), "")
        if media and item.href in archive.infos:
            try:
                return Cover(archive.read(item.href), media)
            except BrokenEntry as error:
                archive.warnings.append(error.fact)
    return None


def _navigation(archive: Archive, root: Element, manifest: dict[str, _Item], package: Package) -> None:
    """
    Read the navigation document, or else the NCX, and the landmarks.
    """
    nav = next((item.href for item in manifest.values() if "nav" in item.properties), None)
    spine = first(root, "spine")
    named = manifest.get(spine.get("toc") or "") if spine is not None else None
    ncx = named or next((item for item in manifest.values() if item.media == "application/x-dtbncx+xml"), None)
    for place in (nav, ncx.href if ncx else None):
        if place is None or package.entries:
            continue
        if place not in archive.infos:
            archive.warnings.append(f"{place}, the book's navigation, is missing.")
            continue
        try:
            data = archive.read(place)
            tree = parse(data, place, archive.warnings) if place == nav else parse_package(data, place, archive.warnings)
        except UsageError as error:
            archive.warnings.append(error.fact)
            continue
        if place == nav:
            package.navigation = place
            for element in find(tree, "nav"):
                entries = list(_listed(archive, place, element))
                if "landmarks" in types(element):
                    package.matter |= {(entry.href, entry.fragment): entry.types for entry in entries}
                elif not package.entries and not types(element) & {"page-list", "loi", "lot", "lov", "loa"}:
                    package.entries = entries
        else:
            navmap = first(tree, "navmap")
            package.entries = list(_points(archive, place, navmap)) if navmap is not None else []


def _listed(archive: Archive, place: str, element: Element) -> Iterator[Entry]:
    """
    Give the entries of a list of links, with those listed below each.
    """
    for child in element:
        if local(child) != "li":
            yield from _listed(archive, place, child)
            continue
        label = next((part for part in child.iter() if local(part) in ("a", "span")), None)
        if label is None:
            continue
        href, fragment = _target(archive, place, label.get("href") or "") if label.get("href") else ("", "")
        below = [entry for part in child if local(part) in ("ol", "ul") for entry in _listed(archive, place, part)]
        yield Entry(words_of(label), href, fragment, types(label), below)


def _points(archive: Archive, place: str, element: Element) -> Iterator[Entry]:
    """
    Give the entries of an NCX.
    """
    for point in element:
        if local(point) != "navpoint":
            continue
        label = next((part for part in point if local(part) == "navlabel"), None)
        content = next((part for part in point if local(part) == "content"), None)
        source = (content.get("src") or "") if content is not None else ""
        href, fragment = _target(archive, place, source) if source else ("", "")
        title = words_of(label) if label is not None else ""
        yield Entry(title, href, fragment, frozenset(), list(_points(archive, place, point)))
