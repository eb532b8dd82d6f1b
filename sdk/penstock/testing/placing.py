"""Where a run is started: by the head, or by one of its members.

What the coordinator's shell does (`runtime/spreading.py`, `api/run_starter.py`) is written here a second time, around
the real decision (`core/fleet/spreading.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.testing.lane import Told
from penstock.testing.timeline import SECOND
from penstock_coordinator.core.fleet.spreading import Spreading, place_name, reaches
from penstock_coordinator.core.plan.freedom import bound_by
from penstock_coordinator.ports import Committed, Repeated, RequestRow

if TYPE_CHECKING:
    from penstock.testing.cluster import Cluster
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.seats import Seat
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import AppendOutcome, RequestKey, RunId

ANSWERED_WITHIN = 2 * SECOND
"""A member that says nothing for so long is taken for lost, and the head makes the start itself."""
READ_BEFORE = SECOND
"""So old is what the board says."""


@dataclass(slots=True)
class Start:
    """What somebody asks for. Whoever makes it draws a run id of its own; the request's id stays."""

    coordinator: Coordinator
    """That they came to."""
    plan: Plan
    parameters: bytes
    key: RequestKey
    draw: Callable[[], RunId]
    answer: Callable[[RunId, AppendOutcome | Exception | None], None]

    def at(self, coordinator: Coordinator) -> None:
        run_id = self.draw()
        told = Told(lambda outcome: self.answer(run_id, outcome))
        coordinator.start_run(run_id, self.plan, self.parameters, RequestRow(self.key, run_id), told)


class Placing:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._of_heads: dict[Coordinator, Spreading] = {}

    def place(self, start: Start) -> None:
        head = start.coordinator
        name = self._choose(head, start.plan)
        if name:
            _Placed(self._cluster, start, name).send()
        else:
            start.at(head)

    def _choose(self, head: Coordinator, plan: Plan) -> str:
        seat, cluster = head.seat, self._cluster
        if seat is None or bound_by(plan):
            return ""
        members = {place_name(row.coordinator_id, row.epoch): row for row in seat.ownership.fellows}
        spreading = self._of_heads.setdefault(head, Spreading())
        spreading.members(members)
        now = head.clock.monotonic()
        for name, row in members.items():
            there = cluster.site(row.coordinator_id).seat
            if there is not None and there.incarnation is not None and there.incarnation.epoch == row.epoch:
                spreading.published(name, len(there.incarnation.actors), now - READ_BEFORE)
        sessions = [(each.capacity, each.links) for each in head.fleet.sessions.values()]
        eligible = [
            name
            for name, row in members.items()
            if seat.ownership.heard_of(row.coordinator_id, now) and reaches(plan.lines, sessions, name)
        ]
        chosen = spreading.choose(len(head.actors), eligible, now)
        if chosen:
            spreading.sent(chosen, 1, now)
        return chosen


class _Placed:
    """A start that was passed on: final at the member, and made by the head if no answer comes."""

    def __init__(self, cluster: Cluster, start: Start, name: str) -> None:
        self._cluster = cluster
        self._start = start
        self._name = name
        self._told: tuple[RunId, Committed | Repeated] | None = None
        self._over = False

    def send(self) -> None:
        head = self._start.coordinator
        assert head.seat is not None
        coordinator_id = self._name.rpartition("@")[0]
        self._cluster.count("starts placed")
        self._cluster.call(head.seat, coordinator_id, self._arrive, self._answered)
        head.after(ANSWERED_WITHIN, self._answered, False)

    def _arrive(self, seat: Seat, answer: Callable[[bool], None]) -> None:
        inside, start = seat.inside, self._start
        if inside is None or inside.is_head or place_name(inside.owner, inside.epoch) != self._name or inside.stopping:
            answer(False)
            return
        run_id = start.draw()

        def told(outcome: AppendOutcome | Exception | None) -> None:
            if isinstance(outcome, Committed | Repeated):
                self._cluster.count("started by members")
                self._told = run_id, outcome
                answer(True)
            else:
                answer(False)

        inside.start_run(run_id, start.plan, start.parameters, RequestRow(start.key, run_id), Told(told))

    def _answered(self, done: bool) -> None:
        head = self._start.coordinator
        if self._over:
            return
        self._over = True
        if done and self._told is not None:
            self._start.answer(*self._told)
        elif head.alive and head.serving:
            self._start.at(head)
