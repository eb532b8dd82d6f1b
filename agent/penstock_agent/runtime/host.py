"""What the machine has, and how it is doing."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LAG_TICK = 0.25
LAG_WINDOW = 15
"""Seconds that a lag is told of."""


def boot_id() -> str:
    """Another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Condition:
    load: float
    disk_free_bytes: int
    disk_size_bytes: int
    memory_free_bytes: int


UNKNOWN = Condition(0.0, 0, 0, 0)
"""As it is told of what cannot be looked at."""


def condition(folder: Path) -> Condition:
    """With the disk of `folder`. Raises OSError."""
    space = os.statvfs(folder)
    return Condition(
        os.getloadavg()[0],
        space.f_bavail * space.f_frsize,
        space.f_blocks * space.f_frsize,
        psutil.virtual_memory().available,
    )


class LoopLag:
    """How late the event loop was at worst."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._most: dict[int, float] = {}
        """The greatest of each second, of the newest ones."""
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

    @property
    def most(self) -> float:
        """Seconds, the greatest of about the last 15 s."""
        return max(self._most.values(), default=0.0)

    def _tick(self) -> None:
        now = time.monotonic()
        self._note(now - self._due, int(now))
        self._worst = max(self._worst, now - self._due)
        self.start()

    def _note(self, lag: float, second: int) -> None:
        if second not in self._most:
            self._most = {each: most for each, most in self._most.items() if each > second - LAG_WINDOW}
        self._most[second] = max(lag, self._most.get(second, 0.0))
