"""One coordinator process, put together. The only place that names concrete adapters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
import uvloop

from penstock_coordinator.adapters.artifacts.opening import CannotOpen, OpenedStore, open_store, reachable
from penstock_coordinator.adapters.postgres.connections import ANSWER_SECONDS
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.postgres.pulse import PostgresPulse
from penstock_coordinator.adapters.postgres.schema import CannotMigrate, SchemaOutdated, migrate
from penstock_coordinator.adapters.postgres.stores import PostgresStores, open_stores
from penstock_coordinator.adapters.secret_cipher import AesGcmCipher, BadKey, kept_keys
from penstock_coordinator.adapters.successors import prepare_successor
from penstock_coordinator.adapters.system import SystemClock, SystemIds, memory_there_is, resident_bytes
from penstock_coordinator.api.doorway import CannotListen
from penstock_coordinator.api.health import FOLLOWING, JOURNAL, RECOVERY, DatabaseProbe, LagWatch, Readiness
from penstock_coordinator.api.metrics.place import Watched
from penstock_coordinator.api.server import Backend, CoordinatorServer, Entrance, build_server
from penstock_coordinator.configured import edge_options, fairness, hidden, pace, pack_pace, retention, timing
from penstock_coordinator.core.counts import Counts
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.spans import microseconds
from penstock_coordinator.identity import CannotStart, identity
from penstock_coordinator.log_masking import hide, masked
from penstock_coordinator.logs import configure_logging, name_traces
from penstock_coordinator.media import Media, open_media
from penstock_coordinator.ports import Fenced, Unavailable
from penstock_coordinator.process_memory import let_memory_grow, settle_memory, share_one_arena, trim_memory
from penstock_coordinator.runtime.board_failover import HotState
from penstock_coordinator.runtime.credentials import Signer
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.handing_over import HandOver
from penstock_coordinator.runtime.hot_state import Company, HotStateService
from penstock_coordinator.runtime.housekeeping import Housekeeping
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.log_hub import LogHub
from penstock_coordinator.runtime.log_packer import LogPacker
from penstock_coordinator.runtime.ownership import IdentityTaken, OwnershipEnded, OwnershipKeeper
from penstock_coordinator.runtime.store_probe import StoreProbe
from penstock_coordinator.runtime.strain import StrainGauge
from penstock_coordinator.runtime.supervisor import Supervisor
from penstock_coordinator.tracing import Tracing, open_tracing

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from penstock_coordinator.settings import Settings

log = structlog.get_logger(__name__)

LOG_PATIENCE = 5.0
"""Seconds that a stop gives buffered log lines to become durable."""
TRACE_PATIENCE = 3.0
"""Seconds that a stop gives spans to be sent."""
PAUSE_BETWEEN_TURNS = 0.2
"""Seconds."""
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
    ) -> None:
        """`keeper`: of the ownership lease that gave it the epoch; without, nobody else may be there. `entrance`: where
        it is let in; without, it opens ports of its own. `hot`: what it shares with others. `watched`: what is
        measured of the process. `tracing`: None if its runs have no spans."""
        counts = Counts() if watched is None else watched.counts
        self._settings = settings
        self._artifacts = artifacts
        self._stores = stores
        self._readiness = readiness
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
        name_traces(self.supervisor.trace_id)
        self._spans = None if tracing is None else tracing.exporter(self.supervisor)
        self._hub = LogHub(stores.logs, settings.log_buffer_size, settings.max_attempt_log_size, counts.moved)
        self._packer = LogPacker(
            stores.log_packs, stores.objects, clock, SystemIds(), pack_pace(settings), self._hub.hold
        )
        self._hub.on_written = self._packer.wrote
        self._housekeeping = Housekeeping(self.supervisor, stores.partitions.run_once)
        self._janitor = Janitor(self.supervisor, retention(settings), pace(settings))
        self._store_probe = StoreProbe(stores.objects)
        lag = None if watched is None else watched.lag
        self._gauge = StrainGauge(self.supervisor, lag, resident_bytes, trim_memory)
        self._hand_over = None if keeper is None else HandOver(keeper, lambda row: prepare_successor(row, name))
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
            self._hand_over,
        )
        self._hot = hot
        enter = build_server if entrance is None else entrance.server
        self.server: CoordinatorServer = enter(backend, edge_options(settings))
        self._keeper = keeper
        self._read = None if entrance is None else entrance.preparation.take()

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
            keeping.cancel()

    async def _keep_ownership(self) -> None:
        """From before the recovery, which may take longer than a lease."""
        keeper = self._keeper
        if keeper is None:
            return
        tell = self.supervisor.own_until
        tell(keeper.ends_at)
        await keeper.keep(self.supervisor.step_down, lambda: tell(keeper.ends_at))

    async def _run(self, stop: asyncio.Event) -> None:
        let_memory_grow(collect=self._read is None)
        try:
            if self._keeper is not None:
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
        self._artifacts.reached_at(self._settings.http_url, self.server.http_address)
        self._readiness.clear(RECOVERY)
        if self._hot is not None:
            self._hot.owns(self.supervisor)
        settle_memory()
        keeping = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
        bulk = asyncio.create_task(self._bulk.run(), name="bulk-jobs")
        janitor = asyncio.create_task(self._janitor.run(), name="janitor")
        gauge = asyncio.create_task(self._gauge.run(), name="strain")
        probing = asyncio.create_task(self._store_probe.run(), name="artifact store probe")
        packer = asyncio.create_task(self._packer.run(), name="log packer")
        strangers = asyncio.create_task(self._tell_strangers(), name="strangers")
        stopping = asyncio.create_task(stop.wait())
        if self._spans is not None:
            sending = asyncio.create_task(self._spans.run(), name="span exporter")
        wanted = asyncio.create_task(
            asyncio.Event().wait() if self._hand_over is None else self._hand_over.wanted.wait()
        )
        ends: set[asyncio.Future[Any]] = {self._failure, stopping, wanted, keeping, bulk, janitor, gauge, packer}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await self._find_successor()
        for task in (keeping, bulk, janitor, gauge, probing, packer, strangers, stopping, wanted):
            task.cancel()
        await self._leave(stops=stop.is_set())
        if self._spans is not None:
            sending.cancel()
            await self._spans.close(TRACE_PATIENCE)
        if self._failure.done():
            raise self._failure.result()
        for task in (keeping, bulk, janitor, gauge, packer):
            if task.done() and not task.cancelled():
                task.result()  # it runs for ever, or there was a fault: no reason to end as if all were well

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
            if not stops:
                self._readiness.block(FOLLOWING, "it hands its runs over, and does not follow yet")
            await leave(lambda: self.supervisor.hand_over(successor.address, hand_over.release), self._close_logs)
        elif not self._failure.done():
            # Whoever follows begins when all that is decided is committed.
            await self.server.stop(self.supervisor.stop, self._release, self._close_logs)
        else:
            self._readiness.block(FOLLOWING, "it owns no runs any more")
            self.server.refuse()
            await self.server.leave(self.supervisor.abandon, self._close_logs)

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


# --- commands ---------------------------------------------------------------------------------------------------------


async def serve(settings: Settings, *, migrates: bool, former: Sequence[str] = ()) -> None:
    """`former`: ids of coordinators of earlier releases whose runs are taken over. Raises `CannotStart`, and what ended
    the coordinator if it was not a signal."""
    share_one_arena()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if migrates:
        await update_schema(settings)
    with identity(settings.data_dir) as name:
        await _serve_as(name, settings, stop, former)


async def _serve_as(name: str, settings: Settings, stop: asyncio.Event, former: Sequence[str]) -> None:
    readiness = Readiness()
    tracing = open_tracing()
    artifacts = await _open_artifacts(settings)
    watched = Watched()
    stores = await _open(settings, name, readiness, artifacts, watched)
    registry = await _open_registry(settings, name)
    media = await open_media(settings, name)
    member = Member(name, settings, readiness, artifacts, stores, registry, media, watched, tracing)
    try:
        await member.run(stop, former)
    except CannotListen as error:
        raise CannotStart(str(error)) from None
    except IdentityTaken as error:
        raise CannotStart(str(error)) from None
    finally:
        await member.aclose()
        await media.aclose()
        await registry.aclose()
        await artifacts.store.aclose()
        if tracing is not None:
            await tracing.calls.aclose()


class Member:
    """This process among the coordinators of its database: it follows and owns runs in turns."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        readiness: Readiness,
        artifacts: OpenedStore,
        stores: PostgresStores,
        registry: PostgresCoordinatorRegistry,
        media: Media,
        watched: Watched,
        tracing: Tracing | None,
    ) -> None:
        self._name = name
        self._watched = watched
        self._tracing = tracing
        self._settings = settings
        self._readiness = readiness
        self._artifacts = artifacts
        self._stores: PostgresStores | None = stores
        """For the next incarnation: what the former one still has under way writes with the former epoch."""
        self._registry = registry
        self._clock = SystemClock()
        own = CoordinatorRow(
            coordinator_id=name,
            state=OwnershipState.FOLLOWER,
            epoch=0,
            renewals=0,
            lease=microseconds(settings.ownership_lease),
            address="",
            http_address="",
            began=self._clock.now(),
        )
        self._keeper = OwnershipKeeper(registry, self._clock, own, settings.lanes, self._wait_for)
        company = Company(self._keeper, self._clock)
        hot = HotState(media.memory, media.postgres, media.redis, self._clock, company.alone)
        self._hot = HotStateService(hot, self._keeper, company)
        edge = edge_options(settings)
        if tracing is not None:
            edge = replace(edge, interceptors=(tracing.calls.interceptor,))
        self._entrance = Entrance(readiness, edge, self._keeper, artifacts.routes, self._hot, watched)
        self._owning: PostgresStores | None = None
        self._pulse = PostgresPulse(settings.database_url.get_secret_value(), name)
        self._probe = DatabaseProbe(self._pulse.ask, readiness, self._database_answers)
        self._lag_watch = LagWatch(readiness, settings.ready_loop_lag.total_seconds(), watched.lag)

    async def run(self, stop: asyncio.Event, former: Sequence[str]) -> None:
        """Until `stop` is set. Raises `CannotListen`, `CannotStart`, `IdentityTaken`, and what ended it otherwise."""
        await self._entrance.open()
        watching = [
            asyncio.create_task(self._probe.run(), name="database probe"),
            asyncio.create_task(self._watched.lag.run(), name="loop lag"),
        ]
        try:
            await self._introduce(former)
            self._hot.start()
            with self._lag_watch.watching():
                await self._take_turns(stop)
        finally:
            await self._keeper.release()
            await self._hot.aclose()
            await self._entrance.close()
            for task in watching:
                task.cancel()

    async def _take_turns(self, stop: asyncio.Event) -> None:
        while (stores := await self._stores_for_a_turn(stop)) is not None:
            self._entrance.preparation.begin(stores)
            epoch = await self._keeper.campaign(stop)
            if epoch is None:
                return
            await self._own(stores, epoch, stop)

    def _database_answers(self, back: bool) -> None:
        """While it is not ready. After a silence (`back`) what was sent during it may hang for seconds more."""
        self._registry.try_now()
        self._keeper.look_now()
        if back and self._owning is not None:
            self._owning.try_now()

    async def _introduce(self, former: Sequence[str]) -> None:
        doorway, settings = self._entrance.doorway, self._settings
        address = settings.advertised_address or reachable(doorway.address)
        http_address = settings.http_url or f"http://{reachable(doorway.http_address)}"
        try:
            for name in former:
                if not await self._registry.adopt(name):
                    raise CannotStart(
                        f"--take-over-from {name}: the database knows no coordinator of that name: lines of"
                        " `runs_of_an_unknown_coordinator` in this one's log name those that left runs"
                    )
            await self._keeper.introduce(address, http_address)
        except Unavailable as error:
            raise CannotStart(f"the database is away: {error}") from None

    def _wait_for(self, reason: str) -> None:
        """It follows for now."""
        self._entrance.follow()
        if self._keeper.owner() is None:
            self._readiness.block(FOLLOWING, reason)
        else:
            self._readiness.send_agents_away(reason)
            for cause in (FOLLOWING, JOURNAL):  # JOURNAL may be of its time as an owner.
                self._readiness.clear(cause)
        self._readiness.clear(RECOVERY)
        self._entrance.doorway.announce()

    async def _stores_for_a_turn(self, stop: asyncio.Event) -> PostgresStores | None:
        """None: `stop` is set."""
        while self._stores is None and not stop.is_set():
            try:
                # A newer release may have brought the schema further since this process began.
                self._stores = await _open(
                    self._settings, self._name, self._readiness, self._artifacts, self._watched, newer=True
                )
            except CannotStart as error:
                log.warning("database_not_opened", reason=str(error))
                self._readiness.block(FOLLOWING, f"it owns no runs, and cannot follow: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PAUSE_BETWEEN_TURNS)
        return None if stop.is_set() else self._stores

    async def _own(self, stores: PostgresStores, epoch: int, stop: asyncio.Event) -> None:
        """Until `stop` is set, or ownership ends."""
        self._readiness.block(RECOVERY, "live runs are being read from the journal")
        self._readiness.clear(FOLLOWING)
        self._readiness.take_agents()
        self._readiness.journal_available(True)
        self._stores, self._owning = None, stores
        stores.incarnations.speak_as(epoch)
        try:
            coordinator = Coordinator(
                self._settings,
                stores,
                self._artifacts,
                self._readiness,
                self._name,
                epoch,
                self._keeper,
                self._entrance,
                self._hot,
                self._watched,
                self._tracing,
            )
            await coordinator.run(stop)
        except (Fenced, OwnershipEnded, Unavailable) as error:
            log.warning("ownership_ended", epoch=epoch, reason=str(error))
            self._readiness.block(FOLLOWING, f"it owns no runs any more: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_BETWEEN_TURNS)
        finally:
            self._owning = None
            self._entrance.empty()
            self._hot.lost()
            self._keeper.ended()
            await _close(stores)

    async def aclose(self) -> None:
        await self._pulse.aclose()
        if self._stores is not None:
            await _close(self._stores)


async def _close(stores: PostgresStores) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError):
        await stores.aclose(objects=False)


async def _open_artifacts(settings: Settings) -> OpenedStore:
    try:
        return await open_store(settings.artifacts_url, settings.data_dir, settings.artifact_part_size)
    except CannotOpen as error:
        raise CannotStart(str(error)) from None


async def _open(
    settings: Settings,
    name: str,
    readiness: Readiness,
    artifacts: OpenedStore | None = None,
    watched: Watched | None = None,
    *,
    newer: bool = False,
) -> PostgresStores:
    try:
        return await open_stores(
            settings.database_url.get_secret_value(),
            coordinator_id=name,
            lanes=settings.lanes,
            pool_size=settings.database_connections,
            on_availability=readiness.journal_available,
            objects=None if artifacts is None else artifacts.store,
            counts=None if watched is None else watched.counts.commits,
            newer=newer,
        )
    except SchemaOutdated as error:
        raise CannotStart(str(error)) from None
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def _open_registry(settings: Settings, name: str) -> PostgresCoordinatorRegistry:
    patience = min(settings.ownership_lease.total_seconds() / 4, ANSWER_SECONDS)
    return await PostgresCoordinatorRegistry.open(settings.database_url.get_secret_value(), name, patience)


async def update_schema(settings: Settings) -> None:
    """Raises `CannotStart`."""
    try:
        await migrate(settings.database_url.get_secret_value())
    except CannotMigrate as error:
        raise CannotStart(f"the database cannot be brought to the schema of this release: {error}") from None
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _no_database(error) from None


async def rotate_signing_key(settings: Settings, others_live: int) -> None:
    """Coordinators that run read the new key within a minute, or when something comes that it signed. Raises
    `CannotStart`."""
    stores = await _open(settings, "rotate-signing-key", Readiness())
    try:
        now = SystemClock().now()
        key = await stores.signing_keys.rotate(SystemIds().key(), now, now + others_live)
    except Unavailable as error:
        raise CannotStart(f"the database is away, and no key was made: {error}") from None
    finally:
        await stores.aclose()
    log.info("signing_key_rotated", key=key.number)


def _no_database(error: Exception) -> CannotStart:
    # Whoever could not read the URL tells the part that he stumbled over, and that may be one of the password.
    unread = isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError)
    said = "its URL cannot be read" if unread else f"{type(error).__name__}: {error}"
    return CannotStart(
        f"cannot use the database that PENSTOCK_DATABASE_URL names ({said}). Check its "
        "address, user, password and database, and that it is running"
    )


def run(settings: Settings, work: Coroutine[Any, Any, None]) -> int:
    """The exit code: 0, 1 if it ended by a fault, 2 if it cannot start."""
    hide(hidden(settings, os.environ))
    configure_logging(settings.log_level, settings.log_format)
    try:
        uvloop.run(work)
    except CannotStart as error:
        sys.stderr.write(f"error: {masked(str(error))}\n")
        return 2
    except Exception as error:
        log.critical("stopped_by_a_fault", exc_info=error)
        return 1
    return 0


def run_server(settings: Settings, *, migrates: bool, former: Sequence[str]) -> int:
    """As `run`, of the coordinator itself."""
    return run(settings, serve(settings, migrates=migrates, former=former))
