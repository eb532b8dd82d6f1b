"""Which run is offered which session's room.

There is never a line on which a run waits while a session that serves it has room: whoever makes room or demand calls
`offers` or `reserve` before anything else happens. So a run that has just become ready may take room at once, in its
own turn, without passing anybody who waits.

A promise of room is a `Permit`. It is used up by grants or given back; the session's capacity counts it as taken in
the meantime, so each place is given away once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.core.dispatch.lines import LineQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.plan.model import Line

CANDIDATES = 4
"""How many sessions are compared for one place: a look at a few finds a lightly loaded one nearly as well as a look at
all, and costs the same with a thousand sessions as with four."""


MANY_LINES = 1_000
"""From so many lines on, those that nobody waits on are forgotten: they are made again when they are asked for."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The right of one run to place up to `count` leases of the line on the session."""

    session: int
    agent: str
    line: Line
    count: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A permit for a run that waited."""

    run_id: bytes
    position: int
    """In the lines of the run's plan: several may have the same line."""
    permit: Permit


class Dispatcher:
    """Sessions, lines, and who waits. Pure: the caller carries offers to the runs."""

    def __init__(self) -> None:
        self._lines: dict[Line, LineQueue] = {}
        self._sessions: dict[int, Capacity] = {}
        self._dirty: deque[Capacity] = deque()

    # --- sessions

    def add_session(self, capacity: Capacity) -> None:
        self._sessions[capacity.session] = capacity
        for queue in self._lines.values():
            if capacity.serves(queue.line):
                queue.sessions[capacity.session] = capacity
        self._touch(capacity)

    def remove_session(self, session: int) -> None:
        """The session takes nothing any more. Its permits may still be given back, to no effect."""
        capacity = self._sessions.pop(session, None)
        if capacity is None:
            return
        capacity.open = False
        for queue in self._lines.values():
            queue.sessions.pop(session, None)

    def session(self, session: int) -> Capacity | None:
        return self._sessions.get(session)

    def made_room(self, session: int) -> None:
        """Credits grew, a lease ended, or the session was resumed: `offers` has something to look at."""
        capacity = self._sessions.get(session)
        if capacity is not None:
            self._touch(capacity)

    # --- runs

    def reserve(self, line: Line, want: int) -> list[Permit]:
        """Room for up to `want` leases, for a run in its own turn, spread over the sessions that have some."""
        return list(self._take(self._queue(line), want))

    def set_demand(self, run_id: bytes, line: Line, demand: int, position: int = 0) -> None:
        """So many ready step runs at this position of the run's plan found no room."""
        if demand or line in self._lines:
            self._queue(line).set_demand(run_id, position, demand)

    def give_back(self, permit: Permit, count: int) -> None:
        """Of the permit, so many places were not used."""
        capacity = self._sessions.get(permit.session)
        if capacity is not None and count:
            capacity.take_back(permit.line, count)
            self._touch(capacity)

    def offers(self) -> list[Offer]:
        """What those who wait are to be offered, now that there is room. Each permit is the run's already."""
        made: list[Offer] = []
        while self._dirty:
            capacity = self._dirty.popleft()
            for queue in self._lines.values():
                if queue.entries and capacity.session in queue.sessions:
                    made.extend(self._serve(queue))
        return made

    def waiting(self, line: Line) -> int:
        """How many places are waited for on the line."""
        queue = self._lines.get(line)
        return sum(entry.demand for entry in queue.entries.values()) if queue else 0

    # --- inside

    def _queue(self, line: Line) -> LineQueue:
        queue = self._lines.get(line)
        if queue is None:
            if len(self._lines) >= MANY_LINES:
                self._forget_idle_lines()
            queue = self._lines[line] = LineQueue(line)
            for capacity in self._sessions.values():
                if capacity.serves(line):
                    queue.sessions[capacity.session] = capacity
                    self._ring(queue, capacity)
        return queue

    def _forget_idle_lines(self) -> None:
        for queue in [queue for queue in self._lines.values() if not queue.entries]:
            del self._lines[queue.line]
            for capacity in queue.ring:
                capacity.ringed.discard(queue.line)

    def _touch(self, capacity: Capacity) -> None:
        self._dirty.append(capacity)
        for queue in self._lines.values():
            if capacity.session in queue.sessions:
                self._ring(queue, capacity)

    @staticmethod
    def _ring(queue: LineQueue, capacity: Capacity) -> None:
        if queue.line not in capacity.ringed and capacity.room(queue.line):
            capacity.ringed.add(queue.line)
            queue.ring.append(capacity)

    def _serve(self, queue: LineQueue) -> Iterator[Offer]:
        while (entry := queue.head()) is not None:
            # One place at a time would be fairest, and a turn per place: a share of what there is comes close.
            share = max(1, entry.demand // max(1, len(queue.entries)))
            permits = list(self._take(queue, min(entry.demand, share)))
            if not permits:
                return
            run_id, position = entry.run_id, entry.position
            queue.serve(entry, sum(permit.count for permit in permits))
            for permit in permits:
                yield Offer(run_id, position, permit)

    def _take(self, queue: LineQueue, want: int) -> Iterator[Permit]:
        while want > 0:
            capacity = self._lightest(queue)
            if capacity is None:
                return
            share = max(1, -(-want // max(1, len(queue.ring))))
            count = min(want, share, capacity.room(queue.line))
            capacity.promise(queue.line, count)
            want -= count
            yield Permit(capacity.session, capacity.agent, queue.line, count)

    @staticmethod
    def _lightest(queue: LineQueue) -> Capacity | None:
        """Of the next few sessions that have room, the one with the least load per slot."""
        best: Capacity | None = None
        least = 0.0
        ring = queue.ring
        for _ in range(min(CANDIDATES, len(ring))):
            capacity = ring[0]
            while not capacity.room(queue.line):
                ring.popleft()
                capacity.ringed.discard(queue.line)
                if not ring:
                    return best
                capacity = ring[0]
            ring.rotate(-1)
            load = (capacity.leases + capacity.permits) / max(1, capacity.slots)
            if best is None or load < least:
                best, least = capacity, load
        return best
