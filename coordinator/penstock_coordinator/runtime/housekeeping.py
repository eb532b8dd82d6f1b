"""What a coordinator does now and then, whether anything happens or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet.standing import fence_interval
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

LEASES_EVERY = 0.25
AT_REST_EVERY = 0.5
"""While there is no lease: nothing runs out then but streams that fall silent."""
KEYS_EVERY = 60.0
TABLES_EVERY = 3_600.0
_SECOND = 1_000_000
FROZEN = _SECOND // 2
"""Microseconds: whoever comes so much later than he wanted was not there."""


class Housekeeping:
    """Leases that ran out, streams that fell silent; whether another incarnation has taken over; signing keys that
    were made elsewhere; partitions of the months to come."""

    def __init__(self, supervisor: Supervisor, make_partitions: Callable[[int], Awaitable[object]] | None) -> None:
        """`make_partitions`: None if another coordinator does it."""
        self._supervisor = supervisor
        self._make_partitions = make_partitions
        self._fence_every = fence_interval(supervisor.timing.expiry_margin) / _SECOND

    async def run(self) -> None:
        """For ever."""
        await asyncio.gather(self._keep_house(), self._watch_fence(), self._keep_keys(), self._keep_tables())

    async def _watch_fence(self) -> None:
        """Apart from the rest: a database that is away may keep it waiting."""
        while not self._supervisor.stopping:
            try:
                await self._supervisor.look_at_fence()
            except Unavailable as error:
                log.debug("fence_not_seen", reason=str(error))
            await asyncio.sleep(self._fence_every)

    async def _keep_house(self) -> None:
        """A process that was frozen has heard nobody meanwhile: that is no silence of the agents'. What they said is
        still to be read, and their clocks stood still for us."""
        clock = self._supervisor.clock
        due = clock.monotonic()
        while True:
            self._supervisor.fleet.awake()
            late = clock.monotonic() - due
            if late > FROZEN:
                log.warning("was_frozen", seconds=late / _SECOND)
                self._supervisor.fleet.stand_still(late)
            self._supervisor.run_periodic()
            pause = LEASES_EVERY if self._supervisor.fleet.leases else AT_REST_EVERY
            due = clock.monotonic() + int(pause * _SECOND)
            await asyncio.sleep(pause)

    async def _keep_keys(self) -> None:
        """So that what is signed here is soon signed by the newest key, whoever has made it."""
        while True:
            await asyncio.sleep(KEYS_EVERY)
            try:
                await self._supervisor.keyring.refresh()
            except Unavailable as error:
                log.debug("keys_not_read", reason=str(error))

    async def _keep_tables(self) -> None:
        """Apart too: leases run out while the database is away."""
        while True:
            await self.run_once()
            await asyncio.sleep(TABLES_EVERY)

    async def run_once(self) -> None:
        """The tables' turn. A database that is away is asked again the next time."""
        if self._make_partitions is None:
            return
        now = self._supervisor.clock.now()
        try:
            await self._make_partitions(now)
        except Unavailable as error:
            log.warning("housekeeping_postponed", reason=str(error))
