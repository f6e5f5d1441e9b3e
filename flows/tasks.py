"""
Every task: its policy, and one call downstairs.

No task caches its result in Prefect: voices are found again by the digest of their reference, audio by the digest of all that
shaped it (`narration.takes`). A cache keyed by a task's inputs could neither tell a deleted voice nor survive a moved file.
"""

import asyncio
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.tasks import Task

from flows import showing
from flows.narration import reference as references
from flows.narration import voice as voices
from flows.narration.audiobook import BookProduction
from flows.narration.brought import brought
from flows.narration.deliverables import BookFile
from flows.narration.errors import RequestUnread, ServiceUnavailable, VoiceNotReady, VoiceTimeout, storing
from flows.narration.manifest import ScriptEntry
from flows.narration.production import Production
from flows.narration.reference import Reference
from flows.narration.speech import Speech, Voice
from flows.narration.storage import Place
from flows.settings import Account


def open_speech(account: Account) -> Speech:
    """
    Open the door to Fish Audio for *account*.
    """
    return Speech(key=account.key, base_url=account.base_url)


MOST_UNREAD = 3
"""Attempts at a request that the service says it cannot read, which passes as a rule."""


async def _passing(_task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """
    Retry what a service out of reach caused, and a few times what it says it cannot read.
    """
    return isinstance(state.data, ServiceUnavailable) or (isinstance(state.data, RequestUnread) and run.run_count < MOST_UNREAD)


async def _not_yet(_task: Task[..., Any], _run: TaskRun, state: State) -> bool:
    """
    Retry while a voice is not trained, until its time is up.
    """
    return isinstance(state.data, VoiceNotReady) and not isinstance(state.data, VoiceTimeout)


def _normalize_name() -> str:
    given: list[str] = task_run.parameters["recordings"]
    return "normalize-reference " + ", ".join(Path(recording).name for recording in given)


@task(name="normalize-reference", task_run_name=_normalize_name, cache_policy=NO_CACHE, persist_result=False)
def normalize_reference(recordings: list[str], transcript: str | None, folder: Path) -> Reference:
    """
    Make one checked mono WAV of the recordings. Not retried: the same recordings give the same verdict.
    """
    clips = [brought(recording) for recording in recordings]
    reference = references.normalize(clips, transcript=transcript or references.find_transcript(clips), folder=folder)
    logger = get_run_logger()
    logger.info(
        "The reference has %.1f s of speech at %.1f dBFS, %.0f dB above its noise.",
        reference.speech_seconds,
        reference.levels.rms_dbfs,
        reference.levels.snr_db,
    )
    for warning in reference.warnings:
        logger.warning("%s", warning)
    return reference


# A create whose answer got lost may have made the voice: each attempt begins with the look, once the account can show it.
@task(
    name="create-voice",
    task_run_name="create-voice {title}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=_passing,
)
async def create_voice(account: Account, reference: Reference, title: str, shared: str | None = None) -> tuple[Voice, bool]:
    """
    Attach to the voice made from this reference, or create it; tells whether it was there. Hosts that share the take store at
    the URI *shared* make one voice.
    """
    logger = get_run_logger()

    def waiting() -> None:
        """
        Say what is waited for.
        """
        logger.info("Another run looks for the voice of the same reference; waiting until it is done.")

    async with open_speech(account) as speech:
        place = Place(shared) if shared else None
        with storing():
            voice, attached = await voices.attach_or_create(
                speech, reference=reference, title=title, waiting=waiting, place=place
            )
    what = "Found the voice of this reference" if attached else "Created the voice"
    logger.info("%s: “%s” (%s), %s.", what, voice.title, voice.id, voice.state)
    return voice, attached


# Each look is a retry of Prefect's, so that the UI shows the run waiting; `waiting` sets how many and how far apart.
@task(
    name="wait-for-voice",
    task_run_name="wait-for-voice {title}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=_not_yet,
)
async def wait_for_voice(account: Account, voice_id: str, title: str, deadline: float, patience: float) -> Voice:
    """
    Look once whether the voice is trained; *deadline* is on the event loop's clock, *title* and *patience* (seconds) are to be
    read by people.

    A service that does not answer is no failure of the voice: it is looked at again until the deadline, and then it is the
    service that failed.
    """
    try:
        async with open_speech(account) as speech:
            return await voices.look(speech, voice_id=voice_id)
    except (VoiceNotReady, ServiceUnavailable, RequestUnread) as error:
        if asyncio.get_running_loop().time() < deadline:
            raise VoiceNotReady(error.fact) from error
        if isinstance(error, ServiceUnavailable):
            raise
        raise VoiceTimeout(
            f"The voice was not trained within {patience:g} s. {error.fact}",
            "Run it again to go on waiting for the same voice; a longer training timeout (--training-timeout) waits longer.",
        ) from error


@task(name="synthesize", task_run_name="synthesize {script}", cache_policy=NO_CACHE, persist_result=False)
async def synthesize(script: str, production: Production) -> ScriptEntry:
    """
    Record and assemble one script. Not retried as a whole: each take is, where it is judged.
    """
    entry = await production.narrate(script)
    await showing.narration(production, script)
    get_run_logger().info(
        "%s: %.1f min, %d segments, %d bytes paid, %d reused.",
        script,
        entry.seconds / 60,
        entry.segments,
        entry.bytes_billed,
        entry.bytes_reused,
    )
    return entry


@task(name="synthesize", task_run_name="synthesize {chapter}", cache_policy=NO_CACHE, persist_result=False)
async def synthesize_chapter(chapter: str, production: BookProduction) -> None:
    """
    Have every take of one chapter. Not retried as a whole: each take is, where it is judged.
    """
    await production.record(chapter)


# A take that is damaged on disk is recorded anew in here, once; nothing else would be different another time.
@task(name="master", task_run_name="master {chapter}", cache_policy=NO_CACHE, persist_result=False)
async def master_chapter(chapter: str, production: BookProduction) -> ScriptEntry:
    """
    Make the finished files of one chapter from its takes, and measure them.
    """
    entry = await production.finish_script(chapter)
    await showing.narration(production, chapter, target=production.order.profile.loudness)
    for part in production.mastered[chapter].parts:
        get_run_logger().info("%s: %.1f min, %s.", part.file, part.seconds / 60, part.levels.told)
    return entry


@task(name="bind", task_run_name="bind {title}", cache_policy=NO_CACHE, persist_result=False)
async def bind(title: str, production: BookProduction) -> BookFile:
    """
    Bind the mastered chapters of a book into its M4B; not retried: what was encoded is only copied.
    """
    with storing():
        written = await asyncio.to_thread(production.bind)
    await showing.deliverables(production, written)
    get_run_logger().info("“%s” is bound: %d files, %.2f hours.", title, len(written.files), written.seconds / 3600)
    return written


@task(name="read-along", task_run_name="read-along {title}", cache_policy=NO_CACHE, persist_result=False)
async def read_along(title: str, production: BookProduction, written: BookFile) -> None:
    """
    Make what goes with a bound book: captions, the EPUB to read along, the page to listen. It costs no request.
    """
    with storing():
        names = await asyncio.to_thread(production.accompany, written)
    get_run_logger().info("“%s”: open %s to listen.", title, production.order.out / names[-1])
