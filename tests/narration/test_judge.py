"""
What counts as a take: every 200 is heard before it counts.
"""

import io
import struct

import numpy as np
import pytest
import soundfile

from flows.narration.judge import BadTake, judge

RATE = 44_100
TEXT = "A sentence of about fifty letters, spoken calmly."


def _samples(seconds: float, *, level: float = 0.3) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (32767 * level * np.sin(2 * np.pi * 200 * time)).astype(np.int16)


def _wav(seconds: float, *, level: float = 0.3, sizes: tuple[int, int] = (0xFFFFFF24, 0xFFFFFF00)) -> bytes:
    """
    A WAV as this API sends it, with sizes in its header that mean nothing.
    """
    shape = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", sizes[0]) + b"WAVEfmt " + shape + b"data" + struct.pack("<I", sizes[1])
    return head + _samples(seconds, level=level).tobytes()


@pytest.mark.parametrize("sizes", [(0xFFFFFF24, 0xFFFFFF00), (0xFFFFFFFF, 0xFFFFFFFF), (36 + 2 * 3 * RATE, 2 * 3 * RATE)])
def test_a_sound_take_is_heard_to_its_end_whatever_its_header_says(sizes: tuple[int, int]) -> None:
    """
    The service's WAV header carries placeholders; bytes are measured.
    """
    heard = judge(_wav(3.0, sizes=sizes), text=TEXT, speed=1.0)

    assert (3 * RATE, RATE) == (len(heard.samples), heard.sample_rate)


def _other(format: str, subtype: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, _samples(3.0), 44_100, format=format, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("wav", "wrong"),
    [
        (b"", "empty"),
        (b"<html>502 Bad Gateway</html>", "not audio"),
        (b'{"status":500}', "not audio"),
        (b"\xff\xfb\x90\xc4" + bytes(413), "not"),
        (_wav(0.0), "without sound|not audio"),
        (_wav(3.0, level=0.0), "silent"),
        (_wav(0.02), "too short"),
        (_wav(120.0), "too long"),
        (_other("FLAC", "PCM_16"), "FLAC"),
    ],
    ids=["empty", "html", "json", "blank mp3", "no samples", "silence", "fragment", "endless", "another format"],
)
def test_what_cannot_be_a_reading_of_the_text_is_refused(wav: bytes, wrong: str) -> None:
    """
    A proxy's page, a blank file, silence or a fragment never becomes a take.
    """
    with pytest.raises(BadTake, match=wrong):
        judge(wav, text=TEXT, speed=1.0)


def test_stereo_is_mixed_down() -> None:
    """
    Narrations are mono, whatever came.
    """
    stream = io.BytesIO()
    soundfile.write(stream, np.stack([_samples(3.0), _samples(3.0)], axis=1), RATE, format="WAV", subtype="PCM_16")

    assert 1 == judge(stream.getvalue(), text=TEXT, speed=1.0).samples.ndim


def test_digits_may_take_long_to_read() -> None:
    """
    Twelve digits are twelve bytes and take many seconds.
    """
    assert judge(_wav(12.0), text="100000000000", speed=0.5).seconds > 10
