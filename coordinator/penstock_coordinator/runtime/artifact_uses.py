"""Which artifacts attempts are given: stored before the grant is sent, for it is what they may download by."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock_coordinator.ports import RunId, UseRow
    from penstock_coordinator.runtime.supervisor import Supervisor

RETRY_SECONDS = 0.2


class UseWriter:
    """Gathers while it writes: what came meanwhile goes into the next statement together."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._gathered: list[tuple[Sequence[tuple[RunId, UseRow]], Callable[[], None]]] = []
        self._writing: asyncio.Task[None] | None = None

    def note(self, uses: Sequence[tuple[RunId, UseRow]], then: Callable[[], None]) -> None:
        """`then` is called when they are stored: once, and never within this call."""
        self._gathered.append((uses, then))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="artifact-uses")

    async def _write(self) -> None:
        try:
            while self._gathered and not self._supervisor.stopping:
                batch, self._gathered = self._gathered, []
                if await self._stored([use for uses, _ in batch for use in uses]):
                    for _, then in batch:
                        then()
        finally:
            self._writing = None

    async def _stored(self, uses: list[tuple[RunId, UseRow]]) -> bool:
        """False: the coordinator stops first. The next one gives the leases again."""
        while not self._supervisor.stopping:
            try:
                await self._supervisor.stores.artifacts.add_uses(uses)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return True
        return False
