"""What people ask of a run: the methods of penstock.v1.RunService that change it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.run_service_pb2_grpc import RunServiceServicer
from penstock_coordinator.api.encoding import runs as encode
from penstock_coordinator.api.errors import CallError, failed_precondition, invalid, not_found, request_id_reused
from penstock_coordinator.api.fields import count_of, name_of, place_in, run_id_of, text_of
from penstock_coordinator.api.request_ids import first_answer, request_key, same_answer
from penstock_coordinator.core.plan.naming import quoted, suggestion
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Repeated, RequestRow
from penstock_coordinator.runtime.renewing import NEWEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import Clock, RunId, RunIndex
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.reopening import Reopened
    from penstock_coordinator.runtime.views import RunView

SERVICE = "RunService"
MAX_REASON = 1_000
MAX_REQUESTED_BY = 256
INLINE_PARAMETER_BYTES = 16 << 10
"""More than this is encoded in a thread."""


class RunControl(RunServiceServicer):
    """Each answers when the decision is committed, and the same for the same request id."""

    def __init__(self, engine: Engine, runs: RunIndex, clock: Clock) -> None:
        self._engine = engine
        self._runs = runs
        self._clock = clock

    async def Cancel(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        run_id = run_id_of(request.run_id)
        if request.mode not in pb.CancelMode.values():
            raise invalid("mode", "must be CANCEL_MODE_POLITE or CANCEL_MODE_NOW")
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        now = request.mode == pb.CANCEL_MODE_NOW
        await self._ask(
            "Cancel", request, run_id, lambda row: self._engine.cancel_run(run_id, now, reason, row, requested_by=by)
        )
        return pb.CancelRunResponse(run=await self._run(run_id))

    async def Pause(self, request: pb.PauseRunRequest, context: Context) -> pb.PauseRunResponse:
        run_id = run_id_of(request.run_id)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        if await self._is_new("Pause", request):
            before = await self._run(run_id)
            if RunState(before.state).at_rest:
                raise _at_rest(before)
            if RunState(before.state) is RunState.CANCELLING:
                raise _not_now("CANCELLING", "the run is being cancelled: it starts nothing but its cleanup steps")
            await self._ask("Pause", request, run_id, lambda row: self._engine.pause_run(run_id, by, reason, row))
        return pb.PauseRunResponse(run=await self._run(run_id))

    async def Resume(self, request: pb.ResumeRunRequest, context: Context) -> pb.ResumeRunResponse:
        run_id = run_id_of(request.run_id)
        by = requested_by_of(request.requested_by)
        if await self._is_new("Resume", request):
            before = await self._run(run_id)
            if RunState(before.state).at_rest:
                raise _at_rest(before)
            await self._ask("Resume", request, run_id, lambda row: self._engine.resume_run(run_id, by, row))
        return pb.ResumeRunResponse(run=await self._run(run_id))

    async def Retry(self, request: pb.RetryRunRequest, context: Context) -> pb.RetryRunResponse:
        run_id = run_id_of(request.run_id)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        version = _version_of(request)
        key = request_key(f"{SERVICE}.Retry", request)
        done = await _reopened(self._engine.retry_run(run_id, by, reason, key, version))
        return pb.RetryRunResponse(
            run=await self._run(run_id),
            kept_steps=done.kept,
            reset_steps=done.reset,
            kept_step_runs=done.kept_runs,
        )

    async def Rollback(self, request: pb.RollbackRunRequest, context: Context) -> pb.RollbackRunResponse:
        run_id = run_id_of(request.run_id)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        version = _version_of(request)
        key = request_key(f"{SERVICE}.Rollback", request)
        done = await _reopened(self._engine.rollback_run(run_id, by, reason, key, version))
        return pb.RollbackRunResponse(run=await self._run(run_id), steps_to_undo=done.reset)

    async def RerunStep(self, request: pb.RerunStepRequest, context: Context) -> pb.RerunStepResponse:
        run_id = run_id_of(request.run_id)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        plan = (await self._engine.run(run_id)).plan
        step = step_number(plan, request.step)
        place = place_in(request.item, request.step, plan)
        item = await self._engine.item_at(run_id, step, place) if place else WHOLE
        key = request_key(f"{SERVICE}.RerunStep", request)
        done = await _reopened(self._engine.rerun_step(run_id, step, item, by, reason, key))
        return pb.RerunStepResponse(run=await self._run(run_id), reset_steps=done.reset)

    async def _is_new(self, method: str, request: Message) -> bool:
        """False if the same call was answered before, whatever has become of the run since. Raises if its id came with
        other content."""
        return await first_answer(self._runs, request_key(f"{SERVICE}.{method}", request)) is None

    async def _ask(
        self,
        method: str,
        request: Message,
        run_id: RunId,
        asking: Callable[[RequestRow | None], Awaitable[Repeated | None]],
    ) -> None:
        """Ask, and remember the request also if it changed nothing. Raises if its id came with other content."""
        key = request_key(f"{SERVICE}.{method}", request)
        row = None if key is None else RequestRow(key, run_id)
        repeated = await asking(row)
        if repeated is None and row is not None:
            # A request that changed nothing has no record that it could have come with.
            repeated = await self._runs.remember_request(row, self._clock.now())
        if repeated is not None:
            same_answer(repeated)

    async def _run(self, run_id: RunId) -> run_pb2.Run:
        return await encoded(await self._engine.run(run_id))


def _version_of(request: pb.RetryRunRequest | pb.RollbackRunRequest) -> int | None:
    """None: the run's own."""
    number = count_of(request.version_number, "version_number")
    if request.newest_version and number:
        raise invalid("newest_version", "cannot be asked for together with a version_number: leave one of them out")
    return NEWEST if request.newest_version else number or None


async def encoded(view: RunView) -> run_pb2.Run:
    """Large parameters take their time, and not that of all others."""
    if len(view.row.parameters) <= INLINE_PARAMETER_BYTES:
        return encode.run(view)
    return await asyncio.to_thread(encode.run, view)


async def _reopened(asking: Awaitable[Reopened | Repeated]) -> Reopened:
    try:
        done = await asking
    except NotPossible as refused:
        raise failed_precondition("run_id", "NOT_POSSIBLE", str(refused)) from None
    if isinstance(done, Repeated):
        raise request_id_reused()
    return done


def step_number(plan: Plan, name: str) -> int:
    """Raises NOT_FOUND."""
    number = plan.numbers.get(name_of(name, "step", "a step"))
    if number is None:
        remedy = suggestion(name, plan.numbers)
        raise not_found("step", "UNKNOWN_STEP", f"the run's pipeline has no step {quoted(name)}: {remedy}")
    return number


def reason_of(text: str) -> str:
    return text_of(text, "reason", MAX_REASON)


def requested_by_of(text: str) -> str:
    return text_of(text, "requested_by", MAX_REQUESTED_BY)


def _at_rest(run: run_pb2.Run) -> CallError:
    return _not_now(RunState(run.state).name, f"the run is {RunState(run.state).name}: it is at rest")


def _not_now(reason: str, message: str) -> CallError:
    return failed_precondition("run_id", reason, message)
