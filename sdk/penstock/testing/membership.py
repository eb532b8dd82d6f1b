"""Members and their head: who joins, leaves and is buried, and what becomes of the runs.

What the coordinator's shell does (`runtime/ownership.py`, `runtime/undertaker.py`) is written here a second time, on
the timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.testing.journal import folded
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, look_interval, renewal_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.seats import Seat

PREPARED_WITHIN = 5 * SECOND
"""The runs of a member that stops, by its head."""
CLAIMED_AGAIN = 5 * SECOND
"""Nothing depends on having heard that somebody left."""
STAYS_OUT = 15 * SECOND
"""So long one that was sent away does not join the same head again."""
TRY_AGAIN = 200 * MILLISECOND


class Membership:
    """Of one process, whatever it is just now."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._sent_away_by = 0
        """The epoch of the head that it is not to join again for a while."""
        self._sent_away_at = 0
        self._out_until = 0
        self._left: Callable[[bool], None] | None = None
        self._looks = 0
        self.undertaker: Undertaker | None = None

    # --- following

    def joins(self, now: int) -> bool:
        """Whether it asks for it."""
        seat = self._seat
        head = seat.ownership.may_join(now) if seat.cluster.scenario.join else None
        if (
            head is None
            or now < self._out_until
            or (head.epoch == self._sent_away_by and now < self._sent_away_at + STAYS_OUT)
        ):
            return False
        asked_at, asked, lead = now, seat.timeline.now, head

        def joined(epoch: int | None) -> None:
            if epoch is None or seat.stopping:
                seat.pause()
                return
            seat.ownership.joined(epoch, lead, asked_at)
            seat.cluster.invariants.owns_since(seat, asked, alone=False)
            seat.cluster.count("joined")
            seat.own(epoch, [])

        seat.ask(lambda: self._join(lead), joined, seat.pause)
        return True

    def _join(self, head: CoordinatorRow) -> int | None:
        epoch = self._seat.cluster.registry.join(self._seat.name, head)
        if epoch is not None:
            self._seat.cluster.post.hint(self._seat.name)
        return epoch

    # --- owning

    def serves(self, owning: Coordinator) -> None:
        """As the head."""
        self.undertaker = Undertaker(self._seat, owning)
        self.undertaker.begin()

    def looked(self, owning: Coordinator, now: int) -> None:
        """After each look of a head or a member."""
        seat = self._seat
        if not owning.alive or owning.stopping:
            return
        if owning.is_head:
            self._hear_of_members(owning, now)
        elif seat.ownership.head_is_over(now):
            seat.cluster.count("left a head that was over")
            seat.leave(owning, "")
            return
        over_at = seat.ownership.next_over_at()
        self._looks += 1
        if over_at is not None and over_at - now < renewal_interval(seat.lease):
            # It looks sooner than it renews.
            seat.in_span(max(over_at - now, look_interval(seat.lease)), self._look, owning, self._looks)

    def _look(self, owning: Coordinator, number: int) -> None:
        if number != self._looks or not owning.alive or owning.stopping:
            return
        seat = self._seat

        def seen(rows: list[CoordinatorRow]) -> None:
            now = seat.now()
            if owning.alive and seat.ownership.looked(rows, now):
                self.looked(owning, now)

        seat.ask(seat.cluster.registry.look, seen, _nothing)

    def look_now(self) -> None:
        """Somebody is said to have joined or left."""
        owning = self._seat.incarnation
        if owning is not None and owning.alive and owning.serving:
            self._looks += 1
            self._look(owning, self._looks)
            if self.undertaker is not None:
                self.undertaker.claim_now()

    def _hear_of_members(self, owning: Coordinator, now: int) -> None:
        seat = self._seat
        for row in seat.ownership.dead_members(now):
            self._bury(owning, row)
        if self.undertaker is not None:
            self.undertaker.hear_of(seat.ownership.fellows)

    def _bury(self, owning: Coordinator, row: CoordinatorRow) -> None:
        seat, epoch = self._seat, owning.epoch

        def buried(done: bool) -> None:
            if done and owning.alive:
                seat.note("buries", row.coordinator_id)
                seat.cluster.count("buried")
                self.look_now()

        seat.ask(lambda: seat.cluster.registry.bury(seat.name, epoch, row), buried, _nothing)

    def names(self) -> list[str]:
        """Of the members of this head, as far as it knows."""
        return [row.coordinator_id for row in self._seat.ownership.fellows]

    # --- a planned end

    def stop(self, owning: Coordinator) -> None:
        """Of a member: its head reads its runs first."""
        seat = self._seat
        seat.cluster.count("members stopped")
        head = seat.owner()
        gone = [False]

        def go(_: bool = False) -> None:
            if not gone[0]:
                gone[0] = True
                seat.leave(owning, "")

        if head is None:
            go()
            return
        name = seat.name
        seat.cluster.call(seat, head.coordinator_id, lambda other, answer: other.prepare(name, answer), go)
        seat.after(PREPARED_WITHIN, go)

    def prepares(self, owner: str, answer: Callable[[bool], None]) -> bool:
        """Whether this is the head of that member: then it reads the member's runs."""
        seat = self._seat
        owning = seat.inside
        if owning is None or not owning.is_head or owner not in self.names():
            return False
        if seat.site.reach.away:
            answer(False)
            return True
        store, plan_of = seat.cluster.store, seat.cluster.plan_of
        owning.adoption.read_before({run_id: folded(row, run_id, plan_of) for run_id, row in store.live_runs(owner)})
        answer(True)
        return True

    def send_away(self, name: str, owning: Coordinator, left: Callable[[str, bool], None]) -> None:
        """By the head: that member is to follow, before the head hands over."""
        epoch = owning.epoch
        self._seat.cluster.call(
            self._seat,
            name,
            lambda seat, answer: seat.membership.follow(epoch, answer),
            lambda done: left(name, done),
        )

    def follow(self, head_epoch: int, answer: Callable[[bool], None]) -> None:
        """The head of that epoch says so. Answered when it does."""
        seat = self._seat
        owning = seat.incarnation
        if owning is None or not owning.alive or owning.head_epoch != head_epoch or owning.stopping:
            answer(False)
            return
        self._sent_away_by, self._sent_away_at = head_epoch, seat.now()
        self._left = answer
        seat.leave(owning, "")

    def stay_out(self, span: int) -> None:
        """Of whatever head there is, for so long."""
        seat = self._seat
        self._out_until = seat.now() + span
        owning = seat.incarnation
        if owning is not None and owning.alive and owning.serving and not owning.is_head and not seat.frozen:
            seat.leave(owning, "")

    def has_left(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left(True)


class Undertaker:
    """Of a head, while it serves: it takes the runs of those that own nothing any more."""

    def __init__(self, seat: Seat, owning: Coordinator) -> None:
        self._seat = seat
        self._owning = owning
        self._claiming = False
        self._again = False
        self._peers: dict[str, CoordinatorRow] = {}
        """As agents know them: whoever is gone stays until its runs are recovered."""
        self._gone: set[str] = set()
        """Those that are to be left out then."""

    def begin(self) -> None:
        self._owning.after(CLAIMED_AGAIN, self._come_round)

    def _come_round(self) -> None:
        self.claim_now()
        self._owning.after(CLAIMED_AGAIN, self._come_round)

    def hear_of(self, members: list[CoordinatorRow]) -> None:
        named = {row.coordinator_id: row for row in members}
        gone = {name for name, row in self._peers.items() if name not in named or named[name].epoch != row.epoch}
        come = {name: row for name, row in named.items() if name not in self._peers}
        self._peers |= come
        if come:
            self._owning.fleet.tell_peers(list(self._peers.values()))
        if gone - self._gone:
            self._gone |= gone
            self.claim_now()

    def claim_now(self) -> None:
        owning, seat = self._owning, self._seat
        if not owning.alive or owning.stopping:
            return
        if self._claiming:
            self._again = True
            return
        self._claiming = True
        leaving = set(self._gone)
        registry = seat.cluster.registry
        seat.ask(
            lambda: registry.claim_runs(seat.name, owning.epoch),
            lambda run_ids: self._claimed(run_ids, leaving),
            self._failed,
        )

    def _failed(self) -> None:
        self._claiming = False
        self._owning.after(TRY_AGAIN, self.claim_now)

    def _claimed(self, run_ids: list[Any], leaving: set[str]) -> None:
        """What is found claimed without an actor was claimed without an answer."""
        owning = self._owning
        if not owning.alive:
            return
        if run_ids:
            self._seat.cluster.count("runs of members claimed")
            self._claiming = False
            owning.adoption.begin(run_ids, lambda: None)
            self.claim_now()
            return
        owning.adoption.begin(owning.adoption.lost_runs(), lambda: self._settled(leaving))

    def _settled(self, gone: set[str]) -> None:
        self._claiming = False
        if gone:
            for name in gone:
                self._peers.pop(name, None)
            self._gone -= gone
            self._owning.fleet.tell_peers(list(self._peers.values()))
            # One that came back meanwhile is somebody else.
            self.hear_of(self._seat.ownership.fellows)
        if self._again:
            self._again = False
            self.claim_now()


def _nothing() -> None:
    """Without an answer it is asked again the next time."""
