"""Port `CostStore`: sums over the rows of attempts, and over what is left of removed runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.batch import label_terms
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.retention import first_id_after
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import Cost, CostFilter, Costs, Grouping, RunId, StepCost

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("costs")
_CLOCK_SLACK = 3_600 * 1_000_000
"""A run's id is made a moment before or after the instant that is stored as its creation."""
_NAMES = ("attempts", "slot_time", "cpu_time", "peak_memory_bytes", "bytes_moved", "memory_time")


class PostgresCostStore:
    def __init__(self, reads: Database) -> None:
        self._reads = reads

    async def of_run(self, run_id: RunId) -> list[tuple[int, Costs]]:
        return [(row["step"], _costs(row)) for row in await self._reads.fetch(_QUERIES["of_run"], run_id)]

    async def of_runs(
        self, where: CostFilter, by: Grouping, label: str = "", limit: int = 1_000
    ) -> list[tuple[str, Costs]]:
        arguments = _arguments(where, label)
        if arguments is None:
            return []
        rows = await self._reads.fetch(_QUERIES["of_runs"], *arguments, by, f"{label}=", limit)
        return [(row["name"], _costs(row)) for row in rows if row["attempts"]]

    async def of_steps(self, where: CostFilter) -> list[StepCost]:
        arguments = _arguments(where)
        rows = [] if arguments is None else await self._reads.fetch(_QUERIES["of_steps"], *arguments)
        return [StepCost(row["version_digest"], row["run_id"], row["step"], _costs(row)) for row in rows]


def _arguments(where: CostFilter, label: str = "") -> tuple[object, ...] | None:
    """Which runs; None: no run is so."""
    terms = label_terms(where.labels)
    if not storable(where.pipeline, label, *terms):
        return None
    low = None if where.since is None else first_id_after(max(where.since - _CLOCK_SLACK, 0))
    high = None if where.until is None else first_id_after(where.until + _CLOCK_SLACK)
    return (where.pipeline or None, terms or None, where.since, where.until, low, high)


def _costs(row: asyncpg.Record) -> Costs:
    return Costs(Cost(*(row[name] for name in _NAMES)), Cost(*(row[f"wasted_{name}"] for name in _NAMES)))
