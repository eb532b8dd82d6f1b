"""What the machine has, and how it is doing."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LAG_TICK = 0.25


def boot_id() -> str:
    """Another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Condition:
    load: float
    disk_free_bytes: int
    memory_free_bytes: int


def condition(folder: Path) -> Condition:
    space = os.statvfs(folder)
    return Condition(os.getloadavg()[0], space.f_bavail * space.f_frsize, psutil.virtual_memory().available)


class LoopLag:
    """How late the event loop was at worst."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = time.monotonic() + LAG_TICK
        self._handle = asyncio.get_running_loop().call_later(LAG_TICK, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def take(self) -> int:
        """In µs, since the last call."""
        worst, self._worst = self._worst, 0.0
        return int(worst * 1e6)

    def _tick(self) -> None:
        self._worst = max(self._worst, time.monotonic() - self._due)
        self.start()
