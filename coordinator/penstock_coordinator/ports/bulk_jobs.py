"""Jobs over many runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from penstock_coordinator.ports.common import RunId
from penstock_coordinator.ports.requests import Repeated, RequestKey


class BulkState(enum.IntEnum):
    """The numbers are those of penstock.v1.BulkJobState."""

    RUNNING = 1
    COMPLETED = 2
    STOPPED = 3


@dataclass(frozen=True, slots=True)
class BulkJobRow:
    """A job that goes through runs, newest first. `cursor` is the run that was done last, or a bound above all of them;
    order and progress are packed by `runtime.bulk`."""

    job_id: bytes
    state: BulkState
    create_time: int
    end_time: int | None
    cursor: RunId
    order: bytes
    progress: bytes


class BulkJobStore(Protocol):
    """Jobs over many runs. Ids grow with time. All methods raise `Unavailable`."""

    async def create(self, job: BulkJobRow, request: RequestKey | None) -> Repeated | None:
        """Durable when it returns. Repeated, and nothing is stored, if the request came before; its answer is the first
        job's id."""

    async def get(self, job_id: bytes) -> BulkJobRow | None: ...

    async def list_jobs(self, limit: int, before: bytes | None = None) -> list[BulkJobRow]:
        """Newest first, of those older than `before`."""

    async def live(self) -> list[BulkJobRow]:
        """Those that are RUNNING, oldest first."""

    async def advance(self, job: BulkJobRow, cursor: RunId, progress: bytes, end_time: int | None) -> bool:
        """Keep the place that the job came to, from the row's own; with an end it is COMPLETED. False, and nothing is
        kept, if the job is elsewhere by now, or was stopped."""

    async def stop(self, job_id: bytes, now: int) -> None:
        """One that is not RUNNING is left as it is."""
