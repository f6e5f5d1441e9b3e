"""
From a script to the ear: what a recogniser hears in a finished narration is what the script says.
"""

import io
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import srt

from tests.conftest import KEY, ROOT, Narrate, Sandbox
from tests.hearing import STORY, errors, words

pytest.importorskip("hibari")
pytest.importorskip("faster_whisper")


@pytest.mark.long
def test_a_narrated_chapter_is_heard_as_it_was_written(narrate: Narrate, sandbox: Sandbox) -> None:
    """
    Of a hundred words in the MP3 fewer than four are misheard: none was swallowed, said twice or out of order.

    Captions show each sentence when it is heard.
    """
    sandbox.config(voice="neural", training="at-once")
    (narrate.folder / "chapter.txt").write_text(STORY.replace("\n", "\n\n"))
    done = narrate("run", "chapter.txt", "--reference", ROOT / "data" / "reference.wav", "--out", "out")
    assert done.code == 0, done.err
    narration = (narrate.folder / "out" / "chapter.mp3").read_bytes()

    answer = httpx.post(
        f"{sandbox.url}/v1/asr", files={"audio": narration}, headers={"Authorization": f"Bearer {KEY}"}, timeout=300
    )

    said, heard = words(STORY), words(answer.raise_for_status().json()["text"])
    assert errors(said, heard) / len(said) < 0.04, heard
    _assert_cues_name_what_is_heard(sandbox, narrate.folder / "out" / "chapter.mp3")


def _assert_cues_name_what_is_heard(sandbox: Sandbox, narration: Path) -> None:
    """
    Of every fifth cue the recogniser hears what it shows, from 150 ms before it comes to 150 ms after it goes.
    """
    samples, rate = soundfile.read(narration)
    cues = list(srt.parse(narration.with_suffix(".srt").read_text()))
    assert words(STORY) == [word for cue in cues for word in words(cue.content)]
    missed = shown = 0
    for cue in cues[2::5]:
        first, last = (cue.start.total_seconds() - 0.15, cue.end.total_seconds() + 0.15)
        clip = io.BytesIO()
        quiet = np.zeros(rate // 2)
        cut_out = np.concatenate((quiet, samples[max(0, round(first * rate)) : round(last * rate)], quiet))
        soundfile.write(clip, cut_out, rate, format="WAV")
        answer = httpx.post(
            f"{sandbox.url}/v1/asr", files={"audio": clip.getvalue()}, headers={"Authorization": f"Bearer {KEY}"}, timeout=120
        )
        heard = words(answer.raise_for_status().json()["text"])
        missed += errors(words(cue.content), heard)
        shown += len(words(cue.content))
        assert errors(words(cue.content), heard) < max(2, len(words(cue.content)) / 2), (cue.content, heard)
    assert shown > 60
    assert missed / shown < 0.12
