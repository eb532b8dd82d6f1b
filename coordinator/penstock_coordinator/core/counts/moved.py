"""Bytes that went somewhere."""

from __future__ import annotations


class MovedCounts:
    """Bytes."""

    __slots__ = ("artifacts_down", "artifacts_up", "log_bytes")

    def __init__(self) -> None:
        self.artifacts_up = 0
        """Whose upload to the artifact store was completed."""
        self.artifacts_down = 0
        """That agents were given ways to fetch of the artifact store."""
        self.log_bytes = 0
        """Of lines of steps that became durable."""
