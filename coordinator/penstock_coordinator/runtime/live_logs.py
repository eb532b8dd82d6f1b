"""The newest lines for all who follow: each piece of a run's log is read once, however many readers wait for it.

A reader that cannot keep up reads on from where it is, by itself if the others are too far ahead: nothing is queued for
anybody, and nobody misses a line.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock_coordinator.ports import LogFilter

if TYPE_CHECKING:
    from penstock_coordinator.ports import LogChunk, RunId
    from penstock_coordinator.runtime.log_history import LogHistory

KEPT_CHARACTERS = 8 << 20
LINE_CHARACTERS = 200
"""What a line costs beside its text, and more."""
READ_CHUNKS = 500
EVERYTHING = LogFilter()

_Key: TypeAlias = "tuple[RunId, int]"


@dataclass(slots=True)
class Page:
    """The chunks that follow a position. None: there were none then."""

    chunks: list[LogChunk]
    encoded: Any = field(default=None)
    """What its first reader has made of it for the others."""

    @property
    def size(self) -> int:
        return sum(len(line.text) + LINE_CHARACTERS for chunk in self.chunks for line in chunk.lines)


@dataclass(frozen=True, slots=True)
class _Reading:
    begun: int
    task: asyncio.Task[Page]


class LiveLogs:
    def __init__(self, history: LogHistory) -> None:
        self._history = history
        self._pages: OrderedDict[_Key, tuple[Page, int]] = OrderedDict()
        self._size = 0
        self._readings: dict[_Key, _Reading] = {}
        self._turns = itertools.count()

    async def read(self, run_id: RunId, after: int) -> Page:
        """What is there now; of all steps, items and attempts. Raises `Unavailable`."""
        key = (run_id, after)
        kept = self._pages.get(key)
        if kept is not None:
            self._pages.move_to_end(key)
            return kept[0]
        asked = next(self._turns)
        while True:
            reading = self._readings.get(key) or self._begin(key)
            page = await asyncio.shield(reading.task)
            # Another's look that began before this call may have been too early for what this reader was told of.
            if page.chunks or reading.begun > asked:
                return page

    def _begin(self, key: _Key) -> _Reading:
        task = asyncio.create_task(self._look(key))
        reading = self._readings[key] = _Reading(next(self._turns), task)
        task.add_done_callback(_heard)
        return reading

    async def _look(self, key: _Key) -> Page:
        try:
            page = Page(await self._history.read_logs(key[0], EVERYTHING, key[1], READ_CHUNKS))
        finally:
            del self._readings[key]
        if page.chunks:
            self._keep(key, page)
        return page

    def _keep(self, key: _Key, page: Page) -> None:
        self._pages[key] = page, page.size
        self._size += page.size
        while self._size > KEPT_CHARACTERS:
            _, (_, size) = self._pages.popitem(last=False)
            self._size -= size


def _heard(task: asyncio.Task[Page]) -> None:
    """Those who waited may all have gone."""
    if not task.cancelled():
        task.exception()
