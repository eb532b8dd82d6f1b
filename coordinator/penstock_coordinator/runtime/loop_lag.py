"""How late the event loop of the process comes to what is due, of one that follows as of one that owns runs."""

from __future__ import annotations

import asyncio

EVERY = 0.1
"""Seconds between two looks."""
WINDOW = 15
"""Seconds that a lag is told of."""


class LoopLag:
    """One per process. Instants are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self.last = 0.0
        """Seconds, of the newest look."""
        self._most: dict[int, float] = {}
        """The greatest of each second, of the newest ones."""

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            now = loop.time()
            self.look(max(now - due, 0.0), now)

    def look(self, lag: float, now: float) -> None:
        """What was due came so many seconds late."""
        self.last = lag
        second = int(now)
        most = self._most.get(second)
        if most is None:
            self._most[second] = lag
            for old in [each for each in self._most if each <= second - WINDOW]:
                del self._most[old]
        elif lag > most:
            self._most[second] = lag

    @property
    def most(self) -> float:
        """Seconds, the greatest of about the last 15 s; 0 before the first look."""
        return max(self._most.values(), default=0.0)
