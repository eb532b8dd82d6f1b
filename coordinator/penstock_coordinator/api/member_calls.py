"""What a head asks of its members by itself, over the channels by which it sends them calls."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from penstock.v1 import coordinator_service_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.encoding import runs as encode
from penstock_coordinator.api.errors import CallError, PassedBack
from penstock_coordinator.api.fields import run_id_of, run_id_text
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.runtime.elsewhere import Glances, NotAnswered
from penstock_coordinator.runtime.views import LiveGlance

if TYPE_CHECKING:
    from penstock_coordinator.api.forwarding import Forwarders
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.run.messages import CancelRun
    from penstock_coordinator.ports import RunId

GLANCE_SECONDS = 1.0
"""A list waits no longer for what it can do without."""
CANCEL_SECONDS = 10.0


class MemberCalls:
    """Implements `runtime.elsewhere.Members`."""

    def __init__(self, forwarders: Forwarders) -> None:
        self._forwarders = forwarders

    async def wait_many(self, member: CoordinatorRow, run_ids: Sequence[RunId]) -> AsyncGenerator[list[RunId], None]:
        request = pb.WaitManyRunsRequest(run_ids=[run_id_text(each) for each in run_ids])
        with self._calling(member, "unary_stream", "RunService/WaitMany", request) as call:
            async for data in call:
                yield [run_id_of(run.id) for run in pb.WaitManyRunsResponse.FromString(data).runs]

    async def glance(self, member: CoordinatorRow, run_ids: Sequence[RunId], *, agents: bool) -> Glances:
        request = coordinator_service_pb2.GlanceRequest(run_ids=run_ids, agents=agents)
        with self._calling(member, "unary_unary", "CoordinatorService/Glance", request, GLANCE_SECONDS) as call:
            answer = coordinator_service_pb2.GlanceResponse.FromString(await call)
        runs = {
            each.run_id: LiveGlance(encode.counted(each.step_counts), each.held_by_key, each.held_by_budget)
            for each in answer.runs
        }
        return Glances(runs, dict(answer.agents))

    async def cancel(self, member: CoordinatorRow, run_id: RunId, message: CancelRun, request_id: str) -> None:
        request = pb.CancelRunRequest(
            run_id=run_id_text(run_id),
            mode=pb.CANCEL_MODE_NOW if message.immediate else pb.CANCEL_MODE_POLITE,
            reason=message.reason,
            requested_by=message.requested_by,
            request_id=request_id,
        )
        try:
            with self._calling(member, "unary_unary", "RunService/Cancel", request, CANCEL_SECONDS) as call:
                await call
        except PassedBack as refused:
            raise NotPossible(str(refused)) from None

    @contextlib.contextmanager
    def _calling(
        self, member: CoordinatorRow, kind: str, method: str, request: Any, seconds: float | None = None
    ) -> Iterator[Any]:
        try:
            line = self._forwarders.line(member, ())
            call = line.method(kind, f"/penstock.v1.{method}")(
                request.SerializeToString(), timeout=seconds, metadata=self._forwarders.metadata_of(())
            )
            with line.carrying(call):
                yield call
        except (PassedBack, CallError) as error:
            if isinstance(error, PassedBack) and error.status.code is grpc.StatusCode.FAILED_PRECONDITION:
                raise  # The run is there, and will not do that: it would say so for ever.
            raise NotAnswered(str(error)) from None
