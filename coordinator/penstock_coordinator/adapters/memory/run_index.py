"""Port `RunIndex` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.database import FIRST_STATE_AT_REST, KeptRequest, MemoryDatabase
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import (
    ANY_GENERATION,
    AttemptRow,
    Repeated,
    RequestKey,
    RequestRow,
    RunFilter,
    RunId,
    RunOwner,
    RunRow,
    StepRunRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COMPLETED = 5


class MemoryRunIndex:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def get(self, run_id: RunId) -> RunRow | None:
        await reached(self._database)
        row = self._database.runs.get(run_id)
        if row is None:
            return None
        records = self._database.records.get(run_id, {})
        return dataclasses.replace(row, last_seq=records[max(records)].last_seq if records else 0)

    async def get_many(self, run_ids: Sequence[RunId]) -> list[RunRow]:
        return [row for run_id in dict.fromkeys(run_ids) if (row := await self.get(run_id)) is not None]

    async def owners(self, run_ids: Sequence[RunId]) -> dict[RunId, RunOwner]:
        return {row.run_id: RunOwner(row.owner, row.state) for row in await self.get_many(run_ids)}

    async def list_runs(self, where: RunFilter, limit: int, before: RunId | None = None) -> list[RunRow]:
        found = await self._select(lambda row: (before is None or row.run_id < before) and _matches(row, where))
        return [dataclasses.replace(row, output=None) for row in found[::-1][:limit]]

    async def live_runs(self, owner: str) -> list[RunRow]:
        return await self._select(lambda row: row.owner == owner and row.state < FIRST_STATE_AT_REST)

    async def count_live(self, pipeline: str) -> int:
        return len(await self._select(lambda row: row.pipeline == pipeline and row.state < FIRST_STATE_AT_REST))

    async def _select(self, wanted: Callable[[RunRow], bool]) -> list[RunRow]:
        """Oldest first."""
        await reached(self._database)
        return [row for _, row in sorted(self._database.runs.items()) if wanted(row)]

    async def step_runs(
        self, run_id: RunId, first: tuple[int, int], last: tuple[int, int], generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        newest = await self._newest(run_id, generation)
        return [newest[key] for key in sorted(newest) if first <= key <= last]

    async def whole_steps(
        self, run_id: RunId, first: int, last: int, generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        rows = await self.step_runs(run_id, (first, -1), (last, -1), generation)
        return [row for row in rows if row.item == -1]

    async def _newest(self, run_id: RunId, up_to: int) -> dict[tuple[int, int], StepRunRow]:
        """By (step, item), of the last generation each."""
        await reached(self._database)
        rows = sorted(self._database.step_runs.get(run_id, {}).items())
        return {(step, item): row for (step, item, generation), row in rows if generation <= up_to}

    async def attempts(self, run_id: RunId, step: int, item: int) -> list[AttemptRow]:
        await reached(self._database)
        rows = sorted(self._database.attempts.get(run_id, {}).items())
        return [row for key, row in rows if key[:2] == (step, item)]

    async def outputs(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> list[tuple[int, bytes]]:
        rows = await self.step_runs(run_id, (step, -1 << 31), (step, (1 << 31) - 1), generation)
        return [(row.item, row.output or b"") for row in rows if row.state == _COMPLETED]

    async def outputs_size(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> int:
        return sum(len(output) for _, output in await self.outputs(run_id, step, generation))

    async def find_request(self, scope: str, method: str, request_id: str) -> RequestRow | None:
        await reached(self._database)
        kept = self._database.requests.get((scope, method, request_id))
        return None if kept is None else kept.row

    async def find_requests(self, keys: Sequence[RequestKey]) -> list[Repeated | None]:
        await reached(self._database)
        return [repetition(self._database, key) for key in keys]

    async def key_holders(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[RunId, int]]:
        await reached(self._database)
        held = {name: run_id for name in names if (run_id := self._database.run_keys.get(name)) is not None}
        return {name: (run_id, self._database.runs[run_id].state) for name, run_id in held.items()}

    async def remember_request(self, request: RequestRow, now: int) -> Repeated | None:
        await reached(self._database)
        return remember(self._database, request, now)


def _matches(row: RunRow, where: RunFilter) -> bool:
    if where.pipeline and row.pipeline != where.pipeline:
        return False
    if where.states and row.state not in where.states:
        return False
    parent = row.origin.parent
    if where.parent is not None and (parent is None or parent.run_id != where.parent):
        return False
    if where.run_key and row.origin.run_key != where.run_key:
        return False
    return set(where.labels) <= set(row.labels) and not (where.top_level and parent is not None)


def repetition(database: MemoryDatabase, key: RequestKey) -> Repeated | None:
    kept = database.requests.get((key.scope, key.method, key.id))
    return None if kept is None else Repeated(same=kept.row.key.digest == key.digest, answer=kept.row.answer)


def remember(database: MemoryDatabase, request: RequestRow, now: int) -> Repeated | None:
    key = request.key
    if (found := repetition(database, key)) is None:
        database.requests[key.scope, key.method, key.id] = KeptRequest(request, None, now)
    return found
