"""The step runs of one line that wait for an agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.states import StepState

UNMAPPED = -1
"""In place of a step's number: the range is one of steps, not of a step's items."""


@dataclass(slots=True)
class _Range:
    states: bytearray
    """Of the run's steps, or of the map's items."""
    step: int
    first: int
    stop: int


class ReadyQueue:
    """First in, first out; ten thousand items are one entry.

    Entries are never taken out of the middle. What is no longer READY is passed over, which is right because a step
    run leaves READY either for good or from the head: a lease always takes the head, and `trim` then forgets it. So a
    step run that comes back has no older entry.
    """

    __slots__ = ("_passed", "_ranges")

    def __init__(self) -> None:
        self._ranges: list[_Range] = []
        self._passed = 0
        """So many of them, at the begin, are used up. A list of one is an eighth of a deque, and most have one."""

    def add(self, states: bytearray, step: int, first: int, stop: int) -> None:
        """Put positions `first` to `stop` of `states` at the end."""
        ranges = self._ranges
        if ranges and ranges[-1].stop == first and ranges[-1].step == step:
            ranges[-1].stop = stop
        else:
            ranges.append(_Range(states, step, first, stop))

    def head(self, count: int) -> list[tuple[int, int]]:
        """(step, item) of the first `count` that are READY; fewer if there are fewer."""
        found: list[tuple[int, int]] = []
        for entry in self._left():
            at = entry.states.find(StepState.READY, entry.first, entry.stop)
            while at >= 0 and len(found) < count:
                found.append((at, WHOLE) if entry.step == UNMAPPED else (entry.step, at))
                at = entry.states.find(StepState.READY, at + 1, entry.stop)
            if len(found) >= count:
                break
        return found

    def trim(self) -> None:
        """Forget what is no longer READY at the head."""
        ranges = self._ranges
        for entry in self._left():
            at = entry.states.find(StepState.READY, entry.first, entry.stop)
            if at >= 0:
                entry.first = at
                break
            self._passed += 1
        if 2 * self._passed >= len(ranges):
            del ranges[: self._passed]
            self._passed = 0

    def clear(self) -> None:
        self._ranges.clear()
        self._passed = 0

    def waiting(self) -> list[tuple[int, int]]:
        """Everything that waits, in order."""
        total = sum(entry.stop - entry.first for entry in self._left())
        return self.head(total)

    def _left(self) -> Iterator[_Range]:
        return islice(self._ranges, self._passed, None)
