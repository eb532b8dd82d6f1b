"""To whom an owner hands its runs over by plan: when it stops, or when a person wants another one to have them.

The successor has read the runs before, and is appointed at the release, so that the others leave the claim to it. If
the owner has members, these leave first: their runs come to it, and rest for a moment then, and for another one with
all the others. The successor may have been one of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet.ownership import OwnershipState
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.runtime.ownership import OwnershipKeeper

log = structlog.get_logger(__name__)

PREPARE_WITHIN = 5.0
"""Seconds: so long a successor is asked that was a member a moment ago."""
TRY_AGAIN = 0.1
"""Seconds."""


class UnknownSuccessor(Exception):
    """No coordinator of that id follows, or it was not heard of lately. `followers`: those that were, by id."""

    def __init__(self, coordinator_id: str, followers: list[str]) -> None:
        super().__init__(coordinator_id)
        self.coordinator_id = coordinator_id
        self.followers = followers


class NotPrepared(Exception):
    """The one that was to take the runs over has not read them. Nothing has changed."""


async def _nobody() -> None:
    pass


class HandOver:
    """Of one incarnation of an owner, which has one end. `prepare` asks a coordinator that follows to read the live
    runs, and returns whether it has. `dismiss` has the members leave, as far as they do, and returns when their runs
    are at home here."""

    def __init__(
        self,
        keeper: OwnershipKeeper,
        prepare: Callable[[CoordinatorRow], Awaitable[bool]],
        dismiss: Callable[[], Awaitable[None]] = _nobody,
    ) -> None:
        self.wanted = asyncio.Event()
        """Somebody wants it, and `successor` has read the runs."""
        self.successor: CoordinatorRow | None = None
        self._keeper = keeper
        self._prepare = prepare
        self._dismiss = dismiss
        self._one_at_a_time = asyncio.Lock()
        self._ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ask(self, coordinator_id: str) -> None:
        """Returns when the runs are released for that coordinator; at once if it is this one.

        Raises `UnknownSuccessor` and `NotPrepared`, and then nothing has changed, but that members may have left, which
        come back; `Unavailable` if this incarnation ended otherwise.
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
        follows = row.state is OwnershipState.FOLLOWER
        if follows and not await self._prepare(row):
            raise NotPrepared(coordinator_id)
        if self._keeper.peers():
            await self._dismiss()
            if follows:
                await self._prepare(row)  # What the members had: it takes the runs also without.
            elif not await self._follows_and_prepares(row):
                raise NotPrepared(coordinator_id)
        if not self._ended.done():
            self.successor = row
            self.wanted.set()

    @property
    def _given_to(self) -> str:
        return "" if self.successor is None else self.successor.coordinator_id

    async def _follows_and_prepares(self, row: CoordinatorRow) -> bool:
        """One that was a member a moment ago."""
        until = asyncio.get_running_loop().time() + PREPARE_WITHIN
        while not await self._prepare(row):
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(TRY_AGAIN)
        return True

    async def find(self) -> None:
        """This coordinator stops: whoever has read the runs first, of those that follow, is the successor. Where
        members were sent away there is somebody who follows soon, unless all of them stop, too: it is for the caller
        not to wait for ever."""
        async with self._one_at_a_time:
            had_members = bool(self._keeper.peers())
            if had_members and self.successor is None:
                await self._dismiss()
            while not await self._find_one() and had_members and self._has_company():  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(TRY_AGAIN)

    def _has_company(self) -> bool:
        return any(not view.own for view in self._keeper.coordinators())

    async def _find_one(self) -> bool:
        for row in self._keeper.followers():
            if self.successor is None and await self._prepare(row):
                self.successor = row
        return self.successor is not None

    async def release(self) -> None:
        """Nothing is decided here any more, and what was is committed."""
        self.end(released=await self._keeper.release(self._given_to))

    def end(self, *, released: bool = False) -> None:
        """This incarnation is over. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(released)
