"""What agents say of runs that are not live here: results, and leases that no coordinator speaks for.

What the coordinator's shell does (`runtime/late_results.py`) is written here a second time, on the timeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.testing.timeline import MILLISECOND
from penstock_coordinator.core.fleet.session import Verdict
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.sessions import Session
    from penstock_agent.core.leases import LeaseKey
    from penstock_coordinator.core.fleet.session import Held
    from penstock_coordinator.core.run.messages import AttemptEnded
    from penstock_coordinator.ports import RunId

GATHERED = 50 * MILLISECOND


class LateWords:
    """Of one coordinator. A read of the run's row answers; while the database is away nobody is answered."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def take(self, session: Session, key: LeaseKey, message: AttemptEnded) -> None:
        """A result. It is acknowledged, as one that nobody waits for, if its run is over. Else the agent keeps it."""
        self._ask(lambda: self._settle(session, key, message))

    def judge(self, session: Session, orphans: list[Held]) -> None:
        """They end if their runs are over."""
        self._ask(lambda: self._judge(session, orphans))

    def _ask(self, answer: Callable[[], None]) -> None:
        coordinator = self._coordinator
        coordinator.after(GATHERED, coordinator.ask_store, answer, _nothing)

    def _settle(self, session: Session, key: LeaseKey, message: AttemptEnded) -> None:
        coordinator = self._coordinator
        run_id = key[0]
        if coordinator.reach.loses_answer() or coordinator.deliver(run_id, message):
            return
        row = coordinator.store.runs.get(run_id)
        if row is None or RunState(row.state).at_rest:
            status = coordinator.fleet.status_of_late(message.result_id)
            session.acknowledge(key, message.token, message.result_id, status)
        elif row.owner != coordinator.owner:
            coordinator.count("results kept")
            session.tell_moved([run_id])

    def _judge(self, session: Session, orphans: list[Held]) -> None:
        coordinator = self._coordinator
        if coordinator.reach.loses_answer():
            return
        judged = [(held, verdict) for held in orphans if (verdict := self._verdict(held)) is not None]
        if judged:
            session.judge(judged, 0)

    def _verdict(self, held: Held) -> Verdict | None:
        coordinator = self._coordinator
        if coordinator.actor(held.key[0]) is not None:
            return verdict_on(coordinator, held)
        return _over(held) if self._is_over(held.key[0]) else None

    def _is_over(self, run_id: RunId) -> bool:
        row = self._coordinator.store.runs.get(run_id)
        return row is None or RunState(row.state).at_rest


def verdict_on(coordinator: Coordinator, orphan: Held) -> Verdict | None:
    """Of a lease that is not known here, by the run's owner. A token that it has not committed is its successor's, who
    is to speak; so is all that has no actor here."""
    actor = coordinator.actor(orphan.key[0])
    lease = coordinator.fleet.leases.find(orphan.key)
    if actor is None or orphan.token > actor.committed_seq:
        return None
    if lease is not None and lease.token == orphan.token:
        # It has been adopted since it was named.
        return None
    return _over(orphan)


def _over(orphan: Held) -> Verdict:
    """Its result is asked for in any case: the run alone can tell what it is worth."""
    return Verdict.SEND_RESULT if orphan.finished else Verdict.ABORT


def _nothing() -> None:
    """It comes again."""
