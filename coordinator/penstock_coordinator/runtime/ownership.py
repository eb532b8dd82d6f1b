"""Keeps this coordinator's ownership lease, as a head or as a member of one: waits for it, renews it, says when it is
over, and gives it up. As a head it ends members whose lease has run out.

The decisions are those of `core.fleet.ownership`; here are the clock, the registry and the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import structlog

from penstock_coordinator.core.fleet.ownership import (
    LATE_AFTER,
    SHORTEST_LOOK,
    CoordinatorRow,
    Ownership,
    OwnershipState,
    look_interval,
    renewal_interval,
)
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock_coordinator.ports import Clock, RunId
    from penstock_coordinator.ports.coordinators import CoordinatorRegistry

log = structlog.get_logger(__name__)

_SECOND = 1e6
Place: TypeAlias = tuple[str, int, str]
"""A member's id, epoch and address."""
TRIES = 4
"""In the time between two renewals, when one has failed."""


class OwnershipEnded(Exception):
    """This coordinator owns no runs any more: another one does, or may."""


class HeadIsOver(OwnershipEnded):
    """This coordinator is a member, and its head is gone or stands still: it renews no more and has to leave. Its own
    lease lasts a while yet, in which it commits what is decided and steps back: others wait for that."""


class IdentityTaken(Exception):
    """Another process has this coordinator's id. The text has the remedy."""


class Turn(NamedTuple):
    """As an owner."""

    epoch: int
    role: OwnershipState
    """OWNER or MEMBER."""
    head_epoch: int
    """Of the claim that it owns by: its own as a head."""


@dataclass(frozen=True, slots=True)
class CoordinatorView:
    row: CoordinatorRow
    still_for: int
    """Microseconds since it was last seen to move; of this one itself since its last renewal was asked for."""
    own: bool


class OwnershipKeeper:
    """One per process, for as long as it lives. `on_waiting` hears in words what it waits for; `joins` is asked before
    each try whether it may become a member of that head: if not, it follows."""

    def __init__(
        self,
        registry: CoordinatorRegistry,
        clock: Clock,
        own: CoordinatorRow,
        lanes: int,
        on_waiting: Callable[[str], None] = lambda reason: None,
        joins: Callable[[CoordinatorRow], bool] = lambda head: False,
    ) -> None:
        self.on_members: Callable[[Sequence[CoordinatorRow]], None] = lambda members: None
        """Called with `members` whenever those are others, or are elsewhere."""
        self.database_answers = True
        """It did when it was last asked."""
        self._registry = registry
        self._clock = clock
        self._own = own
        self._lanes = lanes
        self._on_waiting = on_waiting
        self._joins = joins
        self._ownership = Ownership(own.coordinator_id, own.lease)
        self._told: tuple[str, bool] | None = None
        self._renewed_at = 0
        self._registered = False
        self._others: dict[str, str] = {}
        """Addresses of those that were there at the last renewal."""
        self._members: list[Place] = []
        self._peers: list[Place] = []
        """As they were last told."""
        self._peers_changed = asyncio.Event()
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
    def role(self) -> OwnershipState:
        """FOLLOWER, OWNER (the head) or MEMBER."""
        return self._ownership.role

    @property
    def head_epoch(self) -> int:
        """Of the claim that it owns by: its own as a head; 0 while it follows."""
        return self._ownership.head_epoch

    @property
    def alone(self) -> bool:
        """It is the head, and nobody else was there at its last renewal."""
        return self._ownership.alone

    @property
    def ends_at(self) -> int | None:
        """By the clock: when it has to have stopped, if no renewal comes. None: it is alone, and may go on."""
        return self._ownership.ends_at

    def may_act(self) -> bool:
        return self._ownership.may_act(self._clock.monotonic())

    def owner(self) -> CoordinatorRow | None:
        """Another coordinator that is the head, and was heard of lately: where callers and agents should go."""
        return next(iter(self._heard_of(self._ownership.heads)), None)

    def followers(self) -> list[CoordinatorRow]:
        """Those that may succeed this one: they wait, or are its members; heard of lately, by id."""
        members = self.peers()
        candidates = [row for row in self._ownership.others if row.state is OwnershipState.FOLLOWER or row in members]
        return self._heard_of(candidates)

    def members(self) -> list[CoordinatorRow]:
        """Of this head, heard of lately, by id. None of one that is no head."""
        return self._heard_of(self.peers())

    def peers(self) -> list[CoordinatorRow]:
        """As `members`, also those that are late: they own their runs until they have left or are buried."""
        return self._ownership.fellows if self.role is OwnershipState.OWNER else []

    def _heard_of(self, rows: Sequence[CoordinatorRow]) -> list[CoordinatorRow]:
        now = self._clock.monotonic()
        return [row for row in rows if self._ownership.heard_of(row.coordinator_id, now)]

    async def peers_changed(self, seconds: float) -> None:
        """Returns when there are others than at the last call that returned, or after so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._peers_changed.wait(), seconds)
        self._peers_changed.clear()

    def coordinators(self) -> list[CoordinatorView]:
        """All that are known, this one too, by id."""
        now = self._clock.monotonic()
        own = replace(self._own, state=self.role, epoch=self.epoch, head_epoch=self.head_epoch)
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

    async def campaign(self, stop: asyncio.Event) -> Turn | None:
        """Returns when this coordinator owns, as the head or as a member; None when `stop` is set. Raises
        `IdentityTaken`."""
        stopping = asyncio.create_task(stop.wait())
        away = False
        try:
            while not stop.is_set():
                try:
                    turn = await self._try()
                    self.database_answers = True
                    if turn is not None:
                        return turn
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
            self._hear_no_more()
        return None

    async def _try(self) -> Turn | None:
        rows = await self._registry.look()
        now = self._clock.monotonic()
        if not self._ownership.looked(rows, now):
            self._check_identity(rows)
            await self._register(rows)
            return None
        if self._ownership.may_claim(now):
            return await self._claim()
        head = self._ownership.may_join(now)
        if head is not None and self._joins(head) and (turn := await self._join(head)) is not None:
            return turn
        self._tell_waiting()
        await self._move(now)
        return None

    async def _claim(self) -> Turn | None:
        owners, asked_at = self._ownership.owners, self._clock.monotonic()
        claim = await self._registry.claim(self.coordinator_id, self._lanes, owners)
        if claim is None:
            return None
        self._ownership.won(claim.epoch, asked_at, alone=claim.alone)
        former = [row.coordinator_id for row in owners]
        log.info("owning", coordinator=self.coordinator_id, epoch=claim.epoch, taken_over_from=former)
        return self._begin_turn(asked_at)

    async def _join(self, head: CoordinatorRow) -> Turn | None:
        asked_at = self._clock.monotonic()
        epoch = await self._registry.join(self.coordinator_id, self._lanes, head)
        if epoch is None:
            return None
        self._ownership.joined(epoch, head, asked_at)
        log.info(
            "joined", coordinator=self.coordinator_id, epoch=epoch, head=head.coordinator_id, head_epoch=head.epoch
        )
        return self._begin_turn(asked_at)

    def _begin_turn(self, asked_at: int) -> Turn:
        self._renewed_at = asked_at
        self._told = None
        self._others = {}
        self._members, self._peers = [], []
        return Turn(self.epoch, self.role, self.head_epoch)

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
        nudged = asyncio.create_task(self._nudged.wait())
        ends: set[asyncio.Task[bool] | asyncio.Task[None]] = {self._hearing(), stopping, nudged}
        await asyncio.wait(ends, timeout=pause / _SECOND, return_when=asyncio.FIRST_COMPLETED)
        nudged.cancel()
        self._nudged.clear()

    def _hearing(self) -> asyncio.Task[None]:
        """Ends at the next hint, or after a while."""
        if self._hint is None or self._hint.done():
            self._hint = asyncio.create_task(self._registry.hinted(LATE_AFTER * self._own.lease / _SECOND))
        return self._hint

    def _hear_no_more(self) -> None:
        hint, self._hint = self._hint, None
        if hint is not None:
            hint.cancel()

    # --- owning

    async def claim_runs(self) -> list[RunId]:
        """What former owners left: all of it. Raises `Unavailable`."""
        claimed: list[RunId] = []
        while more := await self.claim_some_runs():
            claimed += more
        return claimed

    async def claim_some_runs(self) -> list[RunId]:
        """Some of what former owners left; none if there is nothing. Raises `Unavailable`: then it may have some, and
        nobody has said which."""
        claimed = await self._registry.claim_runs(self.coordinator_id, self.epoch)
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
        has to stop at once, or, with `HeadIsOver`, to leave. Then it returns."""
        renewing = asyncio.create_task(self._renew_for_ever(on_kept))
        watching = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait({renewing, watching}, return_when=asyncio.FIRST_COMPLETED)
            on_ended(next(iter(done)).result())
        finally:
            renewing.cancel()
            watching.cancel()
            self._hear_no_more()

    async def _watch(self) -> OwnershipEnded:
        """Apart from the renewals: a database that is away may keep them waiting."""
        while self.may_act():
            ends_at = self.ends_at
            pause = renewal_interval(self._own.lease)
            if ends_at is not None:
                pause = min(pause, max(ends_at - self._clock.monotonic(), 0))
            await asyncio.sleep(pause / _SECOND)
        return OwnershipEnded("the ownership lease could not be renewed in time")

    async def _renew_for_ever(self, on_kept: Callable[[], None]) -> OwnershipEnded:
        pause = renewal_interval(self._own.lease)
        while True:
            try:
                await self._look_for(pause / _SECOND)
                await self._renew(self._clock.monotonic())
                on_kept()
                pause = renewal_interval(self._own.lease)
            except OwnershipEnded as ended:
                return ended
            except Unavailable as error:
                self.database_answers = False
                log.warning("ownership_not_renewed", reason=str(error), alone=self._ownership.alone)
                pause = renewal_interval(self._own.lease) // TRIES

    async def _look_for(self, seconds: float) -> None:
        """Until the next renewal: whoever has members, or is one, looks as often as one that waits, and everybody looks
        when it is told that something has changed. Raises `OwnershipEnded`, `Unavailable`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            if not self._ownership.others:
                await asyncio.sleep(left)
                return
            over_at, pause = self._ownership.next_over_at(), left
            if over_at is not None:
                over_in = max(over_at - self._clock.monotonic(), SHORTEST_LOOK)
                pause = min(left, over_in / _SECOND, look_interval(self._own.lease) / _SECOND)
            done, _ = await asyncio.wait({self._hearing()}, timeout=pause)
            if done or pause < left:
                await self._look()

    async def _renew(self, asked_at: int) -> None:
        """Raises `OwnershipEnded`, `Unavailable`."""
        kept = await self._registry.renew(self.coordinator_id, self.epoch)
        self.database_answers = True
        if not kept:
            raise OwnershipEnded("another coordinator has taken over")
        await self._look()
        self._ownership.renewed(asked_at, alone=not self._ownership.others)
        self._renewed_at = asked_at
        self._tell_changes()
        if self.role is OwnershipState.OWNER:
            await self._forget_who_stands_still()

    async def _look(self) -> None:
        """At the others. Raises `OwnershipEnded`, `Unavailable`."""
        if not self._ownership.looked(await self._registry.look(), self._clock.monotonic()):
            raise OwnershipEnded("it is no member any more")
        now = self._clock.monotonic()
        if self._ownership.head_is_over(now):
            raise HeadIsOver("its head is gone, or is not heard of")
        if await self._bury_the_dead(now):
            self._ownership.looked(await self._registry.look(), self._clock.monotonic())
        self._tell_members()

    async def _bury_the_dead(self, now: int) -> bool:
        """Whether there was one. Who cannot be buried yet is tried again at the next look: nothing of it may keep this
        head from renewing its own lease."""
        buried = False
        try:
            for row in self._ownership.dead_members(now):
                if not await self._bury(row):
                    break
                buried = True
        except Unavailable as error:
            log.warning("member_not_buried", reason=str(error))
        return buried

    async def _bury(self, row: CoordinatorRow) -> bool:
        buried = await self._registry.bury(self.coordinator_id, self.epoch, row)
        if buried:
            log.warning("member_buried", coordinator=row.coordinator_id, address=row.address, epoch=row.epoch)
        return buried

    def _tell_members(self) -> None:
        members, peers = self.members(), self.peers()
        before, self._peers = self._peers, [_place(row) for row in peers]
        if before != self._peers:
            self._peers_changed.set()
            log.info("members", coordinators=[row.coordinator_id for row in peers])
        known, self._members = self._members, [_place(row) for row in members]
        if known != self._members:
            self.on_members(members)

    async def _forget_who_stands_still(self) -> None:
        for row in self._ownership.forgotten(self._clock.monotonic()):
            log.warning("coordinator_forgotten", coordinator=row.coordinator_id, address=row.address)
            await self._registry.forget(row)

    def _tell_changes(self) -> None:
        """Who else is there, for the log of the owner."""
        before, self._others = self._others, {row.coordinator_id: row.address for row in self._ownership.others}
        for name in sorted(self._others.keys() - before.keys()):
            log.info("coordinator_joined", coordinator=name, address=self._others[name])
        for name in sorted(before.keys() - self._others.keys()):
            log.info("coordinator_left", coordinator=name, address=before[name])

    # --- the end

    def ended(self) -> None:
        """It owns nothing any more: the next campaign may begin. Idempotent."""
        if self.epoch:
            self._ownership.ended()

    async def step_back(self) -> bool:
        """A member that goes on to follow has given its runs up: whoever is the head may claim them, and nobody waits
        for its lease. A database that is away hears nothing of it. Idempotent. Whether it is known that it has heard.

        Others see this coordinator all the time, so that of what it saw itself nothing is seen anew: a head that has
        stood still for its lease is not waited for a second time."""
        epoch = self.epoch
        if not epoch:
            return False
        try:
            await self._registry.register(replace(self._own, epoch=epoch))
        except Unavailable as error:
            log.warning("ownership_not_released", reason=str(error))
            self._ownership.ended()
            return False
        self._ownership.stepped_back()
        self._renewed_at = self._clock.monotonic()
        log.info("stepped_back", coordinator=self.coordinator_id, epoch=epoch)
        return True

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


def _place(row: CoordinatorRow) -> Place:
    return row.coordinator_id, row.epoch, row.address


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
