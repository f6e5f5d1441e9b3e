"""
A voice from a reference: attach to the one made from the same reference, or create it; then look until it is trained.

A voice carries its reference's digest as a tag, so that nothing but the account itself has to remember it: a second run, a
run on another machine and a run after a crash between create and answer all find it there.
"""

from collections.abc import Sequence
from pathlib import Path

from flows.narration.errors import UsageError, VoiceFailed, VoiceNotReady, VoiceStateUnknown
from flows.narration.reference import Reference, find_transcript
from flows.narration.speech import Speech, Voice

TAG = "narrate"
"""Tag of every voice that was made here."""

REFERENCE_TAG = "narrate-ref-"
"""Tag, followed by the first 16 hex digits of the reference digest."""

_ORDER = ("trained", "training", "created", "failed")


def refuse_recordings(recordings: Sequence[str], *, transcript: str | None, instant: bool) -> None:
    """
    Raise `UsageError` for recordings that are not there, or that *instant* cannot do with for want of a transcript.
    """
    clips = [Path(recording) for recording in recordings]
    for clip in clips:
        if not clip.is_file():
            raise UsageError(f"The recording {clip} is not there, or is no file.", "Give the path of a sound file.")
    if instant and not (transcript or find_transcript(clips)):
        raise UsageError(
            "--instant needs the transcript of the recording: the service matches the one to the other.",
            "Put it into reference.txt beside the recording, or give --transcript.",
        )


def reference_tag(digest: str) -> str:
    """
    Tell the tag of voices made from the reference with this *digest*.
    """
    return f"{REFERENCE_TAG}{digest[:16]}"


async def find(speech: Speech, *, digest: str) -> Voice | None:
    """
    Find the account's voice made from the reference with this *digest*: the furthest in its training, then the oldest.

    Whether the service's tag filter sees private voices at once is not documented, so an empty answer is checked against
    the whole list.
    """
    tag = reference_tag(digest)
    voices = await speech.voices(tag=tag)
    if not voices:
        voices = [voice for voice in await speech.voices() if tag in voice.tags]
    rank = {state: place for place, state in enumerate(_ORDER)}
    return min(voices, key=lambda voice: (rank.get(voice.state, len(rank)), voice.created_at), default=None)


async def attach_or_create(speech: Speech, *, reference: Reference, title: str) -> tuple[Voice, bool]:
    """
    Return the voice of *reference*, and whether it was there already.

    Creating is never repeated here: an answer that got lost raises, and the next attempt begins with the look.
    """
    there = await find(speech, digest=reference.digest)
    if there is not None:
        return there, True
    voice = await speech.create_voice(
        title=title,
        wav=reference.wav.read_bytes(),
        transcript=reference.transcript,
        tags=(TAG, reference_tag(reference.digest)),
        description=_description(reference),
    )
    return voice, False


def _description(reference: Reference) -> str:
    """
    Let a person who sees the voice in the account know where it came from.
    """
    recordings = ", ".join(Path(name).name for name in reference.recordings)
    return (
        f"Made by Narrate from {recordings} ({reference.speech_seconds:.0f} s of speech). Reference digest {reference.digest}."
    )


async def look(speech: Speech, *, voice_id: str) -> Voice:
    """
    Return the voice if it is trained; raise `VoiceNotReady` to look again, `VoiceFailed` when that is of no use.
    """
    voice = await speech.voice(voice_id)
    match voice.state:
        case "trained":
            return voice
        case "created" | "training":
            raise VoiceNotReady(f"The voice “{voice.title}” ({voice.id}) is not trained yet: {voice.state}.")
        case "failed":
            raise VoiceFailed(
                f"The voice “{voice.title}” ({voice.id}) failed to train.",
                f"Record the reference anew, or try the same again after `narrate voices delete {voice.id}`.",
            )
    raise VoiceStateUnknown(
        f"The voice “{voice.title}” ({voice.id}) is in the state “{voice.state}”, which is not known here.",
        "Look at it at https://fish.audio, or delete it; nothing is spoken with a voice in doubt.",
    )
