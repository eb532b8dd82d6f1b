"""Whether this coordinator can serve, and the two places that say so: grpc.health.v1, and /readyz over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer

from penstock_coordinator.api.errors import not_found
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import Stores

log = structlog.get_logger(__name__)

RECOVERY, DATABASE, JOURNAL, STOPPING = "recovery", "database", "journal", "stopping"
FOLLOWING = "following"
"""The cause of one that owns no runs, and hears of nobody who does."""
AGENTS = "penstock.agent."
"""Services with such names are those of agents."""

# The package's type hints do not know it yet.
_ListResponse: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 5.0


class Readiness:
    """Ready when nothing is in the way. At first recovery is: whoever has recovered says so with `clear(RECOVERY)`."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {RECOVERY: "live runs are being read from the journal"}
        self._agents_go = ""
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def version(self) -> int:
        """Greater after each change."""
        return self._version

    @property
    def ready(self) -> bool:
        return not self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        """What is in the way, by cause."""
        return dict(self._reasons)

    @property
    def agents_go(self) -> str:
        """Why agents are sent elsewhere although it is ready; "": they are not."""
        return self._agents_go

    def send_agents_away(self, reason: str) -> None:
        """It answers users, and is nothing for agents."""
        if not self._agents_go:
            log.info("agents_sent_away", reason=reason)
        if reason != self._agents_go:
            self._agents_go = reason
            self._notify()

    def take_agents(self) -> None:
        if self._agents_go:
            self._agents_go = ""
            self._notify()

    def block(self, cause: str, reason: str) -> None:
        if cause not in self._reasons:
            log.warning("not_ready", cause=cause, reason=reason)
        self._reasons[cause] = reason
        self._notify()

    def clear(self, cause: str) -> None:
        if self._reasons.pop(cause, None) is not None:
            log.info("cleared", cause=cause, ready=self.ready)
            self._notify()

    def journal_available(self, available: bool) -> None:
        """For whoever commits: whether the database takes what is written."""
        if available:
            self.clear(JOURNAL)
        else:
            self.block(JOURNAL, "commits wait for the database")

    async def changed_since(self, version: int) -> None:
        """Returns when there was a change after that version."""
        while self._version == version:
            await self._changed.wait()

    def _notify(self) -> None:
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class HealthService(HealthServicer):
    """The state of the whole coordinator, under its own name ("") and each service's. While it follows the services of
    agents do not serve.

    The servicer of grpcio-health-checking holds a lock while it writes to a watcher, so that one who does not read
    would keep all others from hearing of a change; here each watcher has only itself to wait for.
    """

    def __init__(self, readiness: Readiness, services: Iterable[str]) -> None:
        self._readiness = readiness
        self._services = frozenset(services) | {""}

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:
        if request.service not in self._services:
            raise not_found("service", "UNKNOWN_SERVICE", "there is no such service: leave it out for the coordinator")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: Message, context: Context) -> Message:
        statuses = {name: health_pb2.HealthCheckResponse(status=self._status(name)) for name in sorted(self._services)}
        response: Message = _ListResponse(statuses=statuses)
        return response

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        said: int | None = None
        while True:
            version = self._readiness.version
            status = self._status(request.service)
            if status != said:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                said = status
            await self._readiness.changed_since(version)

    def _status(self, service: str) -> int:
        if service not in self._services:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        elsewhere = service.startswith(AGENTS) and self._readiness.agents_go
        return (
            health_pb2.HealthCheckResponse.SERVING
            if self._readiness.ready and not elsewhere
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )


class DatabaseProbe:
    """Asks the database for nothing, now and then: a coordinator without work would not notice that it is away."""

    def __init__(self, stores: Stores, readiness: Readiness) -> None:
        self._stores = stores
        self._readiness = readiness
        self._asking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await self.run_once()
            await asyncio.sleep(PROBE_SECONDS)

    async def run_once(self) -> None:
        """A question that is not answered is not given up, as that could hang too, but waited for further on."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait({self._asking}, timeout=ANSWER_SECONDS)
        if done:
            self._asking = None
        else:
            self._readiness.block(DATABASE, f"the database has not answered for {ANSWER_SECONDS:g} s")

    async def _ask(self) -> None:
        try:
            await self._stores.bundles.present([])
        except Unavailable:
            self._readiness.block(DATABASE, "the database is away")
        else:
            self._readiness.clear(DATABASE)
