"""Port `RetentionStore`: each method is one short transaction through the pool, never a lane's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.connections import ANSWER_SECONDS, answering_within, unavailable
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import EndedRuns, OldRows, RunId, RunRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("retention")


class PostgresRetentionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def bytes_taken(self) -> int:
        taken: int = await self._database.fetch_value(_QUERIES["bytes_taken"])
        return taken

    async def ended_runs(self, which: EndedRuns, after: RunId, limit: int) -> list[RunId]:
        before, pipeline = which.ended_before, which.pipeline or None
        bounds = [bound for bound in (which.below, None if before is None else first_id_after(before)) if bound]
        return await self._ids(
            "ended_runs", after, min(bounds, default=None), before, which.ended_from, pipeline, limit
        )

    async def held_from_below(self) -> frozenset[RunId]:
        return frozenset(await self._ids("held_from_below"))

    async def nth_newest(self, pipeline: str, number: int) -> RunId | None:
        found = await self._ids("nth_newest", pipeline, number)
        return found[0] if found else None

    async def pipelines_of_runs(self, after: str, limit: int) -> list[str]:
        return [row["name"] for row in await self._database.fetch(_QUERIES["pipelines_of_runs"], after, limit)]

    async def children(self, parents: Sequence[RunId], after: RunId, limit: int) -> list[RunId]:
        return await self._ids("children", list(parents), after, limit)

    async def remove_runs(self, run_ids: Sequence[RunId], which: EndedRuns, now: int) -> list[RunId]:
        arguments = (list(run_ids), now, which.ended_before, which.pipeline or None, which.below)
        rows = await self._asynchronously("remove_runs", *arguments)
        return sorted(row["run_id"] for row in rows)

    async def noted(self, after: RunId, limit: int) -> list[RunId]:
        return await self._ids("noted", after, limit)

    async def count_rows(self, rows: RunRows, run_ids: Sequence[RunId]) -> int:
        return await self._count(f"count_{rows.value}", list(run_ids))

    async def remove_rows(self, rows: RunRows, run_ids: Sequence[RunId], limit: int) -> int:
        return await self._remove(f"remove_{rows.value}", list(run_ids), limit)

    async def free_run_keys(self, run_ids: Sequence[RunId]) -> int:
        return await self._remove("free_run_keys", list(run_ids))

    async def all_gone(self, run_ids: Sequence[RunId]) -> None:
        await self._asynchronously("all_gone", list(run_ids))

    async def runs_with_logs(self, ended_before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        return await self._among("runs_with_logs", limit, after, first_id_after(ended_before), ended_before)

    async def strays(self, rows: RunRows, before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        return await self._among(f"strays_{rows.value}", limit, after, first_id_after(before))

    async def note_strays(self, run_ids: Sequence[RunId], now: int) -> int:
        return await self._remove("note_strays", list(run_ids), now)

    async def count_old(self, rows: OldRows, before: int, among: Sequence[str] = ()) -> int:
        return await self._count(f"count_{rows.value}", before, *_named(rows, among))

    async def remove_old(self, rows: OldRows, before: int, limit: int, among: Sequence[str] = ()) -> int:
        if rows is OldRows.PIPELINES:
            return await self._remove_pipelines(before, limit)
        return await self._remove(f"remove_{rows.value}", before, limit, *_named(rows, among))

    async def _remove_pipelines(self, before: int, limit: int) -> int:
        async with self._database.transaction() as connection:
            names = [row["name"] for row in await connection.fetch(_QUERIES["lock_pipelines"], before, limit)]
            await connection.execute(_QUERIES["remove_versions"], names)
        return len(names)

    async def versions(self, after: tuple[str, int], limit: int) -> list[tuple[str, int, str]]:
        rows = await self._database.fetch(_QUERIES["versions"], *after, limit)
        return [(row["pipeline"], row["number"], row["digest"]) for row in rows]

    async def old_bundles(self, before: int, after: str, limit: int) -> list[str]:
        return [row["digest"] for row in await self._database.fetch(_QUERIES["old_bundles"], before, after, limit)]

    async def live_ids(self, owner: str, after: RunId, limit: int) -> list[RunId]:
        return await self._ids("live_ids", owner, after, limit)

    async def live_of_others(self, owner: str) -> dict[str, int]:
        return {row["owner"]: row["count"] for row in await self._database.fetch(_QUERIES["live_of_others"], owner)}

    async def removed_at(self, run_id: RunId) -> int | None:
        found: int | None = await self._database.fetch_value(_QUERIES["removed_at"], run_id)
        return found

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        async with self._database.apart("janitor") as connection:
            with unavailable(), answering_within(ANSWER_SECONDS, connection):
                mine: bool = await connection.fetchval(_QUERIES["take_turn"])
            yield mine

    # --- ways to ask

    async def _ids(self, query: str, *arguments: object) -> list[RunId]:
        return [row["run_id"] for row in await self._database.fetch(_QUERIES[query], *arguments)]

    async def _among(self, query: str, limit: int, *arguments: object) -> tuple[list[RunId], RunId | None]:
        """Those of the ids that are meant, and the last id unless all have been seen."""
        rows = await self._database.fetch(_QUERIES[query], *arguments, limit)
        last: RunId | None = rows[-1]["run_id"] if len(rows) == limit else None
        return [row["run_id"] for row in rows if row["free"]], last

    async def _count(self, query: str, *arguments: object) -> int:
        count: int = await self._database.fetch_value(_QUERIES[query], *arguments)
        return count

    async def _remove(self, query: str, *arguments: object) -> int:
        ((count,),) = await self._asynchronously(query, *arguments)
        return int(count)

    async def _asynchronously(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._database.transaction() as connection:
            await connection.execute(_QUERIES["asynchronously"])
            return await connection.fetch(_QUERIES[query], *arguments)


def first_id_after(instant: int) -> RunId:
    """A bound above the ids of all runs that were created at the instant or before."""
    return (instant // 1_000 + 1).to_bytes(6, "big") + bytes(10)


def _named(rows: OldRows, among: Sequence[str]) -> tuple[list[str], ...]:
    return (list(among),) if rows is OldRows.BUNDLES else ()
