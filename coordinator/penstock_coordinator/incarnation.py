"""One incarnation of a coordinator, put together: from its epoch to its last commit."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from penstock_coordinator.adapters.secret_cipher import AesGcmCipher, BadKey, kept_keys
from penstock_coordinator.adapters.successors import dismiss_member, prepare_successor
from penstock_coordinator.adapters.system import SystemClock, SystemIds, memory_there_is, resident_bytes
from penstock_coordinator.api.health import FOLLOWING, RECOVERY
from penstock_coordinator.api.server import Backend, build_server
from penstock_coordinator.configured import edge_options, fairness, pace, pack_pace, retention, timing
from penstock_coordinator.core.counts import Counts
from penstock_coordinator.identity import CannotStart
from penstock_coordinator.logs import name_traces
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.process_memory import let_memory_grow, settle_memory, trim_memory
from penstock_coordinator.runtime.credentials import Signer
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.handing_over import HandOver
from penstock_coordinator.runtime.heading import Heading
from penstock_coordinator.runtime.housekeeping import Housekeeping
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.leaving import Leaving
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.log_packer import LogPacker
from penstock_coordinator.runtime.ownership import HeadIsOver
from penstock_coordinator.runtime.store_probe import StoreProbe
from penstock_coordinator.runtime.strain import StrainGauge
from penstock_coordinator.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from penstock_coordinator.adapters.artifacts.opening import OpenedStore
    from penstock_coordinator.adapters.postgres.stores import PostgresStores
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.place import Watched
    from penstock_coordinator.api.server import CoordinatorServer, Entrance
    from penstock_coordinator.runtime.hot_state import HotStateService
    from penstock_coordinator.runtime.joining import JoinGate
    from penstock_coordinator.runtime.ownership import OwnershipEnded, OwnershipKeeper
    from penstock_coordinator.settings import Settings
    from penstock_coordinator.tracing import Tracing

log = structlog.get_logger(__name__)

LOG_PATIENCE = 5.0
"""Seconds that a stop gives buffered log lines to become durable."""
TRACE_PATIENCE = 3.0
"""Seconds that a stop gives spans to be sent."""
SUCCESSOR_SECONDS = 8.0
"""How long a stop looks for a successor that reads the runs while this coordinator still has them."""


class Coordinator:
    """One incarnation of a coordinator: from its epoch to its last commit."""

    def __init__(
        self,
        settings: Settings,
        stores: PostgresStores,
        artifacts: OpenedStore,
        readiness: Readiness,
        name: str,
        epoch: int,
        keeper: OwnershipKeeper | None = None,
        entrance: Entrance | None = None,
        hot: HotStateService | None = None,
        watched: Watched | None = None,
        tracing: Tracing | None = None,
        head_epoch: int = 0,
        gate: JoinGate | None = None,
    ) -> None:
        """`keeper`: of the ownership lease that gave it the epoch; without, nobody else may be there. `entrance`: where
        it is let in; without, it opens ports of its own. `hot`: what it shares with others. `watched`: what is
        measured of the process. `tracing`: None if its runs have no spans. `head_epoch`: of the head that it has joined
        as a member, by `gate`; 0: it is the head itself."""
        counts = Counts() if watched is None else watched.counts
        self._is_head = not head_epoch
        self._settings = settings
        self._artifacts = artifacts
        self._stores = stores
        self._readiness = readiness
        self._head_over = asyncio.Event()
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        clock = SystemClock()
        self.supervisor = Supervisor(
            stores,
            clock,
            SystemIds(),
            name,
            epoch,
            settings.lanes,
            timing(settings, memory_there_is()),
            self._fail,
            fairness(settings),
            counts,
        )
        if head_epoch:
            self.supervisor.fleet.head_epoch = head_epoch
            self.supervisor.whereabouts.join(head_epoch)
        name_traces(self.supervisor.trace_id)
        self._spans = None if tracing is None else tracing.exporter(self.supervisor)
        self._hub = LogHub(stores.logs, settings.log_buffer_size, settings.max_attempt_log_size, counts.moved)
        self._packer = LogPacker(
            stores.log_packs,
            stores.objects,
            clock,
            SystemIds(),
            pack_pace(settings),
            self._hub.hold,
            surveys=self._is_head,
        )
        self._hub.on_written = self._packer.wrote
        self._housekeeping = Housekeeping(self.supervisor, stores.partitions.run_once if self._is_head else None)
        self._janitor = Janitor(self.supervisor, retention(settings), pace(settings))
        self._store_probe = StoreProbe(stores.objects)
        lag = None if watched is None else watched.lag
        self._gauge = StrainGauge(self.supervisor, lag, resident_bytes, trim_memory)
        self._keeper, self._hot, self._gate = keeper, hot, gate
        self._heading = self._head_of(keeper, hot) if self._is_head else None
        self._hand_over = self._planned_end(keeper)
        engine = Engine(self.supervisor)
        self._bulk = engine.bulk
        artifacts.sign_with(Signer(self.supervisor.keyring, "artifact url"))
        backend = Backend(
            stores,
            engine,
            self.supervisor,
            self._hub,
            clock,
            readiness,
            self._janitor,
            cipher(settings),
            artifacts.routes,
            keeper,
            hot,
            self._hand_over if isinstance(self._hand_over, HandOver) else None,
            head_epoch=head_epoch,
            spreading=None if self._heading is None else self._heading.spreading,
            preparation=None if self._heading is None else self._heading.leavers,
            leave=self._leave_head,
        )
        enter = build_server if entrance is None else entrance.server
        self.server: CoordinatorServer = enter(backend, edge_options(settings))
        self._read = None if entrance is None else entrance.preparation.take()

    def _head_of(self, keeper: OwnershipKeeper | None, hot: HotStateService | None) -> Heading | None:
        """None: there are no members."""
        if keeper is None or hot is None:
            return None
        name, epoch = self.supervisor.coordinator_id, self.supervisor.epoch
        return Heading(self.supervisor, keeper, hot.entries, lambda row: dismiss_member(row, name, epoch))

    def _planned_end(self, keeper: OwnershipKeeper | None) -> HandOver | Leaving | None:
        """None: nobody is there who could have the runs."""
        if keeper is None:
            return None
        name = self.supervisor.coordinator_id
        if not self._is_head:
            return Leaving(keeper, lambda row: prepare_successor(row, name))
        assert self._heading is not None
        return HandOver(keeper, lambda row: prepare_successor(row, name), self._heading.dismiss)

    async def _leave_head(self, head_id: str, head_epoch: int) -> bool:
        """That head wants it to follow: its runs are released when this returns. False: it is no member of it."""
        leaving, gate = self._hand_over, self._gate
        if not isinstance(leaving, Leaving) or gate is None:
            return False
        gate.stay_out(head_epoch)
        return await leaving.ask(head_id, head_epoch)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_result(error)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, the runs are handed over, or another incarnation takes over: then raises what tells
        so."""
        keeping = asyncio.create_task(self._keep_ownership(), name="ownership")
        try:
            await self._run(stop)
        finally:
            name_traces(None)
            if self._hand_over is not None:
                self._hand_over.end()
            if self._heading is not None:
                self._heading.end()
            keeping.cancel()

    async def _keep_ownership(self) -> None:
        """From before the recovery, which may take longer than a lease."""
        keeper = self._keeper
        if keeper is None:
            return
        tell = self.supervisor.own_until
        tell(keeper.ends_at)
        await keeper.keep(self._ownership_ended, lambda: tell(keeper.ends_at))

    def _ownership_ended(self, error: OwnershipEnded) -> None:
        """A member whose head is over may still write, for a while: what is decided is committed."""
        if isinstance(error, HeadIsOver):
            log.warning("head_is_over", epoch=self.supervisor.epoch, reason=str(error))
            self._head_over.set()
        else:
            self.supervisor.step_down(error)

    async def _run(self, stop: asyncio.Event) -> None:
        let_memory_grow(collect=self._read is None)
        try:
            if self._keeper is not None and self._is_head:
                await self._keeper.claim_runs()
            live = await self.supervisor.recover(self._read)
            self._read = None
        except BaseException:
            await self.supervisor.abandon()
            raise
        if self._failure.done():
            await self.supervisor.abandon()
            raise self._failure.result()
        log.info("recovered", live_runs=live, epoch=self.supervisor.epoch)
        self._hub.start()
        await self.server.start()
        if self._heading is not None:
            self._heading.begin()
        self._artifacts.reached_at(self._settings.http_url, self.server.http_address)
        self._readiness.clear(RECOVERY)
        if self._hot is not None:
            self._hot.owns(self.supervisor, is_head=self._is_head)
        settle_memory()
        working, beside = self._begin_work(), self._begin_beside()
        stopping = asyncio.create_task(stop.wait())
        if self._spans is not None:
            sending = asyncio.create_task(self._spans.run(), name="span exporter")
        wanted = asyncio.create_task(
            asyncio.Event().wait() if self._hand_over is None else self._hand_over.wanted.wait()
        )
        headless = asyncio.create_task(self._head_over.wait())
        ends: set[asyncio.Future[Any]] = {self._failure, stopping, wanted, headless, *working}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await self._find_successor()
        for task in (*working, *beside, stopping, wanted, headless):
            task.cancel()
        # Nobody claims runs for this coordinator when it has released its own.
        await asyncio.wait(working)
        await self._leave(stops=stop.is_set())
        if self._spans is not None:
            sending.cancel()
            await self._spans.close(TRACE_PATIENCE)
        if self._failure.done():
            raise self._failure.result()
        for task in working:
            if not task.cancelled():
                task.result()  # it runs for ever, or there was a fault: no reason to end as if all were well

    def _begin_work(self) -> list[asyncio.Task[None]]:
        """What goes on for as long as it owns, and ends by a fault alone."""
        works = {
            "housekeeping": self._housekeeping.run(),
            "strain": self._gauge.run(),
            "log packer": self._packer.run(),
        }
        if self._is_head:
            works |= {"bulk-jobs": self._bulk.run(), "janitor": self._janitor.run()}
        if self._heading is not None:
            works["members"] = self._heading.run()
        return [asyncio.create_task(work, name=name) for name, work in works.items()]

    def _begin_beside(self) -> list[asyncio.Task[None]]:
        """What it goes on without."""
        probing = asyncio.create_task(self._store_probe.run(), name="artifact store probe")
        return [probing, asyncio.create_task(self._tell_strangers(), name="strangers")] if self._is_head else [probing]

    async def _tell_strangers(self) -> None:
        if self._keeper is not None:
            with contextlib.suppress(Unavailable):
                await self._keeper.tell_strangers()

    async def _find_successor(self) -> None:
        """Not longer than there is somebody to succeed."""
        if self._hand_over is not None:
            looking = asyncio.create_task(self._hand_over.find())
            ends: set[asyncio.Future[Any]] = {looking, self._failure}
            await asyncio.wait(ends, timeout=SUCCESSOR_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            looking.cancel()

    async def _leave(self, *, stops: bool) -> None:
        hand_over = self._hand_over
        if hand_over is None:
            await self.server.stop(self.supervisor.stop, self._close_logs)
        elif not self._failure.done() and (successor := hand_over.successor) is not None:
            leave = self.server.stop if stops else self.server.leave
            if not stops and self._is_head:
                self._readiness.block(FOLLOWING, "it hands its runs over, and does not follow yet")
            await leave(lambda: self.supervisor.hand_over(successor.address, hand_over.release), self._close_logs)
        elif not self._failure.done() and self._head_over.is_set() and not stops:
            self._readiness.block(FOLLOWING, "its head is gone, and it owns no runs any more")
            await self.server.leave(lambda: self.supervisor.hand_over("", self._step_back), self._close_logs)
        elif not self._failure.done():
            # Whoever follows begins when all that is decided is committed.
            await self.server.stop(self.supervisor.stop, self._release, self._close_logs)
        else:
            self._readiness.block(FOLLOWING, "it owns no runs any more")
            self.server.refuse()
            await self.server.leave(self.supervisor.abandon, self._close_logs)

    async def _step_back(self) -> None:
        assert self._keeper is not None
        await self._keeper.step_back()

    async def _release(self) -> None:
        assert self._keeper is not None
        await self._keeper.release()
        if self._hot is not None:
            await self._hot.leaves()

    async def _close_logs(self) -> None:
        await self._hub.close(LOG_PATIENCE)


def cipher(settings: Settings) -> AesGcmCipher | None:
    """None: secrets are not kept here. Raises `CannotStart`."""
    try:
        keys = kept_keys(settings)
    except BadKey as error:
        raise CannotStart(str(error)) from None
    return AesGcmCipher(keys) if keys else None
