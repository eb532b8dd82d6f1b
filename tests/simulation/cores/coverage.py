"""What schedules have seen: events, transitions and faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from scripts.describe_states import PAGE, documented
from tests.unit.run.transitions import Observations, Transition, Watcher

from penstock_coordinator.core.run import events

if TYPE_CHECKING:
    from penstock.testing.invariants import Invariants
    from penstock.testing.simulation import Outcome
    from penstock_coordinator.core.run.state import Run

EVENTS = sorted(kind.__name__ for kind in get_args(events.Event))
DOCUMENTED = documented(PAGE.read_text(encoding="utf-8"))


@dataclass
class Coverage:
    schedules: int = 0
    steps: int = 0
    executions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    ownership: Counter[str] = field(default_factory=Counter)
    """What several coordinators did about it."""
    observations: Observations = field(default_factory=Observations)
    _watchers: dict[bytes, Watcher] = field(default_factory=dict)

    def watch(self, invariants: Invariants) -> None:
        """For a simulation that is about to begin."""
        watchers = self._watchers

        def observe(run: Run, event: events.Event) -> None:
            watcher = watchers.get(run.run_id)
            if watcher is None:
                watcher = watchers[run.run_id] = Watcher(run, self.observations)
            watcher.note(0, event)

        invariants.observers.append(observe)

    def add(self, outcome: Outcome) -> None:
        for watcher in self._watchers.values():
            watcher._see()  # what its last event did
        self._watchers.clear()
        self.schedules += 1
        self.steps += outcome.steps
        self.executions += outcome.executions
        self.faults.update(outcome.faults)
        self.events.update(outcome.events)
        self.ownership.update(outcome.ownership)

    def missing_events(self) -> list[str]:
        return [name for name in EVENTS if not self.events[name]]

    def missing_transitions(self) -> list[Transition]:
        return sorted(DOCUMENTED - self.observations.transitions, key=str)

    def unknown_transitions(self) -> list[Transition]:
        return sorted(self.observations.transitions - DOCUMENTED, key=str)
