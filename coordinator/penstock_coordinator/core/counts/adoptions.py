"""What is counted of what came from other coordinators."""

from __future__ import annotations


class AdoptionCounts:
    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs = 0
        """Live runs that were adopted while others went on."""
