"""
The recorder against a running sandbox: every segment once, longest first, through all weathers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from flows.narration.cost import Tally
from flows.narration.errors import KeyRefused, MoneyError, NarrateError, RequestRefused, ServiceUnavailable, TakeFailed
from flows.narration.ledger import Account
from flows.narration.limiter import Patience
from flows.narration.recorder import Recorder
from flows.narration.speech import Delivery, Speech, Voice
from flows.narration.takes import Take, TakeStore, take_key
from flows.narration.window import Wanted
from tests.conftest import KEY, Sandbox

QUICK = Patience(backoff=0.05, attempts=4, patience=20)
Opener = Callable[..., AbstractAsyncContextManager[Recorder]]


@pytest.fixture
def recorder(sandbox: Sandbox, tmp_path: Path) -> Opener:
    """
    Open a recorder for the sandbox's default voice.
    """
    sandbox.config(training="at-once", concurrency_limit=50, seconds=1.0)

    @asynccontextmanager
    async def opened(patience: Patience = QUICK, budget: int | None = None, key: str = KEY) -> AsyncIterator[Recorder]:
        """
        Open it for a voice that was made.
        """
        store = TakeStore(tmp_path / "takes")
        async with Speech(key=KEY, base_url=sandbox.url) as speech:
            made = await _made(speech)
        async with Speech(key=key, base_url=sandbox.url) as speech:
            voice = Voice(id=made, title="t", state="trained")
            async with Recorder(
                speech=speech,
                store=store,
                voice=voice,
                delivery=Delivery(),
                patience=patience,
                account=Account(run="r", host="h", voice=made, model="s2.1-pro"),
                budget=budget,
            ) as recorder:
                yield recorder

    return opened


async def _made(speech: Speech) -> str:
    """
    The id of a voice in the sandbox, made the first time.
    """
    there = (await speech.voices()).voices
    if there:
        return there[0].id
    wav = (Path(__file__).parents[2] / "data" / "reference.wav").read_bytes()
    voice: Voice = await speech.create_voice(title="t", wav=wav, transcript=None, tags=["t"], description="")
    return voice.id


def _key(text: str) -> str:
    return take_key(text, voice="v", delivery=Delivery(), host="h")


async def _recorded(recorder: Recorder, texts: Sequence[str], tally: Tally | None = None) -> list[Take | NarrateError]:
    await recorder.admit(len(texts))
    return await recorder.record(_wanted(texts), script="a.txt", tally=tally or Tally())


def _wanted(texts: Sequence[str]) -> list[Wanted]:
    return [Wanted(_key(text), text, line) for line, text in enumerate(texts, start=1)]


def _texts(number: int) -> list[str]:
    return [f"Sentence number {place} of many." for place in range(number)]


async def test_every_segment_is_sent_once_and_taken(recorder: Opener, sandbox: Sandbox) -> None:
    """
    Forty segments are forty requests and forty takes, in the order they were asked for.
    """
    texts, tally = _texts(40), Tally()

    async with recorder() as recording:
        takes = await _recorded(recording, texts, tally)

    assert [_key(text) for text in texts] == [take.key for take in takes if isinstance(take, Take)]
    assert sorted(texts) == sorted(sandbox.spoken())
    assert (40, sum(map(len, texts)), 0, 0) == (tally.requests, tally.bytes_billed, tally.bytes_unknown, tally.retries)


async def test_equal_segments_in_flight_share_one_request(recorder: Opener, sandbox: Sandbox) -> None:
    """
    A refrain is paid once, within a script and across scripts; who asked first pays.
    """
    first, second = Tally(), Tally()
    async with recorder() as recording:
        ends = await asyncio.gather(
            _recorded(recording, ["Refrain.", "One.", "Refrain."], first), _recorded(recording, ["Refrain.", "Two."], second)
        )

    assert ends[0][0] == ends[0][2] == ends[1][0]
    assert ["One.", "Refrain.", "Two."] == sorted(sandbox.spoken())
    assert (2, 1) == (first.requests, second.requests)


async def test_what_is_in_the_store_is_not_sent(recorder: Opener, sandbox: Sandbox) -> None:
    """
    A take is paid for once, for ever.
    """
    texts = _texts(5)
    async with recorder() as recording:
        await _recorded(recording, texts)
    sandbox.forget()

    async with recorder() as recording:
        await _recorded(recording, [*texts, "And one more."])

    assert ["And one more."] == sandbox.spoken()


async def test_no_more_requests_are_in_flight_than_allowed(recorder: Opener, sandbox: Sandbox) -> None:
    """
    Asked for twelve against an account of five, it follows what the service tells.
    """
    sandbox.config(concurrency_limit=5, latency=0.05)

    async with recorder(QUICK.model_copy(update={"concurrency": 12})) as recording:
        takes = await _recorded(recording, _texts(60))

    rows = sandbox.requests("/v1/tts")
    assert all(isinstance(take, Take) for take in takes)
    assert not [row for row in rows[20:] if row["status"] == 429]
    assert len(rows) <= 60 + 12


async def test_the_longest_of_the_window_goes_first(recorder: Opener, sandbox: Sandbox) -> None:
    """
    A long segment that starts last would keep the others waiting.
    """
    texts = ["Short.", "A much longer sentence than any of the others here.", "Middling length."]

    async with recorder(QUICK.model_copy(update={"concurrency": 1})) as recording:
        await _recorded(recording, texts)

    assert sorted(texts, key=len, reverse=True) == sandbox.spoken()


async def test_a_short_segment_is_not_left_behind_for_ever(recorder: Opener, sandbox: Sandbox) -> None:
    """
    The window begins at the oldest segment not sent yet, so that early scripts finish early.
    """
    texts = ["Tiny.", *(f"A longer sentence that comes later, number {number}." for number in range(20))]

    async with recorder(QUICK.model_copy(update={"concurrency": 1})) as recording:
        await _recorded(recording, texts)

    assert sandbox.spoken().index("Tiny.") < 5


async def test_a_script_waits_until_the_window_has_room(recorder: Opener) -> None:
    """
    Scripts begin in reading order, and not all at once.
    """
    async with recorder(QUICK.model_copy(update={"concurrency": 1})) as recording:
        await recording.admit(4)
        second = asyncio.ensure_future(recording.admit(1))
        done, _ = await asyncio.wait([second], timeout=0.2)
        assert not done

        await recording.record(_wanted(_texts(4)), script="a.txt", tally=Tally())
        await asyncio.wait_for(second, 5)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503, "body": "html"},
        {"kind": "status", "status": 502, "body": "empty"},
        {"kind": "status", "status": 429, "retry_after": 0},
        {"kind": "status", "status": 500, "body": "list"},
        {"kind": "reset"},
        {"kind": "truncate"},
        {"kind": "empty"},
        {"kind": "html"},
        {"kind": "json"},
        {"kind": "tiny"},
        {"kind": "silence"},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_what_fails_in_passing_is_tried_again(recorder: Opener, sandbox: Sandbox, fault: dict[str, object]) -> None:
    """
    Three failures of any kind among ten segments lose nothing.
    """
    sandbox.config(faults=[fault | {"count": 3}])
    tally = Tally()

    async with recorder() as recording:
        takes = await _recorded(recording, _texts(10), tally)

    assert all(isinstance(take, Take) for take in takes)
    assert (13, 3) == (tally.requests, tally.retries)


async def test_a_take_that_hangs_has_a_deadline(recorder: Opener, sandbox: Sandbox) -> None:
    """
    A stalled connection costs seconds; its bytes may have been billed and are counted as unknown.
    """
    sandbox.config(faults=[{"kind": "hang", "count": 1}])
    tally = Tally()

    async with recorder(QUICK.model_copy(update={"deadline": 0.5})) as recording:
        takes = await _recorded(recording, ["Only one."], tally)

    assert isinstance(takes[0], Take)
    assert (len("Only one."), len("Only one.")) == (tally.bytes_billed, tally.bytes_unknown)


async def test_one_poisoned_segment_costs_itself_alone(recorder: Opener, sandbox: Sandbox) -> None:
    """
    The others are taken; the poisoned one says what was wrong with it.
    """
    sandbox.config(faults=[{"kind": "silence", "match": "number 3 "}])

    async with recorder() as recording:
        takes = await _recorded(recording, _texts(8))

    failed = [take for take in takes if not isinstance(take, Take)]
    assert 7 == len(takes) - len(failed)
    assert isinstance(failed[0], TakeFailed)
    assert "silent" in str(failed[0])


async def test_a_refused_request_is_not_repeated(recorder: Opener, sandbox: Sandbox) -> None:
    """
    Another attempt at a 400 would be refused as well.
    """
    sandbox.config(faults=[{"kind": "status", "status": 400, "match": "number 1 "}])

    async with recorder() as recording:
        takes = await _recorded(recording, _texts(3))

    assert isinstance(takes[1], RequestRefused)
    assert 3 == len(sandbox.requests("/v1/tts"))


@pytest.mark.parametrize(("status", "error"), [(401, KeyRefused), (402, MoneyError)])
async def test_an_end_of_all_stops_at_once(recorder: Opener, sandbox: Sandbox, status: int, error: type[NarrateError]) -> None:
    """
    A wrong key or an empty wallet is not asked about a hundred times.
    """
    sandbox.config(faults=[{"kind": "status", "status": status, "after": 10}])

    async with recorder() as recording:
        takes = await _recorded(recording, _texts(100))

    assert {error} == {type(take) for take in takes if not isinstance(take, Take)}
    assert len(sandbox.requests("/v1/tts")) <= 10 + QUICK.concurrency
    assert 10 <= len([take for take in takes if isinstance(take, Take)])


async def test_a_service_that_stays_away_ends_the_run_when_patience_ends(recorder: Opener, sandbox: Sandbox) -> None:
    """
    It is felt for by single requests, and what was recorded before is kept.
    """
    sandbox.config(faults=[{"kind": "status", "status": 503, "after": 5}])

    async with recorder(QUICK.model_copy(update={"patience": 1.0})) as recording:
        takes = await _recorded(recording, _texts(50))

    assert all(isinstance(take, Take | ServiceUnavailable) for take in takes)
    assert 5 == len([take for take in takes if isinstance(take, Take)])
    assert len(sandbox.requests("/v1/tts")) < 60


async def test_the_budget_is_never_crossed(recorder: Opener, sandbox: Sandbox) -> None:
    """
    The request that would cross it is not sent, whatever is in flight.
    """
    texts = _texts(20)
    budget = sum(map(len, texts[:7])) + 3

    async with recorder(budget=budget) as recording:
        takes = await _recorded(recording, texts)

    assert {MoneyError} == {type(take) for take in takes if not isinstance(take, Take)}
    assert budget >= sum(map(len, sandbox.spoken()))
    assert 6 <= len(sandbox.spoken())


@pytest.mark.parametrize("fault", [{"kind": "silence"}, {"kind": "truncate"}, {"kind": "reset"}])
async def test_retakes_and_unknown_outcomes_count_against_the_budget(
    recorder: Opener, sandbox: Sandbox, fault: dict[str, object]
) -> None:
    """
    Bad takes are billed, and what broke may have been: the ceiling holds for all of it.
    """
    texts = _texts(20)
    budget = sum(map(len, texts[:7]))
    sandbox.config(faults=[{**fault, "rate": 0.5, "path": "/v1/tts"}], seed=1)

    async with recorder(budget=budget) as recording:
        takes = await _recorded(recording, texts)

    asked = sum(len(row["text"]) for row in sandbox.requests("/v1/tts"))
    assert {MoneyError} == {type(take) for take in takes if not isinstance(take, Take)}
    assert budget >= asked
    assert budget - asked < max(map(len, texts))
    assert len([take for take in takes if isinstance(take, Take)]) < len(sandbox.requests("/v1/tts"))
