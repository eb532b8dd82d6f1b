"""The deadlines of a coordinator's runs, on its own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.timeline import SECOND
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.messages import ClockTick
from penstock_coordinator.runtime.actor import Mail

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor

LONGEST_TIMER = 60 * SECOND


class Deadlines:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._began_at = coordinator.clock.now()
        self._adopted_at: dict[RunId, int] = {}
        """Of runs that came while it served."""

    def adopted(self, run_id: RunId) -> None:
        self._adopted_at[run_id] = self._coordinator.clock.now()

    def forget(self, run_id: RunId) -> None:
        self._adopted_at.pop(run_id, None)

    def watch(self, actor: Actor) -> None:
        run = actor.run
        due = next_deadline(run, self.queued_open_at(run)) if run.timers or run.queued_timers else None
        if due != actor.deadline:
            actor.deadline = due
            if due is not None:
                self._arm(actor, due)

    def _arm(self, actor: Actor, due: int) -> None:
        coordinator = self._coordinator
        delay = min(max(0, due - coordinator.clock.now()), LONGEST_TIMER)
        coordinator.after(coordinator.clock.true_span(delay), self._due, actor, due)

    def _due(self, actor: Actor, due: int) -> None:
        if actor.deadline != due or actor.discarded:
            return
        now = self._coordinator.clock.now()
        if now < due:
            self._arm(actor, due)
            return
        actor.deadline = None
        actor.post_control(Mail(ClockTick(now, self.queued_open_at(actor.run))))

    def queued_open_at(self, run: Run) -> int:
        """Agents have so long to come back before the clocks of what waits in a queue go on."""
        timing = self._coordinator.timing
        began_at = self._adopted_at.get(run.run_id, self._began_at)
        if run.created_at is None or run.created_at >= began_at:
            return 0
        return began_at + timing.lease_ttl + timing.expiry_margin
