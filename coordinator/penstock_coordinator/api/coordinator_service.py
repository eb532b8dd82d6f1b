"""penstock.v1.CoordinatorService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from penstock_coordinator.api.encoding.values import span
from penstock_coordinator.ports import DependencyState
from penstock_coordinator.runtime.load import load_of

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.ports import Dependency
    from penstock_coordinator.runtime.supervisor import Supervisor

_STATES = {
    DependencyState.CLOSED: pb.DEPENDENCY_STATE_CLOSED,
    DependencyState.OPEN: pb.DEPENDENCY_STATE_OPEN,
    DependencyState.HALF_OPEN: pb.DEPENDENCY_STATE_HALF_OPEN,
}


class CoordinatorService(CoordinatorServiceServicer):
    def __init__(self, supervisor: Supervisor, readiness: Readiness) -> None:
        self._supervisor = supervisor
        self._readiness = readiness

    async def GetHealth(self, request: pb.GetHealthRequest, context: Context) -> pb.GetHealthResponse:
        load = load_of(self._supervisor)
        return pb.GetHealthResponse(
            health=pb.CoordinatorHealth(
                coordinator_id=self._supervisor.coordinator_id,
                ready=self._readiness.ready,
                reasons=self._readiness.reasons,
                load=pb.CoordinatorLoad(
                    live_runs=load.live_runs,
                    waiting_runs=load.waiting_runs,
                    max_backlog=load.max_backlog,
                    drain_rate=load.drain_rate,
                    pressure=load.pressure,
                    backlog=load.backlog,
                    lag=load.lag,
                    commits=load.commits,
                    memory=load.memory,
                    refusals=load.refusals,
                ),
                dependencies=[_dependency(each) for each in self._supervisor.stores.dependencies()],
            )
        )


def _dependency(each: Dependency) -> pb.Dependency:
    return pb.Dependency(
        name=each.name,
        state=_STATES[each.state],
        failures=each.failures,
        retry_in=span(each.retry_in),
        reason=each.reason,
        shares=[
            pb.ConnectionShare(name=share.name, in_use=share.in_use, limit=share.limit, waiting=share.waiting)
            for share in each.shares
        ],
    )
