"""
The recipe that the API's documentation publishes, “Clone a voice and wait until it is ready”, as a loop over paragraphs.

`python -m bench.recipe SCRIPTS OUT`: nothing is added to it but the loop. The first error ends it.
"""

import os
import sys
import time
from pathlib import Path

from fishaudio import FishAudio
from fishaudio.utils import save

ROOT = Path(__file__).parents[1]
POLL_SECONDS = 5


def main() -> None:
    """
    Clone, wait, then speak one paragraph after the other into a file each.
    """
    scripts, out = Path(sys.argv[1]), Path(sys.argv[2])
    client = FishAudio(api_key=os.environ["FISH_API_KEY"], base_url=os.environ["FISH_BASE_URL"])
    voice = client.voices.create(title="Bench", voices=[(ROOT / "data" / "reference.wav").read_bytes()])
    while voice.state != "trained":
        if voice.state == "failed":
            raise SystemExit("the voice failed to train")
        time.sleep(POLL_SECONDS)
        voice = client.voices.get(voice.id)
    for script in sorted(scripts.glob("*.txt")):
        folder = out / script.stem
        folder.mkdir(parents=True, exist_ok=True)
        for place, text in enumerate(script.read_text().split("\n\n")):
            audio = client.tts.convert(text=text, reference_id=voice.id, format="wav")
            save(audio, str(folder / f"{place:04}.wav"))


if __name__ == "__main__":
    main()
