"""Port `CostStore` in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import (
    AttemptCost,
    AttemptRow,
    CostFilter,
    Costs,
    Grouping,
    RunId,
    StepCost,
    cost_in,
    costs_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock_coordinator.adapters.memory.database import MemoryDatabase

DAY = 86_400 * 1_000_000


class MemoryCostStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def of_run(self, run_id: RunId) -> list[tuple[int, Costs]]:
        await reached(self._database)
        found: dict[int, Costs] = {}
        for row in self._database.attempts.get(run_id, {}).values():
            found[row.step] = found.get(row.step, Costs()) + costs_of_row(row)
        return sorted(found.items())

    async def of_runs(
        self, where: CostFilter, by: Grouping, label: str = "", limit: int = 1_000
    ) -> list[tuple[str, Costs]]:
        await reached(self._database)
        found: dict[str, Costs] = {}
        for pipeline, labels, at, costs in (*self._live(where), *self._kept(where)):
            if where.pipeline not in ("", pipeline) or not set(where.labels) <= set(labels):
                continue
            name = {"pipeline": pipeline, "label": dict(labels).get(label, ""), "day": _day(at), "": ""}[by]
            found[name] = found.get(name, Costs()) + costs
        return sorted(found.items(), key=lambda each: (-each[1].total.slot_time, each[0]))[:limit]

    async def of_steps(self, where: CostFilter) -> list[StepCost]:
        await reached(self._database)
        found: dict[tuple[str, RunId | None, int], Costs] = {}
        for run_id, rows in self._database.attempts.items():
            run = self._database.runs.get(run_id)
            wanted = run is not None and run.pipeline == where.pipeline and set(where.labels) <= set(run.labels)
            if run is None or not wanted or not _within(run.create_time, where):
                continue
            for row in rows.values():
                key = (run.version_digest, run_id if run.generation > 1 else None, row.step)
                found[key] = found.get(key, Costs()) + costs_of_row(row)
        return [StepCost(*key, costs) for key, costs in found.items()]

    def _live(self, where: CostFilter) -> Iterator[tuple[str, Iterable[tuple[str, str]], int, Costs]]:
        for run_id, rows in self._database.attempts.items():
            run = self._database.runs.get(run_id)
            note = self._database.removed_runs.get(run_id)
            if run is None and (note is None or note.gone or not note.pipeline):
                continue
            of = run if run is not None else note
            assert of is not None
            if _within(of.create_time, where):
                for row in rows.values():
                    yield of.pipeline, of.labels, of.create_time, costs_of_row(row)

    def _kept(self, where: CostFilter) -> Iterator[tuple[str, Iterable[tuple[str, str]], int, Costs]]:
        for (day, pipeline, labels), costs in self._database.cost_days.items():
            if _within(day * DAY, where):
                yield pipeline, labels, day * DAY, costs


def costs_of_row(row: AttemptRow) -> Costs:
    cost = cost_in(row.detail) or AttemptCost(slot_time=max(row.end_time - row.start_time, 0))
    return costs_of(cost, row.outcome)


def _within(at: int, where: CostFilter) -> bool:
    return (where.since is None or at >= where.since) and (where.until is None or at < where.until)


def _day(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).date().isoformat()
