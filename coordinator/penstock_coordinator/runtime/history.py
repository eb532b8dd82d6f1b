"""A run as it was: its journal, folded up to an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.runtime.views import EventNotYet, UnknownRun
from penstock_coordinator.runtime.watching import read_events

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import Journal, RunId


async def run_at(journal: Journal, run_id: RunId, plan: Plan, at_event: int) -> tuple[Run, int]:
    """The run after the event of that number, and the instant of the event. Only what is committed is seen.

    Raises `UnknownRun`, `EventNotYet`, `Unavailable`, `UnknownEvent`.
    """
    run = Run(plan, run_id)
    at = 0
    async for events in read_events(journal, run_id, 1):
        for seq, event in events:
            evolve(run, seq, event)
            at = event.at
            if seq == at_event:
                return run, at
    if not run.seq:
        raise UnknownRun
    raise EventNotYet(run.seq, "at_event")
