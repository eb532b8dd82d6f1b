"""The coordinator's two servers: gRPC with all its services, and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import structlog
from aiohttp import web
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from penstock.agent.v1 import agent_service_pb2
from penstock.agent.v1 import artifact_service_pb2 as agent_artifact_service_pb2
from penstock.agent.v1 import secret_service_pb2 as agent_secret_service_pb2
from penstock.agent.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from penstock.agent.v1.artifact_service_pb2_grpc import (
    add_ArtifactServiceServicer_to_server as add_AgentArtifactServiceServicer_to_server,
)
from penstock.agent.v1.secret_service_pb2_grpc import (
    add_SecretServiceServicer_to_server as add_AgentSecretServiceServicer_to_server,
)
from penstock.v1 import (
    agent_admin_service_pb2,
    artifact_service_pb2,
    budget_service_pb2,
    bulk_service_pb2,
    bundle_service_pb2,
    cache_service_pb2,
    coordinator_service_pb2,
    cost_service_pb2,
    dead_letter_service_pb2,
    janitor_service_pb2,
    pipeline_service_pb2,
    run_service_pb2,
    secret_service_pb2,
)
from penstock.v1.agent_admin_service_pb2_grpc import add_AgentAdminServiceServicer_to_server
from penstock.v1.artifact_service_pb2_grpc import add_ArtifactServiceServicer_to_server
from penstock.v1.budget_service_pb2_grpc import add_BudgetServiceServicer_to_server
from penstock.v1.bulk_service_pb2_grpc import add_BulkServiceServicer_to_server
from penstock.v1.bundle_service_pb2_grpc import add_BundleServiceServicer_to_server
from penstock.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from penstock.v1.coordinator_service_pb2_grpc import add_CoordinatorServiceServicer_to_server
from penstock.v1.cost_service_pb2_grpc import add_CostServiceServicer_to_server
from penstock.v1.dead_letter_service_pb2_grpc import add_DeadLetterServiceServicer_to_server
from penstock.v1.janitor_service_pb2_grpc import add_JanitorServiceServicer_to_server
from penstock.v1.pipeline_service_pb2_grpc import add_PipelineServiceServicer_to_server
from penstock.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from penstock.v1.secret_service_pb2_grpc import add_SecretServiceServicer_to_server
from penstock_coordinator.api.agent_admin_service import AgentAdminService
from penstock_coordinator.api.agent_artifact_service import DEFAULT_ARTIFACT_BYTES, AgentArtifactService
from penstock_coordinator.api.agent_service import AgentService
from penstock_coordinator.api.artifact_service import ArtifactService
from penstock_coordinator.api.budget_service import BudgetService
from penstock_coordinator.api.bulk_service import BulkService
from penstock_coordinator.api.bundle_archive import DEFAULT_ARCHIVE_LIMITS, ArchiveLimits
from penstock_coordinator.api.bundle_service import BundleService
from penstock_coordinator.api.cache_service import CacheService
from penstock_coordinator.api.coordinator_service import CoordinatorService
from penstock_coordinator.api.cost_service import CostService
from penstock_coordinator.api.dead_letter_service import DeadLetterService
from penstock_coordinator.api.doorway import Doorway, Outside, ServiceSet
from penstock_coordinator.api.encoding.costs import NO_PRICES, Prices
from penstock_coordinator.api.forwarding import Forwarder, Forwarders
from penstock_coordinator.api.freeing import FreedMemory
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.health import STOPPING, DatabaseProbe, HealthService, Readiness
from penstock_coordinator.api.http import http_application
from penstock_coordinator.api.janitor_service import JanitorService
from penstock_coordinator.api.log_reader import LogReader
from penstock_coordinator.api.member_calls import MemberCalls
from penstock_coordinator.api.metrics.place import Place, Watched
from penstock_coordinator.api.options import KEEPALIVE_MS, MAX_CALLS, forwarding_options, server_options
from penstock_coordinator.api.pipeline_service import PipelineService
from penstock_coordinator.api.relaying import Relay
from penstock_coordinator.api.routing import AtHead, AtMember
from penstock_coordinator.api.run_service import RunService
from penstock_coordinator.api.run_starter import RunStarter
from penstock_coordinator.api.secret_service import AgentSecretService, SecretService
from penstock_coordinator.api.shedding import Shedder
from penstock_coordinator.api.sizes import RequestSizes
from penstock_coordinator.api.versions import VersionFinder
from penstock_coordinator.core.fleet.spreading import place_name
from penstock_coordinator.core.plan.budget import Prices as BudgetPrices
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.runtime.log_history import LogHistory
from penstock_coordinator.runtime.preparing import Preparation
from penstock_coordinator.runtime.secrets import SecretVault

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

    from penstock_coordinator.api.coordinator_service import Prepares
    from penstock_coordinator.api.run_starter import Spreads
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports import Clock, SecretCipher, Stores
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.handing_over import HandOver
    from penstock_coordinator.runtime.hot_state import HotStateService
    from penstock_coordinator.runtime.janitor import Janitor
    from penstock_coordinator.runtime.log_hub import LogHub
    from penstock_coordinator.runtime.ownership import OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

EXPECTED_SECONDS = 5.0
"""From when one that follows is prepared to when it has taken over, at the most."""
LAST_CALLS_SECONDS = 1.0
"""How long calls under way may still take when everything that they wait for has stopped."""

DESCRIBED: tuple[ServiceDescriptor, ...] = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (pipeline_service_pb2, "PipelineService"),
        (run_service_pb2, "RunService"),
        (bundle_service_pb2, "BundleService"),
        (artifact_service_pb2, "ArtifactService"),
        (agent_admin_service_pb2, "AgentAdminService"),
        (bulk_service_pb2, "BulkService"),
        (dead_letter_service_pb2, "DeadLetterService"),
        (cache_service_pb2, "CacheService"),
        (cost_service_pb2, "CostService"),
        (budget_service_pb2, "BudgetService"),
        (janitor_service_pb2, "JanitorService"),
        (secret_service_pb2, "SecretService"),
        (coordinator_service_pb2, "CoordinatorService"),
        (agent_service_pb2, "AgentService"),
        (agent_secret_service_pb2, "SecretService"),
        (agent_artifact_service_pb2, "ArtifactService"),
    )
)
SERVICES: tuple[str, ...] = tuple(each.full_name for each in DESCRIBED)


@dataclass(frozen=True, slots=True)
class Backend:
    """What the edge speaks for."""

    stores: Stores
    engine: Engine
    supervisor: Supervisor
    hub: LogHub
    clock: Clock
    readiness: Readiness
    janitor: Janitor
    cipher: SecretCipher | None = None
    """Of users' secrets; None: there is no key."""
    routes: Sequence[web.RouteDef] = ()
    """Of the artifact store, on the HTTP port."""
    keeper: OwnershipKeeper | None = None
    """Of the ownership lease; None: there is but this coordinator."""
    hot: HotStateService | None = None
    """What it shares with others; None: there are none."""
    hand_over: HandOver | None = None
    """To another one by plan; None: there is but this one."""
    head_epoch: int = 0
    """Of a member: of the head that it has joined; 0: it is the head."""
    spreading: Spreads | None = None
    """Chooses where runs start; None: all start here."""
    preparation: Prepares | None = None
    """Reads the runs of a member that leaves."""
    leave: Callable[[str, int], Awaitable[bool]] | None = None
    """Of a member: its runs are released for the head of that id and epoch. False: it has not joined that one."""


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """Addresses are host:port; port 0 is any that is free."""

    listen: str = "127.0.0.1:7400"
    http_listen: str = "127.0.0.1:7480"
    reflection: bool = True
    archive_limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS
    limits: Limits = DEFAULT_LIMITS
    keepalive_ms: int = KEEPALIVE_MS
    max_artifact_bytes: int = DEFAULT_ARTIFACT_BYTES
    prices: Prices = NO_PRICES
    interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    """Before the guard."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """That the process writes to, whose room it tells of, by name."""
    trim: Callable[[], object] = lambda: None
    """Gives memory that is free back to the system."""


class CoordinatorServer:
    """What a coordinator that owns runs has at the doorway. Built by `build_server`, or by an `Entrance` that others
    were behind before; to be started once and stopped once."""

    def __init__(
        self,
        doorway: Doorway,
        backend: Backend,
        options: EdgeOptions,
        http: web.Application | None,
        outside: Outside | None = None,
    ):
        """`outside`: who answers when it is not let in; None: nobody."""
        self._doorway = doorway
        self._outside = outside
        self._forwarders: tuple[Forwarders, ...] = ()
        """Of a head, to its members: for calls of users, and for what it asks itself."""
        self._backend = backend
        self._options = options
        self._http = http
        """None: the doorway is open, and stays so."""
        self._readiness = backend.readiness
        self._probe = (
            None if http is None else DatabaseProbe(lambda: backend.stores.bundles.present([]), self._readiness)
        )
        """None: whoever opened the doorway looks after the database, before this coordinator and after it."""
        self._probing: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """Of gRPC; with the real port once it is started."""
        return self._doorway.address

    @property
    def http_address(self) -> str:
        return self._doorway.http_address

    async def start(self) -> None:
        """Raises `CannotListen`; then neither listens."""
        if self._http is not None:
            await self._doorway.bind(self._http)
        if self._probe is not None:
            await self._probe.run_once()
            self._probing = asyncio.create_task(self._probe.run(), name="database probe")
        keeper, backend = self._backend.keeper, self._backend
        supervisor, may_act = backend.supervisor, None if keeper is None else keeper.may_act
        sizes, counts = RequestSizes(self._options.limits), supervisor.counts.calls
        shedder, freed = Shedder(supervisor.admission), FreedMemory(self._options.trim)
        if backend.head_epoch and self._outside is not None:
            member = self._at_member(self._outside)
            guard = CallGuard(sizes, shedder, counts, member.passes_on, freed)
            self._doorway.let_in(guard, member, may_act, joins=True)
        else:
            self._doorway.let_in(CallGuard(sizes, shedder, counts, freed=freed), self._at_head(), may_act)
        if self._http is not None:
            await self._doorway.open()
        self._doorway.announce()

    def _at_head(self) -> AtHead:
        backend, options = self._backend, self._options
        services = ServiceSet()
        starter = _add_services(services, backend, options)
        wire = forwarding_options(options.limits.message_bytes, options.keepalive_ms)
        supervisor = backend.supervisor
        name, epoch = supervisor.coordinator_id, supervisor.epoch
        # Callers who wait for members' runs are many, and last: starts and cancels do not wait for them.
        routed, asked = self._forwarders = Forwarders(name, epoch, wire), Forwarders(name, epoch, wire)
        supervisor.whereabouts.on_heard = self._heard
        backend.engine.elsewhere.members = MemberCalls(asked)
        return AtHead(services, supervisor.whereabouts, routed, starter)

    def _heard(self, members: Iterable[CoordinatorRow]) -> None:
        found = list(members)
        for each in self._forwarders:
            each.heard(found)

    def _at_member(self, outside: Outside) -> AtMember:
        services, supervisor = ServiceSet(), self._backend.supervisor
        _add_services(services, self._backend, self._options)
        name = place_name(supervisor.coordinator_id, supervisor.epoch)
        return AtMember(services, outside, outside.forwarder, supervisor.whereabouts, name)

    async def stop(self, *steps: Callable[[], Awaitable[object]]) -> None:
        """Say NOT_SERVING first, then take the steps (which end what calls wait for), then end the calls that are left.

        A step that fails is logged, and the next one taken.
        """
        self._readiness.block(STOPPING, "the coordinator is stopping")
        await self.leave(*steps)
        if self._http is not None:
            await self._doorway.close(LAST_CALLS_SECONDS)

    def refuse(self) -> None:
        """Calls come here no more; those under way are another matter."""
        self._doorway.let_out()

    async def leave(self, *steps: Callable[[], Awaitable[object]]) -> None:
        """The steps are taken, and others may be let in: the doorway stays open."""
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("stop_step_failed")
        for each in self._forwarders:
            await each.close()
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        if self._http is None:
            self.refuse()


class Entrance:
    """The doorway of a process that follows and owns in turns."""

    def __init__(
        self,
        readiness: Readiness,
        options: EdgeOptions,
        keeper: OwnershipKeeper,
        routes: Sequence[web.RouteDef],
        hot: HotStateService | None = None,
        watched: Watched | None = None,
    ) -> None:
        """`watched`: of the process, whether it owns runs or not."""
        self._options = options
        watched = watched or Watched()
        self._place = Place(
            None, None if hot is None else hot.hot, watched, options.prices, keeper, folders=options.folders
        )
        self._http = http_application(readiness, self._place, routes)
        self._doorway = _doorway(readiness, options)
        wire = forwarding_options(options.limits.message_bytes, options.keepalive_ms)
        forwarder = Forwarder(keeper.coordinator_id, keeper.owner, wire)
        self._relay = Relay(keeper.coordinator_id, keeper.owner, wire)
        self._place.relayed = lambda: self.relayed
        if hot is not None:
            hot.relayed = lambda: self.relayed
        outside = self._outside = Outside(DESCRIBED, keeper.owner, forwarder, self._relay)
        self.preparation = Preparation(keeper.owner, lambda: outside.expect(EXPECTED_SECONDS))
        """Of a hand-over to this process."""
        add_CoordinatorServiceServicer_to_server(
            CoordinatorService(None, readiness, keeper, self.preparation, hot), cast("grpc.aio.Server", outside)
        )
        sizes, counts = RequestSizes(options.limits), watched.counts.calls
        guard = CallGuard(sizes, None, counts, outside.passes_on, FreedMemory(options.trim))
        self._doorway.stay_outside(guard, outside)

    @property
    def doorway(self) -> Doorway:
        return self._doorway

    @property
    def relayed(self) -> int:
        """Streams of agents that are passed on to the owner now."""
        return self._relay.sessions

    def follow(self) -> None:
        """The owner was looked for: nobody waits for a former one any more."""
        self._outside.follow()

    async def open(self) -> None:
        """Both ports answer from now on: users by way of the owner. Raises `CannotListen`."""
        await self._doorway.bind(self._http)
        await self._doorway.open()

    def server(self, backend: Backend, options: EdgeOptions) -> CoordinatorServer:
        """For a coordinator that owns runs from now on."""
        self._place.supervisor, self._place.janitor = backend.supervisor, backend.janitor
        return CoordinatorServer(self._doorway, backend, options, None, self._outside)

    def empty(self) -> None:
        """It owns none any more."""
        self._doorway.let_out()
        self._place.supervisor = self._place.janitor = None

    async def close(self) -> None:
        await self._doorway.close(LAST_CALLS_SECONDS)


def build_server(backend: Backend, options: EdgeOptions) -> CoordinatorServer:
    """All public services, the agents' service, health, and reflection if it is wanted, on ports of its own."""
    watched = Watched(backend.supervisor.counts)
    place = Place(backend.supervisor, None, watched, options.prices, janitor=backend.janitor, folders=options.folders)
    http = http_application(backend.readiness, place, backend.routes)
    return CoordinatorServer(_doorway(backend.readiness, options), backend, options, http)


def _doorway(readiness: Readiness, options: EdgeOptions) -> Doorway:
    doorway = Doorway(
        options.listen,
        options.http_listen,
        server_options(options.limits.message_bytes, options.keepalive_ms),
        MAX_CALLS,
        options.interceptors,
    )
    add_HealthServicer_to_server(HealthService(readiness, SERVICES), doorway.grpc)
    if options.reflection:
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*SERVICES, health, reflection.SERVICE_NAME), doorway.grpc)
    return doorway


def _add_services(services: ServiceSet, backend: Backend, options: EdgeOptions) -> RunStarter:
    # The generated functions ask for a server, and use it as this can be used.
    server = cast("grpc.aio.Server", services)
    stores, engine, clock, limits = backend.stores, backend.engine, backend.clock, options.limits
    versions = VersionFinder(stores.pipelines)
    starter = RunStarter(engine, stores, versions, limits, backend.clock, backend.spreading)
    history = LogHistory(stores.logs, stores.log_packs, stores.objects)
    logs = LogReader(engine, history, backend.hub, clock)
    add_PipelineServiceServicer_to_server(
        PipelineService(
            stores,
            clock,
            limits,
            _counted(options.prices),
            versions.forget,
            lambda: backend.supervisor.whereabouts.several,
        ),
        server,
    )
    add_RunServiceServicer_to_server(RunService(stores, engine, clock, limits, starter, logs, options.prices), server)
    add_BundleServiceServicer_to_server(BundleService(stores, clock, options.archive_limits), server)
    add_AgentAdminServiceServicer_to_server(AgentAdminService(stores, engine, clock), server)
    add_BulkServiceServicer_to_server(BulkService(engine.bulk, limits), server)
    add_DeadLetterServiceServicer_to_server(DeadLetterService(engine, logs, limits), server)
    add_CacheServiceServicer_to_server(CacheService(engine), server)
    add_CostServiceServicer_to_server(CostService(engine, stores.costs, options.prices, limits), server)
    add_BudgetServiceServicer_to_server(BudgetService(engine, stores.pipelines, options.prices), server)
    add_JanitorServiceServicer_to_server(JanitorService(backend.janitor), server)
    add_CoordinatorServiceServicer_to_server(
        CoordinatorService(
            backend.supervisor,
            backend.readiness,
            backend.keeper,
            backend.preparation,
            backend.hot,
            backend.hand_over,
            backend.leave,
        ),
        server,
    )
    vault = SecretVault(stores.secrets, backend.cipher, clock)
    add_SecretServiceServicer_to_server(SecretService(vault), server)
    add_AgentSecretServiceServicer_to_server(AgentSecretService(backend.supervisor, vault), server)
    add_ArtifactServiceServicer_to_server(ArtifactService(stores, clock), server)
    artifacts = AgentArtifactService(backend.supervisor, options.max_artifact_bytes)
    add_AgentArtifactServiceServicer_to_server(artifacts, server)
    add_AgentServiceServicer_to_server(AgentService(backend.supervisor, engine, backend.hub), server)
    return starter


def _counted(prices: Prices) -> BudgetPrices:
    """By which budgets count."""
    return BudgetPrices(prices.slot, prices.cpu, prices.gb)
