"""Which run is offered which session's room.

On one line those who wait come in the order of `lines`. A session may serve several lines: then the line goes first on
which somebody waits with the highest effective priority, and of equal ones the line that was served longest ago.

There is never a line on which a run waits while a session that serves it has room: whoever makes room or demand calls
`offers` or `reserve` before anything else happens. So a run that has just become ready may take room at once, in its
own turn, without passing anybody who waits.

A promise of room is a `Permit`. It is used up by grants or given back; the session's capacity counts it as taken in
the meantime, so each place is given away once.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.core.dispatch.fairness import Fairness
from penstock_coordinator.core.dispatch.lines import LineQueue
from penstock_coordinator.core.dispatch.standing import Standing, standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.dispatch.tiers import Applicant
    from penstock_coordinator.core.plan.model import Line

CANDIDATES = 4
"""How many sessions are compared for one place: a look at a few finds a lightly loaded one nearly as well as a look at
all, and costs the same with a thousand sessions as with four."""
MANY_LINES = 1_000
"""From so many lines on, those that nobody waits on are forgotten: they are made again when they are asked for."""


class Permit(msgspec.Struct, frozen=True, gc=False):
    """The right of one run to place up to `count` leases of the line on the session."""

    session: int
    agent: str
    line: Line
    count: int


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A permit for a run that waited."""

    run_id: bytes
    position: int
    """In the run's plan, of the line that the permit is for."""
    permit: Permit


class Dispatcher:
    """Sessions, lines, and who waits. Pure: the caller carries offers to the runs, and says what time it is.

    Instants are microseconds of one clock that never goes back.
    """

    def __init__(self, aging: int = Fairness().aging) -> None:
        self._aging = aging
        self._lines: dict[Line, LineQueue] = {}
        self._waited: dict[Line, LineQueue] = {}
        """Those on which somebody waits."""
        self._sessions: dict[int, Capacity] = {}
        self._dirty: dict[int, Capacity] = {}
        """Sessions that may have room that nobody was offered."""
        self._turns = 0

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
        self._dirty.pop(session, None)
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
        """Room for up to `want` leases, for a run in its own turn, spread over the sessions that have some. None while
        others wait on the line: who makes room offers it to them a moment later, and the run comes after them."""
        queue = self._queue(line)
        return [] if queue.size else list(self._take(queue, want))

    def set_demand(self, applicant: Applicant, demand: int, now: int) -> None:
        """So many ready step runs of the applicant found no room; 0: it waits no longer."""
        queue = self._lines.get(applicant.line)
        if queue is None:
            if not demand:
                return
            queue = self._queue(applicant.line)
        waited = bool(queue.size)
        queue.set_demand(applicant, demand, now)
        if waited is not bool(queue.size):
            self._note_waited(queue)

    def give_back(self, permit: Permit, count: int) -> None:
        """Of the permit, so many places were not used."""
        capacity = self._sessions.get(permit.session)
        if capacity is not None and count:
            capacity.take_back(permit.line, count)
            self._touch(capacity)

    def offers(self, now: int) -> list[Offer]:
        """What those who wait are to be offered, now that there is room. Each permit is the run's already."""
        given: dict[tuple[bytes, int, int], Offer] = {}
        while self._dirty:
            _, capacity = self._dirty.popitem()
            for offer in self._share_out(capacity, now):
                key = (offer.run_id, offer.position, offer.permit.session)
                before = given.get(key)
                given[key] = offer if before is None else _together(before, offer)
        return list(given.values())

    @property
    def anybody_waits(self) -> bool:
        """Else `offers` has nothing to give: room that is free is found by whoever reserves some."""
        return bool(self._waited)

    # --- what explains

    def waiting(self, line: Line) -> int:
        """How many places are waited for on the line."""
        queue = self._waited.get(line)
        return queue.demand if queue else 0

    def demands(self) -> list[tuple[Line, int, int]]:
        """Of each line that is waited on: how many places are waited for, and since when somebody waits."""
        return [(queue.line, queue.demand, queue.oldest_since()) for queue in self._waited.values()]

    def standing(self, line: Line, run_id: bytes, position: int, now: int) -> Standing | None:
        """How the run's steps at this position of its plan stand on their line; None if they do not wait. Takes time
        by the number of those who wait there."""
        queue = self._waited.get(line)
        entry = queue.find(run_id, position) if queue is not None else None
        return None if queue is None or entry is None else standing(queue, entry, now)

    # --- inside

    def _queue(self, line: Line) -> LineQueue:
        queue = self._lines.get(line)
        if queue is None:
            if len(self._lines) >= MANY_LINES:
                self._forget_idle_lines()
            queue = self._lines[line] = LineQueue(line, self._aging)
            for capacity in self._sessions.values():
                if capacity.serves(line):
                    queue.sessions[capacity.session] = capacity
                    self._ring(queue, capacity)
        return queue

    def _forget_idle_lines(self) -> None:
        for queue in [queue for queue in self._lines.values() if not queue.size]:
            del self._lines[queue.line]
            for capacity in queue.ring:
                capacity.ringed.discard(queue.line)

    def _note_waited(self, queue: LineQueue) -> None:
        if queue.size:
            self._waited[queue.line] = queue
        else:
            self._waited.pop(queue.line, None)

    def _touch(self, capacity: Capacity) -> None:
        self._dirty[capacity.session] = capacity
        for queue in self._lines.values():
            if capacity.session in queue.sessions:
                self._ring(queue, capacity)

    @staticmethod
    def _ring(queue: LineQueue, capacity: Capacity) -> None:
        if queue.line not in capacity.ringed and capacity.room(queue.line):
            capacity.ringed.add(queue.line)
            queue.ring.append(capacity)

    def _share_out(self, capacity: Capacity, now: int) -> Iterator[Offer]:
        """Give the session's room away, the best line first."""
        queues = [queue for queue in self._waited.values() if capacity.session in queue.sessions]
        best = [(queue.best_score, queue.turn, number) for number, queue in enumerate(queues)]
        heapq.heapify(best)
        while best:
            _, _, number = best[0]
            queue = queues[number]
            yield from (offers := self._serve(queue, now, alone=len(best) == 1))
            if offers and queue.size:
                heapq.heapreplace(best, (queue.best_score, queue.turn, number))
            else:
                heapq.heappop(best)

    def _serve(self, queue: LineQueue, now: int, *, alone: bool) -> list[Offer]:
        """One turn of whoever is next; empty if there is no room. One place is a turn, unless nobody else waits."""
        entry = queue.next()
        assert entry is not None
        want = entry.demand if alone and queue.size == 1 else 1
        permits = list(self._take(queue, want))
        if permits:
            self._turns += 1
            queue.turn = self._turns
            queue.serve(entry, sum(permit.count for permit in permits), now)
            if not queue.size:
                self._note_waited(queue)
        return [Offer(entry.applicant.run_id, entry.applicant.position, permit) for permit in permits]

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


def _together(one: Offer, other: Offer) -> Offer:
    """Two offers to the same applicant of the same session's room."""
    permit = one.permit
    count = permit.count + other.permit.count
    return Offer(one.run_id, one.position, Permit(permit.session, permit.agent, permit.line, count))
