"""This process among the coordinators of its database: it follows and owns runs in turns."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.adapters.artifacts.opening import reachable
from penstock_coordinator.adapters.postgres.pulse import PostgresPulse
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.api.health import FOLLOWING, JOURNAL, RECOVERY, DatabaseProbe, LagWatch
from penstock_coordinator.api.server import Entrance
from penstock_coordinator.configured import edge_options
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.run.spans import microseconds
from penstock_coordinator.identity import CannotStart
from penstock_coordinator.incarnation import Coordinator, cipher
from penstock_coordinator.opening import close_database, open_database
from penstock_coordinator.ports import Fenced, Unavailable
from penstock_coordinator.runtime.board_failover import HotState
from penstock_coordinator.runtime.hot_state import Company, HotStateService
from penstock_coordinator.runtime.joining import JoinGate
from penstock_coordinator.runtime.ownership import OwnershipEnded, OwnershipKeeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.artifacts.opening import OpenedStore
    from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
    from penstock_coordinator.adapters.postgres.stores import PostgresStores
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.place import Watched
    from penstock_coordinator.media import Media
    from penstock_coordinator.runtime.ownership import Turn
    from penstock_coordinator.settings import Settings
    from penstock_coordinator.tracing import Tracing

log = structlog.get_logger(__name__)

PAUSE_BETWEEN_TURNS = 0.2
"""Seconds."""


class Seat:
    """To be run once."""

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
        kept = cipher(settings)
        secrets_key = "" if kept is None else kept.key_id
        own = CoordinatorRow(
            coordinator_id=name,
            state=OwnershipState.FOLLOWER,
            epoch=0,
            renewals=0,
            lease=microseconds(settings.ownership_lease),
            address="",
            http_address="",
            began=self._clock.now(),
            secrets_key=secrets_key,
        )
        unfit = (
            "artifacts are kept on a local disk, which other coordinators do not see: name a store with"
            " PENSTOCK_ARTIFACTS_URL, or set PENSTOCK_JOIN=never"
        )
        self._gate = JoinGate(
            self._clock,
            wanted=settings.join == "auto",
            unfit=unfit if artifacts.routes else "",
            secrets_key=secrets_key,
        )
        self._keeper = OwnershipKeeper(registry, self._clock, own, settings.lanes, self._wait_for, self._gate)
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
            turn = await self._keeper.campaign(stop)
            if turn is None:
                return
            await self._own(stores, turn, stop)

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
                self._stores = await open_database(
                    self._settings, self._name, self._readiness, self._artifacts, self._watched, newer=True
                )
            except CannotStart as error:
                log.warning("database_not_opened", reason=str(error))
                self._readiness.block(FOLLOWING, f"it owns no runs, and cannot follow: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), PAUSE_BETWEEN_TURNS)
        return None if stop.is_set() else self._stores

    async def _own(self, stores: PostgresStores, turn: Turn, stop: asyncio.Event) -> None:
        """Until `stop` is set, or ownership ends. One that joins answers by way of the head until its runs are there,
        and agents that look for the head are sent on as before."""
        joins = turn.role is OwnershipState.MEMBER
        if not joins:
            self._readiness.block(RECOVERY, "live runs are being read from the journal")
            self._readiness.take_agents()
        self._readiness.clear(FOLLOWING)
        self._readiness.journal_available(True)
        self._stores, self._owning = None, stores
        stores.incarnations.speak_as(turn.epoch)
        try:
            coordinator = Coordinator(
                self._settings,
                stores,
                self._artifacts,
                self._readiness,
                self._name,
                turn.epoch,
                self._keeper,
                self._entrance,
                self._hot,
                self._watched,
                self._tracing,
                turn.head_epoch if joins else 0,
                self._gate,
            )
            await coordinator.run(stop)
        except (Fenced, OwnershipEnded, Unavailable) as error:
            log.warning("ownership_ended", epoch=turn.epoch, reason=str(error))
            self._readiness.block(FOLLOWING, f"it owns no runs any more: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PAUSE_BETWEEN_TURNS)
        finally:
            self._owning = None
            self._entrance.empty()
            self._hot.lost()
            self._keeper.ended()
            await close_database(stores)

    async def aclose(self) -> None:
        await self._pulse.aclose()
        if self._stores is not None:
            await close_database(self._stores)
