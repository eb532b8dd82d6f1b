"""Waiting for what no event tells, the state of another process; and how long something took of a busy machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar

_T = TypeVar("_T")
_POLL_SECONDS = 0.005
_TICK_SECONDS = 0.01
_LONGEST_TICK = 0.05


async def until(condition: Callable[[], Awaitable[_T]], deadline: float = 60.0) -> _T:
    """The condition's first true value. Fails the test if there is none within the seconds given."""
    end = time.monotonic() + deadline
    while not (value := await condition()):
        assert time.monotonic() < end, f"{condition} did not hold within {deadline:g} s"
        await asyncio.sleep(_POLL_SECONDS)
    return value


class Stopwatch:
    """Seconds in which this process went on. A machine that holds it up for longer than a moment makes nothing last
    longer by that."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last = time.monotonic()
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._last = time.monotonic()
        self._ticking = asyncio.create_task(self._tick_for_ever())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.wait({self._ticking})
        self._count()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._count()

    def _count(self) -> None:
        now = time.monotonic()
        self.seconds += min(now - self._last, _LONGEST_TICK)
        self._last = now
