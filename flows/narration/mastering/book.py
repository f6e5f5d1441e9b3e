"""
What a book's files say of it: titles, people and language, as tags of MP3 and M4B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.narration.assemble import Piece

GENRE = "Audiobook"

_LANGUAGES = """
ar:ara bg:bul ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas fi:fin fr:fra ga:gle gl:glg
he:heb hi:hin hr:hrv hu:hun hy:hye id:ind is:isl it:ita ja:jpn ka:kat ko:kor la:lat lt:lit lv:lav mk:mkd ms:msa nb:nob nl:nld
nn:nno no:nor pl:pol pt:por ro:ron ru:rus sk:slk sl:slv sq:sqi sr:srp sv:swe ta:tam te:tel th:tha tl:tgl tr:tur uk:ukr ur:urd
vi:vie yi:yid zh:zho
"""
LANGUAGES: Mapping[str, str] = dict(pair.split(":") for pair in _LANGUAGES.split())
"""Two letters of ISO 639-1 to the three of 639-2, which are what tags hold."""


@dataclass(frozen=True)
class Book:
    """
    A book as its files tell of it: *language* as in `en` or `en-GB`, *chapters* how many there are, *cover* a JPEG of ours.
    """

    title: str
    author: str = ""
    narrator: str = ""
    date: str = ""
    language: str = ""
    publisher: str = ""
    description: str = ""
    chapters: int = 0
    cover: Path | None = None

    @property
    def language_code(self) -> str:
        """
        The language in three letters; `und` for one that is not known.
        """
        first = self.language.replace("_", "-").partition("-")[0].lower()
        return first if len(first) == 3 and first.isalpha() else LANGUAGES.get(first, "und")

    def chapter_tags(self, title: str, number: int | None) -> dict[str, str]:
        """
        Tags of one MP3, by ffmpeg's names.
        """
        return _known(
            title=title,
            album=self.title,
            artist=self.author,
            album_artist=self.author,
            composer=self.narrator,
            publisher=self.publisher,
            track="" if number is None else f"{number}/{self.chapters}",
            date=self.date,
            language="" if self.language_code == "und" else self.language_code,
            genre=GENRE,
        )

    def tags(self) -> dict[str, str]:
        """
        Tags of the M4B, by ffmpeg's names; media type 2 is an audiobook.
        """
        return _known(
            title=self.title,
            album=self.title,
            artist=self.author,
            album_artist=self.author,
            composer=self.narrator,
            date=self.date,
            genre=GENRE,
            description=self.description[:250],
            synopsis=self.description,
            media_type="2",
        )


@dataclass(frozen=True)
class Chapter:
    """
    A chapter to be mastered; credits and the retail sample have no *number*.
    """

    title: str
    pieces: Sequence[Piece]
    number: int | None = None


def _known(**tags: str) -> dict[str, str]:
    return {name: value for name, value in tags.items() if value}
