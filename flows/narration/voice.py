"""
A voice from a reference: attach to the one made from the same reference, or create it; then look until it is trained.

A voice carries its reference's digest as a tag, so that nothing but the account itself has to remember it: a second run, a
run on another machine and a run after a crash between create and answer all find it there.
"""

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.narration.creations import Creation, creating
from flows.narration.errors import (
    NarrateError,
    RateLimited,
    ServiceUnavailable,
    UsageError,
    VoiceFailed,
    VoiceNotFound,
    VoiceNotReady,
    VoiceStateUnknown,
)
from flows.narration.files import status
from flows.narration.reference import Reference, find_transcript
from flows.narration.speech import Listing, Speech, Voice
from flows.narration.storage import Place

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
        there = status(clip)
        if there is None or not stat.S_ISREG(there.st_mode):
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
    the whole list. Where that is longer than what the service lists, the filter is tried on a voice that is there; raises
    `VoiceFailed` where it cannot be trusted either.
    """
    tag = reference_tag(digest)
    voices = _tagged(await speech.voices(tag=tag), tag)
    if not voices:
        listing = await speech.voices()
        voices = _tagged(listing, tag)
        if not voices and not listing.whole and not await _filters(speech, listing.voices):
            raise VoiceFailed(
                f"The account has more voices than the service lists ({len(listing.voices)}), and none of those is made from "
                "this reference: whether one is there cannot be told, and none is created blindly.",
                "Give --voice-id, or delete voices that are not needed (`narrate voices list`).",
            )
    rank = {state: place for place, state in enumerate(_ORDER)}
    return min(voices, key=lambda voice: (rank.get(voice.state, len(rank)), voice.created_at), default=None)


def _tagged(listing: Listing, tag: str) -> list[Voice]:
    return [voice for voice in listing.voices if tag in voice.tags]


async def _filters(speech: Speech, voices: Sequence[Voice]) -> bool:
    """
    Try whether the service's tag filter finds the oldest of *voices* that has a tag, and leaves others out.
    """
    known = next((voice for voice in reversed(voices) if voice.tags), None)
    if known is None:
        return False
    listing = await speech.voices(tag=known.tags[0])
    return listing.whole and known in listing.voices


async def attach_or_create(
    speech: Speech,
    *,
    reference: Reference,
    title: str,
    waiting: Callable[[], None] = lambda: None,
    place: Place | None = None,
) -> tuple[Voice, bool]:
    """
    Return the voice of *reference*, and whether it was there already; *waiting* is called where another run is at the same, on
    this host or on any that shares *place*.

    Creating is never repeated here: an answer that got lost raises `ServiceUnavailable`, and so do the next attempts, which
    begin with the look, until the account would show the voice if there were one.
    """
    async with creating(reference.digest, host=speech.host, waiting=waiting, place=place) as creation:
        there = await find(speech, digest=reference.digest) or await _created_here(speech, creation)
        if there is not None:
            return there, True
        if creation.in_doubt:
            raise ServiceUnavailable("The answer to creating the voice got lost, and the account does not list it yet.")
        creation.asked()
        try:
            voice = await speech.create_voice(
                title=title,
                wav=reference.wav.read_bytes(),
                transcript=reference.transcript,
                tags=(TAG, reference_tag(reference.digest)),
                description=_description(reference),
            )
        except NarrateError as error:
            if isinstance(error, RateLimited) or not isinstance(error, ServiceUnavailable):
                creation.refused()
            raise
        creation.answered(voice.id)
        return voice, False


async def _created_here(speech: Speech, creation: Creation) -> Voice | None:
    """
    Return the voice that was created on this machine, though the account may not list it yet.
    """
    known = creation.voice_id
    if known is None:
        return None
    try:
        return await speech.voice(known)
    except VoiceNotFound:
        creation.refused()
        return None


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
