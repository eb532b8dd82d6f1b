"""A coordinator's runtime behind a real socket, on stores in memory or in PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2_grpc
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.adapters.memory.database import MemoryDatabase
from penstock_coordinator.adapters.memory.stores import memory_stores
from penstock_coordinator.adapters.system import SystemClock, SystemIds
from penstock_coordinator.api.agent_stream import AgentStream
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.digest import digest_of as digest
from penstock_coordinator.core.run.invariants import check_invariants
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.recovery import Reading
from penstock_coordinator.runtime.supervisor import Supervisor, Timing
from penstock_coordinator.runtime.views import RunRequest, RunView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from penstock_coordinator.adapters.memory.stores import MemoryStores
    from penstock_coordinator.core.dispatch.fairness import Fairness
    from penstock_coordinator.ports import RunId, VersionRow

PATIENCE = 60.0


class _Edge(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def Connect(self, request_iterator: object, context: grpc.aio.ServicerContext) -> None:  # type: ignore[override, type-arg]  # read/write style
        await AgentStream(self._supervisor, context).serve()

    async def PushLogs(self, request_iterator: object, context: object) -> object:  # type: ignore[override]  # not used here
        raise NotImplementedError


@dataclass
class Coordinator:
    """One incarnation."""

    stores: MemoryStores
    supervisor: Supervisor
    engine: Engine
    server: grpc.aio.Server
    address: str
    fatal: list[BaseException]
    agents: list[ScriptedAgent] = field(default_factory=list)

    def agent(self, agent_id: str = "agent-1", **settings: object) -> ScriptedAgent:
        made = ScriptedAgent(self.address, agent_id, **settings)  # type: ignore[arg-type]  # passed through
        self.agents.append(made)
        return made

    async def create(self, spec: PipelineSpec) -> VersionRow:
        named = digest(spec)
        made = await self.stores.pipelines.create_version(
            spec.name, named, spec.SerializeToString(), len(spec.steps), 1, None
        )
        assert isinstance(made, tuple)
        return made[0]

    async def start(self, spec: PipelineSpec, parameters: bytes = b"{}", **settings: object) -> RunId:
        version = await self.create(spec)
        plan = compile_plan(spec, version.digest)
        fields: dict[str, object] = {"labels": (), "trace_context": (), "request": None}
        fields.update(settings)
        request = RunRequest(plan=plan, version=version, parameters=parameters, **fields)  # type: ignore[arg-type]  # passed through
        (run_id,) = await self.engine.start_runs([request])
        assert isinstance(run_id, bytes)
        return run_id

    async def ended(self, run_id: RunId) -> RunView:
        async with asyncio.timeout(PATIENCE):
            await self.engine.at_rest(run_id)
            return await self.engine.run(run_id)

    async def forgets(self, agent: ScriptedAgent) -> None:
        """Its process is gone, and the coordinator has seen that its connection is: before, another process of its name
        would be taken for its twin."""
        await agent.vanish()

        async def forgotten() -> bool:
            return all(session.holder.boot_id != agent.boot_id for session in self.supervisor.fleet.sessions())

        await until(forgotten)

    def check(self) -> None:
        for actor in list(self.supervisor._actors.values()):
            check_invariants(actor.run)

    async def kill(self) -> None:
        """As if by -9: nothing is finished, nobody is told."""
        for lane in self.supervisor._lanes:
            await lane.close()
        for agent in self.agents:
            await agent.vanish()
        await self.server.stop(0)


class MovableClock(SystemClock):
    """The machine's, whose time a test moves on where it would have to wait."""

    def __init__(self) -> None:
        self._ahead = 0
        self._stopped: int | None = None
        self._later = 0

    def now(self) -> int:
        return super().now() + self._later

    def set_later(self, span: int) -> None:
        """The wall clock alone. Microseconds."""
        self._later += span

    def monotonic(self) -> int:
        return (super().monotonic() if self._stopped is None else self._stopped) + self._ahead

    def stop(self) -> None:
        """The monotonic clock goes on only as it is moved."""
        self._stopped = super().monotonic()

    def move(self, span: int) -> None:
        """Microseconds."""
        self._ahead += span


class World:
    """A database, and the coordinators that come and go on it."""

    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.clock = MovableClock()
        self._coordinators: list[Coordinator] = []

    async def coordinator(
        self, name: str = "c1", *, fairness: Fairness | None = None, read: Reading | None = None, **timing: Any
    ) -> Coordinator:
        stores = memory_stores(self.database, coordinator_id=name, lanes=2)
        epoch = await stores.incarnations.incarnate(name, 2)
        fatal: list[BaseException] = []
        settings = Timing(**{"commit_patience": int(PATIENCE * 1e6), **timing})
        supervisor = Supervisor(stores, self.clock, SystemIds(), name, epoch, 2, settings, fatal.append, fairness)
        await supervisor.recover(read)
        server = grpc.aio.server()
        agent_service_pb2_grpc.add_AgentServiceServicer_to_server(_Edge(supervisor), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        made = Coordinator(stores, supervisor, Engine(supervisor), server, f"127.0.0.1:{port}", fatal)
        self._coordinators.append(made)
        return made

    async def close(self) -> None:
        for coordinator in self._coordinators:
            coordinator.check()
            for agent in coordinator.agents:
                await agent.vanish()
            with contextlib.suppress(Exception):
                await coordinator.supervisor.stop()
            await coordinator.server.stop(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()
