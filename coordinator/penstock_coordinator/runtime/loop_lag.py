"""How late the event loop of the process comes to what is due, of one that follows as of one that owns runs.

The only one that looks: whoever wants to know is told of each look, so that a process at rest has one timer for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)

EVERY = 0.1
"""Seconds between two looks: what holds the loop up for less may be missed."""
AT_REST = 5
"""Of so many looks one is told of while there is nothing to tell."""
LATE = 0.02
"""Seconds. What comes later than this is something to tell."""
WINDOW = 15
"""Seconds that a lag is told of."""

Hearer: TypeAlias = Callable[[float, float], bool]
"""Is told that at the instant what was due came so many seconds late: (lag, now). Answers whether it is to be told of
the next look too, whatever that finds."""


class LoopLag:
    """One per process. Instants are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._most: dict[int, float] = {}
        """The greatest of each second, of the newest ones."""
        self._hearers: list[Hearer] = []
        self._untold = 0
        """Looks in a row that nobody was told of."""

    @contextlib.contextmanager
    def told_to(self, hearer: Hearer) -> Iterator[None]:
        """Of looks while the context is open: of each that finds something, and at rest of some."""
        self._hearers.append(hearer)
        try:
            yield
        finally:
            self._hearers.remove(hearer)

    async def run(self) -> None:
        """For ever: what a hearer raises is logged, and the others are told all the same."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            now = loop.time()
            self.look(max(now - due, 0.0), now)

    def look(self, lag: float, now: float) -> None:
        """What was due came so many seconds late."""
        self._note(lag, now)
        self._untold += 1
        if lag > LATE or self._untold >= AT_REST:
            self._tell(lag, now)

    def _tell(self, lag: float, now: float) -> None:
        again = False
        for hearer in tuple(self._hearers):
            try:
                again |= hearer(lag, now)
            except Exception:
                log.exception("loop_lag_not_heard")  # Nobody waits for the measuring: it would end in silence.
        self._untold = AT_REST - 1 if again else 0

    def _note(self, lag: float, now: float) -> None:
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
