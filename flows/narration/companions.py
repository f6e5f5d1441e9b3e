"""
What goes with the audio, made from what is known already: captions, the read-along book, and the page to listen.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.narration import captions, page, readalong
from flows.narration.contour import Contour, ContourFile, contour_path
from flows.narration.deliverables import BookFile
from flows.narration.edition import BookOrder, epub_name
from flows.narration.manifest import Manifest, SegmentsFile, segments_path


def of_book(order: BookOrder, written: BookFile, *, contours: Mapping[str, Contour], cover: Path | None) -> list[str]:
    """
    Make those of a book that is bound, and return the names of its files; what is as it should be is not touched.

    `StorageFailed` where a file cannot be heard, `UsageError` where something stands in the way that was not made here.
    """
    names = captions.write_book(order.out, written)
    target = order.out / epub_name(order.book.title)
    readalong.read_along(order.source, order.book, written, folder=order.out, target=target)
    spans = {
        audio: captions.sentences_of(order.out, written, audio, places) for audio, places in captions.by_file(written).items()
    }
    page.write_page(page.page_of_book(written, order.out, contours=contours, cover=cover, spans=spans), order.out)
    return [*names, target.name, page.INDEX]


def of_scripts(out: Path, manifest: Manifest, *, made: Iterable[str], language: str) -> None:
    """
    Make those of the narrations in *out*: captions of the scripts that were *made*, and of any that has none; and the page.
    """
    anew, spans = set(made), {}
    missing = [one for one in manifest.scripts if one.audio and not (out / one.audio).with_suffix(".vtt").is_file()]
    if not anew and not missing and (out / page.INDEX).is_file():
        return
    contours = {}
    for one in manifest.scripts:
        found = SegmentsFile.read(segments_path(out, one.script)) if one.audio else None
        if one.audio and found:
            spans[one.audio] = captions.write_script(out, one.audio, found, language=language)
            known = ContourFile.read(contour_path(out, one.script))
            if known and known.narration == found.narration:
                contours[one.audio] = known.contour
    shown = page.page_of_folder(manifest, out, language=language, contours=contours, spans=spans)
    page.write_page(shown, out)
