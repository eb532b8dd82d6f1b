"""What is counted of what came from other coordinators, and went to them."""

from __future__ import annotations


class AdoptionCounts:
    __slots__ = ("leases", "placed", "results_kept", "runs")

    def __init__(self) -> None:
        self.runs = 0
        """Live runs that were adopted while others went on."""
        self.placed = 0
        """Starts that a head had its members make."""
        self.leases = 0
        """That agents had held by other coordinators, and that were taken over."""
        self.results_kept = 0
        """That were not acknowledged, so that their agents keep them: their runs are live, and not here."""
