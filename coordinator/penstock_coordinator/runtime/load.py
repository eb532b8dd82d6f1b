"""How much a coordinator has to do, for people and probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.runtime.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Load:
    """Of what can be short, how much of its bound is in use; 1 is all."""

    live_runs: int
    waiting_runs: int
    max_backlog: int
    drain_rate: float
    """Runs that begin, per second."""
    pressure: float
    backlog: float
    lag: float
    commits: float
    memory: float
    refusals: dict[str, int]
    """Calls, since the start, by what was short."""


def load_of(supervisor: Supervisor) -> Load:
    admission = supervisor.admission
    return Load(
        live_runs=supervisor.live_runs,
        waiting_runs=admission.backlog,
        max_backlog=admission.bounds.backlog,
        drain_rate=round(admission.drain_rate, 3),
        pressure=round(admission.pressure, 3),
        backlog=round(admission.backlog / admission.bounds.backlog, 3),
        lag=round(admission.strain.lag, 3),
        commits=round(admission.strain.commits, 3),
        memory=round(admission.strain.memory, 3),
        refusals={short: count for short, count in admission.refusals.items() if count},
    )
