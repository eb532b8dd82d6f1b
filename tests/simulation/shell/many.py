"""Many schedules, one after the other, in several processes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.shell.schedule import Report, Script, play


@dataclass
class Harvest:
    schedules: int = 0
    runs: int = 0
    turns: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    broken: Report | None = None

    def add(self, report: Report) -> None:
        self.schedules += 1
        self.runs += report.runs
        self.turns += report.turns
        self.faults.update(report.faults)
        self.events.update(report.events)
        if report.broken is not None:
            self.broken = self.broken or report

    def join(self, other: Harvest) -> None:
        self.schedules += other.schedules
        self.runs += other.runs
        self.turns += other.turns
        self.faults.update(other.faults)
        self.events.update(other.events)
        self.broken = self.broken or other.broken


def play_many(first: int, seconds: float, processes: int) -> Harvest:
    """The seeds from the first one on, until the time is over or one breaks."""
    if processes == 1:
        return _play_every(first, 1, seconds)
    harvest = Harvest()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = [pool.apply_async(_play_every, (first + part, processes, seconds)) for part in range(processes)]
        for part in parts:
            harvest.join(part.get(seconds + 120))
            if harvest.broken is not None:
                break
    return harvest


def _play_every(seed: int, step: int, seconds: float) -> Harvest:
    harvest, until = Harvest(), time.monotonic() + seconds
    while time.monotonic() < until and harvest.broken is None:
        harvest.add(play(Script.of(seed)))
        seed += step
    return harvest
