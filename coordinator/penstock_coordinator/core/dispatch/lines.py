"""Who waits for the agents of one line, in which order.

A line holds one entry per run (of each position of its plan that has the line), ordered by virtual time: a run that was
given n places has moved n ahead of those that were given none, so that a run with ten thousand ready steps and a run
with one take turns. A newcomer starts at the time of whoever was served last, so that nobody can save up.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.plan.model import Line


@dataclass(slots=True)
class Waiting:
    """A run that waits on a line for `demand` places."""

    run_id: bytes
    position: int
    """In the lines of the run's plan."""
    demand: int
    time: int


@dataclass(slots=True)
class LineQueue:
    """The runs that wait on one line, and the sessions that can serve it."""

    line: Line
    entries: dict[tuple[bytes, int], Waiting] = field(default_factory=dict)
    """By run and position."""
    order: list[tuple[int, int, tuple[bytes, int]]] = field(default_factory=list)
    """A heap of (virtual time, arrival, entry); entries that moved on or left are skipped when they come up."""
    clock: int = 0
    arrivals: int = 0
    sessions: dict[int, Capacity] = field(default_factory=dict)
    ring: deque[Capacity] = field(default_factory=deque)
    """Sessions that may have room; one without is dropped when it comes up."""

    def set_demand(self, run_id: bytes, position: int, demand: int) -> None:
        """A run waits for so many places from now on; 0 takes it out."""
        entry = self.entries.get((run_id, position))
        if entry is not None:
            if demand:
                entry.demand = demand
            else:
                del self.entries[run_id, position]
        elif demand:
            entry = self.entries[run_id, position] = Waiting(run_id, position, demand, self.clock)
            self._push(entry)

    def head(self) -> Waiting | None:
        """Who is served next."""
        while self.order:
            time, _, key = self.order[0]
            entry = self.entries.get(key)
            if entry is not None and entry.time == time:
                return entry
            heapq.heappop(self.order)
        return None

    def serve(self, entry: Waiting, count: int) -> None:
        """The head is given `count` places; it waits for the rest behind those who were given less."""
        heapq.heappop(self.order)
        self.clock = entry.time
        entry.demand -= count
        if entry.demand <= 0:
            del self.entries[entry.run_id, entry.position]
            return
        entry.time += count
        self._push(entry)

    def _push(self, entry: Waiting) -> None:
        self.arrivals += 1
        heapq.heappush(self.order, (entry.time, self.arrivals, (entry.run_id, entry.position)))
