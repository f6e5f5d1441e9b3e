"""
From a script to the ear: what a recogniser hears in a finished narration is what the script says.
"""

import httpx
import pytest

from tests.conftest import KEY, ROOT, Narrate, Sandbox
from tests.hearing import STORY, errors, words

pytest.importorskip("hibari")
pytest.importorskip("faster_whisper")


@pytest.mark.long
def test_a_narrated_chapter_is_heard_as_it_was_written(narrate: Narrate, sandbox: Sandbox) -> None:
    """
    Of a hundred words in the MP3 fewer than four are misheard: none was swallowed, said twice or out of order.
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
