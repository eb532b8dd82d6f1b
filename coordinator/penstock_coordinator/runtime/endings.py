"""Who waits for which runs to come to rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.ports import RunId


class Waiter:
    """Gathers what has ended of the runs that one caller waits for, however many they are."""

    def __init__(self) -> None:
        self._ended: list[RunId] = []
        self._wake = asyncio.Event()

    def tell(self, run_ids: Iterable[RunId]) -> None:
        self._ended.extend(run_ids)
        self._wake.set()

    async def take(self) -> list[RunId]:
        """Those that have ended since, at least one."""
        await self._wake.wait()
        self._wake.clear()
        taken, self._ended = self._ended, []
        return taken


class Endings:
    """Live runs and those who wait for their ends. A run without a waiter costs nothing."""

    def __init__(self) -> None:
        self._waiters: dict[RunId, list[Waiter]] = {}

    def add(self, run_id: RunId, waiter: Waiter) -> None:
        self._waiters.setdefault(run_id, []).append(waiter)

    def remove(self, run_id: RunId, waiter: Waiter) -> None:
        """Nothing happens if it does not wait any more."""
        waiters = self._waiters.get(run_id)
        if waiters is None or waiter not in waiters:
            return
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[run_id]

    def ended(self, run_id: RunId) -> None:
        for waiter in self._waiters.pop(run_id, ()):
            waiter.tell((run_id,))

    def end_all(self) -> None:
        """No end will be heard of any more: who waits is to see for itself."""
        for run_id in list(self._waiters):
            self.ended(run_id)
