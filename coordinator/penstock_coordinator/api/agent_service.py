"""penstock.agent.v1.AgentService: the agents' two streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceServicer
from penstock_coordinator.api.agent_stream import AgentStream
from penstock_coordinator.api.log_intake import LogIntake
from penstock_coordinator.runtime.late_results import Place, places_of

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.core.fleet.leases import Lease, LeaseKey
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.log_hub import LogHub
    from penstock_coordinator.runtime.supervisor import Supervisor

TAKEN = "penstock-log-lines", "taken"
"""Initial metadata of a stream of log lines that is not refused. It has to say something: of a call that is refused
clients are told initial metadata too, without any."""


class AgentService(AgentServiceServicer):
    def __init__(self, supervisor: Supervisor, engine: Engine, hub: LogHub) -> None:
        self._supervisor = supervisor
        self._intake = LogIntake(engine, LiveHere(supervisor), hub, supervisor.clock)

    # Generated for handlers that yield; this one writes through its context, which gRPC allows as well.
    async def Connect(  # type: ignore[override]
        self, request_iterator: AsyncIterator[wire.AgentMessage], context: Context
    ) -> None:
        await AgentStream(self._supervisor, context, self._intake.expect).serve()

    async def PushLogs(
        self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Context
    ) -> wire.PushLogsResponse:
        # Agents write when they know that they are not refused.
        await context.send_initial_metadata((TAKEN,))
        return await self._intake.receive(request_iterator)


class LiveHere:
    """The runs whose actors are in this process."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def has_step_run(self, run_id: RunId, step: int, item: int) -> bool | None:
        actor = self._supervisor.actor(run_id)
        if actor is None:
            return None
        try:
            actor.run.state_of(step, item)
        except LookupError:
            return False
        return True

    def kept_number(self, key: LeaseKey, token: int) -> int:
        return self._supervisor.kept_number(*key, token)

    def lease(self, key: LeaseKey) -> Lease | None:
        return self._supervisor.fleet.leases.find(key)

    async def is_elsewhere(self, run_id: RunId) -> bool:
        fleet = self._supervisor.fleet
        if not (fleet.has_had_members or fleet.head_epoch):
            # Many runs are at rest when their last lines come: with one owner nothing is read for that.
            return False
        return (await places_of(self._supervisor, (run_id,)))[run_id] is Place.ELSEWHERE
