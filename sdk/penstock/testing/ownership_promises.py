"""What must hold of several coordinators: who may act, and when.

What a coordinator takes for its lease is not asked: it is counted here, from when its claim or renewal was asked for,
in true time by the rate of its clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.testing.registry import OWNING
from penstock.testing.timeline import SECOND
from penstock.testing.witness import Witness, broken
from penstock_coordinator.core.plan.freedom import bound_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.testing.agents import AgentProcess
    from penstock.testing.cluster import Cluster
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.seats import Seat
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.state import Run

OWN_SHARE = 0.9
"""Of its lease: then an owner has stopped."""
EMERGES_WITHIN = 5 * SECOND
"""Besides half a lease, or one and a half with members: what it takes to start, to ask again, and to recover."""
MOST_CONNECTIONS = 60
"""Of an agent in a second."""


@dataclass(slots=True)
class Lease:
    """Of a coordinator that owns, as the database gave it."""

    asked: int
    """True time."""
    lone: bool
    """Nobody else was there: then it may go on for as long as it cannot know better."""

    def ends(self, seat: Seat) -> int:
        """In true time: by its own clock it has stopped by then."""
        return self.asked + int(seat.lease * OWN_SHARE / seat.site.clock.rate) + 1


class OwnershipPromises(Witness):
    def owns_since(self, seat: Seat, asked: int, *, alone: bool) -> None:
        """What was asked for then, a claim or a renewal, is granted."""
        self.leases_of_owners[seat] = Lease(asked, alone)

    def owner_serves(self, coordinator: Coordinator) -> None:
        self.acts(coordinator, "serves")

    def acts(self, coordinator: Coordinator, what: str) -> None:
        """It tells agents what they may rely on, or answers people."""
        seat = self.seat_of(coordinator)
        if seat is None:
            return
        self.acts_within_lease(seat, coordinator, what)
        self.one_owner_acts(seat, coordinator, what)

    def acts_within_lease(self, seat: Seat, coordinator: Coordinator, what: str) -> None:
        """4: nobody grants, acknowledges or renews after its ownership lease has run out by its own clock."""
        lease = self.leases_of_owners[seat]
        if not lease.lone and self.timeline.now > lease.ends(seat):
            late = self.timeline.now - lease.ends(seat)
            broken("acts_within_lease", f"{coordinator.name} ({coordinator.epoch}) {what} {late} us after its lease")

    def one_owner_acts(self, seat: Seat, coordinator: Coordinator, what: str) -> None:
        """4: when a head begins to act no former owner does any more, be it the former head or a member of it: its
        lease has run out before, it has given it up, or it has ended. One that was alone when it was last heard of
        cannot know of others: see ADR 0038."""
        epoch = coordinator.head_epoch or coordinator.epoch
        if epoch < self.acting:
            if not self.leases_of_owners[seat].lone:
                broken("one_owner_acts", f"epoch {coordinator.epoch} {what} after {self.acting} has begun")
            self.lone_acted = True
        elif epoch > self.acting and coordinator.is_head:
            self.acting = epoch
            for other, lease in self.leases_of_owners.items():
                self._has_stopped(other, lease, coordinator)

    def _has_stopped(self, other: Seat, lease: Lease, newest: Coordinator) -> None:
        former = other.incarnation
        if former is None or former is newest or not former.alive or former.stopping or lease.lone:
            return
        if former.head_epoch == newest.epoch:
            return
        left = lease.ends(other) - self.timeline.now
        if left > 0:
            broken(
                "one_owner_acts", f"{former.name} ({former.epoch}) may act for {left} us more, and {newest.name} acts"
            )

    def rows_change(self, rows: Mapping[str, CoordinatorRow]) -> None:
        """Somebody was made an owner, or is none any more."""
        self.who_owns_may_write(rows)
        for seat, lease in self.leases_of_owners.items():
            owning = seat.incarnation
            if owning is not None and owning.alive and not owning.stopping and not lease.lone:
                self.who_is_ended_has_stopped(seat, lease, owning, rows[seat.name])

    def who_is_ended_has_stopped(self, seat: Seat, lease: Lease, owning: Coordinator, row: CoordinatorRow) -> None:
        """4: nobody ends an owner, by a claim or a burial, whose lease has not run out by its own clock."""
        left = lease.ends(seat) - self.timeline.now
        if left > 0 and (row.state not in OWNING or row.epoch != owning.epoch):
            broken(
                "who_is_ended_has_stopped", f"{owning.name} ({owning.epoch}) is ended, and may act for {left} us more"
            )

    def who_owns_may_write(self, rows: Mapping[str, CoordinatorRow]) -> None:
        """4: whose row says that it owns may write with that epoch, and nobody has ended it without its row."""
        assert self.store is not None
        for name, row in rows.items():
            if row.state in OWNING and not self.store.may_write(name, row.epoch):
                broken(
                    "who_owns_may_write", f"{name} owns with {row.epoch}, and its fence is {self.store.fences[name]}"
                )

    def has_run(self, coordinator: Coordinator, plan: Plan) -> None:
        """A run is there: it was started, recovered or adopted."""
        self.members_have_free_runs(coordinator, plan)

    def members_have_free_runs(self, coordinator: Coordinator, plan: Plan) -> None:
        """What runs share is in the memory of the head alone."""
        if not coordinator.is_head and (why := bound_by(plan)):
            broken("members_have_free_runs", f"the member {coordinator.name} has a run that is bound, because {why}")

    def recovers(self, coordinator: Coordinator, run: Run) -> None:
        self.recovers_all(coordinator, run)

    def recovers_all(self, coordinator: Coordinator, run: Run) -> None:
        """9: who takes a run over has read all that is stored of it, also if it has read a part before."""
        if coordinator.is_current() and run.seq != self.shadows[run.run_id].run.seq:
            broken(
                "recovers_all", f"{coordinator.name} has read {run.seq} events of {self.shadows[run.run_id].run.seq}"
            )

    def releases(self, coordinator: Coordinator, *, late: bool) -> None:
        """It gives its lease up. `late`: it has waited long enough for its last commit."""
        self.all_is_committed(coordinator, late=late)

    def all_is_committed(self, coordinator: Coordinator, *, late: bool) -> None:
        """A planned end: what was decided is committed before the lease is given up."""
        lane = coordinator.lane
        if lane is not None and not lane.idle and not late:
            broken("all_is_committed", f"{coordinator.name} gives its lease up, and something is not committed")

    def heals(self, cluster: Cluster) -> None:
        self.most_lease = cluster.scenario.ownership_lease
        # A member that leaves its head is waited for itself.
        self.leases_waited_for = 2.5 if cluster.scenario.join else 1.5

    def most_without_owner(self) -> int:
        return int(self.most_lease * self.leases_waited_for) + EMERGES_WITHIN

    def an_owner_emerges(self, coordinator: Coordinator | None) -> None:
        """3: once everything is mended one owns within a lease and a bound."""
        if coordinator is None:
            broken("an_owner_emerges", f"nobody owns {self.most_without_owner() / SECOND:g} s after all is mended")

    def connects(self, agent: AgentProcess) -> None:
        self.agents_do_not_circle(agent)

    def agents_do_not_circle(self, agent: AgentProcess) -> None:
        """8: an agent that is sent from one coordinator to the next pauses after each round."""
        times = self.connections.setdefault(agent.name, deque(maxlen=MOST_CONNECTIONS))
        if len(times) == MOST_CONNECTIONS and self.timeline.now - times[0] < SECOND:
            broken("agents_do_not_circle", f"{agent.name} connects {MOST_CONNECTIONS} times in a second")
        times.append(self.timeline.now)
