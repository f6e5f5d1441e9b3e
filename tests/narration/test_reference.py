"""
The reference: what is refused before anything is spent, and what is made of the rest.

The speech is the bundled clip, spoiled with numpy in the ways recordings are spoiled.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from flows.narration import ffmpeg
from flows.narration.errors import ReferenceUnusable, UsageError
from flows.narration.reference import Reference, digest, find_transcript, normalize
from flows.narration.reference.levels import measure

Floats = npt.NDArray[np.float64]

CLIP = Path(__file__).parents[2] / "data" / "reference.wav"
RATE = 16_000
"""Hz of the bundled clip, and of what is made from it here."""


@pytest.fixture(scope="module")
def speech() -> Floats:
    """
    The bundled clip: 24.7 s, one reader.
    """
    samples, rate = soundfile.read(CLIP)
    assert rate == RATE
    return np.asarray(samples, dtype=np.float64)


def _noise(length: int, *, dbfs: float) -> Floats:
    return np.random.default_rng(1).normal(size=length) * 10 ** (dbfs / 20)


def _silence(seconds: float) -> Floats:
    return np.zeros(round(seconds * RATE))


def _saved(path: Path, samples: Floats, *, rate: int = RATE) -> Path:
    soundfile.write(path, np.clip(samples, -1, 1), rate, subtype="PCM_16")
    return path


def _normalized(folder: Path, *recordings: Path, transcript: str | None = None) -> Reference:
    return normalize(recordings, transcript=transcript, folder=folder / "out")


def _made(folder: Path, samples: Floats) -> Reference:
    return _normalized(folder, _saved(folder / "clip.wav", samples))


def _refused(folder: Path, samples: Floats) -> ReferenceUnusable:
    with pytest.raises(ReferenceUnusable) as caught:
        _made(folder, samples)
    assert [] == list((folder / "out").glob("*"))
    return caught.value


def _level(reference: Reference) -> tuple[float, float]:
    samples, rate = soundfile.read(reference.wav, dtype="int16", always_2d=True)
    levels = measure(samples, sample_rate=rate).levels
    return levels.rms_dbfs, levels.peak_dbfs


def test_the_bundled_clip_is_accepted(tmp_path: Path) -> None:
    """
    The first thing anyone tries: no warning, and well under two seconds of CPU, ffmpeg's included.
    """
    start = os.times()

    reference = _normalized(tmp_path, CLIP, transcript=find_transcript([CLIP]))

    spent = sum(os.times()[:4]) - sum(start[:4])
    assert reference.warnings == ()
    assert reference.recordings == ("reference.wav",)
    assert reference.title == "reference"
    assert reference.transcript is not None
    assert reference.transcript.startswith("And Mr. John Dashwood")
    assert reference.speech_seconds == pytest.approx(22.1, abs=0.5)
    assert reference.levels.snr_db == pytest.approx(22.6, abs=1.0)
    assert reference.levels.bandwidth_hz == pytest.approx(7300, abs=300)
    assert spent < 2.0


def test_the_result_is_mono_levelled_and_ends_in_half_a_second_of_silence(tmp_path: Path) -> None:
    """
    -20 dBFS of speech, peaks at -3 dBFS at most, and exactly 0.5 s of zeros after the last sound.
    """
    reference = _normalized(tmp_path, CLIP)

    info = soundfile.info(reference.wav)
    samples, _ = soundfile.read(reference.wav, dtype="int16")
    rms, peak = _level(reference)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 44_100, 1)
    assert reference.wav == tmp_path / "out" / f"{reference.digest}.wav"
    assert reference.seconds == pytest.approx(info.duration, abs=0.001)
    assert rms == pytest.approx(-20, abs=0.5)
    assert peak <= -3
    assert not samples[-22_050:].any()
    assert samples[-23_500:-22_050].any()


@pytest.mark.parametrize("gain", [-30, -10, 0, 4])
def test_quiet_and_loud_recordings_come_to_one_level(tmp_path: Path, speech: Floats, gain: float) -> None:
    """
    Whoever spoke softly or far away is brought to the same level.
    """
    rms, peak = _level(_made(tmp_path, speech[: 12 * RATE] * 10 ** (gain / 20)))

    assert rms == pytest.approx(-20, abs=0.5)
    assert peak <= -3


def test_the_peak_wins_over_the_level(tmp_path: Path, speech: Floats) -> None:
    """
    A pop 33 dB above the speech leaves it quieter than asked for, instead of being crushed.
    """
    samples = 0.25 * speech[: 12 * RATE]
    samples[5 * RATE : 5 * RATE + 80] = 0.95 * np.sin(np.linspace(0, 2 * np.pi, 80))

    rms, peak = _level(_made(tmp_path, samples))

    assert -29 < rms < -21
    assert peak <= -3


def test_silent_edges_are_cut_but_for_a_short_margin(tmp_path: Path, speech: Floats) -> None:
    """
    Two seconds of a quiet room before and three after go; the speech between them stays whole.
    """
    cut = speech[5 * RATE : 17 * RATE]
    bare = _made(tmp_path, cut)
    padded = np.concatenate([_silence(2), cut, _silence(3)]) + _noise(17 * RATE, dbfs=-65)

    reference = _made(tmp_path, padded)

    assert reference.speech_seconds == pytest.approx(bare.speech_seconds, abs=0.3)
    assert reference.seconds == pytest.approx(bare.seconds, abs=0.25)


def test_a_click_before_the_speech_goes_with_the_silence(tmp_path: Path, speech: Floats) -> None:
    """
    The key that started the recording is no speech, however loud it is.
    """
    edge = _silence(2)
    edge[RATE : RATE + 40] = 0.2
    cut = speech[: 12 * RATE]

    assert _made(tmp_path, np.concatenate([edge, cut])).seconds == pytest.approx(_made(tmp_path, cut).seconds, abs=0.2)


def test_several_recordings_are_levelled_each_and_joined_with_pauses(tmp_path: Path, speech: Floats) -> None:
    """
    A loud and a quiet recording end at one level, half a second apart, in the order given.
    """
    loud = _saved(tmp_path / "loud.wav", 1.5 * speech[: 8 * RATE])
    quiet = _saved(tmp_path / "quiet.wav", 0.1 * speech[8 * RATE : 16 * RATE])
    alone = [_normalized(tmp_path, clip).seconds for clip in (loud, quiet)]

    reference = _normalized(tmp_path, loud, quiet)

    samples, rate = soundfile.read(reference.wav)
    border = round((alone[0] - 0.5) * rate)
    first, second = samples[:border], samples[border + rate // 2 : -rate // 2]
    assert reference.seconds == pytest.approx(sum(alone), abs=0.01)
    assert not samples[border : border + rate // 2].any()
    assert np.sqrt(np.mean(first**2)) == pytest.approx(np.sqrt(np.mean(second**2)), rel=0.15)
    assert reference.recordings == ("loud.wav", "quiet.wav")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("clip.mp3", ("-c:a", "libmp3lame", "-b:a", "64k")),
        ("clip.m4a", ("-c:a", "aac")),
        ("clip.ogg", ("-c:a", "libvorbis")),
        ("clip.opus", ("-c:a", "libopus")),
        ("clip.webm", ("-c:a", "libopus")),
        ("clip.flac", ()),
        ("clip.aiff", ()),
        ("8-bit.wav", ("-c:a", "pcm_u8")),
        ("u-law.wav", ("-c:a", "pcm_mulaw", "-ar", "8000")),
        ("96-khz.wav", ("-c:a", "pcm_s24le", "-ar", "96000")),
        ("stereo.wav", ("-c:a", "pcm_f32le", "-ac", "2", "-ar", "44100")),
    ],
)
def test_recordings_in_any_format_become_a_reference(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    """
    A telephone's memo, a studio's WAV and a browser's recording all end as the same kind of clip.
    """
    cut = tmp_path / "cut.wav"
    ffmpeg.decode(CLIP, cut, sample_rate=None, max_seconds=12)
    recording = tmp_path / name
    command = [ffmpeg.executable(), "-loglevel", "error", "-i", str(cut), *arguments, str(recording)]
    subprocess.run(command, check=True)

    reference = _normalized(tmp_path, recording)

    rms, peak = _level(reference)
    assert reference.speech_seconds == pytest.approx(10.6, abs=0.5)
    assert rms == pytest.approx(-20, abs=0.7)
    assert peak <= -3


def test_silence_is_refused(tmp_path: Path) -> None:
    """
    A microphone that was off.
    """
    error = _refused(tmp_path, _silence(12))

    assert error.fact == "The reference cannot be used. clip.wav: its 12.0 s are silent."
    assert error.next_step == "Check that the right microphone is chosen and switched on."


@pytest.mark.parametrize("what", ["tone", "white noise", "chords"])
def test_what_is_no_speech_is_refused(tmp_path: Path, what: str) -> None:
    """
    Whatever its level is: nobody's voice is in it.
    """
    at = np.arange(12 * RATE) / RATE
    notes = sum((np.sin(2 * np.pi * hertz * at) * (2 * at % 1 < 0.7) for hertz in (262, 330, 392, 523)), np.zeros_like(at))
    sounds = {"tone": 0.5 * np.sin(2 * np.pi * 440 * at), "white noise": _noise(len(at), dbfs=-20), "chords": 0.15 * notes}

    error = _refused(tmp_path, sounds[what])

    assert "speech" in error.fact
    assert "Record one person speaking" in error.next_step


def test_a_few_words_between_music_are_refused(tmp_path: Path, speech: Floats) -> None:
    """
    Both are said at once: how little of it is speech, and that there is too little of it.
    """
    at = np.arange(30 * RATE) / RATE
    samples = 0.1 * np.sin(2 * np.pi * 440 * at)
    for second in (1, 28):
        samples[second * RATE : (second + 1) * RATE] = speech[RATE : 2 * RATE]

    error = _refused(tmp_path, samples)

    assert "% of it sounds like speech in its 30.0 s" in error.fact
    assert "s of speech, and a voice needs 3 s" in error.fact


def test_two_seconds_of_speech_are_refused(tmp_path: Path, speech: Floats) -> None:
    """
    The message has the number, and what to record instead.
    """
    error = _refused(tmp_path, speech[: 2 * RATE])

    assert "in all: only 1.7 s of speech, and a voice needs 3 s" in error.fact
    assert "Give 10 to 30 s of one person" in error.next_step


def test_short_recordings_count_together(tmp_path: Path, speech: Floats) -> None:
    """
    Four times two seconds are enough to go on with, and little enough for a warning.
    """
    recordings = [_saved(tmp_path / f"{at}.wav", speech[at * RATE : (at + 2) * RATE]) for at in (1, 5, 9, 13)]

    reference = _normalized(tmp_path, *recordings)

    assert reference.warnings[-1].startswith("in all: only 7.2 s of speech; the likeness gets better from 10 s on")


@pytest.mark.parametrize(("seconds", "told"), [(271, "272"), (301, "301")])
def test_more_than_the_service_takes_is_refused(tmp_path: Path, speech: Floats, seconds: int, told: str) -> None:
    """
    Refused with its length (pauses included), not cut: which part is best only the speaker knows. What is far too long is not
    even listened to.
    """
    half = np.resize(speech, seconds * RATE // 2)
    recordings = [_saved(tmp_path / name, half) for name in ("one.wav", "two.wav")]

    with pytest.raises(ReferenceUnusable, match=rf"last {told} s in all, and the service takes 270 s at most"):
        _normalized(tmp_path, *recordings)


@pytest.mark.parametrize(("gain", "refused"), [(4, False), (12, True)])
def test_a_clipped_recording_is_told_of_and_a_spoiled_one_refused(
    tmp_path: Path, speech: Floats, gain: float, *, refused: bool
) -> None:
    """
    A few flat peaks cost little; where every word is flat, the voice would be, too.
    """
    samples = speech[: 12 * RATE] / np.abs(speech).max() * 10 ** (gain / 20)

    told = str(_refused(tmp_path, samples)) if refused else " ".join(_made(tmp_path, samples).warnings)

    assert "it is clipped in" in told
    assert "Turn the recording level down" in told


@pytest.mark.parametrize(("dbfs", "refused"), [(-38, False), (-25, True)])
def test_a_noisy_recording_is_told_of_and_a_spoiled_one_refused(
    tmp_path: Path, speech: Floats, dbfs: float, *, refused: bool
) -> None:
    """
    The number is the distance between speech and noise, over the whole band of the recording.
    """
    samples = speech[: 12 * RATE] + _noise(12 * RATE, dbfs=dbfs)

    told = str(_refused(tmp_path, samples)) if refused else " ".join(_made(tmp_path, samples).warnings)

    assert "dB below the speech (18 dB is good)" in told
    assert "Record in a quiet room" in told


def test_digital_silence_around_a_noisy_recording_does_not_hide_the_noise(tmp_path: Path, speech: Floats) -> None:
    """
    An editor adds zeros at the edges; the noise under the speech is what counts.
    """
    noisy = speech[: 12 * RATE] + _noise(12 * RATE, dbfs=-25)

    assert "dB below the speech" in str(_refused(tmp_path, np.concatenate([_silence(5), noisy, _silence(5)])))


def test_a_dull_recording_is_told_of(tmp_path: Path, speech: Floats) -> None:
    """
    What a telephone leaves of a voice can be cloned, but it will sound like the telephone.
    """
    cut = speech[: 12 * RATE]
    spectrum = np.fft.rfft(cut)
    spectrum[round(3000 * len(cut) / RATE) :] = 0

    (warning,) = _made(tmp_path, np.fft.irfft(spectrum, len(cut))).warnings

    assert warning.startswith("clip.wav: its sound ends at 3.0 kHz")


def test_channels_that_cancel_each_other_are_not_mixed(tmp_path: Path, speech: Floats) -> None:
    """
    A cable soldered the wrong way round makes the mix silent: the left channel is used, and it is said.
    """
    cut = speech[: 12 * RATE]

    reference = _made(tmp_path, np.column_stack([cut, -cut]))

    (warning,) = reference.warnings
    assert "its two channels cancel each other, so only the left one is used" in warning
    assert _level(reference)[0] == pytest.approx(-20, abs=0.5)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path, speech: Floats) -> None:
    """
    Nobody wants to record four times to learn of four faults; each is said with its file, each remedy once.
    """
    noise = _noise(4 * RATE, dbfs=-22)
    noisy = [_saved(tmp_path / f"noisy-{at}.wav", speech[at * RATE : (at + 4) * RATE] + noise) for at in (0, 6)]
    off = _saved(tmp_path / "off.wav", _silence(4))

    with pytest.raises(ReferenceUnusable) as caught:
        _normalized(tmp_path, *noisy, off)

    assert [
        problem.partition(":")[0] for problem in caught.value.fact.removeprefix("The reference cannot be used. ").split("; ")
    ] == [
        "noisy-0.wav",
        "noisy-6.wav",
        "off.wav",
    ]
    assert caught.value.next_step.count("Record in a quiet room") == 1


def test_a_second_time_nothing_is_judged_again(tmp_path: Path, speech: Floats) -> None:
    """
    The same recordings under another name are answered from what is kept, without a new file.
    """
    first = _saved(tmp_path / "clip.wav", speech[: 12 * RATE] + _noise(12 * RATE, dbfs=-38))
    reference = _normalized(tmp_path, first, transcript="Words.")
    written = reference.wav.stat().st_mtime_ns
    again = first.rename(tmp_path / "renamed.wav")

    start = time.process_time()
    recalled = _normalized(tmp_path, again, transcript="Words.")

    assert time.process_time() - start < 0.05
    assert recalled == replace(reference, recordings=("renamed.wav",))
    assert recalled.warnings
    assert recalled.wav.stat().st_mtime_ns == written
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".json", ".wav"]


@pytest.mark.parametrize("harm", ["cut", "lost", "notes lost", "notes broken", "notes old"])
def test_what_was_kept_is_made_anew_where_it_is_damaged(tmp_path: Path, speech: Floats, harm: str) -> None:
    """
    A WAV that is not what was written is never sent, and broken notes never stop a run.
    """
    clip = _saved(tmp_path / "clip.wav", speech[: 5 * RATE])
    reference = _normalized(tmp_path, clip)
    sound, notes = reference.wav.read_bytes(), reference.wav.with_suffix(".json")
    known = json.loads(notes.read_text())
    harms: dict[str, Callable[[], object]] = {
        "cut": lambda: reference.wav.write_bytes(sound[:1000]),
        "lost": reference.wav.unlink,
        "notes lost": notes.unlink,
        "notes broken": lambda: notes.write_text("[1"),
        "notes old": lambda: notes.write_text(json.dumps(known | {"schema": 0})),
    }
    harms[harm]()

    assert _normalized(tmp_path, clip) == reference
    assert reference.wav.read_bytes() == sound


def test_the_digest_is_the_same_for_ever() -> None:
    """
    A digest that changed by accident would create, and bill, every voice anew.
    """
    assert (
        digest([CLIP], transcript=find_transcript([CLIP])) == "4b616a7e45cf5bd957754dc4744d259fb48638327d96cc0153cf92ff6e44569c"
    )


def test_the_digest_knows_what_shapes_the_voice_and_nothing_else(tmp_path: Path) -> None:
    """
    Content, order, borders and transcript count; names, and blanks around the transcript, do not.
    """
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    (tmp_path / "ab").write_bytes(b"onetwo")
    (tmp_path / "copy").write_bytes(b"one")
    a, b, ab, copy = (tmp_path / name for name in ("a", "b", "ab", "copy"))

    digests = [
        digest([a], transcript=None),
        digest([b], transcript=None),
        digest([a, b], transcript=None),
        digest([b, a], transcript=None),
        digest([a, a], transcript=None),
        digest([ab], transcript=None),
        digest([a], transcript="two"),
        digest([a], transcript="Two"),
    ]

    assert len(set(digests)) == len(digests)
    assert digest([copy], transcript="  ") == digests[0]
    assert digest([copy], transcript=" two\n") == digests[6]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbfWith a BOM.\r\n", "With a BOM."),
        (" “Ünïcode” \n\nand lines\n".encode(), "“Ünïcode” \n\nand lines"),
        (b" \n\t\n", None),
        (b"", None),
    ],
)
def test_the_transcript_beside_the_first_recording_is_found(tmp_path: Path, content: bytes, said: str | None) -> None:
    """
    `reference.txt`, as any editor saves it; an empty one says nothing.
    """
    (tmp_path / "reference.txt").write_bytes(content)

    assert find_transcript([tmp_path / "anna.wav", Path("elsewhere.wav")]) == said


def test_without_a_transcript_there_is_none(tmp_path: Path) -> None:
    """
    It is never asked for: the service listens by itself.
    """
    assert find_transcript([tmp_path / "anna.wav"]) is None
    assert find_transcript([]) is None


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff\xfeT\0e\0x\0t\0", "not UTF-8"), (b"a" * 20_001, "longer than 20,000 bytes")]
)
def test_a_transcript_that_is_none_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """
    A wrong transcript spoils a voice, so a file that cannot be one is not passed over.
    """
    (tmp_path / "reference.txt").write_bytes(content)

    with pytest.raises(UsageError, match=why):
        find_transcript([tmp_path / "anna.wav"])


def test_what_is_no_recording_is_a_mistake_of_the_command(tmp_path: Path) -> None:
    """
    A missing file, a folder, a text and no file at all: told before anything is judged or written.
    """
    text = tmp_path / "notes.wav"
    text.write_text("My notes.")

    for recordings, why in [
        ([tmp_path / "missing.wav"], "missing.wav does not exist"),
        ([tmp_path], "is not a file"),
        ([CLIP, text], "notes.wav cannot be read as audio"),
        ([], "no recording"),
    ]:
        with pytest.raises(UsageError, match=why):
            _normalized(tmp_path, *recordings)
    assert [] == list((tmp_path / "out").glob("*"))
