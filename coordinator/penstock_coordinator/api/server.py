"""The coordinator's two servers: gRPC with all its services, and HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from penstock_coordinator.api.bulk_service import BulkService
from penstock_coordinator.api.bundle_archive import DEFAULT_ARCHIVE_LIMITS, ArchiveLimits
from penstock_coordinator.api.bundle_service import BundleService
from penstock_coordinator.api.cache_service import CacheService
from penstock_coordinator.api.coordinator_service import CoordinatorService
from penstock_coordinator.api.cost_service import CostService
from penstock_coordinator.api.dead_letter_service import DeadLetterService
from penstock_coordinator.api.encoding.costs import NO_PRICES, Prices
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.health import STOPPING, DatabaseProbe, HealthService, Readiness
from penstock_coordinator.api.http import SHUTDOWN_SECONDS, http_application
from penstock_coordinator.api.janitor_service import JanitorService
from penstock_coordinator.api.log_reader import LogReader
from penstock_coordinator.api.options import KEEPALIVE_MS, MAX_CALLS, server_options
from penstock_coordinator.api.pipeline_service import PipelineService
from penstock_coordinator.api.run_service import RunService
from penstock_coordinator.api.run_starter import RunStarter
from penstock_coordinator.api.secret_service import AgentSecretService, SecretService
from penstock_coordinator.api.shedding import Shedder
from penstock_coordinator.api.sizes import RequestSizes
from penstock_coordinator.api.versions import VersionFinder
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits
from penstock_coordinator.runtime.log_history import LogHistory
from penstock_coordinator.runtime.secrets import SecretVault

if TYPE_CHECKING:
    from penstock_coordinator.ports import Clock, SecretCipher, Stores
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.janitor import Janitor
    from penstock_coordinator.runtime.log_hub import LogHub
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

LAST_CALLS_SECONDS = 1.0
"""How long calls under way may still take when everything that they wait for has stopped."""

SERVICES: tuple[str, ...] = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
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
        (janitor_service_pb2, "JanitorService"),
        (secret_service_pb2, "SecretService"),
        (coordinator_service_pb2, "CoordinatorService"),
        (agent_service_pb2, "AgentService"),
        (agent_secret_service_pb2, "SecretService"),
        (agent_artifact_service_pb2, "ArtifactService"),
    )
)


class CannotListen(Exception):
    """An address cannot be listened on. The text names the setting and the remedy."""


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


class CoordinatorServer:
    """Both servers. Built by `build_server`; to be started once and stopped once."""

    def __init__(self, grpc_server: grpc.aio.Server, http: web.Application, backend: Backend, options: EdgeOptions):
        self._grpc = grpc_server
        self._http = web.AppRunner(http, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        self._readiness = backend.readiness
        self._probe = DatabaseProbe(backend.stores, backend.readiness)
        self._probing: asyncio.Task[None] | None = None
        self._options = options
        self.address = options.listen
        """Of gRPC; with the real port once it is started."""
        self.http_address = options.http_listen

    async def start(self) -> None:
        """Raises `CannotListen`; then neither listens."""
        self.address = _bind_grpc(self._grpc, self._options.listen)
        try:
            self.http_address = await _start_http(self._http, self._options.http_listen)
        except CannotListen:
            await self._grpc.stop(None)
            await self._http.cleanup()
            raise
        await self._probe.run_once()
        self._probing = asyncio.create_task(self._probe.run(), name="database probe")
        await self._grpc.start()
        log.info("listening", grpc=self.address, http=self.http_address)
        if not (_is_loopback(self.address) and _is_loopback(self.http_address)):
            log.warning("listening_beyond_this_machine", reason="there is no authentication: keep the network private")

    async def stop(self, *steps: Callable[[], Awaitable[object]]) -> None:
        """Say NOT_SERVING first, then take the steps (which end what calls wait for), then end the calls that are left.

        A step that fails is logged, and the next one taken.
        """
        self._readiness.block(STOPPING, "the coordinator is stopping")
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("stop_step_failed")
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        await self._grpc.stop(LAST_CALLS_SECONDS)
        await self._http.cleanup()


def build_server(backend: Backend, options: EdgeOptions) -> CoordinatorServer:
    """All public services, the agents' service, health, and reflection if it is wanted."""
    server = grpc.aio.server(
        interceptors=[CallGuard(RequestSizes(options.limits), Shedder(backend.supervisor.admission))],
        options=server_options(options.limits.message_bytes, options.keepalive_ms),
        maximum_concurrent_rpcs=MAX_CALLS,
        compression=grpc.Compression.NoCompression,
    )
    _add_services(server, backend, options)
    add_HealthServicer_to_server(HealthService(backend.readiness, SERVICES), server)
    if options.reflection:
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*SERVICES, health, reflection.SERVICE_NAME), server)
    http = http_application(backend.readiness, backend.supervisor, backend.routes)
    return CoordinatorServer(server, http, backend, options)


def _add_services(server: grpc.aio.Server, backend: Backend, options: EdgeOptions) -> None:
    stores, engine, clock, limits = backend.stores, backend.engine, backend.clock, options.limits
    starter = RunStarter(engine, stores, VersionFinder(stores.pipelines), limits, backend.clock)
    history = LogHistory(stores.logs, stores.log_packs, stores.objects)
    logs = LogReader(engine, history, backend.hub, clock)
    add_PipelineServiceServicer_to_server(PipelineService(stores, clock, limits), server)
    add_RunServiceServicer_to_server(RunService(stores, engine, clock, limits, starter, logs, options.prices), server)
    add_BundleServiceServicer_to_server(BundleService(stores, clock, options.archive_limits), server)
    add_AgentAdminServiceServicer_to_server(AgentAdminService(stores, engine, clock), server)
    add_BulkServiceServicer_to_server(BulkService(engine.bulk, limits), server)
    add_DeadLetterServiceServicer_to_server(DeadLetterService(engine, logs, limits), server)
    add_CacheServiceServicer_to_server(CacheService(engine), server)
    add_CostServiceServicer_to_server(CostService(engine, stores.costs, options.prices, limits), server)
    add_JanitorServiceServicer_to_server(JanitorService(backend.janitor), server)
    add_CoordinatorServiceServicer_to_server(CoordinatorService(backend.supervisor, backend.readiness), server)
    vault = SecretVault(stores.secrets, backend.cipher, clock)
    add_SecretServiceServicer_to_server(SecretService(vault), server)
    add_AgentSecretServiceServicer_to_server(AgentSecretService(backend.supervisor, vault), server)
    add_ArtifactServiceServicer_to_server(ArtifactService(stores, clock), server)
    artifacts = AgentArtifactService(backend.supervisor, options.max_artifact_bytes)
    add_AgentArtifactServiceServicer_to_server(artifacts, server)
    add_AgentServiceServicer_to_server(AgentService(backend.supervisor, engine, backend.hub), server)


def _bind_grpc(server: grpc.aio.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise _cannot_listen("PENSTOCK_LISTEN", address, "it is in use, or no address of this machine")
    return f"{address.rpartition(':')[0]}:{port}"


async def _start_http(runner: web.AppRunner, address: str) -> str:
    host, _, port = address.rpartition(":")
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        reason = "it is in use" if error.errno == errno.EADDRINUSE else "it is no address of this machine"
        raise _cannot_listen("PENSTOCK_HTTP_LISTEN", address, reason) from None
    return f"{host}:{runner.addresses[0][1]}"


def _cannot_listen(setting: str, address: str, reason: str) -> CannotListen:
    return CannotListen(
        f"cannot listen on {address}: {reason}. Set {setting} to another host:port, or stop what uses it"
    )


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
