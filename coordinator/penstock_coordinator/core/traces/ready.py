"""Since when step runs have been READY."""

from __future__ import annotations

from penstock_coordinator.core.run.events import WHOLE

_NARROW = 16
"""Wider ranges are kept as such: a map of 100,000 items is one of them."""


class ReadyTimes:
    """What became READY together and is leased bit by bit, in a few ranges; what became READY alone, by itself."""

    def __init__(self) -> None:
        self._alone: dict[tuple[int, int], int] = {}
        self._wide: dict[int, list[tuple[int, int, int]]] = {}
        """By step (first item, stop, at), oldest first."""
        self.items: dict[int, int] = {}
        """How many each mapped step has."""

    def note(self, step: int, first: int, stop: int, at: int) -> None:
        """Items from `first` to `stop`, without that one; or the step itself, which is WHOLE."""
        if stop - first > _NARROW:
            self._wide.setdefault(step, []).append((first, stop, at))
        else:
            for item in range(first, stop):
                self._alone[step, item] = at

    def take(self, step: int, item: int, otherwise: int) -> int:
        """The instant, which is forgotten if it is that step run's alone; `otherwise` if there is none."""
        found = self._alone.pop((step, item), None)
        if found is not None:
            return found
        if item != WHOLE:
            for first, stop, at in reversed(self._wide.get(step, ())):
                if first <= item < stop:
                    return at
        return otherwise

    def knows(self, step: int, item: int) -> bool:
        """Whether an instant is known."""
        wide = any(first <= item < stop for first, stop, _ in self._wide.get(step, ()))
        return (step, item) in self._alone or wide

    def clear(self) -> None:
        self._alone.clear()
        self._wide.clear()
