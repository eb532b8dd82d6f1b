"""Step runs that come to rest because of the policy of the limit that they share with others."""

from __future__ import annotations

from penstock_coordinator.core.run.commands import ContinueRun
from penstock_coordinator.core.run.displaced import stopped
from penstock_coordinator.core.run.events import StepDisplaced
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import DisplaceReady, DisplaceStep
from penstock_coordinator.core.run.state import Run


def displace_step(run: Run, message: DisplaceStep, ledger: Ledger) -> None:
    """The policy is to cancel the oldest: what holds a lease is stopped. Nothing happens if it does not, or if it is
    being stopped already."""
    active = run.active_step(message.step, message.item)
    if active is None or not active.token or active.displaced is not None or run.doomed(message.step):
        return
    ledger.emit(StepDisplaced(message.now, message.step, message.item, message.key, message.by))


def displace_ready(run: Run, message: DisplaceReady, ledger: Ledger) -> None:
    """The policy is to cancel the newest: what is READY and has no place comes to rest, as much as the turn has room
    for; whoever asks again after ContinueRun gets the rest."""
    queue = run.queues.get(message.position)
    if queue is None or run.sweeping:
        return
    for step, item in queue.head(max(ledger.room, 0)):
        ledger.room -= 1
        ledger.emit(StepDisplaced(message.now, step, item, message.key, message.by))
        active = run.active_step(step, item)
        assert active is not None
        stopped(run, active, message.now, ledger)
    if message.position in run.queues and not run.unfinished:
        ledger.answer(ContinueRun())
