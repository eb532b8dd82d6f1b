"""Port `RunIndex`: what is asked of the rows that records brought with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres import requests
from penstock_coordinator.adapters.postgres.batch import (
    label_terms,
    labels_of,
    unpacked_origin,
    unpacked_pairs,
    unpacked_text,
)
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
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
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("runs")
_RUN_KEYS = load("run_keys")


class PostgresRunIndex:
    def __init__(self, database: Database, reads: Database | None = None) -> None:
        self._database = database
        self._reads = reads or database

    async def get(self, run_id: RunId) -> RunRow | None:
        row = await self._database.fetch_row(_QUERIES["get"], run_id)
        return None if row is None else _run(row)

    async def get_many(self, run_ids: Sequence[RunId]) -> list[RunRow]:
        return [_run(row) for row in await self._database.fetch(_QUERIES["get_many"], list(run_ids))]

    async def owners(self, run_ids: Sequence[RunId]) -> dict[RunId, RunOwner]:
        found = await self._database.fetch(_QUERIES["owners"], list(run_ids))
        return {row["run_id"]: RunOwner(row["owner"], row["state"]) for row in found}

    async def list_runs(self, where: RunFilter, limit: int, before: RunId | None = None) -> list[RunRow]:
        terms = label_terms(where.labels)
        if not storable(where.pipeline, where.run_key, *terms):
            return []
        states, key = list(where.states) or None, where.run_key or None
        arguments = (before, where.pipeline or None, states, terms or None, where.parent, key, where.top_level, limit)
        return [_run(row) for row in await self._reads.fetch(_QUERIES["list"], *arguments)]

    async def live_runs(self, owner: str) -> list[RunRow]:
        if not storable(owner):
            return []
        return [_run(row) for row in await self._database.fetch(_QUERIES["live"], owner)]

    async def count_live(self, pipeline: str) -> int:
        if not storable(pipeline):
            return 0
        count: int = await self._database.fetch_value(_QUERIES["count_live"], pipeline)
        return count

    async def step_runs(
        self, run_id: RunId, first: tuple[int, int], last: tuple[int, int], generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        rows = await self._reads.fetch(_QUERIES["step_runs"], run_id, *first, *last, generation)
        return [StepRunRow(**row) for row in rows]

    async def whole_steps(
        self, run_id: RunId, first: int, last: int, generation: int = ANY_GENERATION
    ) -> list[StepRunRow]:
        rows = await self._reads.fetch(_QUERIES["whole_steps"], run_id, first, last, generation)
        return [StepRunRow(**row) for row in rows]

    async def attempts(self, run_id: RunId, step: int, item: int) -> list[AttemptRow]:
        rows = await self._reads.fetch(_QUERIES["attempts"], run_id, step, item)
        return [AttemptRow(**row) for row in rows]

    async def outputs(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> list[tuple[int, bytes]]:
        rows = await self._database.fetch(_QUERIES["outputs"], run_id, step, generation)
        return [(row["item"], row["output"]) for row in rows]

    async def outputs_size(self, run_id: RunId, step: int, generation: int = ANY_GENERATION) -> int:
        size: int = await self._database.fetch_value(_QUERIES["outputs_size"], run_id, step, generation)
        return size

    async def find_request(self, scope: str, method: str, request_id: str) -> RequestRow | None:
        row = await self._database.fetch_row(requests.QUERIES["find"], requests.packed_key(scope, method, request_id))
        return None if row is None else RequestRow(RequestKey(scope, method, request_id, row["digest"]), row["answer"])

    async def find_requests(self, keys: Sequence[RequestKey]) -> list[Repeated | None]:
        packed = [requests.packed(key) for key in keys]
        rows = await self._database.fetch(requests.QUERIES["find_many"], packed)
        found = {row["key"]: row for row in rows}
        return [
            requests.repetition(key, found[name]) if name in found else None
            for key, name in zip(keys, packed, strict=True)
        ]

    async def key_holders(self, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[RunId, int]]:
        known = [name for name in names if storable(*name)]
        columns = [pipeline for pipeline, _ in known], [run_key for _, run_key in known]
        rows = await self._database.fetch(_RUN_KEYS["holders"], *columns)
        return {(row["pipeline"], row["run_key"]): (row["run_id"], row["state"]) for row in rows}

    async def remember_request(self, request: RequestRow, now: int) -> Repeated | None:
        async with self._database.connection() as connection:
            while not await requests.remember(connection, request, now):
                # It may be forgotten between the two statements: then it is new again.
                if found := await requests.find(connection, request.key):
                    return found
        return None


def _run(row: asyncpg.Record) -> RunRow:
    return RunRow(
        run_id=row["run_id"],
        pipeline=row["pipeline"],
        version_number=row["version_number"],
        version_digest=row["version_digest"],
        parameters=row["parameters"],
        labels=labels_of(row["labels"]),
        trace_context=unpacked_pairs(row["trace_context"]),
        owner=row["owner"],
        state=row["state"],
        reason=unpacked_text(row["reason"]),
        create_time=row["create_time"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        summary=row["summary"],
        last_seq=row["last_seq"],
        generation=row["generation"],
        origin=unpacked_origin(row["parent_run_id"], row["run_key"], row["origin"]),
        output=row["output"],
    )
