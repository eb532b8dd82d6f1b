"""Where the hot state is: in Redis if there is one and it answers, else in PostgreSQL, and alone in memory.

Redis is tried all the time. When it fails twice in a row the board and the post are PostgreSQL's, and when it has
answered twice in a row they are Redis's again: each coordinator decides for itself. So that those who decided otherwise
still hear of each other, who is on Redis looks into PostgreSQL too, now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from penstock_coordinator.ports import Dependency, DependencyState, Unavailable
from penstock_coordinator.ports.board import Published

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from penstock_coordinator.ports import Clock
    from penstock_coordinator.ports.board import Board, BoardEntry
    from penstock_coordinator.ports.post import Letter, Post

_T = TypeVar("_T")

log = structlog.get_logger(__name__)

FAILURES = 2
SUCCESSES = 2
"""In a row, and the other one has it."""
PROBE_EVERY = 0.5
"""Seconds between two probes of Redis while it answers: with the longest time that one lasts (0.5 s) and the next one,
which follows soon, its loss is known within 2 s."""
PROBE_AGAIN = 0.1
"""After a failure."""
PROBE_AWAY = 1.0
"""While it is away."""
ELSEWHERE_EVERY = 2.0
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Medium:
    """A board and a post of the same kind."""

    name: str
    board: Board
    post: Post
    probe: Callable[[], Awaitable[bool]] | None = None
    """Whether it takes what is written, and still has what was: raises `Unavailable`, and answers False if it was
    emptied."""


@dataclass(frozen=True, slots=True)
class HotStateView:
    """For people and probes."""

    medium: str
    """redis, postgresql or memory."""
    preferred: str
    """Where it is when all is well."""
    since: int
    """Microseconds since 1970: when Redis was last lost or found again; else of the start."""
    reason: str
    """Of the last failure, its kind; empty: there was none since it is there."""
    changes: int
    """How often it has gone elsewhere, since the start."""


class Switch:
    """Whether Redis is used. It is until it fails; what it answers is told by probes, and by whoever asks it."""

    def __init__(self) -> None:
        self.there = True
        self.failures = 0
        self.successes = 0
        """In a row, of probes."""

    def failed(self) -> bool:
        """Whether it is away from now on."""
        self.successes = 0
        self.failures += 1
        if not self.there or self.failures < FAILURES:
            return False
        self.there = False
        return True

    def succeeded(self) -> bool:
        """Of a probe: whether it is back from now on."""
        self.failures = 0
        self.successes += 1
        if self.there or self.successes < SUCCESSES:
            return False
        self.there = True
        return True

    @property
    def pause(self) -> float:
        """Seconds until the next probe."""
        if self.there:
            return PROBE_AGAIN if self.failures else PROBE_EVERY
        return PROBE_AGAIN if self.successes else PROBE_AWAY


class HotState:
    """`alone`: no other coordinator is there, as far as is known. Its methods raise `Unavailable` and take a bounded
    time."""

    def __init__(
        self, memory: Medium, postgres: Medium, redis: Medium | None, clock: Clock, alone: Callable[[], bool]
    ) -> None:
        self._memory = memory
        self._postgres = postgres
        self._redis = redis
        self._clock = clock
        self._alone = alone
        self._switch = Switch()
        self._reason = ""
        self._changes = 0
        self._since = clock.now()
        self._changed = asyncio.Event()
        self._elsewhere: dict[str, Published] = {}
        """Who is on PostgreSQL while this one is on Redis, as it was at the last look there."""
        self._looked_at = 0
        self.emptied = asyncio.Event()
        """What was published is gone: to be cleared by whoever publishes it again."""

    @property
    def medium(self) -> Medium:
        if self._redis is None:
            return self._memory if self._alone() else self._postgres
        return self._redis if self._switch.there else self._postgres

    @property
    def shared(self) -> bool:
        """Others may look."""
        return self.medium is not self._memory

    @property
    def view(self) -> HotStateView:
        preferred = self.medium if self._redis is None else self._redis
        return HotStateView(self.medium.name, preferred.name, self._since, self._reason, self._changes)

    def dependency(self) -> Dependency | None:
        """Redis, as health shows it; None: there is none."""
        if self._redis is None:
            return None
        state = DependencyState.CLOSED if self._switch.there else DependencyState.OPEN
        return Dependency(self._redis.name, state, self._switch.failures, reason=self._reason)

    # --- what is asked

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        await self._asked(lambda medium: medium.board.publish(entry, ttl))

    async def withdraw(self, coordinator_id: str) -> None:
        await self._asked(lambda medium: medium.board.withdraw(coordinator_id))

    async def read(self) -> list[Published]:
        """From wherever coordinators may be, of each its newest, by their ids."""
        found = await self._asked(lambda medium: medium.board.read())
        if self._redis is None or self.medium is not self._redis:
            return found
        older = self._clock.monotonic() - self._looked_at
        newest = {name: Published(each.entry, each.age + older) for name, each in self._elsewhere.items()}
        for each in found:
            known = newest.get(each.entry.coordinator_id)
            if known is None or each.age <= known.age:
                newest[each.entry.coordinator_id] = each
        return [newest[name] for name in sorted(newest)]

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        apart = {name: letters for name, letters in mail.items() if name in self._elsewhere}
        await self._asked(lambda medium: medium.post.send(mail))
        if apart and self.medium is self._redis:
            await self._postgres.post.send(apart)

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        """Returns before if the mailbox is elsewhere from now on."""
        changed = asyncio.ensure_future(self._changed.wait())
        medium = self.medium
        receiving = asyncio.ensure_future(medium.post.receive(coordinator_id, wait))
        receiving.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait({changed, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
            return []
        except Unavailable as error:
            self._failed(medium, error)
            raise
        finally:
            changed.cancel()
            receiving.cancel()

    async def _asked(self, ask: Callable[[Medium], Awaitable[_T]]) -> _T:
        """If that was the last failure that Redis had, it is asked of PostgreSQL."""
        medium = self.medium
        try:
            return await ask(medium)
        except Unavailable as error:
            self._failed(medium, error)
            if self.medium is medium:
                raise
        return await ask(self.medium)

    def _failed(self, medium: Medium, error: Unavailable) -> None:
        if medium is not self._redis:
            return
        self._reason = type(error.__cause__ or error).__name__
        if self._switch.failed():
            log.warning("hot_state_moved", to=self._postgres.name, reason=self._reason)
            self._move()

    def _move(self) -> None:
        self._changes += 1
        self._since = self._clock.now()
        self._elsewhere = {}
        self.emptied.set()
        self._changed.set()
        self._changed = asyncio.Event()

    # --- time passes

    async def watch(self) -> None:
        """For ever, if there is a Redis."""
        if self._redis is not None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_redis())
                group.create_task(self._watch_elsewhere())

    async def _watch_redis(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(self._switch.pause)

    async def probe(self) -> None:
        """Once."""
        redis = self._redis
        assert redis is not None
        assert redis.probe is not None, "of what may go away"
        try:
            kept = await redis.probe()
        except Unavailable as error:
            self._failed(redis, error)
            return
        if not kept:
            self.emptied.set()
        if self._switch.succeeded():
            log.info("hot_state_moved", to=redis.name, after=self._reason)
            self._move()
        if self._switch.there:
            self._reason = ""

    async def _watch_elsewhere(self) -> None:
        while True:
            await asyncio.sleep(ELSEWHERE_EVERY)
            if self.medium is self._redis and not self._alone():
                await self.look_elsewhere()

    async def look_elsewhere(self) -> None:
        """Who is on PostgreSQL while this one is on Redis. If PostgreSQL is away, nobody is."""
        found: list[Published] = []
        with contextlib.suppress(Unavailable):
            found = await self._postgres.board.read()
        self._elsewhere = {each.entry.coordinator_id: each for each in found}
        self._looked_at = self._clock.monotonic()

    async def receive_elsewhere(self, coordinator_id: str) -> list[Letter]:
        """Letters of those who are on PostgreSQL while this one is on Redis. They may be asked for now and then."""
        if self._redis is None or self.medium is not self._redis or self._alone():
            return []
        return await self._postgres.post.receive(coordinator_id, 0.0)
