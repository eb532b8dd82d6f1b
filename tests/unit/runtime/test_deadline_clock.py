"""Deadlines fire once, at their time by the wall clock, and what moved does not pile up."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from penstock_coordinator.runtime import deadlines
from penstock_coordinator.runtime.actor import Actor
from penstock_coordinator.runtime.deadlines import COMPACT_FROM, DeadlineClock


class WallClock:
    """Goes as the loop does, from an instant that the test chooses."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self.ahead = 0

    def now(self) -> int:
        return int((asyncio.get_running_loop().time() - self._began) * 1_000_000) + self.ahead

    def monotonic(self) -> int:
        return self.now()


class Watched:
    """All of an actor that the clock looks at."""

    def __init__(self) -> None:
        self.deadline: int | None = None
        self.fired = asyncio.Event()


def clock_of(wall: WallClock) -> DeadlineClock:
    return DeadlineClock(lambda actor: cast("Watched", actor).fired.set(), wall)


async def test_a_deadline_fires_at_its_time() -> None:
    wall, watched = WallClock(), Watched()
    clock = clock_of(wall)
    clock.watch(cast("Actor", watched), 30_000)
    async with asyncio.timeout(60):
        await watched.fired.wait()
    assert wall.now() >= 30_000
    assert watched.deadline is None


async def test_an_earlier_deadline_is_not_held_up_by_a_later_one() -> None:
    wall, late, early = WallClock(), Watched(), Watched()
    clock = clock_of(wall)
    clock.watch(cast("Actor", late), 3_600_000_000)
    clock.watch(cast("Actor", early), 10_000)
    async with asyncio.timeout(60):
        await early.fired.wait()
    assert not late.fired.is_set()
    clock.close()


async def test_a_deadline_that_moved_does_not_fire() -> None:
    wall, moved, witness = WallClock(), Watched(), Watched()
    clock = clock_of(wall)
    clock.watch(cast("Actor", moved), 5_000)
    clock.watch(cast("Actor", moved), 3_600_000_000)
    clock.watch(cast("Actor", witness), 20_000)
    async with asyncio.timeout(60):
        await witness.fired.wait()
    assert not moved.fired.is_set()
    clock.close()


async def test_what_moved_does_not_pile_up() -> None:
    wall, watched = WallClock(), Watched()
    clock = clock_of(wall)
    for turn in range(20 * COMPACT_FROM):
        clock.watch(cast("Actor", watched), 3_600_000_000 + turn)
    assert len(clock._heap) <= COMPACT_FROM + 1
    clock.close()


async def test_a_clock_that_was_set_forward_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "LONGEST_TIMER", 0.01)
    wall, watched = WallClock(), Watched()
    clock = clock_of(wall)
    clock.watch(cast("Actor", watched), 3_600_000_000)
    wall.ahead = 3_600_000_000
    async with asyncio.timeout(60):
        await watched.fired.wait()
