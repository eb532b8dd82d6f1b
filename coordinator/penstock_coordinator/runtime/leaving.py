"""How a member leaves by plan: because its process stops, or because its head wants it to.

The head reads the runs while they are still the member's, and claims them when they are released: they rest for as long
as that takes. Nothing depends on its having read them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.runtime.ownership import OwnershipKeeper

log = structlog.get_logger(__name__)


class Leaving:
    """Of one incarnation of a member, which has one end. `prepare` asks the head to read the live runs, and returns
    whether it has."""

    def __init__(self, keeper: OwnershipKeeper, prepare: Callable[[CoordinatorRow], Awaitable[bool]]) -> None:
        self.wanted = asyncio.Event()
        """The head wants it to leave, and knows that its runs come."""
        self.successor: CoordinatorRow | None = None
        """The head, once it was asked to read the runs: also if it has not."""
        self._keeper = keeper
        self._prepare = prepare
        self._stops = False
        self._one_at_a_time = asyncio.Lock()
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ask(self, head_id: str, head_epoch: int) -> bool:
        """That head wants this member to follow. Returns when the runs are released; False, and nothing has changed, if
        it is no member of that head. Raises `Unavailable` if the incarnation ended otherwise."""
        head = self._keeper.owner()
        if head is None or (head.coordinator_id, self._keeper.head_epoch) != (head_id, head_epoch):
            return False
        log.info("dismissed", head=head_id, head_epoch=head_epoch)
        await self._tell(head)
        if not self._ended.done():
            self.wanted.set()
        if not await asyncio.shield(self._ended):
            raise Unavailable("the runs were not released: their leases have to run out")
        return True

    async def find(self) -> None:
        """The process stops: have the head read the runs, if one is heard of."""
        self._stops = True
        head = self._keeper.owner()
        if head is not None:
            await self._tell(head)

    async def _tell(self, head: CoordinatorRow) -> None:
        async with self._one_at_a_time:
            if self.successor is None:
                await self._prepare(head)
                self.successor = head

    async def release(self) -> None:
        """Nothing is decided here any more, and what was is committed. A process that goes on follows from here on."""
        released = await (self._keeper.release() if self._stops else self._keeper.step_back())
        self.end(released=released)

    def end(self, *, released: bool = False) -> None:
        """This incarnation is over. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(released)
