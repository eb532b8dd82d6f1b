"""Port `BulkJobStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres import requests
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import BulkJobRow, BulkState, Repeated, RequestKey, RequestRow, RunId

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("bulk_jobs")


class PostgresBulkJobStore:
    def __init__(self, database: Database, reads: Database | None = None) -> None:
        self._database = database
        self._reads = reads or database

    async def create(self, job: BulkJobRow, request: RequestKey | None) -> Repeated | None:
        values = (job.job_id, int(job.state), job.create_time, job.end_time, job.cursor, job.order, job.progress)
        while True:
            async with self._database.transaction() as connection:
                row = None if request is None else RequestRow(request, job.job_id)
                if row is None or await requests.remember(connection, row, job.create_time):
                    await connection.execute(_QUERIES["create"], *values)
                    return None
                # It may be forgotten between the two statements: then it is new again.
                if found := await requests.find(connection, row.key):
                    return found

    async def get(self, job_id: bytes) -> BulkJobRow | None:
        row = await self._database.fetch_row(_QUERIES["get"], job_id)
        return None if row is None else _job(row)

    async def list_jobs(self, limit: int, before: bytes | None = None) -> list[BulkJobRow]:
        return [_job(row) for row in await self._reads.fetch(_QUERIES["list"], before, limit)]

    async def live(self) -> list[BulkJobRow]:
        return [_job(row) for row in await self._database.fetch(_QUERIES["live"])]

    async def advance(self, job: BulkJobRow, cursor: RunId, progress: bytes, end_time: int | None) -> bool:
        arguments = (job.job_id, job.cursor, cursor, progress, end_time)
        return await self._database.fetch_value(_QUERIES["advance"], *arguments) is not None

    async def stop(self, job_id: bytes, now: int) -> None:
        await self._database.fetch(_QUERIES["stop"], job_id, now)


def _job(row: asyncpg.Record) -> BulkJobRow:
    return BulkJobRow(
        job_id=row["job_id"],
        state=BulkState(row["state"]),
        create_time=row["create_time"],
        end_time=row["end_time"],
        cursor=row["cursor"],
        order=row["description"],
        progress=row["progress"],
    )
