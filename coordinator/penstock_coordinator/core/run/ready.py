"""The step runs of one line that wait for an agent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.states import StepState

UNMAPPED = -1
"""In place of a step's number: the range is one of steps, not of a step's items."""


class _Range(msgspec.Struct, gc=False):
    states: bytearray
    """Of the run's steps, or of the map's items."""
    step: int
    first: int
    stop: int
    next: _Range | None = None


class ReadyQueue(msgspec.Struct, gc=False):
    """First in, first out; ten thousand items are one entry.

    Entries are never taken out of the middle. What is no longer READY is passed over, which is right because a step
    run leaves READY either for good or from the head: a lease always takes the head, and `trim` then forgets it. So a
    step run that comes back has no older entry.
    """

    count: int = 0
    """How many are READY: whoever makes one another state takes it off."""
    _oldest: _Range | None = None
    """Each names the next one: most queues have one entry, for which a list would be more than the entry."""
    _newest: _Range | None = None

    def add(self, states: bytearray, step: int, first: int, stop: int) -> None:
        """Put positions `first` to `stop` of `states` at the end."""
        self.count += stop - first
        newest = self._newest
        if newest is not None and newest.stop == first and newest.step == step:
            newest.stop = stop
            return
        entry = self._newest = _Range(states, step, first, stop)
        if newest is None:
            self._oldest = entry
        else:
            newest.next = entry

    def head(self, count: int) -> list[tuple[int, int]]:
        """(step, item) of the first `count` that are READY; fewer if there are fewer."""
        found: list[tuple[int, int]] = []
        for entry in self._entries():
            at = entry.states.find(StepState.READY, entry.first, entry.stop)
            while at >= 0 and len(found) < count:
                found.append((at, WHOLE) if entry.step == UNMAPPED else (entry.step, at))
                at = entry.states.find(StepState.READY, at + 1, entry.stop)
            if len(found) >= count:
                break
        return found

    def trim(self) -> None:
        """Forget what is no longer READY at the head."""
        entry = self._oldest
        while entry is not None:
            at = entry.states.find(StepState.READY, entry.first, entry.stop)
            if at >= 0:
                entry.first = at
                break
            entry = entry.next
        self._oldest = entry
        if entry is None:
            self._newest = None

    def clear(self) -> None:
        self.count = 0
        self._oldest = self._newest = None

    def waiting(self) -> list[tuple[int, int]]:
        """Everything that waits, in order."""
        return self.head(self.count)

    def _entries(self) -> Iterator[_Range]:
        entry = self._oldest
        while entry is not None:
            yield entry
            entry = entry.next
