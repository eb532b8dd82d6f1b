"""Runs that come to a coordinator while its others go on: those of members that are gone.

What the coordinator's shell does (`runtime/recovery.py`, `runtime/arriving.py`) is written here a second time, on the
timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.coordinator import Coordinator, Read
    from penstock.testing.journal import StoredRun
    from penstock_coordinator.ports import RunId


def is_live(row: StoredRun) -> bool:
    return not RunState(row.state).at_rest


class Adoption:
    """Of one coordinator."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.arriving: set[RunId] = set()
        """Runs that are its own and have no actor yet."""

    def read_before(self, read: Read) -> None:
        """Of a member that is about to leave."""
        self._coordinator.read |= read

    def lost_runs(self) -> list[RunId]:
        """Its own, without an actor."""
        coordinator = self._coordinator
        known = coordinator.actors.keys() | self.arriving | coordinator.rebuilding
        return [run_id for run_id, _ in coordinator.store.live_runs(coordinator.owner) if run_id not in known]

    def begin(self, run_ids: list[RunId], done: Callable[[], None]) -> None:
        """They are its own from now on: those that have no actor here are read, and go on."""
        self.arriving.update(run_id for run_id in run_ids if self._is_unattended(run_id))
        self._coordinator.read_store(lambda: self._adopt(run_ids, done))

    def _is_unattended(self, run_id: RunId) -> bool:
        return run_id not in self._coordinator.actors and run_id not in self._coordinator.rebuilding

    def _adopt(self, run_ids: list[RunId], done: Callable[[], None]) -> None:
        coordinator = self._coordinator
        coordinator.look_at_boots()
        rows = {run_id: coordinator.store.runs[run_id] for run_id in run_ids if self._is_unattended(run_id)}
        own = {run_id: row for run_id, row in rows.items() if row.owner == coordinator.owner and is_live(row)}
        actors = [coordinator.raise_actor(run_id, row, coordinator.folded(run_id)) for run_id, row in own.items()]
        for actor in actors:
            coordinator.read.pop(actor.run_id, None)
            coordinator.deadlines.adopted(actor.run_id)
            coordinator.invariants.recovers(coordinator, actor.run)
        self.arriving.difference_update(run_ids)
        coordinator.limits.adopt(actors)
        for actor in actors:
            coordinator.resume(actor, [duty for duty in resume(actor.run) if not coordinator.holds(actor, duty)])
        coordinator.cancel_given_up(actors)
        coordinator.note("adopts", len(actors))
        coordinator.count("runs adopted", len(actors))
        done()
