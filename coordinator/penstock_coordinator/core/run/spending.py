"""What a run with a budget of its own has used, in its newest generation."""

from __future__ import annotations

from penstock_coordinator.core.plan.budget import Amounts, CostBudget, Measure, OnExceeded, exceeded


class Spending:
    __slots__ = ("action", "counted", "limits", "measure", "since", "used")

    def __init__(self, budget: CostBudget) -> None:
        self.action = budget.on_exceeded
        self.limits = budget.limits
        """Those of the version, or raised."""
        self.used = Amounts()
        """By attempts that ended."""
        self.since: int | None = None
        """When it was exceeded; None: it is not."""
        self.measure: Measure | None = None
        """By which it was exceeded."""
        self.counted = 0
        """Until then it is counted how long clocks stood still."""

    @property
    def over(self) -> Measure | None:
        """The limit of which nothing is left."""
        return exceeded(self.used, self.limits)

    @property
    def holds(self) -> bool:
        return self.since is not None and self.action is OnExceeded.HOLD
