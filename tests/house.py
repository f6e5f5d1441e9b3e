"""
A folder of scripts narrated without Prefect: for what a run makes and pays, in a fraction of a second.
"""

import asyncio
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from flows.narration.assemble import Sound
from flows.narration.ending import worst
from flows.narration.errors import NarrateError
from flows.narration.limiter import Patience
from flows.narration.manifest import Manifest, ScriptEntry, VoiceEntry
from flows.narration.order import Order
from flows.narration.plan import survey
from flows.narration.production import Production
from flows.narration.segments import Cutting
from flows.narration.speech import Delivery, Speech, Voice
from flows.narration.takes import TakeStore, take_key

if TYPE_CHECKING:
    from tests.conftest import Sandbox

KEY = "a-key-that-must-never-show"
"""Key of the account at the sandbox."""

QUICK = Patience(backoff=0.02, attempts=3, patience=0.3, deadline=5)
"""Patience for tests: trouble comes to its end soon."""


class House:
    """
    A folder of scripts and an OUT, narrated by the sandbox's voice as a run does it.
    """

    def __init__(self, folder: Path, sandbox: "Sandbox") -> None:
        self.scripts, self.out, self.sandbox = folder / "scripts", folder / "out", sandbox
        self.store = TakeStore(self.out / ".takes")
        self.run_id = "r"
        self.scripts.mkdir()
        self.voice = ""

    def write(self, **texts: str) -> None:
        """
        Write scripts; a double underscore in a name is a folder.
        """
        for name, text in texts.items():
            path = self.scripts / f"{name.replace('__', '/')}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def production(self, **order: Any) -> Production:
        """
        Read the scripts, for a run that has no voice yet.
        """
        sound = Sound(format="wav")
        read = survey(self.scripts, out=self.out, sound=sound, cutting=Cutting(), encoding=None)
        return Production(
            Order(**{"survey": read, "out": self.out, "store": self.store, "sound": sound, "patience": QUICK,
                     "delivery": Delivery(), **order}),
            run_id=self.run_id,
        )  # fmt: skip

    def planned(self, production: Production) -> list[str]:
        """
        Give *production* the voice.
        """
        voice = Voice(id=self.voice, title="Ann", state="trained")
        return production.plan(voice=voice, entry=VoiceEntry(id=voice.id, title="Ann"), host="h")

    async def run(self, *, key: str = KEY, **order: Any) -> tuple[Manifest, NarrateError | None]:
        """
        Run to whatever end, and return what `run.json` says and the error that the run ends with.
        """
        production = self.production(**order)
        async with Speech(key=KEY, base_url=self.sandbox.url) as speech:
            self.voice = self.voice or await self._made(speech)
        ends = await self.recorded(production, key=key)
        errors = [end for end in (*ends, production.stopped if ends else None) if isinstance(end, BaseException)]
        error = worst(errors, entries=list(production.entries.values()))
        return production.finish(state="failed" if error else "completed"), error

    async def recorded(self, production: Production, *, key: str = KEY) -> list[ScriptEntry | BaseException]:
        """
        Narrate all that is to be made, all scripts at once.
        """
        voice = Voice(id=self.voice, title="Ann", state="trained")
        async with Speech(key=key, base_url=self.sandbox.url) as speech:
            names = self.planned(production)
            async with production.recorder(speech=speech, voice=voice):
                runs = []
                for name in names:
                    if not await production.admit(name):
                        break
                    runs.append(asyncio.create_task(production.narrate(name)))
                return await asyncio.gather(*runs, return_exceptions=True)

    async def _made(self, speech: Speech) -> str:
        wav = io.BytesIO()
        soundfile.write(wav, np.arange(4410, dtype=np.int16), 44_100, format="WAV")
        made = await speech.create_voice(title="t", wav=wav.getvalue(), transcript=None, tags=[], description="")
        return made.id

    def billed(self) -> int:
        """
        Bytes that the sandbox billed.
        """
        return sum(row["bytes"] for row in self.sandbox.requests("/v1/tts") if row["billed"])

    def flac(self, text: str) -> Path:
        """
        Where the take of *text* is kept.
        """
        key = take_key(text, voice=self.voice, delivery=Delivery(), host="h")
        return self.store.folder / key[:2] / f"{key}.flac"

    def damage(self, text: str) -> None:
        """
        Flip a bit of the sound in the take of *text*.
        """
        data = bytearray(self.flac(text).read_bytes())
        data[-200] ^= 1
        self.flac(text).write_bytes(data)
