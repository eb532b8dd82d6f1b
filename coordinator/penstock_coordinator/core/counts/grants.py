"""Leases that were sent to agents, by the way that they took."""

from __future__ import annotations


class GrantCounts:
    __slots__ = ("direct", "relayed")

    def __init__(self) -> None:
        self.direct = 0
        self.relayed = 0
        """By way of a coordinator that follows."""
