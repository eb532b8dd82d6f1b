"""What a process uses."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import psutil

MEBIBYTE = 1 << 20
SAMPLE_SECONDS = 0.1


class ProcessUse:
    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak_memory = 0
        """Resident bytes at most, while `watched`."""

    @property
    def cpu_seconds(self) -> float:
        """Since the process began."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(self._process.memory_info().rss)

    @property
    def began_at(self) -> float:
        """Seconds since 1970, to a hundredth."""
        return float(self._process.create_time())

    async def cpu_percent(self, seconds: float) -> float:
        """Of one core, from now on."""
        before, began = self.cpu_seconds, time.perf_counter()
        await asyncio.sleep(seconds)
        return 100 * (self.cpu_seconds - before) / (time.perf_counter() - began)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.peak_memory = self.memory
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            self.peak_memory = max(self.peak_memory, self.memory)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self.peak_memory = max(self.peak_memory, self.memory)
