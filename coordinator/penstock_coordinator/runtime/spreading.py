"""Where the head has free runs start, with what is known: members, the board, and the agents' links.

The decisions are those of `core.plan.freedom` and `core.fleet.spreading`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet import spreading
from penstock_coordinator.core.fleet.spreading import place_name, reaches
from penstock_coordinator.core.plan.freedom import bound_by
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports.board import Published
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

READ_EVERY = 1.0
"""Seconds between two looks at the board, while there are members."""
KEPT_PLANS = 1_000


class Spreading:
    """Of one head. `entries` reads the board."""

    def __init__(self, supervisor: Supervisor, entries: Callable[[], Awaitable[list[Published]]]) -> None:
        self.members_known = False
        """False while no member is heard of: then every start is the head's."""
        self._supervisor = supervisor
        self._entries = entries
        self._spreading = spreading.Spreading()
        self._rows: dict[str, CoordinatorRow] = {}
        self._eligible: dict[str, tuple[str, ...]] = {}
        """By the digest of a plan: members that may have its runs, as `_generation` of the agents' links was."""
        self._generation = -1
        self._heard = asyncio.Event()

    def heard(self, members: Sequence[CoordinatorRow]) -> None:
        """All members that were heard of lately."""
        self._rows = {place_name(row.coordinator_id, row.epoch): row for row in members}
        self._spreading.members(self._rows)
        self._eligible.clear()
        self.members_known = bool(self._rows)
        if self.members_known:
            self._heard.set()
        else:
            self._heard.clear()

    def choose(self, plan: Plan, count: int = 1) -> CoordinatorRow | None:
        """The member where so many runs of the plan, which are asked for by requests that are free, are to start; they
        count as sent there. None: here."""
        if not self.members_known:
            return None
        now = self._supervisor.clock.monotonic()
        found = self._spreading.choose(self._supervisor.live_runs, self._members_for(plan), now)
        if not found:
            return None
        self._spreading.sent(found, count, now)
        return self._rows[found]

    def _members_for(self, plan: Plan) -> tuple[str, ...]:
        fleet = self._supervisor.fleet
        if fleet.links_generation != self._generation or len(self._eligible) > KEPT_PLANS:
            self._generation = fleet.links_generation
            self._eligible.clear()
        found = self._eligible.get(plan.digest)
        if found is None:
            sessions = [(session.capacity, session.links) for session in fleet.sessions()]
            names = () if bound_by(plan) else self._rows
            found = tuple(name for name in names if reaches(plan.lines, sessions, name))
            self._eligible[plan.digest] = found
        return found

    async def run(self) -> None:
        """For ever: what members have to do, by the board. While that is away what was sent is all that is known."""
        while True:
            await self._heard.wait()
            try:
                self._read(await self._entries())
            except Unavailable as error:
                log.debug("board_not_read", reason=str(error))
            await asyncio.sleep(READ_EVERY)

    def _read(self, entries: Sequence[Published]) -> None:
        now = self._supervisor.clock.monotonic()
        for each in entries:
            entry = each.entry
            self._spreading.published(place_name(entry.coordinator_id, entry.epoch), entry.live_runs, now - each.age)
