"""Leases: room on a session is given to step runs that wait for it."""

from __future__ import annotations

from penstock_coordinator.core.run.events import WHOLE, StepsLeased
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import SlotsOffered
from penstock_coordinator.core.run.state import Run


def place(run: Run, offer: SlotsOffered, ledger: Ledger) -> None:
    """Lease as many as there is room and demand for, the longest READY first, as one event and one token."""
    count = min(offer.count, run.demand(offer.line))
    if count > 0:
        found = run.queues[offer.line].head(count)
        leases = tuple((step, item, _next_attempt(run, step, item)) for step, item in found)
        ledger.emit(StepsLeased(offer.now, offer.session, offer.agent, leases))


def _next_attempt(run: Run, step: int, item: int) -> int:
    active = run.active[step] if item == WHOLE else run.maps[step].active.get(item)
    return (run.spent_before(step, item) if active is None else active.attempts) + 1
