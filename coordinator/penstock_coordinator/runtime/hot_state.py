"""The hot state of a process, as long as it lives: what it publishes while it follows and owns, and what it is told.

Letters are reasons to look: whoever gets none finds out a little later.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.ports.board import BoardEntry, Published
from penstock_coordinator.ports.post import Letter
from penstock_coordinator.runtime.board_demand import demand_of, runs_of
from penstock_coordinator.runtime.board_failover import ELSEWHERE_EVERY, HotState
from penstock_coordinator.runtime.board_publisher import BoardPublisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.ports import Clock
    from penstock_coordinator.ports.board import RunStatus
    from penstock_coordinator.runtime.ownership import OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

OWNERSHIP_CHANGED = "ownership_changed"
WAIT_SECONDS = 1.0
AGAIN_AFTER = 0.5
"""Seconds, when there is no mailbox to look into, or after a fault."""
ALONE_SECONDS = 2.0
"""For so long nobody looks for mail where there is nobody who could have sent it."""
READ_SECONDS = 1.0
"""People look at what coordinators do when something is away, too."""
FAREWELL_SECONDS = 1.0
REMEMBERED = 30_000_000
"""Microseconds."""


class OwnershipChanged(msgspec.Struct, frozen=True):
    """The sender owns the runs, or does not any more."""

    epoch: int
    owns: bool


class Company:
    """Which other coordinators there are. Remembered for a while: one that stops or steps down knows none at once, and
    has something to tell them."""

    def __init__(self, keeper: OwnershipKeeper, clock: Clock) -> None:
        self._keeper = keeper
        self.clock = clock
        self._seen: list[str] = []
        self._seen_at = 0

    def others(self) -> list[str]:
        now = self.clock.monotonic()
        seen = [view.row.coordinator_id for view in self._keeper.coordinators() if not view.own]
        if seen or now - self._seen_at > REMEMBERED:
            self._seen, self._seen_at = seen, now
        return self._seen

    def alone(self) -> bool:
        return not self.others()


class HotStateService:
    def __init__(self, hot: HotState, keeper: OwnershipKeeper, company: Company) -> None:
        self._hot = hot
        self._running: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._keeper = keeper
        self._company = company
        self._supervisor: Supervisor | None = None
        self._tells = True
        """Its coming and going is the owner's, for others."""
        self._publisher = BoardPublisher(hot, company.clock, self.entry, self._runs)
        self.relayed: Callable[[], int] = lambda: 0
        """How many agents come to the owner by this coordinator, while it follows."""

    @property
    def hot(self) -> HotState:
        return self._hot

    def entry(self) -> BoardEntry:
        """Of this coordinator, as it is now, without runs."""
        if self._supervisor is None or self._supervisor.stopping:
            return BoardEntry(self._keeper.coordinator_id, relayed=self.relayed())
        return demand_of(self._supervisor)

    def _runs(self) -> tuple[RunStatus, ...]:
        if self._supervisor is None or self._supervisor.stopping:
            return ()
        return runs_of(self._supervisor)

    async def entries(self) -> list[Published]:
        """Of all coordinators, by id; its own as it is now. One that owns answers whatever is away; one that follows
        raises `Unavailable`."""
        try:
            found = await self._read()
        except Unavailable:
            if self._supervisor is None:
                raise
            found = []
        own = self.entry()
        others = [each for each in found if each.entry.coordinator_id != own.coordinator_id]
        return sorted([*others, Published(own, 0)], key=lambda each: each.entry.coordinator_id)

    async def _read(self) -> list[Published]:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._hot.read()
        except TimeoutError:
            raise Unavailable(f"{self._hot.medium.name}: no answer within {READ_SECONDS:g} s") from None

    # --- roles

    def owns(self, supervisor: Supervisor, *, is_head: bool = True) -> None:
        """This coordinator has recovered its runs. Others are told, meanwhile, if it is the head: they would look for
        a new one."""
        self._supervisor, self._tells = supervisor, is_head
        if is_head:
            self._telling = asyncio.create_task(self.tell(supervisor.epoch, owns=True))

    async def leaves(self) -> None:
        """It owns none any more, and has given its lease up: whoever follows may take over at once. Idempotent."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and self._tells:
            await self.tell(supervisor.epoch, owns=False)

    def lost(self) -> None:
        """It owns none any more, whoever took over."""
        self._supervisor = None

    async def tell(self, epoch: int, *, owns: bool) -> None:
        """The others, once. What the post is lost for they see at their next look."""
        change = msgspec.msgpack.encode(OwnershipChanged(epoch, owns))
        letter = Letter(OWNERSHIP_CHANGED, self._keeper.coordinator_id, change)
        others = self._company.others()
        if not others:
            return
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._hot.send({name: [letter] for name in others})
        except (Unavailable, TimeoutError) as error:
            log.debug("not_told", to=others, reason=str(error))

    # --- time passes

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name="hot state")

    async def _run(self) -> None:
        """For ever. A fault in it is no reason to stop, neither for the coordinator, which needs nothing of it, nor for
        itself: else this coordinator would tell nobody anything until its next start."""
        while True:
            try:
                await self.run()
            except Exception:
                log.exception("hot_state_failed")
            await asyncio.sleep(AGAIN_AFTER)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for each in (self._hot.watch(), self._publisher.run(), self._read_mail(), self._read_elsewhere()):
                group.create_task(each)

    async def aclose(self) -> None:
        """It is not there any more, for whoever looks. Idempotent."""
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        await asyncio.wait({running}, timeout=FAREWELL_SECONDS)
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._hot.withdraw(self._keeper.coordinator_id)

    async def _read_mail(self) -> None:
        while True:
            if not self._hot.shared:
                await asyncio.sleep(ALONE_SECONDS)
                continue
            try:
                letters = await self._hot.receive(self._keeper.coordinator_id, WAIT_SECONDS)
            except Unavailable as error:
                log.debug("no_mail", reason=str(error))
                await asyncio.sleep(AGAIN_AFTER)
            else:
                await self.hear(letters)

    async def _read_elsewhere(self) -> None:
        while True:
            await asyncio.sleep(ELSEWHERE_EVERY)
            with contextlib.suppress(Unavailable):
                await self.hear(await self._hot.receive_elsewhere(self._keeper.coordinator_id))

    async def hear(self, letters: list[Letter]) -> None:
        """Lost, doubled, late and from whoever: what a letter says is looked up."""
        for letter in letters:
            if letter.kind != OWNERSHIP_CHANGED:
                log.debug("unknown_letter", kind=letter.kind, sender=letter.sender)
                continue
            try:
                change = msgspec.msgpack.decode(letter.body, type=OwnershipChanged)
            except msgspec.MsgspecError:
                continue
            await self._look(change)

    async def _look(self, change: OwnershipChanged) -> None:
        self._keeper.look_now()
        supervisor = self._supervisor
        if supervisor is not None and change.owns and change.epoch > supervisor.epoch and not supervisor.stopping:
            with contextlib.suppress(Unavailable):
                await supervisor.look_at_fence()
