"""Two owners on one database: an edge that is the head, and a member of it with runs of its own. The database is in
memory unless a test asks for PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from tests.integration.api.conftest import PATIENCE, PATIENT, Edge, spec, start_edge, stop_edge
from tests.integration.api.following import Following, following, row

from penstock.v1 import run_service_pb2 as pb
from penstock.v1.run_pb2 import Run
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.adapters.postgres import open_stores
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.system import SystemClock, SystemIds
from penstock_coordinator.api.forwarding import ROUTED
from penstock_coordinator.api.server import Backend, EdgeOptions
from penstock_coordinator.core.fleet.ownership import CoordinatorRow
from penstock_coordinator.core.fleet.spreading import place_name
from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from penstock_coordinator.ports import Stores
    from penstock_coordinator.ports.coordinators import CoordinatorRegistry

Opened: TypeAlias = "contextlib.AbstractAsyncContextManager[tuple[Stores, CoordinatorRegistry]]"
Database: TypeAlias = Callable[[str], Opened]
"""Opens it for the coordinator of that id."""
on_postgres = pytest.mark.parametrize("database", ["postgres"], indirect=True)


@contextlib.asynccontextmanager
async def _in_memory(database: MemoryDatabase, name: str) -> AsyncIterator[tuple[Stores, CoordinatorRegistry]]:
    yield memory_stores(database, coordinator_id=name, lanes=1), MemoryCoordinatorRegistry(database)


@contextlib.asynccontextmanager
async def _in_postgres(url: str, name: str) -> AsyncIterator[tuple[Stores, CoordinatorRegistry]]:
    async with (
        contextlib.aclosing(await open_stores(url, coordinator_id=name, lanes=1, pool_size=3)) as stores,
        contextlib.aclosing(await PostgresCoordinatorRegistry.open(url, name, PATIENCE)) as registry,
    ):
        yield stores, registry


class Choice:
    """The head's, as a test makes it."""

    def __init__(self) -> None:
        self.member: CoordinatorRow | None = None
        self.asked: list[tuple[str, int]] = []
        """Plans, by digest, and how many runs."""

    def choose(self, plan: Plan, count: int) -> CoordinatorRow | None:
        self.asked.append((plan.digest, count))
        return self.member


@dataclass
class Member:
    """As `Edge`, of the second owner. What is asked of `edge` is asked at its address."""

    edge: Edge
    head: Edge
    row: CoordinatorRow
    follower: Following

    @property
    def name(self) -> str:
        return place_name(self.row.coordinator_id, self.row.epoch)

    @property
    def mark(self) -> tuple[tuple[str, str], ...]:
        """Of a call that the head has sent."""
        return ((ROUTED, str(self.head.backend.supervisor.epoch)),)

    async def start(self, **fields: Any) -> Run:
        """A run that lives here."""
        await self.head.create(spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}))
        request = pb.StartRunRequest(pipeline="p", **fields)
        return (await self.edge.runs.Start(request, metadata=self.mark, timeout=PATIENCE)).run

    def goes(self) -> None:
        """The head hears of it no more."""
        self.head.backend.supervisor.whereabouts.heard(())


@contextlib.asynccontextmanager
async def member_of(head: Edge, database: Database) -> AsyncIterator[Member]:
    async with following(head.server.address) as follower, database("c2") as (stores, registry):
        epoch = await stores.incarnations.incarnate("c2", 1)
        await registry.register(row("c2", follower.address))
        clock = SystemClock()
        supervisor = Supervisor(stores, clock, SystemIds(), "c2", epoch, 1, PATIENT, lambda error: None)
        supervisor.whereabouts.join(head.backend.supervisor.epoch)
        await supervisor.recover()
        hub = LogHub(stores.logs, 1 << 20, 1 << 20)
        hub.start()
        backend = Backend(
            stores,
            Engine(supervisor),
            supervisor,
            hub,
            clock,
            follower.readiness,
            Janitor(supervisor),
            head_epoch=head.backend.supervisor.epoch,
        )
        server = follower.entrance.server(backend, EdgeOptions())
        await server.start()
        found = replace(row("c2", follower.address), epoch=epoch)
        head.backend.supervisor.whereabouts.heard([found])
        yield Member(Edge(server, backend, follower.channel), head, found, follower)
        head.backend.supervisor.whereabouts.heard(())
        await server.leave(supervisor.stop, lambda: hub.close(1.0))


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Database:
    """Of the head and the member."""
    if getattr(request, "param", "memory") == "postgres":
        return partial(_in_postgres, request.getfixturevalue("database_url"))
    return partial(_in_memory, MemoryDatabase())


@pytest.fixture
def choice() -> Choice:
    """All runs start at the head until a test says otherwise."""
    return Choice()


@pytest.fixture
async def edge(database: Database, choice: Choice) -> AsyncIterator[Edge]:
    """The head."""
    async with database("c1") as (stores, _):
        made = await start_edge(stores, spreading=choice)
        yield made
        await stop_edge(made)


@pytest.fixture
async def member(edge: Edge, database: Database) -> AsyncIterator[Member]:
    async with member_of(edge, database) as made:
        yield made
