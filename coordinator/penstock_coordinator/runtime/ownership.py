"""Keeps this coordinator's ownership lease: waits for it, renews it, says when it is over, and gives it up.

The decisions are those of `core.fleet.ownership`; here are the clock, the registry and the waiting.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet.ownership import (
    LATE_AFTER,
    CoordinatorRow,
    Ownership,
    OwnershipState,
    look_interval,
    renewal_interval,
)
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.coordinators import CLAIMED_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock_coordinator.ports import Clock, RunId
    from penstock_coordinator.ports.coordinators import CoordinatorRegistry

log = structlog.get_logger(__name__)

_SECOND = 1e6
TRIES = 4
"""In the time between two renewals, when one has failed."""


class OwnershipEnded(Exception):
    """This coordinator owns no runs any more: another one does, or may."""


class IdentityTaken(Exception):
    """Another process has this coordinator's id. The text has the remedy."""


@dataclass(frozen=True, slots=True)
class CoordinatorView:
    row: CoordinatorRow
    still_for: int
    """Microseconds since it was last seen to move; of this one itself since its last renewal was asked for."""
    own: bool


class OwnershipKeeper:
    """One per process, for as long as it lives. `on_waiting` hears in words what it waits for."""

    def __init__(
        self,
        registry: CoordinatorRegistry,
        clock: Clock,
        own: CoordinatorRow,
        lanes: int,
        on_waiting: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.database_answers = True
        """It did when it was last asked."""
        self._registry = registry
        self._clock = clock
        self._own = own
        self._lanes = lanes
        self._on_waiting = on_waiting
        self._ownership = Ownership(own.coordinator_id, own.lease)
        self._told: tuple[str, bool] | None = None
        self._renewed_at = 0
        self._registered = False
        self._others: dict[str, str] = {}
        """Addresses of those that were there at the last renewal."""
        self._hint: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()

    # --- what is known

    @property
    def coordinator_id(self) -> str:
        return self._own.coordinator_id

    @property
    def epoch(self) -> int:
        """0 while it follows."""
        return self._ownership.epoch

    @property
    def ends_at(self) -> int | None:
        """By the clock: when it has to have stopped, if no renewal comes. None: it is alone, and may go on."""
        return self._ownership.ends_at

    def may_act(self) -> bool:
        return self._ownership.may_act(self._clock.monotonic())

    def owner(self) -> CoordinatorRow | None:
        """Another coordinator that owns runs, and was heard of lately: where callers and agents should go."""
        now = self._clock.monotonic()
        for row in self._ownership.heads:
            if self._ownership.heard_of(row.coordinator_id, now):
                return row
        return None

    def followers(self) -> list[CoordinatorRow]:
        """Those that wait, and were heard of lately, by id."""
        now = self._clock.monotonic()
        return [
            row
            for row in self._ownership.others
            if row.state is OwnershipState.FOLLOWER and self._ownership.heard_of(row.coordinator_id, now)
        ]

    def coordinators(self) -> list[CoordinatorView]:
        """All that are known, this one too, by id."""
        now = self._clock.monotonic()
        state = OwnershipState.OWNER if self.epoch else OwnershipState.FOLLOWER
        own = replace(self._own, state=state, epoch=self.epoch)
        views = [
            CoordinatorView(row, self._ownership.still_for(row.coordinator_id, now), own=False)
            for row in self._ownership.others
        ]
        views.append(CoordinatorView(own, now - self._renewed_at, own=True))
        return sorted(views, key=lambda view: view.row.coordinator_id)

    # --- following

    async def introduce(self, address: str, http_address: str) -> None:
        """This coordinator waits from now on; others reach it there. Raises `Unavailable`."""
        self._own = replace(self._own, address=address, http_address=http_address)
        await self._register(await self._registry.look())

    async def _register(self, rows: Sequence[CoordinatorRow]) -> None:
        """`rows`: as they were seen just now. A registration that arrives after what follows it changes nothing."""
        known = max((row.epoch for row in rows if row.coordinator_id == self.coordinator_id), default=0)
        self._registered = True
        await self._registry.register(replace(self._own, epoch=known))
        self._renewed_at = self._clock.monotonic()

    def look_now(self) -> None:
        """Something is said to have changed: one that waits looks at once."""
        self._nudged.set()

    async def campaign(self, stop: asyncio.Event) -> int | None:
        """Returns the epoch when this coordinator owns; None when `stop` is set. Raises `IdentityTaken`."""
        stopping = asyncio.create_task(stop.wait())
        away = False
        try:
            while not stop.is_set():
                try:
                    epoch = await self._try()
                    self.database_answers = True
                    if epoch:
                        return epoch
                    away = False
                except Unavailable as error:
                    self.database_answers = False
                    if not away:
                        log.warning("ownership_not_sought", reason=str(error))
                    away = True
                    self._on_waiting(f"it follows, and the database is away: {error}")
                await self._pause(stopping)
        finally:
            stopping.cancel()
            if self._hint is not None:
                self._hint.cancel()
                self._hint = None
        return None

    async def _try(self) -> int:
        """The epoch, or 0."""
        rows = await self._registry.look()
        now = self._clock.monotonic()
        if not self._ownership.looked(rows, now):
            self._check_identity(rows)
            await self._register(rows)
            return 0
        if not self._ownership.may_claim(now):
            self._tell_waiting()
            await self._move(now)
            return 0
        owners, asked_at = self._ownership.owners, self._clock.monotonic()
        claim = await self._registry.claim(self._own.coordinator_id, self._lanes, owners)
        if claim is None:
            return 0
        self._ownership.won(claim.epoch, asked_at, alone=claim.alone)
        self._renewed_at = asked_at
        self._told = None
        self._others = {}
        log.info(
            "owning",
            coordinator=self._own.coordinator_id,
            epoch=claim.epoch,
            taken_over_from=[row.coordinator_id for row in owners],
        )
        return claim.epoch

    def _check_identity(self, rows: Sequence[CoordinatorRow]) -> None:
        for row in rows:
            if row.coordinator_id == self._own.coordinator_id and row.began != self._own.began:
                raise IdentityTaken(
                    f'another process runs as the coordinator "{row.coordinator_id}" (at {row.address}): give each a'
                    " data folder of its own (PENSTOCK_DATA_DIR), which keeps its identity"
                )

    async def _move(self, now: int) -> None:
        """One that waits tells now and then that it does."""
        if now - self._renewed_at >= renewal_interval(self._own.lease):
            await self._registry.renew(self._own.coordinator_id, 0)
            self._renewed_at = now

    def _tell_waiting(self) -> None:
        for row in self._ownership.heads or self._ownership.members:
            heard_of = self._ownership.heard_of(row.coordinator_id, self._clock.monotonic())
            reason = _why_waiting(row, heard_of=heard_of)
            if self._told != (row.coordinator_id, heard_of):
                self._told = row.coordinator_id, heard_of
                log.info("following", owner=row.coordinator_id, address=row.address, heard_of=heard_of, reason=reason)
            self._on_waiting(reason)

    async def _pause(self, stopping: asyncio.Task[bool]) -> None:
        """Until the next look, which a hint may bring sooner."""
        now, at = self._clock.monotonic(), self._ownership.claimable_at()
        pause = look_interval(self._own.lease)
        if at > now:
            pause = min(pause, at - now)
        if self._hint is None or self._hint.done():
            self._hint = asyncio.create_task(self._registry.hinted(LATE_AFTER * self._own.lease / _SECOND))
        nudged = asyncio.create_task(self._nudged.wait())
        ends: set[asyncio.Task[bool] | asyncio.Task[None]] = {self._hint, stopping, nudged}
        await asyncio.wait(ends, timeout=pause / _SECOND, return_when=asyncio.FIRST_COMPLETED)
        nudged.cancel()
        self._nudged.clear()

    # --- owning

    async def claim_runs(self) -> list[RunId]:
        """What former owners left. Raises `Unavailable`."""
        claimed: list[RunId] = []
        while more := await self._registry.claim_runs(self._own.coordinator_id, self.epoch):
            claimed += more
            if len(more) < CLAIMED_AT_ONCE:
                break
        if claimed:
            log.info("runs_claimed", count=len(claimed), epoch=self.epoch)
        return claimed

    async def tell_strangers(self) -> None:
        """For the log: runs that nobody looks after. Raises `Unavailable`."""
        for name, count in (await self._registry.strangers()).items():
            log.warning(
                "runs_of_an_unknown_coordinator",
                coordinator=name,
                count=count,
                remedy=f"if that coordinator (of an earlier release) is stopped for good: penstock server"
                f" --take-over-from {name}",
            )

    async def keep(self, on_ended: Callable[[OwnershipEnded], None], on_kept: Callable[[], None]) -> None:
        """Renew until it ends. `on_kept` is called when `ends_at` has changed, `on_ended` once: when this coordinator
        has to stop at once. Then it returns."""
        renewing = asyncio.create_task(self._renew_for_ever(on_kept))
        watching = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait({renewing, watching}, return_when=asyncio.FIRST_COMPLETED)
            on_ended(OwnershipEnded(next(iter(done)).result()))
        finally:
            renewing.cancel()
            watching.cancel()

    async def _watch(self) -> str:
        """Apart from the renewals: a database that is away may keep them waiting."""
        while self.may_act():
            ends_at = self.ends_at
            pause = renewal_interval(self._own.lease)
            if ends_at is not None:
                pause = min(pause, max(ends_at - self._clock.monotonic(), 0))
            await asyncio.sleep(pause / _SECOND)
        return "the ownership lease could not be renewed in time"

    async def _renew_for_ever(self, on_kept: Callable[[], None]) -> str:
        pause = renewal_interval(self._own.lease)
        while True:
            await asyncio.sleep(pause / _SECOND)
            asked_at = self._clock.monotonic()
            try:
                kept = await self._renew(asked_at)
                self.database_answers = True
                if not kept:
                    return "another coordinator has taken over"
                on_kept()
                pause = renewal_interval(self._own.lease)
            except Unavailable as error:
                self.database_answers = False
                log.warning("ownership_not_renewed", reason=str(error), alone=self._ownership.alone)
                pause = renewal_interval(self._own.lease) // TRIES

    async def _renew(self, asked_at: int) -> bool:
        if not await self._registry.renew(self._own.coordinator_id, self.epoch):
            return False
        self._ownership.looked(await self._registry.look(), self._clock.monotonic())
        self._ownership.renewed(asked_at, alone=not self._ownership.others)
        self._renewed_at = asked_at
        self._tell_changes()
        for row in self._ownership.forgotten(self._clock.monotonic()):
            log.warning("coordinator_forgotten", coordinator=row.coordinator_id, address=row.address)
            await self._registry.forget(row)
        return True

    def _tell_changes(self) -> None:
        """Who else is there, for the log of the owner."""
        before, self._others = self._others, {row.coordinator_id: row.address for row in self._ownership.others}
        for name in sorted(self._others.keys() - before.keys()):
            log.info("coordinator_joined", coordinator=name, address=self._others[name])
        for name in sorted(before.keys() - self._others.keys()):
            log.info("coordinator_left", coordinator=name, address=before[name])

    # --- the end

    def ended(self) -> None:
        """It owns nothing any more: the next campaign may begin."""
        self._ownership.ended()

    async def release(self, successor: str = "") -> bool:
        """It stops: nobody needs to wait for its lease, and `successor` claims first. A database that is away hears
        nothing of it. Idempotent. Whether it is known that it has heard."""
        if not self._registered:
            return False
        epoch, self._registered = self.epoch, False
        self._ownership.ended()
        try:
            await self._registry.release(self._own.coordinator_id, epoch, successor)
        except Unavailable as error:
            log.warning("ownership_not_released", reason=str(error))
            return False
        else:
            log.info("ownership_released", coordinator=self._own.coordinator_id, epoch=epoch, successor=successor)
            return True


def _why_waiting(row: CoordinatorRow, *, heard_of: bool) -> str:
    who = f'the coordinator "{row.coordinator_id}" at {row.address}'
    if not heard_of:
        return (
            f"{who} is not heard of: its runs are taken over when its ownership lease of {row.lease / _SECOND:g} s has"
            " run out"
        )
    if row.state is OwnershipState.MEMBER:
        return f"it follows: {who} was a member of a former head, and has not given its runs back yet"
    return f"it follows: {who} owns the runs"
