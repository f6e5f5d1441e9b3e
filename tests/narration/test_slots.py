"""
Slots that are lent: nothing leaves without one, and none is given up while it is needed.
"""

import asyncio

from flows.narration.slots import LentSlots


async def _settled() -> None:
    """
    Let everything that can go on do so.
    """
    for _ in range(10):
        await asyncio.sleep(0)


async def test_nothing_leaves_without_a_slot_on_loan() -> None:
    """
    As many leave as are open, and whoever lends them sees how many are of use.
    """
    slots = LentSlots()
    leaving = [asyncio.create_task(slots.taken()) for _ in range(3)]
    await _settled()

    def pump() -> None:
        """
        Let in what may leave.
        """
        slots.let_in(slots.of(5, wanted=3))

    slots.on_more = pump
    pump()
    assert (0, 3) == (slots.in_flight, slots.wanted)
    slots.lend()
    slots.lend()
    await _settled()

    assert 2 == slots.in_flight
    assert [True, True, False] == [task.done() for task in leaving]
    leaving[2].cancel()


async def test_a_slot_is_held_until_what_is_in_flight_needs_it_no_more() -> None:
    """
    When it closes, no more leave than are still open; it is given up with the next answer, whichever that is.
    """
    slots = LentSlots()
    for _ in range(2):
        slots.lend()
        task = asyncio.create_task(slots.taken())
        await _settled()
        slots.let_in(slots.of(2, wanted=2))
        assert await task

    emptied = asyncio.create_task(slots.emptied())
    await _settled()
    assert (1, 2, 2, False) == (slots.open, slots.held, slots.in_flight, emptied.done())
    waiting = asyncio.create_task(slots.taken())
    await _settled()
    slots.let_in(slots.of(2, wanted=3))
    await _settled()
    assert not waiting.done()
    slots.given_back()
    await _settled()

    assert (1, 1, 1, True) == (slots.open, slots.held, slots.in_flight, emptied.done())
    slots.close()
    assert not await waiting


async def test_of_two_that_close_one_answer_frees_one() -> None:
    """
    Each needs an answer of its own.
    """
    slots = LentSlots()
    slots.in_flight = 2
    slots.lend()
    slots.lend()
    closing = [asyncio.create_task(slots.emptied()) for _ in range(2)]
    await _settled()

    slots.given_back()
    await _settled()
    assert (1, 1) == (slots.held, sum(task.done() for task in closing))
    slots.given_back()
    await _settled()
    assert (0, 2) == (slots.held, sum(task.done() for task in closing))


async def test_a_request_that_is_given_up_gives_its_slot_back() -> None:
    """
    Also when it was let in and cancelled in the same moment.
    """
    slots = LentSlots()
    slots.lend()
    task = asyncio.create_task(slots.taken())
    await _settled()
    slots.let_in(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert 0 == slots.in_flight
