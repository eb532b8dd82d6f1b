"""What is done to many runs, or to their dead letters, as jobs that keep their place.

A job goes through the runs that its selection finds, newest first, a page at a time; the place is kept after each page.
What it does to a run may be done again after a crash: each run is asked for under a request id of the job, so that the
second time changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import structlog

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.run.messages import CancelRun, RequeueSteps, RetryRun, RollbackRun
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import (
    BulkJobRow,
    BulkState,
    LetterFilter,
    LetterRow,
    Repeated,
    RequestKey,
    RequestRow,
    RunFilter,
    RunId,
    RunRow,
    Unavailable,
)
from penstock_coordinator.runtime.dead_letters import requeue_of
from penstock_coordinator.runtime.renewing import NEWEST
from penstock_coordinator.runtime.views import NotAccepted, Overloaded, SetAside, Stopping, UnknownRun, UnknownVersion

if TYPE_CHECKING:
    from penstock_coordinator.core.run.messages import RenewingMessage
    from penstock_coordinator.runtime.elsewhere import Elsewhere
    from penstock_coordinator.runtime.reopening import Reopener
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

PAGE = 100
COUNTED_PAGE = 1_000
MOST_REFUSALS = 100
REFUSAL_CHARACTERS = 500
LOOK_EVERY = 5.0
"""Seconds: for jobs of a coordinator that is gone, and after the database was away."""
CANCEL, RETRY, REQUEUE, PURGE, ROLLBACK = 1, 2, 3, 4, 5
"""Actions, by the numbers of penstock.v1.BulkAction."""

_LIVE = tuple(state for state in RunState if not state.at_rest)
_ENDED_BADLY = (RunState.FAILED, RunState.CANCELLED)


class Selection(msgspec.Struct, frozen=True, array_like=True):
    pipeline: str = ""
    states: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    created_after: int | None = None
    created_before: int | None = None


class LetterSelection(msgspec.Struct, frozen=True, array_like=True):
    pipeline: str = ""
    run_id: RunId = b""
    step: str = ""
    reason: str = ""
    budgets: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    failed_after: int | None = None
    failed_before: int | None = None
    error_class: str = ""


class Order(msgspec.Struct, frozen=True, array_like=True):
    action: int
    selection: Selection
    immediate: bool = False
    newest_version: bool = False
    reason: str = ""
    requested_by: str = ""
    letters: LetterSelection | None = None
    """Of a REQUEUE and a PURGE, in the place of the selection of runs."""


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    run_id: RunId
    message: str


class Progress(msgspec.Struct, array_like=True):
    seen: int = 0
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    refusals: list[Refusal] = []
    page: list[RunId] = []
    """What is being worked on. Kept before anything is done to it: what was changed may not be of the selection any
    more when another coordinator goes on."""
    after: RunId = b""
    """The cursor once that is done; empty if it is the last page."""


@dataclass(frozen=True, slots=True)
class BulkJob:
    row: BulkJobRow
    order: Order
    progress: Progress


class Refused(Exception):
    """The action cannot be done to the run; the text says why."""


class Unchanged(Exception):
    """There is nothing to do to the run any more."""


Action: TypeAlias = Callable[[BulkJob, RunRow, RequestRow], Awaitable[Repeated | None]]
"""Does it to one run, once per request. Raises `Refused`, `Unchanged`."""

_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(Order).decode
_decode_progress = msgspec.msgpack.Decoder(Progress).decode


class BulkJobs:
    def __init__(self, supervisor: Supervisor, reopener: Reopener, elsewhere: Elsewhere) -> None:
        self._elsewhere = elsewhere
        self._supervisor = supervisor
        self._reopener = reopener
        self._store = supervisor.stores.bulk_jobs
        self._wake = asyncio.Event()
        self._actions: dict[int, Action] = {
            CANCEL: self._cancel,
            RETRY: self._retry,
            REQUEUE: self._requeue,
            PURGE: self._purge,
            ROLLBACK: self._rollback,
        }

    # --- what is asked for

    async def create(self, order: Order, request: RequestKey | None) -> BulkJob | Repeated:
        """Durable when it returns; only runs from before it are touched. Raises `Overloaded` for what makes
        work; cancels make room."""
        if order.action != CANCEL:
            self._supervisor.check_open(1)
        now = self._supervisor.clock.now()
        row = BulkJobRow(
            job_id=self._supervisor.ids.run_id(),
            state=BulkState.RUNNING,
            create_time=now,
            end_time=None,
            cursor=_bound(order.selection, now),
            order=_encode(order),
            progress=_encode(Progress()),
        )
        repeated = await self._store.create(row, request)
        if repeated is not None:
            return repeated
        self._wake.set()
        return _job(row)

    async def count(self, order: Order) -> tuple[int, int]:
        """How many runs a job would look at now, and how many dead letters."""
        now = self._supervisor.clock.now()
        if order.letters is not None:
            letters, runs = await self._supervisor.stores.dead_letters.count(_filter(order.letters, now))
            return runs, letters
        cursor: RunId | None = _bound(order.selection, now)
        count = 0
        while cursor is not None:
            rows, cursor = await self._page(order, cursor, now, COUNTED_PAGE)
            count += len(rows)
        return count, 0

    async def get(self, job_id: bytes) -> BulkJob | None:
        row = await self._store.get(job_id)
        return None if row is None else _job(row)

    async def list_jobs(self, limit: int, before: bytes | None) -> list[BulkJob]:
        return [_job(row) for row in await self._store.list_jobs(limit, before)]

    async def stop(self, job_id: bytes) -> BulkJob | None:
        """One at rest is left as it is; None if there is none of that id."""
        await self._store.stop(job_id, self._supervisor.clock.now())
        return await self.get(job_id)

    # --- the work

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                while await self.run_once():
                    pass
            except (Unavailable, Stopping, NotAccepted, Overloaded) as error:
                log.warning("bulk_jobs_postponed", reason=str(error))
            self._wake.clear()
            # Not `wait_for`: it forgets that it was cancelled if it is woken at the same moment.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wake.wait()

    async def run_once(self) -> bool:
        """One page of each live job. False if none is left. Raises `Unavailable`, `Stopping`, `NotAccepted`: then the
        place is the one that was kept last."""
        live = await self._store.live()
        for row in live:
            await self._advance(_job(row))
        return bool(live)

    async def _advance(self, job: BulkJob) -> None:
        progress = job.progress
        again = bool(progress.page)
        rows = await self._begun(progress.page) if again else await self._begin(job)
        outcomes = await asyncio.gather(*(self._do(job, row, again=again) for row in rows))
        progress.seen += len(rows)
        for row, outcome in zip(rows, outcomes, strict=True):
            _count(progress, row, outcome)
        cursor, ended = progress.after, None if progress.after else self._supervisor.clock.now()
        progress.page, progress.after = [], b""
        await self._store.advance(job.row, cursor or job.row.cursor, _encode(progress), ended)

    async def _begin(self, job: BulkJob) -> list[RunRow]:
        """The next page, which is kept before it is answered."""
        rows, cursor = await self._page(job.order, job.row.cursor, job.row.create_time, PAGE)
        job.progress.page, job.progress.after = [row.run_id for row in rows], cursor or b""
        kept = not rows or await self._store.advance(job.row, job.row.cursor, _encode(job.progress), None)
        return rows if kept else []

    async def _begun(self, page: list[RunId]) -> list[RunRow]:
        found = [await self._supervisor.stores.runs.get(run_id) for run_id in page]
        return [row for row in found if row is not None]

    async def _page(
        self, order: Order, cursor: RunId, created_before: int, limit: int
    ) -> tuple[list[RunRow], RunId | None]:
        """The next runs, and where to go on; None: there are no more."""
        if order.letters is not None:
            return await self._page_of_letters(_filter(order.letters, created_before), cursor, limit)
        chosen = order.selection
        states = chosen.states or tuple(map(int, _LIVE if order.action == CANCEL else _ENDED_BADLY))
        where = RunFilter(pipeline=chosen.pipeline, states=states, labels=chosen.labels)
        rows = await self._supervisor.stores.runs.list_runs(where, limit, cursor)
        inside = [row for row in rows if row.create_time <= created_before and _chosen(chosen, row)]
        too_old = bool(rows) and chosen.created_after is not None and rows[-1].create_time < chosen.created_after
        return inside, None if len(rows) < limit or too_old else rows[-1].run_id

    async def _page_of_letters(
        self, where: LetterFilter, cursor: RunId, limit: int
    ) -> tuple[list[RunRow], RunId | None]:
        stores = self._supervisor.stores
        found = await stores.dead_letters.runs(where, limit, cursor)
        rows = sorted(await stores.runs.get_many(found), key=_id, reverse=True)
        return rows, found[-1] if len(found) == limit else None

    async def _do(self, job: BulkJob, row: RunRow, *, again: bool = False) -> str | bool:
        """Whether the run was changed, or why not. `again`: it may have been changed by this job before."""
        key = RequestKey("bulk", "BulkService", f"{job.row.job_id.hex()}:{row.run_id.hex()}", _digest(job))
        if again and job.order.action == CANCEL and RunState(row.state).at_rest:
            return True
        try:
            repeated = await self._actions[job.order.action](job, row, RequestRow(key, row.run_id))
        except Refused as refused:
            return str(refused)
        except SetAside as aside:
            return f"the run could not be made again from its journal: {aside.why}"
        except (UnknownRun, Unchanged):
            return False
        return repeated is None or repeated.same

    async def _cancel(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        order = job.order
        if RunState(row.state).at_rest:
            raise Refused(f"the run is {RunState(row.state).name}")
        message = CancelRun(self._supervisor.clock.now(), order.immediate, order.reason, order.requested_by)
        try:
            if await self._elsewhere.cancel(row.run_id, message, request.key.id):
                return None
        except NotPossible as refused:
            raise Refused(str(refused)) from None
        return await self._supervisor.ask(row.run_id, message, request)

    async def _retry(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        message = RetryRun(self._supervisor.clock.now(), job.order.requested_by, job.order.reason)
        return await self._reopen(job, row, message, request)

    async def _rollback(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        message = RollbackRun(self._supervisor.clock.now(), job.order.requested_by, job.order.reason)
        return await self._reopen(job, row, message, request)

    async def _reopen(
        self, job: BulkJob, row: RunRow, message: RenewingMessage, request: RequestRow
    ) -> Repeated | None:
        try:
            version = NEWEST if job.order.newest_version else None
            done = await self._reopener.reopen(row.run_id, message, request.key, version)
        except NotPossible as refused:
            raise Refused(str(refused)) from None
        except UnknownVersion:
            raise Refused(f"the pipeline {quoted(row.pipeline)} was deleted: it has no newest version") from None
        return done if isinstance(done, Repeated) else None

    async def _requeue(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        """All letters of the run in one new generation."""

        async def wanted() -> RequeueSteps:
            letters = await self._letters(job, row)
            return requeue_of(letters, self._supervisor.clock.now(), job.order.requested_by, job.order.reason)

        try:
            done = await self._reopener.reopen_as(row.run_id, wanted, request.key)
        except NotPossible as refused:
            raise Refused(str(refused)) from None
        return done if isinstance(done, Repeated) else None

    async def _purge(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        """The request is remembered before: after a crash what was purged is counted all the same."""
        async with self._reopener.turn(row.run_id):
            return await self._purge_in_turn(job, row, request)

    async def _purge_in_turn(self, job: BulkJob, row: RunRow, request: RequestRow) -> Repeated | None:
        stores, now = self._supervisor.stores, self._supervisor.clock.now()
        try:
            letters = await self._letters(job, row)
        except Unchanged:
            if await stores.runs.find_request(request.key.scope, request.key.method, request.key.id) is None:
                raise
            return None
        repeated = await stores.runs.remember_request(request, now)
        seqs = [letter.seq for letter in letters]
        await stores.dead_letters.purge(row.run_id, seqs, now, job.order.requested_by)
        return repeated

    async def _letters(self, job: BulkJob, row: RunRow) -> list[LetterRow]:
        """Those that are open still. Raises `Unchanged`."""
        assert job.order.letters is not None
        where = _filter(job.order.letters, job.row.create_time)
        letters = await self._supervisor.stores.dead_letters.of_run(where, row.run_id)
        if not letters:
            raise Unchanged
        return letters


def _id(row: RunRow) -> RunId:
    return row.run_id


def _filter(chosen: LetterSelection, now: int) -> LetterFilter:
    """What failed until `now`."""
    before = now + 1 if chosen.failed_before is None else min(now + 1, chosen.failed_before)
    return LetterFilter(
        pipeline=chosen.pipeline,
        run_id=chosen.run_id or None,
        step=chosen.step,
        reason=chosen.reason,
        budgets=chosen.budgets,
        labels=chosen.labels,
        since=chosen.failed_after,
        before=before,
        error_class=chosen.error_class,
    )


def _bound(selection: Selection, now: int) -> RunId:
    """Above the ids of all runs that may be chosen: a run's id begins with its milliseconds."""
    newest = min(now, selection.created_before) if selection.created_before is not None else now
    return (max(newest, 0) // 1_000 + 1).to_bytes(6, "big") + bytes(10)


def _chosen(selection: Selection, row: RunRow) -> bool:
    after, before = selection.created_after, selection.created_before
    return (after is None or row.create_time >= after) and (before is None or row.create_time < before)


def _digest(job: BulkJob) -> bytes:
    return hashlib.sha256(job.row.order).digest()


def _count(progress: Progress, row: RunRow, outcome: str | bool) -> None:
    if outcome is True:
        progress.done += 1
    elif outcome is False:
        progress.unchanged += 1
    else:
        progress.failed += 1
        if len(progress.refusals) < MOST_REFUSALS:
            progress.refusals.append(Refusal(row.run_id, outcome[:REFUSAL_CHARACTERS]))


def _job(row: BulkJobRow) -> BulkJob:
    return BulkJob(row, _decode_order(row.order), _decode_progress(row.progress))
