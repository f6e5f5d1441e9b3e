"""
What a run holds of what others use as well: OUT in object storage, sent as it is made, and the take store.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from anyio import CancelScope

from flows.narration.errors import storing
from flows.narration.locks import TAKES_LOCK, Waiting, held
from flows.narration.order import Order
from flows.narration.shared import SharedTakeStore
from flows.narration.tidying import counted_on


@asynccontextmanager
async def mirrored(order: Order, *, say: Callable[[str], None]) -> AsyncIterator[bool]:
    """
    Where OUT is in object storage, be the only one on all hosts that works on it, and send what was made at whatever end.

    Yields whether another run was waited for.
    """
    mirror, waiting = order.mirror, Waiting(say)
    if mirror is None:
        yield waiting.been
        return
    say(f"{mirror.place.uri} is worked on in {mirror.folder}.")
    async with AsyncExitStack() as held_there:
        await held_there.enter_async_context(mirror.to_itself(say=waiting))
        try:
            yield waiting.been
        except BaseException:
            with CancelScope(shield=True), suppress(OSError):  # how the run ended counts for more
                await asyncio.to_thread(mirror.push)
            raise
        with storing():
            await asyncio.to_thread(mirror.push)


async def send(order: Order) -> None:
    """
    Send what was made by now, where OUT is in object storage; what cannot be sent now is at the end.
    """
    if order.mirror is not None:
        with suppress(OSError):
            await asyncio.to_thread(order.mirror.push, soon=True)


async def send_all(order: Order) -> None:
    """
    Send all that was made, where OUT is in object storage; raise `StorageFailed` where that cannot be.
    """
    if order.mirror is not None:
        with storing():
            await asyncio.to_thread(order.mirror.push)


@asynccontextmanager
async def takes_of(order: Order, *, say: Callable[[str], None]) -> AsyncIterator[None]:
    """
    Have the take store while the block runs, to itself or as one of the runs that share it, and know what is there.

    What was made is sent before the store is let go: who tidies up then finds in OUT what is needed.
    """
    store = order.store
    if isinstance(store, SharedTakeStore):
        tidied = f"{store.where} is being tidied up; waiting until that is done."
        having = counted_on(store, waiting=lambda: say(tidied))
    else:
        works = f"Another run works in {store.folder}; waiting until it is done."
        having = held(store.folder, TAKES_LOCK, waiting=lambda: say(works))
    async with having:
        try:
            yield
        finally:
            if order.mirror is not None:
                with CancelScope(shield=True), suppress(OSError):  # it is tried again at the end
                    await asyncio.to_thread(order.mirror.push)
