"""Publishes what this coordinator has to do: once in a while, and sooner when it changes much."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.ports import Clock
    from penstock_coordinator.ports.board import BoardEntry, RunStatus
    from penstock_coordinator.runtime.board_failover import HotState

log = structlog.get_logger(__name__)

TTL_SECONDS = 6.0
"""After so long without a word of it a coordinator has nothing to do, for all that others know."""
LOOK_EVERY = 0.25
CHANGED_EVERY = 1.0
"""What has changed is published after so long,"""
SAME_EVERY = 2.0
"""what has not, after so long,"""
MUCH = 0.5
"""and at once if the numbers of a line have changed by that share of them"""
AT_LEAST = 10
"""and by so many steps."""
_SECOND = 1_000_000


class Pace:
    """When to publish. Instants are microseconds of one clock."""

    def __init__(self) -> None:
        self._last: BoardEntry | None = None
        self._at = 0

    def due(self, entry: BoardEntry, now: int) -> bool:
        """Whether `entry` is to be published now."""
        if self._last is None:
            return True
        since = (now - self._at) / _SECOND
        if since >= SAME_EVERY or changed_much(self._last, entry):
            return True
        return since >= CHANGED_EVERY and _shown(entry) != _shown(self._last)

    def published(self, entry: BoardEntry, now: int) -> None:
        self._last, self._at = entry, now

    def forget(self) -> None:
        """What was published is gone."""
        self._last = None


def changed_much(before: BoardEntry, after: BoardEntry) -> bool:
    if before.epoch != after.epoch:
        return True
    numbers = {each.line: (each.ready, each.running) for each in before.lines}
    for each in after.lines:
        was = numbers.pop(each.line, (0, 0))
        if any(map(_much, was, (each.ready, each.running))):
            return True
    return any(_much(number, 0) for was in numbers.values() for number in was)


def _much(was: int, now: int) -> bool:
    return abs(now - was) >= max(AT_LEAST, MUCH * max(was, now))


def _shown(entry: BoardEntry) -> BoardEntry:
    """Without what changes by itself."""
    return replace(entry, lines=tuple(replace(each, oldest_wait=0) for each in entry.lines))


class BoardPublisher:
    def __init__(
        self,
        hot: HotState,
        clock: Clock,
        current: Callable[[], BoardEntry],
        runs: Callable[[], tuple[RunStatus, ...]],
    ) -> None:
        """`current`: what there is to publish, but for the `runs`."""
        self._hot = hot
        self._clock = clock
        self._current = current
        self._runs = runs
        self._pace = Pace()

    async def run(self) -> None:
        """For ever. One that is alone publishes nothing: nobody would read it."""
        while True:
            if self._hot.shared:
                await self.run_once()
                await asyncio.sleep(LOOK_EVERY)
            else:
                await asyncio.sleep(SAME_EVERY)

    async def run_once(self) -> bool:
        """Whether it published."""
        if self._hot.emptied.is_set():
            self._hot.emptied.clear()
            self._pace.forget()
        entry, now = self._current(), self._clock.monotonic()
        if not self._pace.due(entry, now):
            return False
        try:
            await self._hot.publish(replace(entry, runs=self._runs()), TTL_SECONDS)
        except Unavailable as error:
            log.debug("not_published", reason=str(error))
            return False
        self._pace.published(entry, now)
        return True
