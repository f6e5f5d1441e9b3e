"""
How loud a narration is, measured while it is made.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from flows.narration import ffmpeg
from flows.narration.contour import STEP, Contour, Peaks
from flows.narration.ffmpeg import Samples
from flows.narration.speech import SAMPLE_RATE


def _sine(dbfs: float, seconds: float) -> Samples:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(np.round(32767 * 10 ** (dbfs / 20) * np.sin(2 * np.pi * 997 * time)), dtype=np.int16)


@pytest.mark.parametrize("dbfs", [-10.0, -30.0])
def test_loudness_is_that_of_the_standard(tmp_path: Path, dbfs: float) -> None:
    """
    A sine of 997 Hz at 0 dBFS is -3.01 LUFS in mono (ITU-R BS.1770-4), and quieter by as much as its level is lower.
    """
    with ffmpeg.encoder(tmp_path / "a.mp3", format="mp3", sample_rate=SAMPLE_RATE) as encoder:
        encoder.write(_sine(dbfs, 3).tobytes())

    assert encoder.integrated == pytest.approx(dbfs - 3.01, abs=0.1)
    assert encoder.momentary[-1] == pytest.approx(dbfs - 3.01, abs=0.1)
    assert len(encoder.momentary) == 30


def test_loudness_is_read_however_long_it_takes(tmp_path: Path) -> None:
    """
    What the meter prints in twelve minutes is more than fits a buffer.
    """
    second = _sine(-20, 1).tobytes()
    with ffmpeg.encoder(tmp_path / "a.wav", format="wav", sample_rate=SAMPLE_RATE) as encoder:
        for _ in range(720):
            encoder.write(second)

    assert len(encoder.momentary) == 7200
    assert encoder.integrated == pytest.approx(-23.0, abs=0.1)


def test_silence_has_no_loudness(tmp_path: Path) -> None:
    """
    Nor has what is too short for a block of 400 ms.
    """
    with ffmpeg.encoder(tmp_path / "a.wav", format="wav", sample_rate=SAMPLE_RATE) as encoder:
        encoder.write(bytes(2 * SAMPLE_RATE))

    assert encoder.integrated is None


def test_what_is_measured_is_encoded_as_it_was(tmp_path: Path) -> None:
    """
    The meter changes not one bit.
    """
    samples = _sine(-6, 1)
    with ffmpeg.encoder(tmp_path / "a.wav", format="wav", sample_rate=SAMPLE_RATE) as encoder:
        encoder.write(samples.tobytes())

    assert (tmp_path / "a.wav").read_bytes().endswith(samples.tobytes())


def test_peaks_are_of_a_tenth_of_a_second_each() -> None:
    """
    However the samples come, and with the silences between them.
    """
    samples = np.zeros(2 * STEP + 10, np.int16)
    samples[[0, STEP - 1, STEP, -1]] = 7, -32768, 100, 5
    peaks = Peaks()
    for part in np.array_split(samples, 7):
        peaks.add(part)
    peaks.silence(STEP)
    peaks.add(np.full(1, 9, np.int16))

    assert [32768, 100, 5, 9] == peaks.end()


def test_the_picture_holds_all_and_its_words() -> None:
    """
    Hours fit into its width; a title is only a title.
    """
    contour = Contour(peaks=[16384] * 36_000, momentary=[-20.0] * 36_000, integrated=-20.0)

    picture = ElementTree.fromstring(contour.svg(title="<b>&", target=-18.0))  # noqa: S314 - our own
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    (line,) = picture.iter("{http://www.w3.org/2000/svg}polyline")

    assert ["-18 LUFS", "<b>&: 60:00, -20.0 LUFS, peak -6.0 dBFS"] == texts
    assert len(line.attrib["points"].split()) == 400
    assert {point.split(",")[1] for point in line.attrib["points"].split()} == {"53.3"}


def test_nothing_has_a_picture_too() -> None:
    """
    A narration without a sound is drawn as one.
    """
    assert "0:00, no loudness" in Contour().svg(title="x")
