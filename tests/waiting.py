"""Waiting for what no event tells: the state of another process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

_T = TypeVar("_T")
_POLL_SECONDS = 0.005


async def until(condition: Callable[[], Awaitable[_T]], deadline: float = 60.0) -> _T:
    """The condition's first true value. Fails the test if there is none within the seconds given."""
    end = time.monotonic() + deadline
    while not (value := await condition()):
        assert time.monotonic() < end, f"{condition} did not hold within {deadline:g} s"
        await asyncio.sleep(_POLL_SECONDS)
    return value
