"""Live runs that become this coordinator's while its others go on: those of a member that is gone, above all.

A run arrives from the moment when it is known to be its own until it has an actor. Meanwhile results for it are kept by
their agents, and callers are told to come again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.recovery import Reading, adopt_runs, read_ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.2
KEPT_SECONDS = 60.0
"""What was read ahead: then the other one has changed its mind, and the memory is given back."""


class Arrivals:
    """Of one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._expected: set[RunId] = set()
        self._arrived_at: OrderedDict[RunId, int] = OrderedDict()
        """Those of the last time that agents are given to come back, the first of them first."""
        self._ahead: dict[str, Reading] = {}
        """By the coordinator whose runs they still are."""
        self._one_at_a_time = asyncio.Lock()

    def __contains__(self, run_id: object) -> bool:
        """It is this coordinator's, and has no actor yet."""
        return run_id in self._expected

    def arrived_at(self, run_id: RunId) -> int:
        """When this coordinator began to look after the run, by the wall clock; 0: from its start, or long ago."""
        return self._arrived_at.get(run_id, 0)

    # --- before they are its own

    async def read_ahead(self, owner_id: str) -> int:
        """Read the live runs of a coordinator that is about to leave; how many there are. Raises `Unavailable`."""
        supervisor = self._supervisor
        reading = self._ahead.pop(owner_id, None) or Reading(supervisor.stores.journal, supervisor.plans)
        count = await read_ahead(reading, supervisor.stores, owner_id)
        self._ahead[owner_id] = reading
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, owner_id, reading)
        return count

    def _forget(self, owner_id: str, reading: Reading) -> None:
        if self._ahead.get(owner_id) is reading:
            del self._ahead[owner_id]

    def _read_of(self, run_ids: Collection[RunId]) -> Reading:
        """What was read ahead of these runs."""
        read = Reading(self._supervisor.stores.journal, self._supervisor.plans)
        for reading in self._ahead.values():
            read.add(reading.take(run_ids))
        return read

    # --- from then on

    async def adopt(self, run_ids: Iterable[RunId]) -> int:
        """These are this coordinator's now: make their actors, whatever the database is like meanwhile. How many were
        made; those that have one, and others' runs, are left alone. Ends early if the supervisor stops."""
        arriving = set(run_ids)
        self._expected |= arriving
        try:
            async with self._one_at_a_time:
                return await self._adopt(arriving)
        finally:
            self._expected -= arriving

    async def _adopt(self, run_ids: set[RunId]) -> int:
        supervisor, read = self._supervisor, self._read_of(run_ids)
        while not supervisor.stopping:
            try:
                adopted = await adopt_runs(supervisor, run_ids, read)
            except Unavailable as error:
                log.warning("runs_not_adopted", count=len(run_ids), reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return len(adopted)
        return 0

    def arrived(self, run_ids: Iterable[RunId]) -> None:
        """They have actors from now on. Their agents have as much time to come back as after a restart."""
        now, timing = self._supervisor.clock.now(), self._supervisor.timing
        long_ago = now - timing.lease_ttl - timing.expiry_margin
        arrived = self._arrived_at
        while arrived and next(iter(arrived.values())) <= long_ago:
            arrived.popitem(last=False)
        for run_id in run_ids:
            arrived[run_id] = now
            arrived.move_to_end(run_id)
