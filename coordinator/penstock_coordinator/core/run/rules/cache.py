"""Steps whose value may be known: it is looked up before an agent is asked for, and computed by one of those that need
it while the others wait.

A step run that may be answered asks once, when it is READY for the first time. If it has to be run, it is run with all
its attempts: what fails is not kept, and the next one of those that wait computes.
"""

from __future__ import annotations

from penstock_coordinator.core.plan import values
from penstock_coordinator.core.plan.model import LOOKUPS
from penstock_coordinator.core.plan.naming import run_id_text
from penstock_coordinator.core.run.commands import EndReservation
from penstock_coordinator.core.run.events import CacheAsked, CacheAwaited, CacheMissed, StepCached
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import CacheAnswer, ValueAwaited, ValueFound, ValueMissing
from penstock_coordinator.core.run.state import Run

UNREADABLE = "what the cache has is no JSON"


def ask(run: Run, now: int, ledger: Ledger) -> None:
    """What is READY to be looked up is asked for together, as much as the turn has room for."""
    asked = run.queues[LOOKUPS].head(max(ledger.room, 0))
    ledger.room -= len(asked)
    ledger.emit(CacheAsked(now, tuple(asked)))


def answered(run: Run, message: CacheAnswer, ledger: Ledger) -> None:
    """The answer to the newest question; nothing comes of any other."""
    if run.asker(message.step, message.item, message.token) is None:
        if isinstance(message, ValueMissing) and message.reserved:
            _hand_back(run, message, ledger)
    elif isinstance(message, ValueFound):
        _found(run, message, ledger)
    elif isinstance(message, ValueMissing):
        now, step, item = message.now, message.step, message.item
        ledger.emit(CacheMissed(now, step, item, message.key, message.reserved, message.why))
    else:
        _awaited(run, message, ledger)


def _hand_back(run: Run, message: ValueMissing, ledger: Ledger) -> None:
    """The key is reserved for a step run that does not need it any more; unless it has heard of it before."""
    lookup = run.lookups.get((message.step, message.item))
    if lookup is None or lookup.token != message.token:
        step, item, token, key = message.step, message.item, message.token, message.key
        ledger.answer(EndReservation(step, item, token, key, False))


def _found(run: Run, message: ValueFound, ledger: Ledger) -> None:
    now, step, item = message.now, message.step, message.item
    try:
        kept = message.kept if message.kept is not None else values.keep(run.plan.steps[step], message.output)
    except values.InvalidJson:
        ledger.emit(CacheMissed(now, step, item, message.source.key, False, UNREADABLE))
        return
    ledger.emit(StepCached(now, step, item, message.source, kept))


def _awaited(run: Run, message: ValueAwaited, ledger: Ledger) -> None:
    active = run.active_step(message.step, message.item)
    assert active is not None
    assert active.wait is not None
    if active.wait.key != f"{run_id_text(message.run_id)} {message.display_name}":
        now, step, item = message.now, message.step, message.item
        ledger.emit(CacheAwaited(now, step, item, message.run_id, message.display_name))
