"""To whom an owner hands its runs over by plan: when it stops, or when a person wants another one to have them.

The successor has read the runs before, and is appointed at the release, so that the others leave the claim to it.
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


class UnknownSuccessor(Exception):
    """No coordinator of that id follows, or it was not heard of lately. `followers`: those that were, by id."""

    def __init__(self, coordinator_id: str, followers: list[str]) -> None:
        super().__init__(coordinator_id)
        self.coordinator_id = coordinator_id
        self.followers = followers


class NotPrepared(Exception):
    """The one that was to take the runs over has not read them. Nothing has changed."""


class HandOver:
    """Of one incarnation of an owner, which has one end. `prepare` asks a coordinator that follows to read the live
    runs, and returns whether it has."""

    def __init__(self, keeper: OwnershipKeeper, prepare: Callable[[CoordinatorRow], Awaitable[bool]]) -> None:
        self.wanted = asyncio.Event()
        """Somebody wants it, and `successor` has read the runs."""
        self.successor: CoordinatorRow | None = None
        self._keeper = keeper
        self._prepare = prepare
        self._one_at_a_time = asyncio.Lock()
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ask(self, coordinator_id: str) -> None:
        """Returns when the runs are released for that coordinator; at once if it is this one.

        Raises `UnknownSuccessor` and `NotPrepared`, and then nothing has changed; `Unavailable` if this incarnation
        ended otherwise.
        """
        if coordinator_id == self._keeper.coordinator_id:
            return
        async with self._one_at_a_time:
            if not self._ended.done():
                await self._begin(coordinator_id)
        if not await asyncio.shield(self._ended) or self._given_to != coordinator_id:
            raise Unavailable("this coordinator does not own the runs any more")

    async def _begin(self, coordinator_id: str) -> None:
        if self.successor is not None:
            return  # It is under way, also because this coordinator stops.
        followers = {row.coordinator_id: row for row in self._keeper.followers()}
        row = followers.get(coordinator_id)
        if row is None:
            raise UnknownSuccessor(coordinator_id, sorted(followers))
        if not await self._prepare(row):
            raise NotPrepared(coordinator_id)
        if not self._ended.done():
            self.successor = row
            self.wanted.set()

    @property
    def _given_to(self) -> str:
        return "" if self.successor is None else self.successor.coordinator_id

    async def find(self) -> None:
        """This coordinator stops: whoever has read the runs first, of those that follow, is the successor."""
        async with self._one_at_a_time:
            for row in self._keeper.followers():
                if self.successor is None and await self._prepare(row):
                    self.successor = row

    async def release(self) -> None:
        """Nothing is decided here any more, and what was is committed."""
        self.end(released=await self._keeper.release(self._given_to))

    def end(self, *, released: bool = False) -> None:
        """This incarnation is over. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(released)
