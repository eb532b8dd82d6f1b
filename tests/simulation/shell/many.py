"""Many schedules, one after the other, in several processes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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


def play_many(first: int, seconds: float, processes: int, kinds: Sequence[str] = ()) -> Harvest:
    """The seeds from the first one on, until the time is over or one breaks; of one process its processor time counts.
    `kinds`: of faults, instead of those that are drawn for each seed."""
    if processes == 1:
        return _play_every(first, 1, seconds, tuple(kinds), time.process_time)
    harvest = Harvest()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = [
            pool.apply_async(_play_every, (first + part, processes, seconds, tuple(kinds))) for part in range(processes)
        ]
        for part in parts:
            harvest.join(part.get(seconds + 120))
            if harvest.broken is not None:
                break
    return harvest


def _play_every(
    seed: int, step: int, seconds: float, kinds: tuple[str, ...], clock: Callable[[], float] = time.monotonic
) -> Harvest:
    harvest, until = Harvest(), clock() + seconds
    while clock() < until and harvest.broken is None:
        script = Script.of(seed)
        harvest.add(play(replace(script, kinds=kinds) if kinds else script))
        seed += step
    return harvest
