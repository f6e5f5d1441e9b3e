"""
Narrations as files: as long as their takes and pauses, in order, without gaps, marked, and whole or as before.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from tinytag import TinyTag

from flows.narration import ffmpeg
from flows.narration.assemble import Narration, Piece, Sound, assemble, narration_digest, read_mark
from flows.narration.judge import Heard, Samples
from flows.narration.segments import Joint
from flows.narration.speech import SAMPLE_RATE
from flows.narration.takes import TakeDamaged, TakeStore

Format = Literal["mp3", "wav", "flac", "opus"]
FORMATS: tuple[Format, ...] = ("mp3", "wav", "flac", "opus")
TAGS = {"title": "Chapter “One”", "track": "3", "album": "A Bøok", "artist": "Ann", "genre": "Speech"}
ONE, TWO, THREE = (f"{letter}{letter}" + "0" * 62 for letter in "abc")
PIECES = (Piece(ONE, Joint.HEADING), Piece(TWO, Joint.SENTENCE), Piece(ONE, Joint.BREATH), Piece(THREE, Joint.END))
HERTZ = {ONE: 300, TWO: 600, THREE: 900}
LENGTHS = {ONE: 22_051, TWO: 30_000, THREE: 13_007}
PADDING: dict[Format, int] = {"mp3": 2 * 1152, "wav": 0, "flac": 0, "opus": 960}
"""Samples by which a decoded file may be longer than what was encoded."""


def _tone(hertz: float, samples: int, *, start: int = 0) -> Samples:
    time = (start + np.arange(samples)) / SAMPLE_RATE
    return (9000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


@pytest.fixture
def store(tmp_path: Path) -> TakeStore:
    """
    A store of three takes, each a tone of its own, of lengths that are no round numbers.
    """
    store = TakeStore(tmp_path / "takes")
    for key, hertz in HERTZ.items():
        store.keep(key, Heard(_tone(hertz, LENGTHS[key]), SAMPLE_RATE))
    return store


def _decoded(path: Path) -> npt.NDArray[np.float64]:
    """
    Decode a narration the way a player does.
    """
    wav = path.with_suffix(".decoded.wav")
    ffmpeg.decode(path, wav)
    samples, rate = soundfile.read(wav, dtype="int16")
    assert rate == SAMPLE_RATE
    return np.asarray(samples, dtype=np.float64)


def _pitch(samples: npt.NDArray[np.float64]) -> int:
    """
    Tell the loudest frequency in the middle of *samples*, to 100 Hz.
    """
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return round(float(np.argmax(spectrum)) * SAMPLE_RATE / len(middle) / 100) * 100


def _narrated(store: TakeStore, target: Path, **sound: Any) -> Narration:
    return assemble(PIECES, store=store, sound=Sound(**sound), tags=TAGS, target=target)


@pytest.mark.parametrize("format", FORMATS)
def test_a_narration_is_its_takes_and_pauses_in_order(store: TakeStore, tmp_path: Path, format: Format) -> None:
    """
    To the sample, and each piece where the record says it is.
    """
    target = tmp_path / f"one.{format}"
    made = _narrated(store, target, format=format, pause_heading=1.2, pause_sentence=0.35, pause_breath=0.0)
    samples = _decoded(target)

    speech = 2 * LENGTHS[ONE] + LENGTHS[TWO] + LENGTHS[THREE]
    pauses = [52_920, 15_435, 0, 0]
    starts, at = [], 0
    for piece, pause in zip(PIECES, pauses, strict=True):
        starts.append((at, at + LENGTHS[piece.take]))
        at += LENGTHS[piece.take] + pause
    assert Narration(places=tuple(starts), samples=speech + sum(pauses), words=((),) * len(PIECES)) == made
    assert speech == made.speech_samples
    assert made.samples <= len(samples) <= made.samples + PADDING[format]
    assert [HERTZ[piece.take] for piece in PIECES] == [_pitch(samples[start:end]) for start, end in made.places]
    for (_, end), (start, _) in zip(made.places, made.places[1:], strict=False):
        quiet = samples[end + 1000 : start - 1000]
        assert np.abs(quiet).max(initial=0) < 90  # of 9,000, 40 dB below


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_lossless_narration_is_bit_for_bit_its_takes(store: TakeStore, tmp_path: Path, format: Format) -> None:
    """
    Nothing is scaled, dithered or resampled on the way.
    """
    target = tmp_path / f"one.{format}"
    _narrated(store, target, format=format, pause_heading=0.5, pause_sentence=0.25)

    pieces = [_tone(HERTZ[piece.take], LENGTHS[piece.take]) for piece in PIECES]
    silence = [np.zeros(length, np.int16) for length in (22_050, 11_025, 0, 0)]
    expected = np.concatenate([part for pair in zip(pieces, silence, strict=True) for part in pair])
    assert np.array_equal(expected, soundfile.read(target, dtype="int16")[0])


@pytest.mark.parametrize("format", ["mp3", "opus"])
def test_there_is_no_gap_at_a_joint(tmp_path: Path, format: Format) -> None:
    """
    A tone cut into two takes sounds as if it had not been cut: encoding piece by piece would leave 50 ms of nothing.
    """
    store, half = TakeStore(tmp_path / "takes"), 60_000
    store.keep(ONE, Heard(_tone(220, half), SAMPLE_RATE))
    store.keep(TWO, Heard(_tone(220, half, start=half), SAMPLE_RATE))
    target = tmp_path / f"one.{format}"

    assemble([Piece(ONE, Joint.BREATH), Piece(TWO, Joint.END)], store=store, sound=Sound(format=format), tags={}, target=target)

    heard = _decoded(target)[half - 10_000 : half + 10_000]
    wished = _tone(220, 2 * half)[half - 10_000 : half + 10_000]
    assert np.abs(heard - wished).max() < 900


@pytest.mark.parametrize("format", FORMATS)
def test_the_tags_are_read_back_by_another_library(store: TakeStore, tmp_path: Path, format: Format) -> None:
    """
    Title, place and album for the player; in the comment what this is, and the mark of what it was made from.
    """
    target = tmp_path / f"one.{format}"
    _narrated(store, target, format=format)

    tag = TinyTag.get(target)
    digest = narration_digest(PIECES, sound=Sound(format=format), tags=TAGS)
    assert {**TAGS, "comment": f"Synthetic speech, made with Narrate. narrate:{digest}"} == {
        "title": tag.title,
        "track": str(tag.track),
        "album": tag.album,
        "artist": tag.artist,
        "genre": tag.genre,
        "comment": tag.comment,
    }
    assert digest == read_mark(target)


class _Torn(TakeStore):
    """
    A store in whose second take something happens: a flipped bit at its end, or Ctrl-C at a moment no test could hit.
    """

    happens: BaseException

    def read(self, key: str) -> Iterator[Samples]:
        """
        Read as the store does, up to the second take.
        """
        yield from super().read(key)
        if key == TWO:
            raise self.happens


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("happens", [TakeDamaged("torn", TWO), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_what_fails_in_the_middle_leaves_what_was_there(
    store: TakeStore, tmp_path: Path, format: Format, happens: BaseException
) -> None:
    """
    The former narration is whole, and there is no debris beside it.
    """
    out = tmp_path / "out"
    target = out / f"one.{format}"
    _narrated(store, target, format=format)
    before = target.read_bytes()
    torn = _Torn(store.folder)
    torn.happens = happens

    for path in (target, out / f"never.{format}"):
        with pytest.raises(type(happens)):
            _narrated(torn, path, format=format, pause_heading=0)

    assert [target] == list(out.iterdir())
    assert before == target.read_bytes()


def test_a_damaged_take_is_named(store: TakeStore, tmp_path: Path) -> None:
    """
    By its key, so that it alone is recorded anew.
    """
    path = store.folder / TWO[:2] / f"{TWO}.flac"
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)

    with pytest.raises(TakeDamaged) as damaged:
        _narrated(store, tmp_path / "one.wav", format="wav")

    assert TWO == damaged.value.key
    assert not (tmp_path / "one.wav").exists()


def test_a_file_of_somebody_else_has_no_mark(tmp_path: Path) -> None:
    """
    Whatever it is; it must never be taken for ours and replaced.
    """
    foreign = [tmp_path / f"other.{format}" for format in FORMATS]
    for format, path in zip(FORMATS, foreign, strict=True):
        with ffmpeg.encoder(path, format=format, sample_rate=SAMPLE_RATE, tags={"comment": "narrate: mine"}) as encoder:
            encoder.write(_tone(300, 4410).tobytes())
    for name, content in {"text.mp3": b"no audio", "empty.mp3": b"", "noise.flac": bytes(range(256)) * 50}.items():
        (tmp_path / name).write_bytes(content)
        foreign.append(tmp_path / name)
    (tmp_path / "folder.mp3").mkdir()

    assert [None] * 9 == [read_mark(path) for path in (*foreign, tmp_path / "folder.mp3", tmp_path / "nothing.mp3")]


def test_all_that_shapes_a_narration_is_in_its_digest() -> None:
    """
    Two narrations that may differ never share one; what does not change the sound changes nothing.
    """
    pieces = [Piece(ONE, Joint.PARAGRAPH), Piece(TWO, Joint.END)]
    shape: dict[str, Any] = {"pieces": pieces, "sound": Sound(), "tags": TAGS}
    others: list[dict[str, Any]] = [
        {},
        {"pieces": pieces[::-1]},
        {"pieces": pieces[1:]},
        {"pieces": [Piece(THREE, Joint.PARAGRAPH), pieces[1]]},
        {"pieces": [Piece(ONE, Joint.SENTENCE), pieces[1]]},
        {"sound": Sound(pause_paragraph=0.8)},
        {"sound": Sound(format="wav")},
        {"sound": Sound(bitrate=64)},
        *({"tags": TAGS | {name: "other"}} for name in TAGS),
    ]

    assert len(others) == len({narration_digest(**(shape | other)) for other in others})
    assert narration_digest(**shape) == narration_digest(**(shape | {"sound": Sound(pause_heading=9)}))


def test_a_digest_is_the_same_for_ever() -> None:
    """
    One that changed by accident would have every narration made anew.
    """
    digest = narration_digest([Piece(ONE, Joint.PARAGRAPH), Piece(TWO, Joint.END)], sound=Sound(), tags=TAGS)

    assert "54b437db6f3a" == digest[:12]


def test_pauses_are_whole_samples() -> None:
    """
    Each joint has its own; after the last segment there is none.
    """
    sound = Sound(pause_breath=0.1, pause_sentence=0.2, pause_paragraph=0.3, pause_heading=0.4, pause_scene_break=0.00001)

    assert [4410, 8820, 13_230, 17_640, 0, 0] == [sound.pause(joint) for joint in Joint]
