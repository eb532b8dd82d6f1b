"""Looks at the memory of attempts that have a limit, and says which are over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from penstock_agent.own_log import OwnLog
from penstock_agent.resources import memory
from penstock_agent.resources.memory import Watched

log = OwnLog(__name__)


@dataclass(slots=True)
class _Entry:
    watched: Watched
    peak: int = 0


class MemoryGuard:
    """While something is watched, all of it is looked at every `interval` seconds, in a thread. Growth between two
    looks is not seen: what allocates a gigabyte in a second can be over its limit by a quarter of that."""

    def __init__(self, interval: float, over: Callable[[int, int, int], None]) -> None:
        self._interval = interval
        self._over = over
        """Told (worker, limit, bytes held) once, in the event loop's thread."""
        self._watched: dict[int, _Entry] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, worker: int, watched: Watched) -> None:
        """In place of what was watched of that worker."""
        self._watched[worker] = _Entry(watched)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def forget(self, worker: int) -> int:
        """What the tree held at most, as far as it was seen; 0: it was not watched."""
        entry = self._watched.pop(worker, None)
        return 0 if entry is None else entry.peak

    def close(self) -> None:
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while self._watched:
            try:
                await self._look()
            except OSError:
                log.exception("memory_not_seen")
            await asyncio.sleep(self._interval)
        self._task = None

    async def _look(self) -> None:
        entries = dict(self._watched)
        found = await asyncio.to_thread(memory.held, [entry.watched for entry in entries.values()])
        for (worker, entry), held in zip(entries.items(), found, strict=True):
            entry.peak = max(entry.peak, held)
            if held > entry.watched.limit and self._watched.get(worker) is entry:
                self._over(worker, entry.watched.limit, held)
