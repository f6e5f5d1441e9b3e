"""
The door to ffmpeg: what it opens, what it refuses to open, and what its encoders leave on disk.
"""

import os
import struct
import subprocess
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from tinytag import TinyTag

from flows.narration import ffmpeg
from flows.narration.errors import UsageError
from flows.narration.ffmpeg import FfmpegFailed, Format

RATE = 44_100
FORMATS: tuple[Format, ...] = ("mp3", "wav", "flac", "opus")


def _tone(seconds: float, *, rate: int = RATE, hertz: float = 440.0, level: float = 0.3) -> npt.NDArray[np.int16]:
    time = np.arange(round(seconds * rate)) / rate
    return (32767 * level * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


def _level(samples: npt.NDArray[np.int16]) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4].astype(np.float64) / 32768
    return float(20 * np.log10(np.sqrt(np.mean(middle**2)) + 1e-9))


def _made(folder: Path, name: str, *arguments: str) -> Path:
    """
    Make a file in the format that *arguments* ask of ffmpeg, from one second of a tone at 48 kHz.
    """
    source, target = folder / "source.wav", folder / name
    soundfile.write(source, _tone(1.0, rate=48_000), 48_000)
    command = [ffmpeg.executable(), "-loglevel", "error", "-y", "-i", str(source), *arguments, f"file:{target}"]
    subprocess.run(command, check=True)
    source.unlink()
    return target


def _encode(target: Path, format: Format, samples: npt.NDArray[np.int16], **tags: str) -> Path:
    with ffmpeg.encoder(target, format=format, sample_rate=RATE, tags=tags) as encoder:
        encoder.write(samples.tobytes())
    return target


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("8-bit.wav", ("-c:a", "pcm_u8")),
        ("16-bit.wav", ("-c:a", "pcm_s16le")),
        ("24-bit.wav", ("-c:a", "pcm_s24le")),
        ("32-bit.wav", ("-c:a", "pcm_s32le")),
        ("float32.wav", ("-c:a", "pcm_f32le")),
        ("u-law.wav", ("-c:a", "pcm_mulaw", "-ar", "8000")),
        ("8-khz.wav", ("-ar", "8000")),
        ("96-khz.wav", ("-ar", "96000")),
        ("six-channels.wav", ("-ac", "6")),
        ("a.w64", ()),
        ("a.flac", ()),
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("aac.m4a", ("-c:a", "aac")),
        ("alac.m4a", ("-c:a", "alac")),
        ("vorbis.ogg", ("-c:a", "libvorbis")),
        ("a.opus", ("-c:a", "libopus")),
        ("a.webm", ("-c:a", "libopus")),
        ("a.aiff", ()),
        ("a.au", ()),
        ("a.caf", ()),
        ("an mp3 named.wav", ("-c:a", "libmp3lame", "-f", "mp3")),
        ("-i http:name%20'$HOME'.wav", ()),
    ],
)
def test_every_common_format_is_decoded(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    """
    Whatever people record with comes out as 16-bit WAV at the rate asked for, at the level it had.
    """
    target = tmp_path / "decoded.wav"

    ffmpeg.decode(_made(tmp_path, name, *arguments), target, sample_rate=RATE, channels=1)

    info = soundfile.info(target)
    samples, _ = soundfile.read(target, dtype="int16")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", RATE, 1)
    assert info.duration == pytest.approx(1.0, abs=0.05)
    quieter = 10.6 if "six" in name else 0.0  # mono goes to the centre, and mixing makes room for what the others could hold
    assert _level(samples) == pytest.approx(_level(_tone(1.0)) - quieter, abs=0.5)


def test_a_recording_keeps_its_rate_and_channels_where_nothing_is_asked(tmp_path: Path) -> None:
    """
    Judging needs the recording as it came: clipping and noise look different after a conversion.
    """
    source, target = tmp_path / "stereo.wav", tmp_path / "decoded.wav"
    stereo = np.column_stack([_tone(0.5, rate=22_050), _tone(0.5, rate=22_050, hertz=200)])
    soundfile.write(source, stereo, 22_050)

    ffmpeg.decode(source, target, sample_rate=None)

    samples, rate = soundfile.read(target, dtype="int16")
    assert rate == 22_050
    assert np.array_equal(stereo, samples)


def test_a_recording_that_unfolds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Silence at the highest rate there is: no more of it than the limit comes to the disk, and it is not taken for a whole one.
    """
    monkeypatch.setattr("flows.narration.ffmpeg.reading.MOST_DECODED_BYTES", 4_000_000)
    source, target = tmp_path / "bomb.flac", tmp_path / "decoded.wav"
    soundfile.write(source, np.zeros(10 * 655_350, np.int16), 655_350)
    assert source.stat().st_size < 100_000

    with pytest.raises(UsageError, match=r"bomb\.flac is too large once it is decoded"):
        ffmpeg.decode(source, target, sample_rate=None)

    assert not target.exists()


def test_decoding_ends_at_the_limit(tmp_path: Path) -> None:
    """
    A small file can hold days of silence: no more of it than the limit comes to the disk.
    """
    source, target = tmp_path / "long.flac", tmp_path / "decoded.wav"
    soundfile.write(source, np.zeros(60 * RATE, np.int16), RATE)

    ffmpeg.decode(source, target, max_seconds=2.0)

    assert soundfile.info(target).frames == 2 * RATE


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFF00, 0])
def test_placeholder_sizes_in_a_wav_header_do_not_shorten_it(tmp_path: Path, size: int) -> None:
    """
    A WAV that was streamed, as the hosted API does, says nothing true about its length.
    """
    samples, source, target = _tone(2.0), tmp_path / "streamed.wav", tmp_path / "decoded.wav"
    header = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    source.write_bytes(header + b"data" + struct.pack("<I", size) + samples.tobytes())

    ffmpeg.decode(source, target)

    decoded, _ = soundfile.read(target, dtype="int16")
    assert np.array_equal(samples, decoded)


def _refused(source: Path, folder: Path) -> str:
    target = folder / "decoded.wav"
    with pytest.raises(UsageError) as caught:
        ffmpeg.decode(source, target)
    assert not target.exists()
    return str(caught.value)


def test_a_text_named_wav_is_refused(tmp_path: Path) -> None:
    """
    The message names the file and no path of ours, and says which formats do.
    """
    source = tmp_path / "notes.wav"
    source.write_text("These are my notes.\n")

    said = _refused(source, tmp_path)

    assert said.startswith("notes.wav cannot be read as audio: Invalid data found when processing input. Give")
    assert str(tmp_path) not in said


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile {inside}\n",
        "ffconcat version 1.0\nfile secret.wav\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inside}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
    ids=["ffconcat", "ffconcat-beside", "hls", "sdp"],
)
def test_a_script_named_wav_opens_no_other_file(tmp_path: Path, script: str) -> None:
    """
    Such a list would lead ffmpeg to any file of the machine that runs it, and put its sound into the voice.
    """
    inside = _made(tmp_path, "secret.wav")
    source = tmp_path / "script.wav"
    source.write_text(script.format(inside=inside))

    assert "script.wav cannot be read as audio" in _refused(source, tmp_path)


@pytest.mark.parametrize(
    "name", ["concat:secret.wav|secret.wav", "subfile,,start,0,end,0,,:secret.wav", "http://127.0.0.1:9/a.wav"]
)
def test_a_name_is_never_taken_for_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """
    What is given is the name of a file; where there is no such file, nothing is opened.
    """
    _made(tmp_path, "secret.wav")
    monkeypatch.chdir(tmp_path)

    assert "does not exist" in _refused(Path(name), tmp_path)


def test_a_file_with_the_name_of_a_protocol_is_read_as_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    `concat:a|b` is a strange name for a recording, but a name.
    """
    _made(tmp_path, "one.wav", "-t", "0.25").rename(tmp_path / "concat:a|b")
    monkeypatch.chdir(tmp_path)

    ffmpeg.decode(Path("concat:a|b"), tmp_path / "decoded.wav")

    assert soundfile.info(tmp_path / "decoded.wav").duration == pytest.approx(0.25, abs=0.001)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """
    As it is left by a copy that failed.
    """
    (tmp_path / "empty.wav").touch()

    assert "empty.wav is empty" in _refused(tmp_path / "empty.wav", tmp_path)


def test_a_header_without_sound_is_refused(tmp_path: Path) -> None:
    """
    As it is left by a recorder that was stopped at once.
    """
    soundfile.write(tmp_path / "stopped.wav", np.zeros(0, np.int16), RATE)

    assert "stopped.wav" in _refused(tmp_path / "stopped.wav", tmp_path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """
    Recordings are given one by one.
    """
    assert "is not a file" in _refused(tmp_path, tmp_path)


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    """
    Reading it would wait for ever.
    """
    os.mkfifo(tmp_path / "pipe.wav")

    assert "is not a file" in _refused(tmp_path / "pipe.wav", tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """
    A control character in its name does not reach the terminal.
    """
    said = _refused(tmp_path / "mis\x1b[31msing.wav", tmp_path)

    assert "mis?[31msing.wav does not exist" in said


def test_a_file_too_large_to_be_a_recording_is_refused(tmp_path: Path) -> None:
    """
    Looked at by its size alone: nothing is read.
    """
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(ffmpeg.MOST_INPUT_BYTES + 1)

    assert "too large: 500 MB" in _refused(tmp_path / "huge.wav", tmp_path)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    """
    A container may hold anything; no audio stream means no recording.
    """
    silent = tmp_path / "silent.mp4"
    source = ("-f", "lavfi", "-i", "color=duration=0.2")
    subprocess.run([ffmpeg.executable(), "-loglevel", "error", *source, str(silent)], check=True)

    assert "silent.mp4 has no sound in it" in _refused(silent, tmp_path)


def test_resampling_keeps_the_length_and_makes_no_images() -> None:
    """
    A tone that the new rate cannot hold must vanish, and not come back at another height as with pydub.
    """
    low, high = _tone(1.0, rate=48_000, hertz=1_000), _tone(1.0, rate=48_000, hertz=11_000)

    kept = ffmpeg.resample(low, source_rate=48_000, target_rate=16_000)
    lost = ffmpeg.resample(high, source_rate=48_000, target_rate=16_000)

    assert [len(kept), len(lost)] == [16_000, 16_000]
    assert _level(low) == pytest.approx(_level(kept), abs=0.1)
    assert _level(lost) < -80


def test_the_limiter_holds_the_ceiling_in_place() -> None:
    """
    Peaks end below the ceiling, all that is quieter gets the whole gain, and nothing moves in time.
    """
    samples = _tone(2.0, level=0.1)
    samples[RATE : RATE + 100] *= 5

    limited = ffmpeg.resample(samples, source_rate=RATE, target_rate=RATE, gain_db=6.0, ceiling_db=-3.0)

    assert len(samples) == len(limited)
    assert np.abs(limited.astype(int)).max() <= round(32768 * 10 ** (-3 / 20))
    quiet = slice(RATE // 4, RATE // 2)
    assert np.allclose(samples[quiet] * 10 ** (6 / 20), limited[quiet], atol=2)


@pytest.mark.parametrize("format", FORMATS)
def test_tags_survive_whatever_is_in_them(tmp_path: Path, format: Format) -> None:
    """
    The comment is where a narration says what it was made from: 200 characters of any kind come back whole with tinytag.
    """
    comment = 'Künstlich; "a=b" \\ 語\n' + "0123456789abcdef" * 12
    comment = comment[:197] + "end"
    tags = {"title": "-i ‘x’ = y", "album": "An “Album”", "artist": "A; B", "genre": "Audiobook", "comment": comment}

    path = _encode(tmp_path / "a.part", format, _tone(0.5), **tags)

    read = TinyTag.get(path)
    assert tags == {name: getattr(read, name) for name in tags}
    assert len(comment) == 200


@pytest.mark.parametrize("format", ["mp3", "flac", "opus"])
def test_the_track_number_and_the_album_artist_are_kept(tmp_path: Path, format: Format) -> None:
    """
    A player sorts by them. WAV has no such field for the artist, and tinytag reads its track only without a total.
    """
    path = _encode(tmp_path / "a.part", format, _tone(0.1), track="3/12", album_artist="Jane", date="2026")

    read = TinyTag.get(path)
    assert (read.track, read.track_total, read.albumartist, read.year) == (3, 12, "Jane", "2026")


@pytest.mark.parametrize("format", FORMATS)
def test_what_no_argument_can_hold_does_not_stop_the_encoder(tmp_path: Path, format: Format) -> None:
    """
    A NUL, half a character from a file name that is no UTF-8, or a whole book as a title.
    """
    path = _encode(tmp_path / "a.part", format, _tone(0.1), title="a\0b\udce9" + "語" * 50_000, comment="c\0d\udce9")

    read = TinyTag.get(path)
    assert str(read.title).startswith("ab?語語")
    assert read.comment == "cd?"


def test_a_strange_tag_name_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    """
    Names go before the `=`, so they are ours alone.
    """
    with pytest.raises(ValueError, match="no name of a tag"):
        _encode(tmp_path / "a.mp3", "mp3", _tone(0.1), **{"title=x": "y"})


@pytest.mark.parametrize("format", FORMATS)
def test_not_a_sample_is_lost_or_added(tmp_path: Path, format: Format) -> None:
    """
    Subtitles and chapters count samples; MP3 and Opus say how much padding a player has to skip.
    """
    samples = _tone(1.2345)
    path = _encode(tmp_path / "a.part", format, samples, comment="x" * 200)

    ffmpeg.decode(path, tmp_path / "decoded.wav", sample_rate=None)

    decoded, rate = soundfile.read(tmp_path / "decoded.wav", dtype="int16")
    assert (48_000 if format == "opus" else RATE) == rate
    assert round(len(samples) * rate / RATE) == pytest.approx(len(decoded), abs=1)
    louder = 0.45 if format == "mp3" else 0.0  # LAME turns a CBR file down by that much, so that its errors do not clip
    assert _level(decoded) + louder == pytest.approx(_level(samples), abs=0.1)
    if format in ("wav", "flac"):
        assert np.array_equal(samples, decoded)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_sound_and_tags_give_the_same_bytes(tmp_path: Path, format: Format) -> None:
    """
    Nothing of the clock, of chance or of the encoder's version gets in.
    """
    first = _encode(tmp_path / "first", format, _tone(0.3), title="T", comment="C")
    second = _encode(tmp_path / "second", format, _tone(0.3), title="T", comment="C")

    assert first.read_bytes() == second.read_bytes()


def test_the_bitrate_is_constant_and_what_was_asked_for(tmp_path: Path) -> None:
    """
    Shops ask for CBR; 128 kbit/s is what comes without asking.
    """
    noise = np.random.default_rng(1).integers(-3000, 3000, 5 * RATE).astype(np.int16)
    sizes = {}
    for kbps in (None, 192):
        path = tmp_path / f"{kbps}.mp3"
        with ffmpeg.encoder(path, format="mp3", sample_rate=RATE, bitrate_kbps=kbps) as encoder:
            encoder.write(noise.tobytes())
        sizes[kbps] = path.stat().st_size * 8 / 5 / 1000

    assert list(sizes.values()) == pytest.approx([128, 192], rel=0.02)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kbps", [32, 100, 320])
def test_a_bitrate_that_the_format_lacks_is_no_failure(tmp_path: Path, format: Format, kbps: int) -> None:
    """
    One setting serves all formats, and libopus gives up on more than 256 kbit/s for one channel.
    """
    with ffmpeg.encoder(tmp_path / "a.part", format=format, sample_rate=RATE, bitrate_kbps=kbps) as encoder:
        encoder.write(_tone(0.5).tobytes())

    assert TinyTag.get(tmp_path / "a.part").duration == pytest.approx(0.5, abs=0.06)


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_an_exception_leaves_neither_a_file_nor_a_process(tmp_path: Path) -> None:
    """
    A damaged take is found in the middle of a narration.
    """

    def break_off() -> None:
        with ffmpeg.encoder(tmp_path / "a.part", format="mp3", sample_rate=RATE) as encoder:
            encoder.write(_tone(10.0).tobytes())
            raise RuntimeError("damaged")

    before = _children()
    with pytest.raises(RuntimeError, match="damaged"):
        break_off()

    assert list(tmp_path.iterdir()) == []
    assert before == _children()


def test_a_failing_encoder_says_why(tmp_path: Path) -> None:
    """
    Whether it fails at once or while it is written to, what ffmpeg said is in the message, and no path of ours.
    """
    with pytest.raises(FfmpegFailed, match="could not write the audio: No such file or directory") as caught:
        _encode(tmp_path / "missing" / "a.part", "mp3", _tone(30.0))

    assert str(tmp_path) not in str(caught.value)


def test_a_full_disk_is_noticed(tmp_path: Path) -> None:
    """
    It shows at the latest when the file is finished; `/dev/full` is the kernel's own stand-in for a full disk.
    """
    (tmp_path / "full").symlink_to("/dev/full")

    with pytest.raises(FfmpegFailed, match="No space left on device"):
        _encode(tmp_path / "full", "wav", _tone(1.0))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads what Linux tells of a process")
def test_encoding_gives_way_to_everything_else(tmp_path: Path) -> None:
    """
    Every thread of the encoder runs at a lower priority, so that requests in flight are answered first.
    """
    before = _children()
    with ffmpeg.encoder(tmp_path / "a.mp3", format="mp3", sample_rate=RATE) as encoder:
        encoder.write(_tone(20.0).tobytes())
        (process,) = _children() - before
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{process}/task").iterdir()]

    nices = {int(stat.rpartition(")")[2].split()[16]) for stat in stats}
    assert {19} == nices
