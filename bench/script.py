"""
What a good engineer writes in an hour: the SDK's asynchronous client, a semaphore, retries with backoff, files.

`python -m bench.script SCRIPTS OUT AT_ONCE`. It judges nothing, resumes nothing, and joins nothing.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import httpx
from fishaudio import AsyncFishAudio
from fishaudio.exceptions import RateLimitError, ServerError

ROOT = Path(__file__).parents[1]
ATTEMPTS = 8
LONGEST_PAUSE = 30.0


def main() -> None:
    """
    Clone, then speak all paragraphs of all scripts, so many at once.
    """
    scripts, out, at_once = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    jobs = []
    for script in sorted(scripts.glob("*.txt")):
        folder = out / script.stem
        folder.mkdir(parents=True, exist_ok=True)
        jobs += [(text, folder / f"{place:04}.wav") for place, text in enumerate(script.read_text().split("\n\n"))]
    asyncio.run(speak_all(jobs, at_once))


async def speak_all(jobs: list[tuple[str, Path]], at_once: int) -> None:
    """
    Speak each text into its file.
    """
    slots = asyncio.Semaphore(at_once)
    async with AsyncFishAudio(api_key=os.environ["FISH_API_KEY"], base_url=os.environ["FISH_BASE_URL"]) as client:
        voice = await client.voices.create(title="Bench", voices=[(ROOT / "data" / "reference.wav").read_bytes()])

        async def speak(text: str, target: Path) -> None:
            """
            Ask until there is an answer.
            """
            for attempt in range(ATTEMPTS):
                try:
                    async with slots:
                        audio = await client.tts.convert(text=text, reference_id=voice.id, format="wav")
                    target.write_bytes(audio)  # noqa: ASYNC240 - as such scripts do
                    return
                except (RateLimitError, ServerError, httpx.TransportError):
                    if attempt + 1 == ATTEMPTS:
                        raise
                    await asyncio.sleep(min(LONGEST_PAUSE, 2**attempt) * random.uniform(0.5, 1.0))

        await asyncio.gather(*(speak(text, target) for text, target in jobs))


if __name__ == "__main__":
    main()
