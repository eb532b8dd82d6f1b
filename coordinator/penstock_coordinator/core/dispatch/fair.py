"""Weighted turns: who is next of those who wait, by virtual time.

Who is given something moves ahead by its amount divided by its weight, and who is least far ahead is next. So of those
who wait all along nobody gets more than one turn beyond its share, and a weight of three is three turns for one.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairOrder(Generic[K]):
    """Keys that wait, in the order of their turns. Each call takes O(log n), spread over calls."""

    __slots__ = ("_heap", "_leaving", "_left", "_numbers", "_waiting", "clock")

    def __init__(self) -> None:
        self.clock = 0.0
        """The virtual time of whose turn was last."""
        self._waiting: dict[K, tuple[float, int, K]] = {}
        """(time, number, key): the key's record in the heap. Other records of a key are passed over."""
        self._heap: list[tuple[float, int, K]] = []
        self._numbers = 0
        self._left: dict[K, float] = {}
        """Times of those who left while they were ahead of the clock: coming back at once does not undo a turn."""
        self._leaving: list[tuple[float, int, K]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def time(self, key: K) -> float:
        return self._waiting[key][0]

    def add(self, key: K) -> None:
        """A newcomer starts at the clock, so that nobody can save up."""
        self._push(key, max(self.clock, self._left.pop(key, 0.0)))

    def remove(self, key: K) -> None:
        time, number, _ = self._waiting.pop(key)
        if not self._waiting:
            self._begin_anew()
        elif time > self.clock:
            self._left[key] = time
            heapq.heappush(self._leaving, (time, number, key))

    def first(self) -> K:
        """Whose turn it is. Somebody must be waiting."""
        heap, waiting = self._heap, self._waiting
        while waiting.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)
        return heap[0][2]

    def charge(self, key: K, amount: float) -> None:
        """The key had a turn that moves it ahead by so much. Also of one whose turn it was not: the others lose
        nothing by that."""
        if len(self._waiting) == 1 and not self._left:
            return  # nobody to be ahead of
        record = self._waiting[key]
        if self._heap[0] is record:
            heapq.heappop(self._heap)
            self._advance(record[0])
        self._push(key, record[0] + amount)

    def _push(self, key: K, time: float) -> None:
        self._numbers += 1
        record = self._waiting[key] = (time, self._numbers, key)
        heapq.heappush(self._heap, record)
        if len(self._heap) > 2 * len(self._waiting) + 16:
            self._heap = list(self._waiting.values())
            heapq.heapify(self._heap)

    def _advance(self, time: float) -> None:
        self.clock = time
        leaving = self._leaving
        while leaving and leaving[0][0] <= time:
            passed, _, key = heapq.heappop(leaving)
            if self._left.get(key) == passed:
                del self._left[key]

    def _begin_anew(self) -> None:
        """Nobody waits: there is nothing to be fair about, and virtual time stays small and exact."""
        self.clock = 0.0
        self._heap.clear()
        self._left.clear()
        self._leaving.clear()
