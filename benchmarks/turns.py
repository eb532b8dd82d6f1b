"""Systems take turns on one machine, so that a slow minute of the machine is a slow minute of all of them."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contestants import Contestant, child_contestant
from benchmarks.penstock_cluster import new_contestant, running_cluster
from benchmarks.step_body import LOG_VARIABLE
from benchmarks.workloads import Figures

PENSTOCK = "penstock"
IN_PROCESSES = "bare loop"
INLINE = "bare loop, inline"
BARE_LOOPS = {IN_PROCESSES: "processes", INLINE: "inline"}
HEADLINES = {
    "chain40": "transition_p50_ms",
    "fan1000": "steps_per_s",
    "diamonds200": "runs_per_s",
    "start": "start_p50_ms",
    "singles10000": "steps_per_s",
}
"""The figure of each workload by which systems are compared."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one system did in one workload, several times."""

    workload: str
    system: str
    runs: tuple[Figures, ...]
    load: float
    """One-minute load average at the end: whoever else uses the machine shows here."""

    @property
    def median(self) -> Figures:
        return {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0]}

    @property
    def headline(self) -> float:
        return self.median[HEADLINES[self.workload]]

    def line(self) -> dict[str, Any]:
        ranges = {name: [min(values), max(values)] for name, values in self._columns().items()}
        return {
            "workload": self.workload,
            "system": self.system,
            "repeat": len(self.runs),
            "median": {name: round(value, 3) for name, value in self.median.items()},
            "range": {name: [round(value, 3) for value in pair] for name, pair in ranges.items()},
            "load": round(self.load, 1),
        }

    def _columns(self) -> dict[str, list[float]]:
        return {name: [run[name] for run in self.runs] for name in self.runs[0]}


async def take_turns(
    workload: str, contestants: Mapping[str, Contestant], repeat: int, unmeasured: int = 1
) -> list[Result]:
    """A B C A B C ...; the first rounds do not count, for they meet cold caches."""
    runs: dict[str, list[Figures]] = {name: [] for name in contestants}
    for number in range(unmeasured + repeat):
        for name, contestant in contestants.items():
            figures = await contestant.measure(workload)
            if number >= unmeasured:
                runs[name].append(figures)
    return [Result(workload, name, tuple(each), os.getloadavg()[0]) for name, each in runs.items()]


def ratio(results: Sequence[Result], system: str, to: str) -> float:
    """Of the headline figures of two systems in one workload."""
    headlines = {result.system: result.headline for result in results}
    return headlines[system] / headlines[to]


def ratio_line(results: Sequence[Result]) -> dict[str, Any]:
    workload = results[0].workload
    others = [result.system for result in results if result.system != PENSTOCK]
    ratios = {other: round(ratio(results, PENSTOCK, other), 3) for other in others}
    return {"workload": workload, "ratio_of": HEADLINES[workload], "system": PENSTOCK, "to": ratios}


@contextlib.asynccontextmanager
async def penstock_and_bare_loops(modes: Iterable[str] = tuple(BARE_LOOPS)) -> AsyncIterator[dict[str, Contestant]]:
    """All on one PostgreSQL server."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-")))
        site = await stack.enter_async_context(running_cluster())
        contestants: dict[str, Contestant] = {PENSTOCK: await new_contestant(site)}
        for name in modes:
            mode = BARE_LOOPS[name]
            command = [sys.executable, "-m", "benchmarks.bare_loop", "--dsn", site.cluster.database_url, mode]
            environment = {LOG_VARIABLE: str(folder / f"{mode}-steps.log"), "GRPC_ENABLE_FORK_SUPPORT": "0"}
            contestants[name] = await stack.enter_async_context(child_contestant(name, command, environment))
        yield contestants
