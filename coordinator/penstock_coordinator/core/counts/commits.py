"""What is counted of the journal's commits."""

from __future__ import annotations

from penstock_coordinator.core.counts.histogram import Histogram

RECORDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)


class CommitCounts:
    __slots__ = ("bytes", "failures", "records", "seconds", "stored")

    def __init__(self) -> None:
        self.seconds = Histogram()
        """Of each commit, with all its tries."""
        self.records = Histogram(RECORDS)
        """Of each commit."""
        self.failures = 0
        """Tries that failed because the database was away, and records that were not stored though nobody had asked
        for the same before."""
        self.stored = 0
        """Records."""
        self.bytes = 0
        """Of their events."""

    def committed(self, records: int, seconds: float) -> None:
        self.seconds.add(seconds)
        self.records.add(records)
