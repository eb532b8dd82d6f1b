"""The head's undertaker: live runs of members that are gone, and of all others that own nothing by right, become its
own while its other runs go on.

Nothing depends on having heard of a death: whoever has live runs, and is neither head nor member, loses them to the
next round.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.removal import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.ownership import OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

EVERY = 5.0
"""Seconds between two rounds, if nobody joins or leaves."""
AGAIN_AFTER = 0.5
"""Seconds, when the database was away."""
PAGE = 1_000


class Undertaker:
    """Of one incarnation of a head, after its recovery."""

    def __init__(
        self,
        keeper: OwnershipKeeper,
        supervisor: Supervisor,
        on_peers: Callable[[Sequence[CoordinatorRow]], None] = lambda members: None,
    ) -> None:
        """`on_peers` hears of the members that agents should be linked with, as a whole, at each change: one that has
        joined at once, one that has left when its runs are at home here. So an agent that closes its link with it finds
        somebody who knows its leases."""
        self._keeper = keeper
        self._supervisor = supervisor
        self._on_peers = on_peers
        self._named: list[CoordinatorRow] = []
        """As they were last told."""
        self._unclaimed = False
        """A round has failed: there may be runs to claim, also if nobody is there any more."""
        self._unknown = False
        """The answer to a claim was lost: runs may be its own that nobody has named."""
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._keeper.peers_changed(AGAIN_AFTER if self._unclaimed else EVERY)
            await self.run_once()

    async def run_once(self) -> None:
        """A round: returns when all that could be claimed has been, and its runs are at work. One at a time."""
        async with self._one_at_a_time:
            peers = self._keeper.peers()
            self._name({row.coordinator_id: row for row in (*self._named, *peers)}.values())
            if self._may_find_runs() and not await self._claim():
                return
            self._name(peers)

    def _may_find_runs(self) -> bool:
        """Where nobody is and nobody was there is nothing to ask the database."""
        return self._unclaimed or bool(self._named) or not self._keeper.alone

    async def _claim(self) -> bool:
        """Whether it got to the end."""
        self._unclaimed = True
        try:
            if self._unknown:
                await self._supervisor.adopt_runs(await self._own_runs_without_actor())
                self._unknown = False
            while run_ids := await self._claim_some():
                await self._supervisor.adopt_runs(run_ids)
        except Unavailable as error:
            log.warning("runs_not_claimed", reason=str(error))
            return False
        self._unclaimed = False
        return True

    async def _claim_some(self) -> list[RunId]:
        self._unknown = True
        run_ids = await self._keeper.claim_some_runs()
        self._unknown = False
        return run_ids

    async def _own_runs_without_actor(self) -> list[RunId]:
        supervisor, after = self._supervisor, FIRST
        store, found = supervisor.stores.retention, []
        while page := await store.live_ids(supervisor.coordinator_id, after, PAGE):
            found += [run_id for run_id in page if supervisor.lost(run_id)]
            after = page[-1]
        return found

    def _name(self, members: Collection[CoordinatorRow]) -> None:
        named = sorted(members, key=lambda row: row.coordinator_id)
        before = [_place(row) for row in self._named]
        self._named = named
        if [_place(row) for row in named] != before:
            self._on_peers(named)


def _place(row: CoordinatorRow) -> tuple[str, int, str]:
    return row.coordinator_id, row.epoch, row.address
