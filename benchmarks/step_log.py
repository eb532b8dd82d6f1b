"""The log that the measured steps write."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    begin: float
    """Seconds since 1970."""
    end: float


class StepLog:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clear()

    def clear(self) -> None:
        self.path.write_bytes(b"")
        self.path.chmod(0o666)

    def read(self) -> list[Entry]:
        """In the order in which the steps began."""
        lines = (line.split() for line in self.path.read_text().splitlines())
        return sorted((Entry(int(p), float(b), float(e)) for p, b, e in lines), key=lambda entry: entry.begin)


def percentile(values: list[float], share: float) -> float:
    """The value below which the share of the values lies; by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def transitions(entries: list[Entry]) -> list[float]:
    """Milliseconds from the end of each step to the start of the next."""
    ordered = sorted(entries, key=lambda entry: entry.position)
    return [(after.begin - before.end) * 1000 for before, after in itertools.pairwise(ordered)]


def median(values: list[float]) -> float:
    return statistics.median(values)
