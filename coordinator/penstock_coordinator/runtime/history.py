"""Runs as their journals say, now or at an event: folded with the versions of their pipelines that they meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.run.events import RunReopened, RunStarted
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.runtime.views import EventNotYet, UnknownRun
from penstock_coordinator.runtime.watching import read_events

if TYPE_CHECKING:
    from penstock_coordinator.core.run.events import Event
    from penstock_coordinator.ports import Journal, RunId
    from penstock_coordinator.runtime.plans import PlanCache


class Folding:
    """A run, event by event."""

    def __init__(self, plans: PlanCache, run_id: RunId) -> None:
        self._plans = plans
        self._run_id = run_id
        self.run: Run | None = None
        """None before the first event."""

    async def add(self, seq: int, event: Event) -> Run:
        """Raises `Unavailable`."""
        run = self.run
        if run is None:
            assert isinstance(event, RunStarted), "the first event of a journal"
            run = self.run = Run(await self._plans.get(event.version_digest), self._run_id)
        elif isinstance(event, RunReopened) and event.version_digest != run.plan.digest:
            plan = await self._plans.onto(run.plan, event.version_digest)
            run.plans = {event.version_digest: plan}
        evolve(run, seq, event)
        return run


async def rebuild(journal: Journal, plans: PlanCache, run_id: RunId) -> Run | None:
    """The run as its journal says; None if it has none. Raises `Unavailable`, `UnknownEvent`."""
    folding = Folding(plans, run_id)
    async for events in read_events(journal, run_id, 1):
        for seq, event in events:
            await folding.add(seq, event)
    return folding.run


async def run_at(journal: Journal, plans: PlanCache, run_id: RunId, at_event: int) -> tuple[Run, int]:
    """The run after the event of that number, and the instant of the event. Only what is committed is seen.

    Raises `UnknownRun`, `EventNotYet`, `Unavailable`, `UnknownEvent`.
    """
    folding = Folding(plans, run_id)
    last = 0
    async for events in read_events(journal, run_id, 1):
        for seq, event in events:
            run = await folding.add(seq, event)
            if seq == at_event:
                return run, event.at
            last = seq
    if not last:
        raise UnknownRun
    raise EventNotYet(last, "at_event")
