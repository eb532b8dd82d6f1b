"""A bulkhead: one kind of calls has a share of the connections, and however many there are, the rest stays free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from penstock_coordinator.ports import Crowded, ShareUse

MOST_WAITING = 200
"""Calls that wait for the share; one more is refused at once."""


class Bulkhead:
    def __init__(self, name: str, limit: int, patience: float, most_waiting: int = MOST_WAITING) -> None:
        """At most `limit` at once; whoever waits longer than `patience` seconds is refused."""
        self._name = name
        self._limit = limit
        self._patience = patience
        self._most_waiting = most_waiting
        self._places = asyncio.Semaphore(limit)
        self._in_use = 0
        self._waiting = 0

    @property
    def use(self) -> ShareUse:
        return ShareUse(self._name, self._in_use, self._limit, self._waiting)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Raises `Crowded`."""
        await self._take()
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            self._places.release()

    async def _take(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        if self._waiting >= self._most_waiting:
            raise self._refusal(f"{self._waiting} calls wait for them already")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise self._refusal(f"none was free for {self._patience:g} s") from None
        finally:
            self._waiting -= 1

    def _refusal(self, problem: str) -> Crowded:
        error = Crowded(f"the {self._limit} connections for {self._name} are in use, and {problem}")
        error.retry_after = int(self._patience / 5 * 1e6)
        return error
