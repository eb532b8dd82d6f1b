"""How many leases an agent takes at once: as many as it has slots, and more while its steps are short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

QUEUED_SPAN = 20_000
"""A slot takes as many short steps as fill this span, µs."""
MOST_PER_SLOT = 256
WEIGHT = 0.1
"""Of the newest step in the running mean."""


def depth(mean: float | None) -> float:
    """Attempts that one slot takes at once, given the mean run time of steps (µs). Unknown: one."""
    if mean is None:
        return 1.0
    return min(max(QUEUED_SPAN / max(mean, 1.0), 1.0), float(MOST_PER_SLOT))


@dataclass(slots=True)
class Pace:
    """The running mean of run times, in µs."""

    mean: float | None = None

    def add(self, run_time: int) -> None:
        self.mean = run_time if self.mean is None else self.mean + WEIGHT * (run_time - self.mean)

    def at_least(self, elapsed: int) -> None:
        """Something runs for so long already."""
        if self.mean is None or elapsed > self.mean:
            self.mean = elapsed

    def capacity(self, now: int, slots: int, began: Iterable[int]) -> int:
        """Leases that so many slots take in all, with those that run since `began`.

        A slot that runs something long has room for that alone.
        """
        long = min(sum(1 for since in began if now - since > QUEUED_SPAN), slots)
        return long + int((slots - long) * depth(self.mean))
