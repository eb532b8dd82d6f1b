"""What an agent counts of its attempts, for whoever looks at it from outside: numbers, and nothing else per attempt."""

from __future__ import annotations

from bisect import bisect_left

from penstock_agent.core.leases import Status

RUN_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0)
"""Bounds, and one more for what takes longer."""


class AttemptCounts:
    def __init__(self) -> None:
        self.results = [0] * (max(Status) + 1)
        """By status."""
        self.returned = 0
        """Leases that were handed back, without a result."""
        self.adopted = 0
        """Leases that another coordinator has taken over, with what runs."""
        self.durations = [0] * (len(RUN_SECONDS) + 1)
        """Of attempts that have started, by the first bound that they do not pass."""
        self.seconds = 0.0
        """Of all of them."""

    def ended(self, status: Status | None) -> None:
        """None: without a result."""
        if status is None:
            self.returned += 1
        else:
            self.results[status] += 1

    def ran(self, microseconds: int) -> None:
        seconds = microseconds / 1e6
        self.durations[bisect_left(RUN_SECONDS, seconds)] += 1
        self.seconds += seconds
