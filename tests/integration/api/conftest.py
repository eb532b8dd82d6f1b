"""A whole coordinator's edge on real sockets, over the real engine; its database is in memory unless a test asks for
PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import json_format
from tests.integration.runtime.scripted_agent import ScriptedAgent

from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.agent_admin_service_pb2_grpc import AgentAdminServiceStub
from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock.v1.pipeline_service_pb2_grpc import PipelineServiceStub
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock_coordinator.adapters.artifacts.opening import OpenedStore
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.postgres import open_stores
from penstock_coordinator.adapters.system import SystemClock, SystemIds
from penstock_coordinator.api.agent_artifact_service import DEFAULT_ARTIFACT_BYTES
from penstock_coordinator.api.bundle_archive import ArchiveLimits
from penstock_coordinator.api.health import RECOVERY, Readiness
from penstock_coordinator.api.server import Backend, CoordinatorServer, EdgeOptions, build_server
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.runtime.credentials import Signer
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.supervisor import Supervisor, Timing

if TYPE_CHECKING:
    from penstock_coordinator.api.run_starter import Spreads
    from penstock_coordinator.ports import SecretCipher, Stores

PATIENCE = 60.0
PATIENT = Timing(commit_patience=int(PATIENCE * 1e6))
ARCHIVE_LIMITS = ArchiveLimits(packed_bytes=4 << 20, unpacked_bytes=8 << 20, files=100)


def spec(*steps: dict[str, Any], **fields: Any) -> PipelineSpec:
    made = [_step(step) for step in steps]
    return json_format.ParseDict({"name": "p", "steps": made, **fields}, PipelineSpec())


def _step(fields: dict[str, Any]) -> dict[str, Any]:
    return fields if fields.keys() & {"function", "pipeline"} else {"command": {"argv": ["true"]}, **fields}


ONE_STEP = spec({"name": "a"})


@dataclass
class Edge:
    """A running coordinator and a client of it."""

    server: CoordinatorServer
    backend: Backend
    channel: grpc.aio.Channel
    agents: list[ScriptedAgent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pipelines = PipelineServiceStub(self.channel)
        self.runs = RunServiceStub(self.channel)
        self.bundles = BundleServiceStub(self.channel)
        self.admin = AgentAdminServiceStub(self.channel)
        self.agent_service = AgentServiceStub(self.channel)

    async def agent(self, agent_id: str = "agent-1", *, slots: int = 4, credits: int = 1_000) -> ScriptedAgent:
        made = ScriptedAgent(self.server.address, agent_id, slots=slots)
        self.agents.append(made)
        await made.connect(credits=credits)
        return made

    async def create(self, made: PipelineSpec = ONE_STEP) -> pipelines_pb.CreatePipelineResponse:
        return await self.pipelines.Create(pipelines_pb.CreatePipelineRequest(spec=made), timeout=PATIENCE)

    async def start(self, made: PipelineSpec = ONE_STEP, **fields: Any) -> Run:
        await self.create(made)
        request = runs_pb.StartRunRequest(pipeline=made.name, **fields)
        return (await self.runs.Start(request, timeout=PATIENCE)).run

    async def get(self, run: Run) -> Run:
        return (await self.runs.Get(runs_pb.GetRunRequest(run_id=run.id), timeout=PATIENCE)).run

    async def watch(self, run: Run, from_event: int = 0) -> list[runs_pb.Event]:
        """To its end."""
        call = self.runs.Watch(runs_pb.WatchRunRequest(run_id=run.id, from_event=from_event), timeout=PATIENCE)
        return [event async for response in call for event in response.events]


async def start_edge(
    stores: Stores,
    *,
    reflection: bool = True,
    timing: Timing | None = None,
    limits: Limits = DEFAULT_LIMITS,
    cipher: SecretCipher | None = None,
    artifacts: OpenedStore | None = None,
    max_artifact_bytes: int = DEFAULT_ARTIFACT_BYTES,
    spreading: Spreads | None = None,
) -> Edge:
    epoch = await stores.incarnations.incarnate("c1", 1)
    clock = SystemClock()
    supervisor = Supervisor(stores, clock, SystemIds(), "c1", epoch, 1, timing or PATIENT, lambda error: None)
    readiness = Readiness()
    await supervisor.recover()
    readiness.clear(RECOVERY)
    hub = LogHub(stores.logs, 1 << 20, 1 << 20)
    hub.start()
    routes = () if artifacts is None else artifacts.routes
    backend = Backend(
        stores,
        Engine(supervisor),
        supervisor,
        hub,
        clock,
        readiness,
        Janitor(supervisor),
        cipher,
        routes,
        spreading=spreading,
    )
    options = EdgeOptions(
        "127.0.0.1:0",
        "127.0.0.1:0",
        reflection,
        ARCHIVE_LIMITS,
        limits,
        max_artifact_bytes=max_artifact_bytes,
        folders={"data": Path.cwd(), "artifacts": Path("/no/such/folder")},
    )
    server = build_server(backend, options)
    await server.start()
    if artifacts is not None:
        artifacts.sign_with(Signer(supervisor.keyring, "artifact url"))
        artifacts.reached_at("", server.http_address)
    channel = grpc.aio.insecure_channel(
        server.address,
        options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", 80 << 20),
            ("grpc.max_receive_message_length", 80 << 20),
        ],
    )
    return Edge(server, backend, channel)


async def stop_edge(edge: Edge) -> None:
    for agent in edge.agents:
        await agent.vanish()
    await edge.channel.close()
    await edge.server.stop(edge.backend.supervisor.stop, lambda: edge.backend.hub.close(1.0))


@pytest.fixture
async def edge(request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """On stores in memory, or of the kind that an indirect parameter says."""
    if getattr(request, "param", "memory") == "memory":
        made = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1))
        yield made
        await stop_edge(made)
        return
    url = request.getfixturevalue("database_url")
    async with contextlib.aclosing(await open_stores(url, coordinator_id="c1", lanes=1, pool_size=3)) as stores:
        made = await start_edge(stores)
        yield made
        await stop_edge(made)


on_both_kinds_of_stores = pytest.mark.parametrize("edge", ["memory", "postgres"], indirect=True)
on_postgres = pytest.mark.parametrize("edge", ["postgres"], indirect=True)
