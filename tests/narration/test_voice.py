"""
A voice from a reference against a running sandbox: found again, never made twice, and looked at until its training ends.
"""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import soundfile

from flows.narration import creations
from flows.narration.errors import (
    NarrateError,
    ServiceUnavailable,
    VoiceFailed,
    VoiceNotFound,
    VoiceNotReady,
    VoiceStateUnknown,
)
from flows.narration.reference import Levels, Reference
from flows.narration.speech import Listing, Speech, Voice
from flows.narration.voice import attach_or_create, find, look, reference_tag
from tests.conftest import KEY, Sandbox

DIGEST = "0123456789abcdef" * 4
LEVELS = Levels(
    rms_dbfs=-20.0, peak_dbfs=-3.0, noise_dbfs=-70.0, snr_db=50.0, bandwidth_hz=20_000.0, clipped_runs=0, pitch_hz=180.0
)


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """
    A reference as it comes out of normalizing.
    """
    wav = tmp_path / "reference.wav"
    soundfile.write(wav, np.arange(4410, dtype=np.int16), 44_100)
    return Reference(
        digest=DIGEST,
        wav=wav,
        transcript="What is said.",
        recordings=("/home/ann/one.wav", "two.m4a"),
        seconds=30.0,
        speech_seconds=27.4,
        levels=LEVELS,
        warnings=(),
    )


async def _made(speech: Speech, reference: Reference, title: str = "Ann") -> Voice:
    """
    Make a voice of the reference without looking first.
    """
    return await speech.create_voice(
        title=title, wav=reference.wav.read_bytes(), transcript=None, tags=[reference_tag(DIGEST)], description=""
    )


async def test_the_first_run_creates_and_the_second_attaches(sandbox: Sandbox, reference: Reference) -> None:
    """
    Only the account has to remember; another title makes no other voice, another reference does.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        first = await attach_or_create(speech, reference=reference, title="Ann")
        second = await attach_or_create(speech, reference=reference, title="Anne")

    assert (False, True) == (first[1], second[1])
    assert first[0].id == second[0].id
    assert 1 == len(sandbox.voices())


async def test_a_voice_is_created_private_and_says_where_it_is_from(sandbox: Sandbox, reference: Reference) -> None:
    """
    Who finds it in the account a year later knows what it is; folders of the machine it was made on are nobody's business.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        await attach_or_create(speech, reference=reference, title="Ann")

    (create,) = [row for row in sandbox.requests("/model") if row["method"] == "POST"]
    assert {
        "title": ["Ann"],
        "description": [f"Made by Narrate from one.wav, two.m4a (27 s of speech). Reference digest {DIGEST}."],
        "visibility": ["private"],
        "type": ["tts"],
        "train_mode": ["fast"],
        "texts": ["What is said."],
        "tags": ["narrate", "narrate-ref-0123456789abcdef"],
        "enhance_audio_quality": ["true"],
        "voices": [f"{reference.wav.stat().st_size} bytes"],
    } == create["parameters"]


async def test_a_lost_answer_raises_and_the_next_attempt_attaches(sandbox: Sandbox, reference: Reference) -> None:
    """
    The voice was made: creating it again would leave two of them in the account.
    """
    sandbox.config(faults=[{"kind": "lost", "count": 1}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(ServiceUnavailable) as lost:
            await attach_or_create(speech, reference=reference, title="Ann")
        voice, attached = await attach_or_create(speech, reference=reference, title="Ann")

    assert (None, True) == (lost.value.billed, attached)
    assert [voice.id] == [there["_id"] for there in sandbox.voices()]
    assert 1 == len([row for row in sandbox.requests("/model") if row["method"] == "POST"])


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"status": 422, "body": "list"}, {"status": 401}])
async def test_creating_is_never_repeated_blindly(sandbox: Sandbox, reference: Reference, fault: dict[str, object]) -> None:
    """
    Whatever the answer: one create is one request.
    """
    sandbox.config(faults=[{"kind": "status", "path": "/model", "method": "POST", **fault}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(NarrateError, match=f"creating the voice “Ann”: the service answered {fault['status']} "):
            await attach_or_create(speech, reference=reference, title="Ann")

    assert 1 == len([row for row in sandbox.requests("/model") if row["method"] == "POST"])


async def test_nothing_is_created_while_the_account_cannot_be_read(sandbox: Sandbox, reference: Reference) -> None:
    """
    A listing that fails is no empty listing.
    """
    sandbox.config(faults=[{"kind": "html", "path": "/model", "method": "GET"}])

    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(ServiceUnavailable):
            await attach_or_create(speech, reference=reference, title="Ann")

    assert {"GET"} == {row["method"] for row in sandbox.requests("/model")}


class _WithoutTagFilter(Speech):
    """
    A service whose filter does not see private voices: not documented either way, and the sandbox's does see them.
    """

    async def voices(self, *, tag: str | None = None) -> Listing:
        return Listing(voices=[], whole=True) if tag else await super().voices()


async def test_a_voice_is_found_where_the_filter_shows_none(sandbox: Sandbox, reference: Reference) -> None:
    """
    An empty answer is checked against the whole list.
    """
    async with _WithoutTagFilter(key=KEY, base_url=sandbox.url) as speech:
        made, _ = await attach_or_create(speech, reference=reference, title="Ann")
        voice, attached = await attach_or_create(speech, reference=reference, title="Ann")

    assert (made.id, True) == (voice.id, attached)


class _Lagging(Speech):
    """
    A service that does not list what was created a moment ago: how soon it does is not documented, and the sandbox does.
    """

    async def voices(self, *, tag: str | None = None) -> Listing:
        return Listing(voices=[], whole=True)


async def test_a_voice_made_here_is_found_before_it_is_listed(sandbox: Sandbox, reference: Reference) -> None:
    """
    Its id is known on this machine; once it is deleted, another is made.
    """
    async with _Lagging(key=KEY, base_url=sandbox.url) as speech:
        made, _ = await attach_or_create(speech, reference=reference, title="Ann")
        again, attached = await attach_or_create(speech, reference=reference, title="Ann")
        await speech.delete_voice(made.id)
        other, anew = await attach_or_create(speech, reference=reference, title="Ann")

    assert (made.id, True, False) == (again.id, attached, anew)
    assert [other.id] == [there["_id"] for there in sandbox.voices()]


async def test_a_lost_answer_is_waited_for_while_the_account_may_not_list_the_voice(
    sandbox: Sandbox, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    As long as it might be there, none is created; then one is.
    """
    sandbox.config(faults=[{"kind": "reset", "path": "/model", "method": "POST", "count": 1}])

    async with _Lagging(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(ServiceUnavailable, match="connection broke"):
            await attach_or_create(speech, reference=reference, title="Ann")
        with pytest.raises(ServiceUnavailable, match="does not list it yet"):
            await attach_or_create(speech, reference=reference, title="Ann")
        assert 1 == len([row for row in sandbox.requests("/model") if row["method"] == "POST"])
        monkeypatch.setattr(creations, "LISTED_SECONDS", 0.0)
        await attach_or_create(speech, reference=reference, title="Ann")

    assert 1 == len(sandbox.voices())


async def test_two_runs_at_once_make_one_voice_of_a_new_reference(sandbox: Sandbox, reference: Reference) -> None:
    """
    The second waits, says so, and attaches.
    """
    sandbox.config(latency=0.3)
    said: list[str] = []
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        ends = await asyncio.gather(
            *(
                attach_or_create(speech, reference=reference, title="Ann", waiting=lambda: said.append("waiting"))
                for _ in range(3)
            )
        )

    assert (1, 2) == (len({voice.id for voice, _ in ends}), sum(attached for _, attached in ends))
    assert ["waiting", "waiting"] == said
    assert 1 == len(sandbox.voices())


class _Endless(Speech):
    """
    An account with more voices than the service lists: a thousand of them would take the sandbox a minute.
    """

    filters = True

    async def voices(self, *, tag: str | None = None) -> Listing:
        listing = await super().voices(tag=tag if self.filters else None)
        return Listing(voices=listing.voices, whole=bool(tag) and self.filters)


async def test_where_the_list_has_an_end_nothing_is_created_blindly(sandbox: Sandbox, reference: Reference) -> None:
    """
    The voice may be beyond the end; an empty answer of the filter counts once the filter finds another voice.
    """
    async with _Endless(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(VoiceFailed, match="none is created blindly"):
            await attach_or_create(speech, reference=reference, title="Ann")
        await speech.create_voice(title="Bob", wav=reference.wav.read_bytes(), transcript=None, tags=["bob"], description="")
        speech.filters = False
        with pytest.raises(VoiceFailed, match="none is created blindly"):
            await attach_or_create(speech, reference=reference, title="Ann")
        speech.filters = True
        await attach_or_create(speech, reference=reference, title="Ann")

    assert 2 == len(sandbox.voices())


async def test_of_several_the_furthest_in_training_is_taken(sandbox: Sandbox, reference: Reference) -> None:
    """
    Trained before training before created before failed, and of equals the oldest: every machine takes the same.
    """
    taken = []
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        for states in (["failed"], ["created"], ["training"], ["trained"], ["trained"]):
            sandbox.config(training=states)
            made = await _made(speech, reference)
            await speech.voice(made.id)
            found = await find(speech, digest=DIGEST)
            assert found is not None
            taken.append((found.state, found.id == made.id))

    assert [("failed", True), ("created", True), ("training", True), ("trained", True), ("trained", False)] == taken


async def test_nothing_is_found_of_another_reference(sandbox: Sandbox, reference: Reference) -> None:
    """
    A tag that differs in its last digit is another's.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        await _made(speech, reference)

        assert await find(speech, digest="0123456789abcde0" + DIGEST[16:]) is None


@pytest.mark.parametrize(
    ("states", "error", "fact"),
    [
        (["created"], VoiceNotReady, "The voice “Ann” ({id}) is not trained yet: created."),
        (["training"], VoiceNotReady, "The voice “Ann” ({id}) is not trained yet: training."),
        (["failed"], VoiceFailed, "The voice “Ann” ({id}) failed to train."),
        (["paused"], VoiceStateUnknown, "The voice “Ann” ({id}) is in the state “paused”, which is not known here."),
    ],
)
async def test_each_state_but_trained_is_its_own_error(
    sandbox: Sandbox, reference: Reference, states: list[str], error: type[NarrateError], fact: str
) -> None:
    """
    Waiting, failing and not knowing are three things; nothing is spoken with a voice in doubt.
    """
    sandbox.config(training=states)
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        voice = await _made(speech, reference)
        with pytest.raises(NarrateError) as raised:
            await look(speech, voice_id=voice.id)

    assert (error, fact.format(id=voice.id)) == (type(raised.value), raised.value.fact)


async def test_a_trained_voice_is_returned(sandbox: Sandbox, reference: Reference) -> None:
    """
    Each look is one request, and the one that sees it trained is the last.
    """
    sandbox.config(training="looks", training_looks=2)
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        made = await _made(speech, reference)
        with pytest.raises(VoiceNotReady):
            await look(speech, voice_id=made.id)
        voice = await look(speech, voice_id=made.id)

    assert (made.id, "trained") == (voice.id, voice.state)
    assert 2 == len(sandbox.requests(f"/model/{made.id}"))


async def test_a_voice_that_is_gone_is_not_waited_for(sandbox: Sandbox) -> None:
    """
    It will not come back; a service in trouble may.
    """
    async with Speech(key=KEY, base_url=sandbox.url) as speech:
        with pytest.raises(VoiceNotFound):
            await look(speech, voice_id="f" * 32)
        sandbox.config(faults=[{"kind": "status", "status": 502, "path": "/model"}])
        with pytest.raises(ServiceUnavailable):
            await asyncio.wait_for(look(speech, voice_id="f" * 32), 5)
