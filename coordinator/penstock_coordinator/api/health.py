"""Whether this coordinator can serve, and the two places that say so: grpc.health.v1, and /readyz over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer

from penstock_coordinator.api.errors import not_found
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from google.protobuf.message import Message

    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.runtime.loop_lag import LoopLag

log = structlog.get_logger(__name__)

RECOVERY, DATABASE, JOURNAL, STOPPING = "recovery", "database", "journal", "stopping"
FOLLOWING = "following"
"""The cause of one that owns no runs, and hears of nobody who does."""
EVENT_LOOP = "event_loop"
"""The cause of one that comes to everything seconds late."""
CAUSES = (RECOVERY, DATABASE, JOURNAL, FOLLOWING, EVENT_LOOP, STOPPING)
"""All that can make it unready."""
AGENTS = "penstock.agent."
"""Services with such names are those of agents."""

# The package's type hints do not know it yet.
_ListResponse: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]

PROBE_SECONDS = 1.0
"""Between an answer and the next question."""
ANSWER_SECONDS = 2.0
"""With the pause before it: a database that is cut off without a word is noticed within 3 s, which leaves 2 s of the
promised 5 s to a busy machine."""
LAG_SECONDS = 5.0
"""For so long every look has to come late before that makes it unready: one long turn is no reason."""


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

    def checks(self) -> dict[str, str]:
        """Of all that can be in the way: "ok", or why it is."""
        return {cause: self._reasons.get(cause, "ok") for cause in CAUSES}

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
    """Asks the database for nothing, now and then: a coordinator without work would not notice that it is away.

    `ask` raises `Unavailable`. `on_answer` hears of each answer while the coordinator is not ready, with True for the
    first one after a silence: others who wait before their next try need wait no longer.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[object]],
        readiness: Readiness,
        on_answer: Callable[[bool], None] = lambda back: None,
        pause: float = PROBE_SECONDS,
    ) -> None:
        """`pause`: seconds between an answer and the next question. It is half of that while the coordinator is not
        ready: that the database is back is to be seen soon."""
        self._ask_database = ask
        self._readiness = readiness
        self._on_answer = on_answer
        self._pause = pause
        self._asking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while True:
            await self.run_once()
            await asyncio.sleep(self._pause if self._readiness.ready else self._pause / 2)

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
            await self._ask_database()
        except Unavailable as error:
            self._readiness.block(DATABASE, f"the database is away ({error})" if str(error) else "the database is away")
            return
        except Exception as error:
            log.exception("database_probe_failed")
            self._readiness.block(DATABASE, f"the database cannot be asked: {type(error).__name__}")
            return
        if not self._readiness.ready:
            back = DATABASE in self._readiness.reasons
            self._readiness.clear(DATABASE)
            self._on_answer(back)


class LagWatch:
    """Says that a coordinator is not ready which comes to everything late: callers would wait at it in vain.

    `bound`: seconds.
    """

    def __init__(self, readiness: Readiness, bound: float, measured: LoopLag) -> None:
        self._readiness = readiness
        self._measured = measured
        self._bound = bound
        self._late_since: float | None = None

    def watching(self) -> AbstractContextManager[None]:
        """It does while the context is open."""
        return self._measured.told_to(self.look)

    def look(self, lag: float, now: float) -> bool:
        """At the instant `now` what was due came so many seconds late. It is ready again at the first look that is in
        time. Whether it wants to know of the next look too."""
        if lag < self._bound:
            self._late_since = None
            self._readiness.clear(EVENT_LOOP)
            return False
        if self._late_since is None:
            self._late_since = now - lag
        if now - self._late_since >= LAG_SECONDS:
            self._readiness.block(
                EVENT_LOOP, f"it comes {lag:.1f} s late to what is due, and has for {LAG_SECONDS:g} s"
            )
        return True
