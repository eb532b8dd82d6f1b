"""What is done for a planned hand-over by whoever has the runs next: it reads them while they are still another one's.

Nothing rests on it: when the runs are its own it reads what came since, and whatever it has not read at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.runtime.plans import PlanCache
from penstock_coordinator.runtime.recovery import Reading, read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports import Stores
    from penstock_coordinator.runtime.arriving import Arrivals

log = structlog.get_logger(__name__)

KEPT_SECONDS = 60.0
"""Then the owner has changed its mind, and the memory is given back."""


class NotFollowing(Exception):
    """This coordinator does not follow that owner, nor is that one a member of its."""


class Preparation:
    """Of a process. `owner`: whom it follows; `on_prepared` is called when the runs are read: it may own them soon."""

    def __init__(self, owner: Callable[[], CoordinatorRow | None], on_prepared: Callable[[], None]) -> None:
        self._owner = owner
        self._on_prepared = on_prepared
        self._stores: Stores | None = None
        self._reading: Reading | None = None
        self._forget: asyncio.TimerHandle | None = None
        self._one_at_a_time = asyncio.Lock()

    def begin(self, stores: Stores) -> None:
        """It follows, and these are the stores of its next turn as an owner."""
        self._stores = stores

    def take(self) -> Reading | None:
        """It owns: what was read, once."""
        read = self._reading
        self._drop()
        self._stores = None
        return read

    async def prepare(self, owner_id: str) -> int:
        """Read the live runs of that owner; how many there are. Raises `NotFollowing`, `Unavailable`."""
        async with self._one_at_a_time:
            stores, owner = self._stores, self._owner()
            if stores is None or owner is None or owner.coordinator_id != owner_id:
                raise NotFollowing
            reading = self._reading or Reading(stores.journal, PlanCache(stores.pipelines))
            self._drop()
            count = await read_ahead(reading, stores, owner_id)
            if self._stores is not stores:
                raise NotFollowing
            self._reading = reading
            self._forget = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._drop)
        log.info("prepared_to_take_over", owner=owner_id, live_runs=count)
        self._on_prepared()
        return count

    def _drop(self) -> None:
        self._reading = None
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None


class LeaverPreparation:
    """Of a head: a member is about to leave, and its runs are to be the head's. What was read is kept by `arrivals`."""

    def __init__(self, members: Callable[[], Sequence[CoordinatorRow]], arrivals: Arrivals) -> None:
        """`members`: those that were heard of lately."""
        self._members = members
        self._arrivals = arrivals
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self, owner_id: str) -> int:
        """As that of a `Preparation`, of a member."""
        if all(row.coordinator_id != owner_id for row in self._members()):
            raise NotFollowing
        async with self._one_at_a_time:
            count = await self._arrivals.read_ahead(owner_id)
        log.info("prepared_to_take_over", owner=owner_id, live_runs=count)
        return count
