"""
What the neural voice says is understood by the recogniser: fifty sentences of a story.
"""

import pytest

from tests.hearing import STORY, errors, words
from tests.sandbox.running import client, running

pytest.importorskip("hibari")
pytest.importorskip("faster_whisper")


@pytest.mark.long
def test_understood() -> None:
    """
    Fewer than three words of a hundred are misheard.
    """
    wrong, misheard = 0, []
    with running(voice="neural") as server, client(server.url) as http:
        for paragraph in STORY.splitlines():
            spoken = http.post("/v1/tts", json={"text": paragraph, "format": "wav"}).content
            heard = http.post("/v1/asr", files={"audio": spoken}).json()["text"]
            count = errors(words(paragraph), words(heard))
            wrong += count
            misheard += [heard] * bool(count)

    assert wrong / len(words(STORY)) < 0.03, misheard
