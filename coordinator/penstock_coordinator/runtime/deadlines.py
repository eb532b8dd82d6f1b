"""One heap for the deadlines of all runs, and one timer for the earliest.

Deadlines are instants of the wall clock, so that they survive a restart; timers count monotonic time. When a timer
fires the clock is looked at again: if it was set back, the deadline is still to come.
"""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.ports import Clock
    from penstock_coordinator.runtime.actor import Actor

COMPACT_FROM = 1_000
LONGEST_TIMER = 60.0
"""Seconds: a clock that is set forward is noticed within this."""


class DeadlineClock:
    def __init__(self, fire: Callable[[Actor], None], clock: Clock) -> None:
        self._fire = fire
        self._clock = clock
        self._heap: list[tuple[int, int, Actor]] = []
        self._compact_at = COMPACT_FROM
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: int | None = None

    def watch(self, actor: Actor, deadline: int | None) -> None:
        """The actor's next deadline is this one, whatever it was."""
        if deadline == actor.deadline:
            return
        actor.deadline = deadline
        if deadline is None:
            return
        if len(self._heap) > self._compact_at:
            self._compact()
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, actor))
        if self._armed_for is None or deadline < self._armed_for:
            self._arm()

    def forget(self, actor: Actor) -> None:
        actor.deadline = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _compact(self) -> None:
        """Drop what does not count any more: deadlines that moved would otherwise stay until their time has come."""
        self._heap = [entry for entry in self._heap if entry[2].deadline == entry[0]]
        heapq.heapify(self._heap)
        self._compact_at = max(COMPACT_FROM, 2 * len(self._heap))

    def _arm(self) -> None:
        """Set the timer for the earliest deadline that still counts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._heap and self._heap[0][2].deadline != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            self._armed_for = None
            return
        self._armed_for = self._heap[0][0]
        delay = max(0.0, (self._armed_for - self._clock.now()) / 1_000_000)
        self._timer = asyncio.get_running_loop().call_later(min(delay, LONGEST_TIMER), self._due)

    def _due(self) -> None:
        now = self._clock.now()
        while self._heap and self._heap[0][0] <= now:
            deadline, _, actor = heapq.heappop(self._heap)
            if actor.deadline == deadline:
                actor.deadline = None
                self._fire(actor)
        self._arm()
