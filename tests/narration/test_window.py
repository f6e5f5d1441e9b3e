"""
What waits to be recorded: nothing is lost, nothing goes twice, and nobody is left behind.
"""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.narration.cost import Tally
from flows.narration.window import Want, Window

lengths = st.lists(st.integers(1, 60), max_size=60)


def _wants(lengths: list[int], loop: asyncio.AbstractEventLoop) -> list[Want]:
    return [
        Want(key=str(place), text="x" * length, script="a.txt", line=place, taken=loop.create_future(), charged=Tally())
        for place, length in enumerate(lengths)
    ]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(lengths=lengths, width=st.integers(1, 20), there=st.sets(st.integers(0, 59)), back=st.sets(st.integers(0, 59)))
def test_every_segment_leaves_once_near_its_place(lengths: list[int], width: int, there: set[int], back: set[int]) -> None:
    """
    Some are in the store already, some come back once; all others leave, none is overtaken by more than the window holds.
    """
    loop = asyncio.new_event_loop()
    wants = _wants(lengths, loop)
    window, left, returned = Window(width), list[int](), set[int]()
    window.extend(wants)
    while True:
        window.fill(lambda want: want.line in there)
        if not window:
            break
        waiting = [want for *_, want in window._open]
        assert max(want.size for want in waiting) == window.longest.size
        want = window.pop()
        if want.line in back and want.line not in returned:
            returned.add(want.line)
            window.enter(want)
            continue
        left.append(want.line)
    loop.close()

    wanted = [want.line for want in wants if want.line not in there]
    assert sorted(left) == wanted
    assert 0 == len(window)
    for moment, line in enumerate(left):
        overtaken = [other for other in wanted[: wanted.index(line)] if other not in left[:moment]]
        assert wanted.index(line) - (wanted.index(overtaken[0]) if overtaken else wanted.index(line)) < width


@settings(max_examples=50, derandomize=True, deadline=None)
@given(lengths=lengths, width=st.integers(1, 20), gone=st.integers(0, 60))
def test_giving_up_hands_out_all_that_wait(lengths: list[int], width: int, gone: int) -> None:
    """
    Wherever it is in its way.
    """
    loop = asyncio.new_event_loop()
    wants, window = _wants(lengths, loop), Window(width)
    window.extend(wants)
    left = []
    for _ in range(gone):
        window.fill(lambda want: False)
        if window:
            left.append(window.pop().line)
    window.fill(lambda want: False)
    waiting = len(window)
    cleared = [want.line for want in window.clear()]
    loop.close()

    assert len(wants) - len(left) == waiting == len(cleared)
    assert sorted(left + cleared) == [want.line for want in wants]
    assert (0, False) == (len(window), bool(window))
