"""What a head does for its members: says where runs start, tells agents whom to have links with, takes over the runs of
those that are gone, and sends all away before it stops itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from penstock_coordinator.runtime.preparing import LeaverPreparation
from penstock_coordinator.runtime.spreading import Spreading
from penstock_coordinator.runtime.undertaker import Undertaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports.board import Published
    from penstock_coordinator.runtime.ownership import OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor

DISMISSED_SECONDS = 5.0
"""Who has not left by then is waited for by whoever claims."""


class Heading:
    """Of one incarnation. `entries` reads the board; `dismiss` tells a member to leave this head, and returns whether
    it has."""

    def __init__(
        self,
        supervisor: Supervisor,
        keeper: OwnershipKeeper,
        entries: Callable[[], Awaitable[list[Published]]],
        dismiss: Callable[[CoordinatorRow], Coroutine[Any, Any, bool]],
    ) -> None:
        self.spreading = Spreading(supervisor, entries)
        self.leavers = LeaverPreparation(keeper.members, supervisor.arriving)
        self._supervisor = supervisor
        self._keeper = keeper
        self._dismiss = dismiss
        self._undertaker = Undertaker(keeper, supervisor, supervisor.fleet.tell_peers)

    def begin(self) -> None:
        """When it serves: nobody joins it before."""
        self._keeper.on_members = self._heard
        self._heard(self._keeper.members())

    def _heard(self, members: Sequence[CoordinatorRow]) -> None:
        self.spreading.heard(members)
        self._supervisor.whereabouts.heard(members)

    async def run(self) -> None:
        """For ever."""
        await asyncio.gather(self._undertaker.run(), self.spreading.run())

    async def dismiss(self) -> None:
        """All members leave, and their runs are this coordinator's."""
        members = self._keeper.peers()
        if not members:
            return
        leaving = [asyncio.create_task(self._dismiss(row)) for row in members]
        await asyncio.wait(leaving, timeout=DISMISSED_SECONDS)
        for task in leaving:
            task.cancel()
        await self._undertaker.run_once()

    def end(self) -> None:
        """Nothing of members is heard any more. Idempotent."""
        self._keeper.on_members = _nobody_hears


def _nobody_hears(_members: Sequence[CoordinatorRow]) -> None:
    pass
