"""What is counted of the janitor's passes."""

from __future__ import annotations


class JanitorCounts:
    __slots__ = ("ended_at", "failures")

    def __init__(self) -> None:
        self.ended_at = 0
        """When the last whole pass ended, in microseconds since 1970; 0: there was none yet."""
        self.failures = 0
        """Passes that were broken off."""
