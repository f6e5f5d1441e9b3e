"""
The take store: keys, and what is on disk after whatever happened.
"""

import io
import itertools
import re
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.narration.alignment import Word
from flows.narration.errors import UsageError
from flows.narration.judge import Heard
from flows.narration.speech import SAMPLE_RATE, Delivery, InlineReference, Voice
from flows.narration.takes import TIMED, TakeDamaged, TakeStore, local_folder, take_key, voice_key
from tests.bucket import Bucket

KEY = "ab" + "0" * 62
NAME = f"ab/{KEY}.flac"


def _tone(seconds: float, *, rate: int = SAMPLE_RATE) -> Heard:
    time = np.arange(round(seconds * rate)) / rate
    return Heard(samples=(8000 * np.sin(2 * np.pi * 220 * time)).astype(np.int16), sample_rate=rate)


def test_a_key_is_the_same_for_ever() -> None:
    """
    A key that changed by accident would record everything anew, and bill it.
    """
    key = take_key("Hello.", voice="v", delivery=Delivery(), host="api.fish.audio")

    assert "7734902a08ade3c822d2a3587c891956a2cf711b277682e62e3406c861d3295e" == key


@pytest.mark.parametrize(
    "other",
    [
        {"text": "Hello!"},
        {"voice": "w"},
        {"host": "127.0.0.1"},
        {"retake": 1},
        *({"delivery": Delivery(**{name: value})} for name, value in {
            "model": "s2-pro", "speed": 1.1, "volume": 1.0, "temperature": 0.6, "top_p": 0.6, "read_numbers": False,
        }.items()),
    ],
    ids=str,
)  # fmt: skip
def test_all_that_shapes_a_take_is_in_its_key(other: dict[str, object]) -> None:
    """
    Two takes that may sound different never share a key.
    """
    shape: dict[str, object] = {"text": "Hello.", "voice": "v", "delivery": Delivery(), "host": "api.fish.audio"}

    assert take_key(**shape) != take_key(**(shape | other))  # type: ignore[arg-type]  # built from parts on purpose


def test_an_inline_reference_is_named_by_its_content() -> None:
    """
    The same recording with another transcript is another voice to the service.
    """
    keys = {voice_key(InlineReference(b"a", "x")), voice_key(InlineReference(b"a", "y")), voice_key(InlineReference(b"b", "x"))}

    assert 3 == len(keys)
    assert "id" == voice_key(Voice(id="id", title="t", state="trained"))


class Shelf(Protocol):
    """
    Where takes are kept, and what tests do behind the store's back.
    """

    def store(self) -> TakeStore:
        """
        Open the store, as one who has never been here.
        """

    def names(self) -> list[str]:
        """
        Name all that is there.
        """

    def get(self, name: str) -> bytes:
        """
        Read what is there.
        """

    def put(self, name: str, content: bytes) -> None:
        """
        Write what is there.
        """


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def store(self) -> TakeStore:
        return TakeStore(self._folder)

    def names(self) -> list[str]:
        return sorted(path.relative_to(self._folder).as_posix() for path in self._folder.rglob("*") if path.is_file())

    def get(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def put(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)


class _InBucket:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._hosts = bucket, itertools.count()

    def store(self) -> TakeStore:
        return self._bucket.store(f"host-{next(self._hosts)}")

    def names(self) -> list[str]:
        return [name.removeprefix("takes/") for name in self._bucket.names()]

    def get(self, name: str) -> bytes:
        return self._bucket.get(f"takes/{name}")

    def put(self, name: str, content: bytes) -> None:
        self._bucket.put(f"takes/{name}", content)


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """
    A take store in a folder, and one in object storage: all that is true of the one is of the other.
    """
    return _Folder(tmp_path / "takes") if request.param == "folder" else _InBucket(request.getfixturevalue("bucket"))


async def test_a_take_is_read_back_as_it_was_kept(shelf: Shelf) -> None:
    """
    Takes are lossless, whoever reads them.
    """
    store, heard = shelf.store(), _tone(3.3)

    take = store.keep(KEY, heard)
    other = shelf.store()
    await other.bring([KEY])

    assert take == store.find(KEY) == other.find(KEY)
    assert np.array_equal(heard.samples, np.concatenate(list(other.read(KEY))))
    assert [f"ab/{KEY}.flac"] == shelf.names()


async def test_a_take_is_known_by_its_words_as_well(shelf: Shelf) -> None:
    """
    A take that has the times of its words is none without them.
    """
    key, words = f"{KEY}{TIMED}", [Word(at=0, start=0.0, end=1.0)]
    shelf.store().keep(key, _tone(1.0), words=words)
    store = shelf.store()
    await store.bring([key])

    assert store.covers(key)
    assert not store.covers(KEY)
    assert words == store.words(key)
    assert store.find(key) is not None


async def test_what_is_not_there_is_not_found(shelf: Shelf) -> None:
    """
    Nor is it brought.
    """
    store = shelf.store()
    await store.bring([KEY])

    assert store.find(KEY) is None
    assert not store.covers(KEY)
    assert not store.holds(KEY)


def test_another_sample_rate_is_brought_to_ours(shelf: Shelf) -> None:
    """
    A service that ignores the rate asked for must not make chipmunks.
    """
    take = shelf.store().keep(KEY, _tone(1.0, rate=24_000))

    assert 1.0 == pytest.approx(take.seconds, abs=0.001)


async def test_a_flipped_bit_is_noticed(shelf: Shelf) -> None:
    """
    A damaged take is recorded anew instead of being shipped.
    """
    shelf.store().keep(KEY, _tone(1.0))
    data = bytearray(shelf.get(NAME))
    data[-200] ^= 1
    shelf.put(NAME, bytes(data))
    store = shelf.store()
    await store.bring([KEY])

    with pytest.raises(TakeDamaged) as damaged:
        list(store.read(KEY))

    assert KEY == damaged.value.key


async def test_a_take_with_other_sound_is_noticed(shelf: Shelf) -> None:
    """
    Also a whole FLAC file is no take if it is not the one that was kept.
    """
    shelf.store().keep(KEY, _tone(1.0))
    other = io.BytesIO()
    soundfile.write(other, _tone(0.5).samples, SAMPLE_RATE, format="FLAC")
    shelf.put(NAME, other.getvalue())
    store = shelf.store()
    await store.bring([KEY])

    with pytest.raises(TakeDamaged):
        list(store.read(KEY))


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
async def test_half_a_take_is_none(shelf: Shelf, cut: int) -> None:
    """
    Nobody writes half of one, but a disk may lose the rest.
    """
    shelf.store().keep(KEY, _tone(1.0))
    shelf.put(NAME, shelf.get(NAME)[:cut])
    store = shelf.store()
    await store.bring([KEY])

    if store.find(KEY) is not None:
        with pytest.raises(TakeDamaged):
            list(store.read(KEY))


def test_nothing_half_written_bears_a_name_of_a_take(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A full disk in the middle of a write leaves the store as it was.
    """

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)  # a real full disk would need a file system of its own

    with pytest.raises(OSError, match="No space"):
        shelf.store().keep(KEY, _tone(1.0))
    assert [] == shelf.names()


async def test_a_take_that_is_damaged_where_it_is_kept_is_discarded(shelf: Shelf) -> None:
    """
    What is damaged is recorded anew.
    """
    shelf.store().keep(KEY, _tone(1.0))
    shelf.put(NAME, shelf.get(NAME)[:-200])
    store = shelf.store()
    await store.bring([KEY])

    store.discard(KEY)

    assert store.find(KEY) is None
    assert not store.covers(KEY)
    assert [] == shelf.names()


def test_a_take_store_elsewhere_is_refused_in_words() -> None:
    """
    What is not supported says so instead of making a folder named `s3:`.
    """
    assert Path("/srv/takes") == local_folder("file:///srv/takes")
    assert Path("takes") == local_folder("takes")
    with pytest.raises(UsageError, match="s3"):
        local_folder("s3://bucket/takes")


shapes = st.fixed_dictionaries(
    {
        "text": st.text(st.sampled_from('ab"\\é\u0301{}:, \n'), max_size=6),
        "voice": st.sampled_from(["v", "w", "v,", 'v"', "inline-v"]),
        "host": st.sampled_from(["h", "api.fish.audio", "127.0.0.1"]),
        "retake": st.integers(0, 3),
        "delivery": st.builds(
            Delivery,
            model=st.sampled_from(["s2.1-pro", "s2-pro"]),
            speed=st.floats(0.5, 2.0),
            volume=st.floats(-20, 20),
            temperature=st.floats(0, 1),
            top_p=st.floats(0, 1),
            read_numbers=st.booleans(),
        ),
    }
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(one=shapes, other=shapes, change=st.sets(st.sampled_from(["text", "voice", "host", "retake", "delivery"])))
def test_keys_are_equal_exactly_where_all_that_shapes_a_take_is(
    one: dict[str, Any], other: dict[str, Any], change: set[str]
) -> None:
    """
    Whatever is in a text or a name, also what JSON writes with a backslash; and a key is fit to be a file's name.
    """
    second = one | {name: other[name] for name in change}
    keys = take_key(**one), take_key(**second)

    assert (keys[0] == keys[1]) == (one == second)
    assert take_key(**{**one, "delivery": Delivery(**one["delivery"].model_dump())}) == keys[0]
    assert re.fullmatch(r"[0-9a-f]{64}", keys[0])
