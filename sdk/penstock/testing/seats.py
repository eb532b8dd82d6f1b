"""One of several coordinators: a process that follows and owns in turns, around the real decisions of ownership.

What the coordinator's shell makes of them - when it looks, renews, steps down, prepares and hands over, and whom it
lets in - is written here a second time, on the timeline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.testing import words
from penstock.testing.coordinator import Coordinator
from penstock.testing.handing_over import HandOver
from penstock.testing.journal import Reach, folded
from penstock.testing.relays import RelayedStream
from penstock.testing.sessions import Stream
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
    from penstock.testing.network import End, Link
    from penstock.testing.post import Letter

TRIES = 4
"""In the time between two renewals, when one has failed."""
LATE_AFTER = 2
"""Renewal intervals: an owner that is heard of no more is not where agents should go."""
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


class Doorstep:
    """A stream of an agent, until somebody takes it in and after."""

    def __init__(self, seat: Seat, unreachable: Sequence[str] = (), by: str = "") -> None:
        """`unreachable`: owners that the agent could not reach. `by`: the coordinator that passes it on."""
        self._seat = seat
        self.unreachable = unreachable
        self.by = by
        self.link: Link | None = None
        self.end: End | None = None
        self.stream: Stream | RelayedStream | None = None
        self.over = False

    def hear(self, message: tuple[int, words.AgentWord]) -> None:
        if self.stream is not None:
            self.stream.hear(message)
        elif not self.over:
            self._seat.receive(self, message)

    def ended(self) -> None:
        self.over = True
        if self.stream is not None:
            self.stream.ended()

    def send_away(self, word: words.CoordinatorWord) -> None:
        self.over = True
        if self.link is not None and self.end is not None:
            self.link.to_agent(word)
            self.link.close(self.end)


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
        self._expected_until = 0
        self._waiting: list[tuple[Doorstep, tuple[int, words.AgentWord]]] = []
        self._doorsteps: list[Doorstep] = []
        self.relayed: list[RelayedStream] = []
        self._read: Read = {}
        self._read_at = 0

    # --- its life

    def begin(self) -> None:
        self.note("boots", self.site.boots)
        self._ask(self.cluster.registry.look, self._introduce, lambda: self.after(TRY_AGAIN, self.begin))

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
        for step in self._doorsteps:
            if step.link is not None and step.end is not None and step.end.open:
                step.link.vanish(step.end)
        for each in self.relayed:
            each.vanish()

    def _now(self) -> int:
        return self.site.clock.monotonic()

    def _in(self, span: int, action: Callable[..., None], *arguments: Any) -> None:
        """So much later on its own clock."""
        self.after(self.site.clock.true_span(span), action, *arguments)

    def _ask(self, what: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[], None]) -> None:
        patience = min(self.lease // 4, MOST_PATIENCE)
        self.cluster.registry.ask(self, self.site.reach, patience, what, then, failed)

    # --- following

    def _look(self) -> None:
        if not self.stopping:
            self._ask(self.cluster.registry.look, self._looked, self._pause)

    def _looked(self, rows: list[CoordinatorRow]) -> None:
        now = self._now()
        self._know(rows)
        if not self.ownership.looked(rows, now):
            self._register()
        elif not self.ownership.may_claim(now):
            self._hang_up(self.owner())
            self._move(now)
            self._pause()
        else:
            self._claim()

    def _register(self) -> None:
        row, known = self._row, self._known_epoch
        self._moved_at = self._now()
        self._ask(lambda: self.cluster.registry.register(row, known), lambda _: self._pause(), self._pause)

    def _claim(self) -> None:
        owners, asked_at, asked = self.ownership.owners, self._now(), self.timeline.now

        def claimed(claim: tuple[int, bool] | None) -> None:
            if claim is None or self.stopping:
                self._pause()
                return
            epoch, alone = claim
            self.ownership.won(epoch, asked_at, alone=alone)
            self.cluster.invariants.owns_since(self, asked, alone=alone)
            self._own(epoch, [row.coordinator_id for row in owners])

        self._ask(lambda: self.cluster.registry.claim(self.name, owners), claimed, self._pause)

    def _move(self, now: int) -> None:
        """One that waits tells now and then that it does."""
        if now - self._moved_at >= renewal_interval(self.lease):
            self._moved_at = now
            self._ask(lambda: self.cluster.registry.renew(self.name, 0), _ignore, _nothing)

    def _pause(self) -> None:
        """Until the next look, which a hint may bring sooner."""
        now, at = self._now(), self.ownership.claimable_at()
        pause = look_interval(self.lease)
        if at > now:
            pause = min(pause, at - now)
        self._pauses += 1
        self._pausing = True
        self._in(pause, self._end_pause, self._pauses)

    def _end_pause(self, number: int) -> None:
        if self._pausing and number == self._pauses:
            self._pausing = False
            self._look()

    def look_now(self) -> None:
        """Something is said to have changed."""
        if self._pausing:
            self._end_pause(self._pauses)

    def owner(self) -> CoordinatorRow | None:
        """Another one that owns, and was heard of lately."""
        now = self._now()
        for row in self.ownership.owners:
            if self._heard_of(row, now):
                return row
        return None

    def followers(self) -> list[str]:
        """Those that wait, and were heard of lately."""
        now = self._now()
        waiting = (row for row in self.ownership.others if row.state is OwnershipState.FOLLOWER)
        return [row.coordinator_id for row in waiting if self._heard_of(row, now)]

    def _heard_of(self, row: CoordinatorRow, now: int) -> bool:
        return self.ownership.still_for(row.coordinator_id, now) < LATE_AFTER * renewal_interval(row.lease)

    def hear(self, letter: Letter) -> None:
        """Lost, doubled, late and from whoever: what a letter says is looked up."""
        self.look_now()
        owning = self.incarnation
        if owning is not None and owning.alive and letter.owns and letter.epoch > owning.epoch and not owning.stopping:
            owning.look_at_fence()

    # --- owning

    def _own(self, epoch: int, former: list[str]) -> None:
        read = self._read if self._now() - self._read_at < KEPT else {}
        self._read = {}
        cluster = self.cluster
        self.note("owns", epoch, *former)
        cluster.count("taken over" if former else "claimed at once")
        owning = self.incarnation = cluster.incarnation(self)
        owning.fleet.standing.ends_at = self.ownership.ends_at
        self._in(renewal_interval(self.lease), self._renew, owning)
        self._watch(owning)
        owning.begin_as(self, epoch, read)
        if read:
            cluster.count("with runs read before")

    def serves(self) -> None:
        owning = self.incarnation
        assert owning is not None
        self.cluster.invariants.owner_serves(owning)
        self.cluster.post.tell(self.name, owning.epoch, owns=True)
        self._let_in()
        for each in self.relayed:
            each.end()

    @property
    def may_act(self) -> bool:
        """Its lease has not run out: who comes is let in."""
        return self.ownership.may_act(self._now())

    def _watch(self, owning: Coordinator) -> None:
        """Apart from the renewals: a database that is away may keep them waiting. Others have their turn before."""
        self.after(int(self.timeline.random.random() * TURN), self._watch_now, owning)

    def _watch_now(self, owning: Coordinator) -> None:
        if not owning.alive:
            return
        ends_at, now = self.ownership.ends_at, self._now()
        if not self.ownership.may_act(now):
            self._lose(owning, "its lease has run out")
            return
        pause = renewal_interval(self.lease)
        self._in(pause if ends_at is None else min(pause, ends_at - now), self._watch, owning)

    def _renew(self, owning: Coordinator) -> None:
        if not owning.alive:
            return
        happens, self.on_renewal = self.on_renewal, None
        asked_at, asked = self._now(), self.timeline.now
        if happens is not None:
            happens()
        self.run(self._ask_for_renewal, owning, asked_at, asked)

    def _ask_for_renewal(self, owning: Coordinator, asked_at: int, asked: int) -> None:
        epoch, registry = self.ownership.epoch, self.cluster.registry

        def again() -> None:
            self._in(renewal_interval(self.lease) // TRIES, self._renew, owning)

        def renewed(still: bool) -> None:
            if not still:
                self._lose(owning, "another one has taken over")
            elif owning.alive:
                self._ask(registry.look, seen, again)

        def seen(rows: list[CoordinatorRow]) -> None:
            if owning.alive and self.ownership.epoch == epoch:
                self._renewed(owning, rows, asked_at, asked)

        self._ask(lambda: registry.renew(self.name, epoch), renewed, again)

    def _renewed(self, owning: Coordinator, rows: list[CoordinatorRow], asked_at: int, asked: int) -> None:
        ownership, now = self.ownership, self._now()
        ownership.looked(rows, now)
        ownership.renewed(asked_at, alone=not ownership.others)
        self.cluster.invariants.owns_since(self, asked, alone=all(row.coordinator_id == self.name for row in rows))
        owning.fleet.standing.ends_at = ownership.ends_at
        for row in ownership.forgotten(now):
            self._ask(lambda row=row: self.cluster.registry.forget(row), _ignore, _nothing)  # type: ignore[misc]
        self._in(renewal_interval(self.lease), self._renew, owning)

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
        elif owning.serving:
            HandOver(self, owning, self.followers()).begin()
        else:
            # Once it has recovered.
            self.stopping = False
            self.after(MOMENT, self.stop)

    def hand_over(self, successor: str) -> None:
        """A person wants that one to own the runs."""
        owning = self.incarnation
        if self.frozen or self.stopping or owning is None or not owning.serving or successor not in self.followers():
            return
        HandOver(self, owning, [successor], stays=True).begin()

    def leave(self, owning: Coordinator, successor: str) -> None:
        """What is decided is committed, then nothing is decided any more."""
        if owning.stopping:
            return
        if not owning.alive:
            self._release("")
            return
        self.note("leaves to", successor)
        owning.send_on(successor)
        done = [False]

        def drained(*, late: bool = False) -> None:
            if done[0] or not owning.alive:
                return
            done[0] = True
            self.cluster.invariants.releases(owning, late=late)
            owning.step_down()
            self._release(successor)

        assert owning.lane is not None
        owning.lane.when_idle(drained)
        self.after(DRAINED_WITHIN, lambda: drained(late=True))

    def _release(self, successor: str) -> None:
        """Nobody needs to wait for its lease; a database that is away hears nothing of it."""
        epoch = self.ownership.epoch
        self.ownership.ended()
        self._ask(lambda: self._released(epoch, successor), lambda _: self._after_release(), self._after_release)

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
        self._read_at = self._now()
        if passes > 1:
            span = int(self.timeline.random.random() * 100 * MILLISECOND)
            self.after(span, self._read_runs, owner, passes - 1, answer)
            return
        self._expected_until = self._now() + EXPECTED
        self._in(EXPECTED, self._let_in)
        answer(True)

    # --- agents

    def doorstep(self, *, by: str) -> Doorstep:
        """Of a stream that another one passes on."""
        return Doorstep(self, by=by)

    def accept(self, end: End, link: Link, step: Doorstep) -> None:
        step.link, step.end = link, end
        self._doorsteps = [each for each in self._doorsteps if each.end is not None and each.end.open]
        self._doorsteps.append(step)

    def receive(self, step: Doorstep, hello: tuple[int, words.AgentWord]) -> None:
        """To whoever is inside; one that is likely to own soon lets it wait; else it is sent to the owner."""
        owning = self.incarnation
        assert step.link is not None
        assert step.end is not None
        if owning is not None and owning.alive and owning.serving and self.may_act:
            stream = step.stream = Stream(owning)
            owning.accept(step.end, step.link, stream)
            stream.hear(hello)
        elif self._now() < self._expected_until and not self.stopping:
            self._waiting.append((step, hello))
        else:
            self._send_on(step, hello)

    def _send_on(self, step: Doorstep, hello: tuple[int, words.AgentWord]) -> None:
        """To the owner; one that cannot reach it is passed on, once."""
        owner = self.owner()
        if owner is not None and owner.address in step.unreachable and not step.by:
            self.cluster.count("relayed")
            passed_on = step.stream = RelayedStream(self, step, owner, self.cluster.site(owner.address))
            self.relayed = [each for each in self.relayed if each.open]
            self.relayed.append(passed_on)
            passed_on.hear(hello)
            return
        word = words.Goaway("not_the_leader") if owner is None else words.Redirect(owner.address)
        self.cluster.count("sent away" if owner is None else "redirected")
        step.send_away(word)

    def _hang_up(self, owner: CoordinatorRow | None) -> None:
        """It was looked for who owns: what goes to another one ends."""
        for each in self.relayed:
            if owner is not None and each.open and not each.leads_to(owner):
                each.end()

    def _let_in(self) -> None:
        """Those who wait: it owns, or it was not to be."""
        self._expected_until = 0
        waiting, self._waiting = self._waiting, []
        for step, hello in waiting:
            if not step.over:
                self.receive(step, hello)


def _ignore(_: Any) -> None:
    """Whatever the answer is."""


def _nothing() -> None:
    """Without an answer it is asked again the next time."""
