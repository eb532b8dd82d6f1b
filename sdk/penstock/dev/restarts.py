"""When a process that ended is started again, and when it is given up."""

from __future__ import annotations

MAX_QUICK_ENDS = 5
"""So often in a row a process may end before it has lived for `QUICK_SECONDS`."""
QUICK_SECONDS = 10.0
FIRST_BACKOFF_SECONDS = 0.1
MAX_BACKOFF_SECONDS = 5.0


class Restarts:
    """Counts the ends of one process that come too quickly."""

    def __init__(self, first_backoff: float = FIRST_BACKOFF_SECONDS) -> None:
        self._first_backoff = first_backoff
        self._quick_ends = 0

    def backoff(self, lived_seconds: float, *, expected: bool = False) -> float | None:
        """Seconds to wait before the next start; None: it is no use. An end that was asked for is no trouble."""
        self._quick_ends = 0 if expected or lived_seconds > QUICK_SECONDS else self._quick_ends + 1
        if self._quick_ends > MAX_QUICK_ENDS:
            return None
        return min(self._first_backoff * 2.0**self._quick_ends, MAX_BACKOFF_SECONDS)
