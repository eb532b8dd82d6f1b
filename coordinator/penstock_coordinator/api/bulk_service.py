"""penstock.v1.BulkService."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from penstock.v1 import bulk_service_pb2 as pb
from penstock.v1 import run_pb2, run_service_pb2
from penstock.v1.bulk_service_pb2_grpc import BulkServiceServicer
from penstock_coordinator.api.dead_letter_fields import letter_selection
from penstock_coordinator.api.encoding import bulk as encode
from penstock_coordinator.api.errors import CallError, invalid, not_found
from penstock_coordinator.api.fields import instant_of, labels_of, name_of, states_of, text_of
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.api.request_ids import request_key, same_answer
from penstock_coordinator.ports import Repeated
from penstock_coordinator.runtime.bulk import CANCEL, PURGE, REQUEUE, RETRY, ROLLBACK, Order, Selection

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.runtime.bulk import BulkJob, BulkJobs

CREATE = "BulkService.Create"
_DONE = {CANCEL: "cancelled", RETRY: "retried", ROLLBACK: "rolled back"}
MAX_REASON = 1_000
MAX_REQUESTED_BY = 256


class BulkService(BulkServiceServicer):
    def __init__(self, jobs: BulkJobs, limits: Limits) -> None:
        self._jobs = jobs
        self._limits = limits

    async def Create(self, request: pb.CreateBulkJobRequest, context: Context) -> pb.CreateBulkJobResponse:
        order = self._order(request.job)
        if request.dry_run:
            return pb.CreateBulkJobResponse(job=encode.counted(order, *await self._jobs.count(order)))
        made = await self._jobs.create(order, request_key(CREATE, request))
        if isinstance(made, Repeated):
            return pb.CreateBulkJobResponse(job=encode.job(await self._found(same_answer(made))))
        return pb.CreateBulkJobResponse(job=encode.job(made))

    def _order(self, job: pb.BulkJob) -> Order:
        if not job.action or job.action not in pb.BulkAction.values():
            names = ", ".join(name for name, number in pb.BulkAction.items() if number)
            raise invalid("job.action", f"is required: one of {names}")
        if job.action in (REQUEUE, PURGE):
            return self._order_of_letters(job)
        if job.HasField("letters"):
            raise invalid("job.letters", "is for a requeue and a purge: leave it out, or choose another action")
        if job.cancel_mode not in run_service_pb2.CancelMode.values():
            raise invalid("job.cancel_mode", "must be CANCEL_MODE_POLITE or CANCEL_MODE_NOW")
        cancels = job.action == CANCEL
        if cancels and job.newest_version:
            raise invalid("job.newest_version", "is for retries and rollbacks: leave it out of a cancel")
        if not cancels and job.cancel_mode:
            raise invalid("job.cancel_mode", "is for cancels: leave it out")
        return Order(
            action=int(job.action),
            selection=self._selection(job.selection, int(job.action)),
            immediate=job.cancel_mode == run_service_pb2.CANCEL_MODE_NOW,
            newest_version=job.newest_version,
            reason=text_of(job.reason, "job.reason", MAX_REASON),
            requested_by=text_of(job.requested_by, "job.requested_by", MAX_REQUESTED_BY),
        )

    def _order_of_letters(self, job: pb.BulkJob) -> Order:
        if job.HasField("selection"):
            raise invalid("job.selection", "is for cancels and retries: choose dead letters with job.letters")
        if job.cancel_mode:
            raise invalid("job.cancel_mode", "is for cancels: leave it out")
        if job.newest_version:
            raise invalid("job.newest_version", "is for retries: leave it out")
        return Order(
            action=int(job.action),
            selection=Selection(),
            reason=text_of(job.reason, "job.reason", MAX_REASON),
            requested_by=text_of(job.requested_by, "job.requested_by", MAX_REQUESTED_BY),
            letters=letter_selection(job.letters, "job.letters", self._limits),
        )

    def _selection(self, chosen: pb.RunSelection, action: int) -> Selection:
        field = "job.selection"
        states = states_of(chosen.states, run_pb2.RunState.values(), f"{field}.states")
        for state in states:
            undone = action == ROLLBACK and state == run_pb2.RUN_STATE_ROLLED_BACK
            if undone or (action == CANCEL) == (state >= run_pb2.RUN_STATE_COMPLETED):
                what = _DONE[action]
                raise invalid(
                    f"{field}.states",
                    f"runs that are {run_pb2.RunState.Name(run_pb2.RunState.ValueType(state))} cannot be {what}",
                )
        after = instant_of(chosen, "created_after", field)
        before = instant_of(chosen, "created_before", field)
        if after is not None and before is not None and after >= before:
            raise invalid(f"{field}.created_after", "must be before created_before")
        return Selection(
            pipeline=name_of(chosen.pipeline, f"{field}.pipeline", "a pipeline") if chosen.pipeline else "",
            states=states,
            labels=tuple(sorted(labels_of(chosen.labels, f"{field}.labels", self._limits).items())),
            created_after=after,
            created_before=before,
        )

    async def Get(self, request: pb.GetBulkJobRequest, context: Context) -> pb.GetBulkJobResponse:
        return pb.GetBulkJobResponse(job=encode.job(await self._found(_id_of(request.id))))

    async def List(self, request: pb.ListBulkJobsRequest, context: Context) -> pb.ListBulkJobsResponse:
        size, tokens = page_size(request.page_size), PageTokens(request, bytes)
        jobs = await self._jobs.list_jobs(size + 1, tokens.read(request.page_token))
        return pb.ListBulkJobsResponse(
            jobs=[encode.job(each) for each in jobs[:size]],
            next_page_token=tokens.write(jobs[size - 1].row.job_id) if len(jobs) > size else "",
        )

    async def Stop(self, request: pb.StopBulkJobRequest, context: Context) -> pb.StopBulkJobResponse:
        found = await self._jobs.stop(_id_of(request.id))
        if found is None:
            raise _unknown()
        return pb.StopBulkJobResponse(job=encode.job(found))

    async def _found(self, job_id: bytes) -> BulkJob:
        found = await self._jobs.get(job_id)
        if found is None:
            raise _unknown()
        return found


def _id_of(text: str) -> bytes:
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise invalid("id", "is required: the id of a job, as `penstock bulk list` (List) and Create give it") from None
    return parsed.bytes


def _unknown() -> CallError:
    return not_found(
        "id", "UNKNOWN_BULK_JOB", "there is no such job: `penstock bulk list` (List) names those that there are"
    )
