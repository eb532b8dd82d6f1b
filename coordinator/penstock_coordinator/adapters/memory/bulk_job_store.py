"""Port `BulkJobStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.adapters.memory.run_index import remember
from penstock_coordinator.ports import BulkJobRow, BulkState, Repeated, RequestKey, RequestRow, RunId

if TYPE_CHECKING:
    from penstock_coordinator.adapters.memory.database import MemoryDatabase


class MemoryBulkJobStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def create(self, job: BulkJobRow, request: RequestKey | None) -> Repeated | None:
        await reached(self._database)
        if request is not None:
            found = remember(self._database, RequestRow(request, job.job_id), job.create_time)
            if found is not None:
                return found
        self._database.bulk_jobs[job.job_id] = job
        return None

    async def get(self, job_id: bytes) -> BulkJobRow | None:
        await reached(self._database)
        return self._database.bulk_jobs.get(job_id)

    async def list_jobs(self, limit: int, before: bytes | None = None) -> list[BulkJobRow]:
        await reached(self._database)
        jobs = sorted(self._database.bulk_jobs.items(), reverse=True)
        return [job for job_id, job in jobs if before is None or job_id < before][:limit]

    async def live(self) -> list[BulkJobRow]:
        await reached(self._database)
        return [job for _, job in sorted(self._database.bulk_jobs.items()) if job.state is BulkState.RUNNING]

    async def advance(self, job: BulkJobRow, cursor: RunId, progress: bytes, end_time: int | None) -> bool:
        await reached(self._database)
        kept = self._database.bulk_jobs.get(job.job_id)
        if kept is None or kept.state is not BulkState.RUNNING or kept.cursor != job.cursor:
            return False
        state = BulkState.RUNNING if end_time is None else BulkState.COMPLETED
        self._database.bulk_jobs[job.job_id] = dataclasses.replace(
            kept, cursor=cursor, progress=progress, end_time=end_time, state=state
        )
        return True

    async def stop(self, job_id: bytes, now: int) -> None:
        await reached(self._database)
        kept = self._database.bulk_jobs.get(job_id)
        if kept is not None and kept.state is BulkState.RUNNING:
            self._database.bulk_jobs[job_id] = dataclasses.replace(kept, state=BulkState.STOPPED, end_time=now)
