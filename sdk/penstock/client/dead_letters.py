"""Dead letters: step runs that failed for good, to be looked at, requeued and purged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from penstock.client.identity import caller_name, new_request_id
from penstock.v1 import bulk_service_pb2, dead_letter_pb2, dead_letter_service_pb2, run_pb2
from penstock.v1.bulk_service_pb2_grpc import BulkServiceStub
from penstock.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub


class LetterFilters(TypedDict, total=False):
    """Letters that match all that is given."""

    pipeline: str
    run_id: str
    step: str
    """Its name: of a mapped step all items."""
    reason: str
    """Of the failure: "Poison", "UserError", ..."""
    error_class: str
    """Of the exception that user code raised, with its modules or without: "KeyError"."""
    budgets: Sequence[run_pb2.Budget.ValueType]
    """What was used up: one of these."""
    labels: Mapping[str, str] | None
    """Of the run."""
    failed_after: datetime | None
    failed_before: datetime | None


class DeadLetters:
    """What `client.dead_letters` is. An id is that of the run with a number: "<run id>:<number>"."""

    def __init__(
        self,
        letters: DeadLetterServiceStub,
        bulk: BulkServiceStub,
        call: Callable[[Any, Any], Awaitable[Any]],
        pages: Callable[[Any, Any], AsyncIterator[Any]],
    ) -> None:
        self._letters = letters
        self._bulk = bulk
        self._call = call
        self._pages = pages

    async def list(
        self,
        *,
        states: Sequence[dead_letter_pb2.DeadLetterState.ValueType] = (),
        **filters: Unpack[LetterFilters],
    ) -> AsyncIterator[dead_letter_pb2.DeadLetter]:
        """The newest failure first; those that are open, unless `states` says otherwise."""
        chosen = _selection(filters)
        request = dead_letter_service_pb2.ListDeadLettersRequest(selection=chosen, states=states)
        async for page in self._pages(self._letters.List, request):
            for letter in page.letters:
                yield letter

    async def get(self, letter_id: str, *, log_lines: int = 20) -> dead_letter_service_pb2.GetDeadLetterResponse:
        """The letter with its run, inputs, attempts, the last lines of its log, and what to do. Raises NotFoundError,
        also if it went with its run."""
        request = dead_letter_service_pb2.GetDeadLetterRequest(id=letter_id, log_lines=log_lines)
        response: dead_letter_service_pb2.GetDeadLetterResponse = await self._call(self._letters.Get, request)
        return response

    async def requeue(
        self, letter_id: str, *, reason: str = "", request_id: str | None = None
    ) -> dead_letter_service_pb2.RequeueDeadLetterResponse:
        """The step run runs again, with everything that comes after it, in a new generation of its run. Raises
        PreconditionError if the letter is not open, or a part of that is under way."""
        request = dead_letter_service_pb2.RequeueDeadLetterRequest(
            id=letter_id, reason=reason, requested_by=caller_name(), request_id=request_id or new_request_id()
        )
        response: dead_letter_service_pb2.RequeueDeadLetterResponse = await self._call(self._letters.Requeue, request)
        return response

    async def purge(self, letter_id: str) -> dead_letter_pb2.DeadLetter:
        """The letter is off the list; its run stays as it is. One that is not open is left as it is."""
        request = dead_letter_service_pb2.PurgeDeadLetterRequest(id=letter_id, requested_by=caller_name())
        response: dead_letter_service_pb2.PurgeDeadLetterResponse = await self._call(self._letters.Purge, request)
        return response.letter

    async def requeue_many(
        self,
        *,
        why: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
        **filters: Unpack[LetterFilters],
    ) -> bulk_service_pb2.BulkJob:
        """A job over the open letters that the filters find: those of one run go into one new generation. `client.bulk`
        follows it. With `dry_run` only counts: runs in `seen_count`, letters in `letter_count`."""
        chosen = _selection(filters)
        return await self._create(bulk_service_pb2.BULK_ACTION_REQUEUE, chosen, why, dry_run, request_id)

    async def purge_many(
        self,
        *,
        why: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
        **filters: Unpack[LetterFilters],
    ) -> bulk_service_pb2.BulkJob:
        """As `requeue_many`: the letters are off the list, their runs stay as they are."""
        chosen = _selection(filters)
        return await self._create(bulk_service_pb2.BULK_ACTION_PURGE, chosen, why, dry_run, request_id)

    async def _create(
        self,
        action: bulk_service_pb2.BulkAction.ValueType,
        chosen: dead_letter_pb2.DeadLetterSelection,
        why: str,
        dry_run: bool,
        request_id: str | None,
    ) -> bulk_service_pb2.BulkJob:
        job = bulk_service_pb2.BulkJob(action=action, letters=chosen, reason=why, requested_by=caller_name())
        request = bulk_service_pb2.CreateBulkJobRequest(
            job=job, request_id=request_id or new_request_id(), dry_run=dry_run
        )
        response: bulk_service_pb2.CreateBulkJobResponse = await self._call(self._bulk.Create, request)
        return response.job


def _selection(filters: LetterFilters) -> dead_letter_pb2.DeadLetterSelection:
    selection = dead_letter_pb2.DeadLetterSelection(
        pipeline=filters.get("pipeline", ""),
        run_id=filters.get("run_id", ""),
        step=filters.get("step", ""),
        reason=filters.get("reason", ""),
        budgets=filters.get("budgets", ()),
        labels=filters.get("labels"),
        error_class=filters.get("error_class", ""),
    )
    if (after := filters.get("failed_after")) is not None:
        selection.failed_after.FromDatetime(after)
    if (before := filters.get("failed_before")) is not None:
        selection.failed_before.FromDatetime(before)
    return selection
