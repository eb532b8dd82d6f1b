"""Cancels, retries and rollbacks of many runs, as jobs of the coordinator that survive restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.client.identity import caller_name, new_request_id
from penstock.v1 import bulk_service_pb2, bulk_service_pb2_grpc, run_pb2, run_service_pb2

_LOOK_EVERY = 0.5


class BulkJobs:
    """What `client.bulk` is. A job goes through the runs that were created before it and that its filters find."""

    def __init__(
        self,
        stub: bulk_service_pb2_grpc.BulkServiceStub,
        call: Callable[[Any, Any], Awaitable[Any]],
        pages: Callable[[Any, Any], AsyncIterator[Any]],
    ) -> None:
        self._stub = stub
        self._call = call
        self._pages = pages

    async def cancel(
        self,
        *,
        pipeline: str = "",
        states: Sequence[run_pb2.RunState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        now: bool = False,
        reason: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> bulk_service_pb2.BulkJob:
        """Cancels the live runs that the filters find. With `dry_run` only counts them, in `seen_count`."""
        job = bulk_service_pb2.BulkJob(
            action=bulk_service_pb2.BULK_ACTION_CANCEL,
            selection=_selection(pipeline, states, labels, created_after, created_before),
            cancel_mode=run_service_pb2.CANCEL_MODE_NOW if now else run_service_pb2.CANCEL_MODE_POLITE,
            reason=reason,
        )
        return await self._create(job, dry_run, request_id)

    async def retry(
        self,
        *,
        pipeline: str = "",
        states: Sequence[run_pb2.RunState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        newest_version: bool = False,
        reason: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> bulk_service_pb2.BulkJob:
        """Retries the runs that are FAILED or CANCELLED and that the filters find, each with its own version of its
        pipeline or with the newest one. With `dry_run` only counts them."""
        job = bulk_service_pb2.BulkJob(
            action=bulk_service_pb2.BULK_ACTION_RETRY,
            newest_version=newest_version,
            selection=_selection(pipeline, states, labels, created_after, created_before),
            reason=reason,
        )
        return await self._create(job, dry_run, request_id)

    async def rollback(
        self,
        *,
        pipeline: str = "",
        states: Sequence[run_pb2.RunState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        newest_version: bool = False,
        reason: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> bulk_service_pb2.BulkJob:
        """Rolls back the runs that are FAILED or CANCELLED and that the filters find, COMPLETED ones too if `states`
        names them. With `dry_run` only counts them."""
        job = bulk_service_pb2.BulkJob(
            action=bulk_service_pb2.BULK_ACTION_ROLLBACK,
            newest_version=newest_version,
            selection=_selection(pipeline, states, labels, created_after, created_before),
            reason=reason,
        )
        return await self._create(job, dry_run, request_id)

    async def _create(
        self, job: bulk_service_pb2.BulkJob, dry_run: bool, request_id: str | None
    ) -> bulk_service_pb2.BulkJob:
        job.requested_by = caller_name()
        request = bulk_service_pb2.CreateBulkJobRequest(
            job=job, request_id=request_id or new_request_id(), dry_run=dry_run
        )
        response: bulk_service_pb2.CreateBulkJobResponse = await self._call(self._stub.Create, request)
        return response.job

    async def get(self, job_id: str) -> bulk_service_pb2.BulkJob:
        request = bulk_service_pb2.GetBulkJobRequest(id=job_id)
        response: bulk_service_pb2.GetBulkJobResponse = await self._call(self._stub.Get, request)
        return response.job

    async def list(self) -> AsyncIterator[bulk_service_pb2.BulkJob]:
        """Newest first."""
        request = bulk_service_pb2.ListBulkJobsRequest()
        async for page in self._pages(self._stub.List, request):
            for job in page.jobs:
                yield job

    async def stop(self, job_id: str) -> bulk_service_pb2.BulkJob:
        """The job goes no further. One that has ended is left as it is."""
        request = bulk_service_pb2.StopBulkJobRequest(id=job_id)
        response: bulk_service_pb2.StopBulkJobResponse = await self._call(self._stub.Stop, request)
        return response.job

    async def wait(self, job_id: str) -> bulk_service_pb2.BulkJob:
        """Returns when the job has gone through all of its runs, or was stopped."""
        while True:
            job = await self.get(job_id)
            if job.state != bulk_service_pb2.BULK_JOB_STATE_RUNNING:
                return job
            await asyncio.sleep(_LOOK_EVERY)


def _selection(
    pipeline: str,
    states: Sequence[run_pb2.RunState.ValueType],
    labels: Mapping[str, str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
) -> bulk_service_pb2.RunSelection:
    selection = bulk_service_pb2.RunSelection(pipeline=pipeline, states=states, labels=labels)
    if created_after is not None:
        selection.created_after.FromDatetime(created_after)
    if created_before is not None:
        selection.created_before.FromDatetime(created_before)
    return selection
