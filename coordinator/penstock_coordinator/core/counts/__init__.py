"""What a process has counted since it began, for whoever looks at it from outside.

Pure arithmetic: nothing else is done per step. What is counted is kept in numbers and lists of them; texts are made of
it when somebody asks.
"""

from __future__ import annotations

from penstock_coordinator.core.counts.adoptions import AdoptionCounts
from penstock_coordinator.core.counts.calls import CallCounts
from penstock_coordinator.core.counts.commits import CommitCounts
from penstock_coordinator.core.counts.grants import GrantCounts
from penstock_coordinator.core.counts.janitor import JanitorCounts
from penstock_coordinator.core.counts.moved import MovedCounts
from penstock_coordinator.core.counts.runs import RunCounts
from penstock_coordinator.core.counts.spans import SpanCounts


class Counts:
    """One per process, whoever owns the runs: what is counted never becomes less."""

    def __init__(self) -> None:
        self.runs = RunCounts()
        self.commits = CommitCounts()
        self.calls = CallCounts()
        self.moved = MovedCounts()
        self.grants = GrantCounts()
        self.adoptions = AdoptionCounts()
        self.janitor = JanitorCounts()
        self.spans = SpanCounts()
        self.refusals = dict.fromkeys(("backlog", "lag", "commits", "memory", "database"), 0)
        """Calls that were not let in, by what was short."""
