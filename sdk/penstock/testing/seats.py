"""One of several coordinators: a process that follows and owns in turns, around the real decisions of ownership.

What the coordinator's shell makes of them - when it looks, renews, steps down, prepares and hands over, and whom it
lets in - is written here a second time, on the timeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.testing.coordinator import Coordinator
from penstock.testing.doorsteps import Reception
from penstock.testing.handing_over import HandOver
from penstock.testing.journal import Reach, folded
from penstock.testing.membership import Membership
from penstock.testing.timeline import MILLISECOND, SECOND, PartyClock, Process
from penstock_coordinator.core.fleet.ownership import (
    CoordinatorRow,
    Ownership,
    OwnershipState,
    look_interval,
    renewal_interval,
)

if TYPE_CHECKING:
    from penstock.testing.cluster import Cluster
    from penstock.testing.coordinator import Read
    from penstock.testing.post import Letter

TRIES = 4
"""In the time between two renewals, when one has failed."""
PAUSE_BETWEEN_TURNS = 200 * MILLISECOND
MOMENT = 50 * MILLISECOND
EXPECTED = 5 * SECOND
"""So long agents that come to one that has read the runs wait for it to own them."""
KEPT = 60 * SECOND
"""What was read is forgotten then."""
PASSES = 3
DRAINED_WITHIN = 10 * SECOND
MOST_PATIENCE = 5 * SECOND
TURN = 1 * MILLISECOND
"""So long others on the event loop may take first."""
TRY_AGAIN = 200 * MILLISECOND


@dataclass
class Site:
    """A coordinator's machine, with whichever process runs on it."""

    name: str
    clock: PartyClock
    reach: Reach
    boots: int = 0
    seat: Seat | None = None
    parted: dict[str, bool] = field(default_factory=dict)
    """By the names of other coordinators, those that nothing of this one arrives at."""

    def parts_from(self, other: Site) -> bool:
        return self.parted.get(other.name, False)


class Seat(Process):
    """A process on a site."""

    def __init__(self, cluster: Cluster, site: Site, lease: int) -> None:
        site.boots += 1
        super().__init__(cluster.timeline, site.name)
        self.cluster = cluster
        self.site = site
        self.lease = lease
        self.ownership = Ownership(site.name, lease)
        self.incarnation: Coordinator | None = None
        """Of its turn as an owner."""
        self.stopping = False
        self.on_renewal: Callable[[], None] | None = None
        """What happens right before the next one is asked for."""
        self._row = CoordinatorRow(
            site.name, OwnershipState.FOLLOWER, 0, 0, lease, site.name, "", began=site.clock.now()
        )
        self._known_epoch = 0
        """Of its row, as it was last seen."""
        self._moved_at = 0
        """When it last told that it waits."""
        self._pauses = 0
        self._pausing = False
        self.reception = Reception(self)
        self.membership = Membership(self)
        self._read: Read = {}
        self._read_at = 0

    # --- its life

    def begin(self) -> None:
        self.note("boots", self.site.boots)
        self.ask(self.cluster.registry.look, self._introduce, lambda: self.after(TRY_AGAIN, self.begin))

    def _introduce(self, rows: list[CoordinatorRow]) -> None:
        self._know(rows)
        self._register()

    def _know(self, rows: list[CoordinatorRow]) -> None:
        for row in rows:
            if row.coordinator_id == self.name:
                self._known_epoch = row.epoch

    def crash(self) -> None:
        """kill -9."""
        self.note("crashes")
        if self.incarnation is not None and self.incarnation.alive:
            self.incarnation.crash()
        self._gone()

    def _gone(self) -> None:
        self.alive = False
        self.site.seat = None
        self.reception.vanish()

    def now(self) -> int:
        return self.site.clock.monotonic()

    def in_span(self, span: int, action: Callable[..., None], *arguments: Any) -> None:
        """So much later on its own clock."""
        self.after(self.site.clock.true_span(span), action, *arguments)

    def ask(self, what: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[], None]) -> None:
        patience = min(self.lease // 4, MOST_PATIENCE)
        self.cluster.registry.ask(self, self.site.reach, patience, what, then, failed)

    # --- following

    def _look(self) -> None:
        if not self.stopping:
            self.ask(self.cluster.registry.look, self._looked, self.pause)

    def _looked(self, rows: list[CoordinatorRow]) -> None:
        now = self.now()
        self._know(rows)
        if not self.ownership.looked(rows, now):
            self._register()
        elif self.ownership.may_claim(now):
            self._claim()
        else:
            self.reception.hang_up(self.owner())
            self._move(now)
            if not self.membership.joins(now):
                self.pause()

    def _register(self) -> None:
        row, known = self._row, self._known_epoch
        self._moved_at = self.now()
        self.ask(lambda: self.cluster.registry.register(row, known), lambda _: self.pause(), self.pause)

    def _claim(self) -> None:
        owners, asked_at, asked = self.ownership.owners, self.now(), self.timeline.now

        def claimed(claim: tuple[int, bool] | None) -> None:
            if claim is None or self.stopping:
                self.pause()
                return
            epoch, alone = claim
            self.ownership.won(epoch, asked_at, alone=alone)
            self.cluster.invariants.owns_since(self, asked, alone=alone)
            former = [row.coordinator_id for row in owners]
            self.cluster.count("taken over" if former else "claimed at once")
            self.own(epoch, former)

        self.ask(lambda: self.cluster.registry.claim(self.name, owners), claimed, self.pause)

    def _move(self, now: int) -> None:
        """One that waits tells now and then that it does."""
        if now - self._moved_at >= renewal_interval(self.lease):
            self._moved_at = now
            self.ask(lambda: self.cluster.registry.renew(self.name, 0), _ignore, _nothing)

    def pause(self) -> None:
        """Until the next look, which a hint may bring sooner."""
        now, at = self.now(), self.ownership.claimable_at()
        pause = look_interval(self.lease)
        if at > now:
            pause = min(pause, at - now)
        self._pauses += 1
        self._pausing = True
        self.in_span(pause, self._end_pause, self._pauses)

    def _end_pause(self, number: int) -> None:
        if self._pausing and number == self._pauses:
            self._pausing = False
            self._look()

    def look_now(self) -> None:
        """Something is said to have changed."""
        if self._pausing:
            self._end_pause(self._pauses)
        else:
            self.membership.look_now()

    def owner(self) -> CoordinatorRow | None:
        """Another one that is the head, and was heard of lately."""
        now = self.now()
        for row in self.ownership.heads:
            if self.ownership.heard_of(row.coordinator_id, now):
                return row
        return None

    def followers(self) -> list[str]:
        """Those that wait, and were heard of lately."""
        now = self.now()
        waiting = (row for row in self.ownership.others if row.state is OwnershipState.FOLLOWER)
        return [row.coordinator_id for row in waiting if self.ownership.heard_of(row.coordinator_id, now)]

    def hear(self, letter: Letter) -> None:
        """Lost, doubled, late and from whoever: what a letter says is looked up."""
        self.look_now()
        owning = self.incarnation
        if owning is not None and owning.alive and letter.owns and letter.epoch > owning.epoch and not owning.stopping:
            owning.look_at_fence()

    # --- owning

    @property
    def inside(self) -> Coordinator | None:
        """Who serves here, and may act: whoever comes is let in."""
        owning = self.incarnation
        return owning if owning is not None and owning.alive and owning.serving and self.may_act else None

    def own(self, epoch: int, former: list[str]) -> None:
        """As the head, or as a member."""
        read = self._read if self.now() - self._read_at < KEPT else {}
        self._read = {}
        cluster = self.cluster
        self.note("owns", epoch, *former)
        owning = self.incarnation = cluster.incarnation(self)
        owning.fleet.standing.ends_at = self.ownership.ends_at
        self.in_span(renewal_interval(self.lease), self._renew, owning)
        self._watch(owning)
        owning.begin_as(self, epoch, self._head_epoch(), read)
        if read:
            cluster.count("with runs read before")

    def _head_epoch(self) -> int:
        """Of its head; 0: it is the head."""
        return self.ownership.head_epoch if self.ownership.role is OwnershipState.MEMBER else 0

    def serves(self) -> None:
        owning = self.incarnation
        assert owning is not None
        if not self.may_act:
            # It stood still while it recovered: nobody is let in.
            self._lose(owning, "its lease has run out")
            return
        self.cluster.invariants.owner_serves(owning)
        if owning.is_head:
            self.cluster.post.tell(self.name, owning.epoch, owns=True)
        self.reception.let_in()
        if owning.is_head:
            self.reception.pass_nothing_on()
            self.membership.serves(owning)

    @property
    def may_act(self) -> bool:
        """Its lease has not run out: who comes is let in."""
        return self.ownership.may_act(self.now())

    def _watch(self, owning: Coordinator) -> None:
        """Apart from the renewals: a database that is away may keep them waiting. Others have their turn before."""
        self.after(int(self.timeline.random.random() * TURN), self._watch_now, owning)

    def _watch_now(self, owning: Coordinator) -> None:
        if not owning.alive:
            return
        ends_at, now = self.ownership.ends_at, self.now()
        if not self.ownership.may_act(now):
            self._lose(owning, "its lease has run out")
            return
        pause = renewal_interval(self.lease)
        self.in_span(pause if ends_at is None else min(pause, ends_at - now), self._watch, owning)

    def _renew(self, owning: Coordinator) -> None:
        if not owning.alive or (owning.stopping and not owning.is_head):
            # A member that leaves renews no more: nobody waits for it longer than needed.
            return
        happens, self.on_renewal = self.on_renewal, None
        asked_at, asked = self.now(), self.timeline.now
        if happens is not None:
            happens()
        self.run(self._ask_for_renewal, owning, asked_at, asked)

    def _ask_for_renewal(self, owning: Coordinator, asked_at: int, asked: int) -> None:
        epoch, registry = self.ownership.epoch, self.cluster.registry

        def again() -> None:
            self.in_span(renewal_interval(self.lease) // TRIES, self._renew, owning)

        def renewed(still: bool) -> None:
            if not still:
                self._lose(owning, "another one has taken over")
            elif owning.alive:
                self.ask(registry.look, seen, again)

        def seen(rows: list[CoordinatorRow]) -> None:
            if owning.alive and self.ownership.epoch == epoch:
                self._renewed(owning, rows, asked_at, asked)

        self.ask(lambda: registry.renew(self.name, epoch), renewed, again)

    def _renewed(self, owning: Coordinator, rows: list[CoordinatorRow], asked_at: int, asked: int) -> None:
        ownership, now = self.ownership, self.now()
        if not ownership.looked(rows, now):
            self._lose(owning, "another one has taken over")
            return
        ownership.renewed(asked_at, alone=not ownership.others)
        self.cluster.invariants.owns_since(self, asked, alone=all(row.coordinator_id == self.name for row in rows))
        owning.fleet.standing.ends_at = ownership.ends_at
        for row in ownership.forgotten(now):
            self.ask(lambda row=row: self.cluster.registry.forget(row), _ignore, _nothing)  # type: ignore[misc]
        self.in_span(renewal_interval(self.lease), self._renew, owning)
        self.membership.looked(owning, now)

    def own_is_over(self) -> None:
        assert self.incarnation is not None
        self._lose(self.incarnation, "it is fenced")

    def _lose(self, owning: Coordinator, reason: str) -> None:
        """It owns nothing any more, and follows. One that hands over goes on with that: what it commits is fenced."""
        if owning.stopping or not owning.alive:
            return
        self.note("loses", owning.epoch, reason)
        self.cluster.count(f"stepped down: {reason}")
        owning.step_down()
        self.ownership.ended()
        if self.stopping:
            self._release("")
        else:
            self.after(int(self.timeline.random.random() * PAUSE_BETWEEN_TURNS), self._look)

    # --- a planned end

    def stop(self) -> None:
        """SIGTERM."""
        if self.frozen or self.stopping:
            return
        self.stopping = True
        owning = self.incarnation
        if owning is None or not owning.alive:
            self._release("")
        elif owning.serving and owning.is_head:
            HandOver(self, owning).begin()
        elif owning.serving:
            self.membership.stop(owning)
        else:
            # Once it has recovered.
            self.stopping = False
            self.after(MOMENT, self.stop)

    def hand_over(self, successor: str) -> None:
        """A person wants that one to own the runs."""
        owning = self.incarnation
        if self.frozen or self.stopping or owning is None or not owning.serving or not owning.is_head:
            return
        HandOver(self, owning, successor).begin()

    def leave(self, owning: Coordinator, successor: str) -> None:
        """What is decided is committed, then nothing is decided any more."""
        if owning.stopping:
            return
        if not owning.alive:
            self._release("")
            return
        self.note("leaves to", successor)
        if not owning.is_head:
            owning.fleet.say_moved()
        owning.send_on(successor)
        done = [False]

        def drained(*, late: bool = False) -> None:
            if done[0] or not owning.alive:
                return
            done[0] = True
            self.cluster.invariants.releases(owning, late=late)
            owning.step_down()
            if owning.is_head or self.stopping:
                self._release(successor)
            else:
                self._step_back()

        assert owning.lane is not None
        owning.lane.when_idle(drained)
        self.after(DRAINED_WITHIN, lambda: drained(late=True))

    def _release(self, successor: str) -> None:
        """Nobody needs to wait for its lease; a database that is away hears nothing of it."""
        epoch = self.ownership.epoch
        self.ownership.ended()
        self.ask(lambda: self._released(epoch, successor), lambda _: self._after_release(), self._after_release)

    def _step_back(self) -> None:
        """A member waits again, and its runs are there for the head."""
        row, known = self._row, self.ownership.epoch

        def registered(_: Any) -> None:
            self.ownership.stepped_back()
            self.membership.has_left()
            self._look()

        def unknown() -> None:
            self.ownership.ended()
            self.membership.has_left()
            self._look()

        self.ask(lambda: self._registered(row, known), registered, unknown)

    def _registered(self, row: CoordinatorRow, known: int) -> None:
        self.cluster.registry.register(row, known)
        self.cluster.post.hint(self.name)

    def _released(self, epoch: int, successor: str) -> None:
        self.cluster.registry.release(self.name, epoch, successor)
        self.cluster.post.hint(self.name)

    def _after_release(self) -> None:
        """One that stops ends; one that was only to hand over follows."""
        self.cluster.post.tell(self.name, 0, owns=False)
        if self.stopping:
            self.note("ends")
            self._gone()
        else:
            self._look()

    def prepare(self, owner: str, answer: Callable[[bool], None]) -> None:
        """Read the runs of that owner while they are its own."""
        if self.membership.prepares(owner, answer):
            return
        heard_of = self.owner()
        follows = self.incarnation is None or not self.incarnation.alive
        if self.stopping or not follows or heard_of is None or heard_of.coordinator_id != owner:
            answer(False)
            return
        self._read_runs(owner, PASSES, answer)

    def _read_runs(self, owner: str, passes: int, answer: Callable[[bool], None]) -> None:
        """Each pass reads what came during the one before."""
        if self.site.reach.away or (self.incarnation is not None and self.incarnation.alive):
            answer(False)
            return
        store, plan_of = self.cluster.store, self.cluster.plan_of
        live = store.live_runs(owner)
        self._read = {run_id: folded(row, run_id, plan_of, self._read.get(run_id)) for run_id, row in live}
        self._read_at = self.now()
        if passes > 1:
            span = int(self.timeline.random.random() * 100 * MILLISECOND)
            self.after(span, self._read_runs, owner, passes - 1, answer)
            return
        self.reception.expect(EXPECTED)
        self.in_span(EXPECTED, self.reception.let_in)
        answer(True)


def _ignore(_: Any) -> None:
    """Whatever the answer is."""


def _nothing() -> None:
    """Without an answer it is asked again the next time."""
