"""Leases that an agent holds by other coordinators: who takes them over, and when one that is not named is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.fleet.test_roster import KEY, LINE, SECOND, Place, Said, held

from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseTable, Stop, left_over
from penstock_coordinator.core.fleet.roster import Arrival, Refusal
from penstock_coordinator.core.fleet.session import Beside, Held, Snapshot, Verdict, reunite
from penstock_coordinator.core.run.events import Charge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.fleet.leases import LeaseKey

TTL = 30 * SECOND
OURS, THEIRS = 20, 17
"""Sessions: with this coordinator, and with the one whose run this one has taken over."""
ORPHAN = Held(KEY, 7, finished=False)
BY_THEIRS = Held(KEY, 7, finished=False, session=THEIRS)


def adopted(place: Place, session: int = THEIRS, token: int = 7) -> Lease:
    """The run is this coordinator's now: the lease is waited for."""
    place.roster.leasing.wait_for("a", session, KEY, token, 1, LINE, (session, "boot-1"), 0)
    lease = place.roster.leases.find(KEY)
    assert lease is not None
    return lease


def beside(
    *elsewhere: Held, open_sessions: Sequence[int] = (), pending: bool = False, complete: bool = False
) -> Beside:
    return Beside(elsewhere, frozenset(open_sessions), pending, complete)


class Adopting(Place):
    """Has one session of the agent, and hears of orphans that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[Held] = []
        self.roster._on_orphans = lambda session, orphans: self.unknown.extend(orphans)
        self._sessions = OURS - 1
        self.session_of_agent = self.enter(self.arrival())

    def beat(self, named: Beside | None, own: Sequence[Held] = (), echo: int = 0) -> list[str]:
        """The causes of what was lost."""
        session = self.session_of_agent
        session.words.clear()
        lost = self.roster.heartbeat(session, own, echo, SECOND, beside=named)
        return [loss.cause for loss in lost]

    def comes_back(self, snapshot: Snapshot) -> Said:
        self.roster.stream_ended(self.session_of_agent, SECOND)
        arrival = Arrival("a", "boot-1", 2, 2, 0, snapshot, self.roster.next_hello(), shares_slots=True)
        self.session_of_agent = self.enter(arrival, SECOND)
        return self.session_of_agent


def test_an_orphan_that_is_known_goes_on_in_the_session_that_names_it() -> None:
    place = Adopting()
    lease = adopted(place)
    assert place.beat(beside(ORPHAN)) == []
    session = place.session_of_agent
    assert session.words == [(Verdict.CONTINUE, TTL), ("ack", TTL)], "the verdict is read before the answer"
    assert lease.holder is session.holder
    assert session.capacity.leases == 1
    assert place.roster.leases.holder(THEIRS) is None
    assert (place.roster.adopted, place.unknown) == (1, [])


def test_a_finished_orphan_is_asked_for_its_result_and_one_that_is_to_stop_is_stopped() -> None:
    place = Adopting()
    lease = adopted(place)
    lease.stop = Stop(SECOND, "cancelled")
    place.beat(beside(Held(KEY, 7, finished=True)))
    assert place.session_of_agent.words[:2] == [(Verdict.SEND_RESULT, TTL), "cancel"]


def test_an_orphan_may_be_named_again_until_its_verdict_is_read_and_is_not_lost_meanwhile() -> None:
    place = Adopting()
    lease = adopted(place)
    place.beat(beside(ORPHAN))
    assert place.beat(beside(ORPHAN)) == []
    assert place.session_of_agent.words[0] == (Verdict.CONTINUE, TTL)
    assert place.session_of_agent.capacity.leases == 1, "it has its room once"
    # Under way before the verdict was read: it names the lease nowhere, and answers an older acknowledgement.
    assert place.beat(None, echo=0) == []
    assert place.beat(None, held(), echo=1) == []
    assert place.roster.leases.find(KEY) is lease


def test_what_was_taken_over_and_is_not_named_after_the_verdict_was_read_is_not_held() -> None:
    place = Adopting()
    adopted(place)
    place.beat(beside(ORPHAN))
    assert place.beat(None, echo=1) == ["not_held"]


def test_an_adopted_lease_that_is_still_named_elsewhere_is_not_lost() -> None:
    place = Adopting()
    adopted(place)
    place.beat(beside(ORPHAN))
    assert place.beat(beside(BY_THEIRS), echo=1) == []


def test_what_an_open_session_holds_is_left_to_it() -> None:
    """The agent would not let it go, and name it to nobody else."""
    place = Adopting()
    lease = adopted(place)
    assert place.beat(beside(BY_THEIRS, open_sessions=(THEIRS,), complete=True)) == []
    assert place.session_of_agent.words == [("ack", TTL)]
    assert lease.holder.session == THEIRS


@pytest.mark.parametrize("of", ["nobody", "a newer token", "another agent"])
def test_nothing_is_said_of_an_orphan_that_is_not_known(of: str) -> None:
    place = Adopting()
    if of == "a newer token":
        adopted(place, token=8)
    if of == "another agent":
        place.roster.leasing.wait_for("b", 3, KEY, 7, 1, LINE, (3, "boot"), 0)
    place.beat(beside(ORPHAN))
    assert place.session_of_agent.words == [("ack", TTL)]
    assert place.unknown == [ORPHAN]


@pytest.mark.parametrize(
    ("named", "lost"),
    [
        (beside(), False),  # orphans alone: nothing follows from what is not named
        (beside(open_sessions=(THEIRS,), complete=True), False),  # a grant may be on its way there
        (beside(pending=True, complete=True), False),
        (beside(open_sessions=(3,), complete=True), True),
        # That session was opened later: it was on its way while a member came and died.
        (replace(beside(complete=True), newest_session=THEIRS - 1), False),
        (replace(beside(complete=True), newest_session=THEIRS), True),
    ],
)
def test_a_lease_that_is_not_named_is_lost_once_no_grant_can_be_on_its_way(named: Beside, lost: bool) -> None:
    place = Adopting()
    adopted(place)
    assert bool(place.beat(named)) is lost
    assert (place.roster.leases.find(KEY) is None) is lost
    assert place.told == ([(KEY, "returned", Charge.STARTED)] if lost else [])


@pytest.mark.parametrize(
    ("given_up", "told"),
    [
        ((), ("grant_not_received", Charge.NOBODY)),
        (((KEY, 6),), ("grant_not_received", Charge.NOBODY)),  # an older token
        (((KEY, 7),), ("returned", Charge.STARTED)),
    ],
)
def test_of_an_agent_that_tells_what_it_has_given_up_the_rest_has_never_begun(
    given_up: Sequence[tuple[LeaseKey, int]], told: tuple[str, Charge]
) -> None:
    place = Adopting()
    adopted(place)
    place.beat(replace(beside(complete=True), given_up=frozenset(given_up), tells_given_up=True))
    assert place.told == [(KEY, *told)]


@pytest.mark.parametrize(
    ("snapshot", "lost"),
    [
        (Snapshot([], tells_given_up=True, open_sessions=frozenset({THEIRS})), False),
        (Snapshot([], tells_given_up=True, pending=True), False),
        (Snapshot([], tells_given_up=True, elsewhere=[BY_THEIRS]), False),
        (Snapshot([], tells_given_up=True, newest_session=THEIRS - 1), False),
        (Snapshot([], tells_given_up=True, newest_session=THEIRS), True),
        (Snapshot([], tells_given_up=True, open_sessions=frozenset({3})), True),
        (Snapshot([], tells_given_up=True), True),  # an agent of an older release names neither
    ],
)
def test_after_a_hello_too(snapshot: Snapshot, lost: bool) -> None:
    place = Adopting()
    lease = adopted(place)
    session = place.comes_back(snapshot)
    assert place.told == ([(KEY, "grant_not_received", Charge.NOBODY)] if lost else [])
    assert session.words == []
    if not lost:
        assert lease.holder.session == THEIRS
        assert place.beat(beside(complete=True)) == ["returned"], "its session is over by now"


def test_a_session_of_this_coordinator_is_over_when_its_agent_is_back_whatever_else_is_open() -> None:
    place = Adopting()
    place.grant(place.session_of_agent)
    place.comes_back(Snapshot([], tells_given_up=True, open_sessions=frozenset({3}), pending=True))
    assert place.told == [(KEY, "grant_not_received", Charge.NOBODY)]


def test_a_hello_takes_orphans_over_and_the_next_heartbeat_need_not_name_them_yet() -> None:
    place = Adopting()
    lease = adopted(place)
    session = place.comes_back(Snapshot([], tells_given_up=True, elsewhere=[ORPHAN]))
    assert session.words == [(Verdict.CONTINUE, TTL)]
    assert lease.holder is session.holder
    assert place.beat(beside(ORPHAN)) == []
    assert place.beat(None, held(), echo=1) == []


def test_what_is_left_of_a_session_goes_with_its_last_lease() -> None:
    """Also if it was named as held by the session that is back, while another stream is being opened."""
    place = Adopting()
    lease = adopted(place)
    session = place.comes_back(Snapshot(held(), tells_given_up=True, pending=True))
    assert lease.holder is session.holder
    assert place.roster.leases.holder(THEIRS) is None


def test_another_process_of_the_agent_runs_nothing_of_the_former_one() -> None:
    leases = LeaseTable(TTL, SECOND)
    old = leases.add_holder(left_over("a", THEIRS, (THEIRS, "boot-1"), 0))
    lease = leases.add(old, KEY, 7, 1, LINE)
    lease.sent = lease.accepted = True
    new = leases.add_holder(Holder("a", OURS, "boot-2", 0))
    (loss,) = reunite(leases, new, Snapshot([], open_sessions=frozenset({THEIRS}), pending=True)).lost
    assert (loss.cause, loss.accepted) == ("agent_restarted", True)


def test_a_late_word_of_a_former_process_says_nothing_of_the_newer_one() -> None:
    place = Adopting()
    place.roster.leasing.wait_for("a", OURS + 1, KEY, 7, 1, LINE, (OURS + 1, "boot-2"), 0)
    assert place.beat(replace(beside(complete=True), newest_session=OURS)) == []


def test_who_has_seen_a_newer_head_is_refused_by_members_of_the_former_one() -> None:
    place = Place()
    arrival = Arrival("a", "boot-1", 1, 2, 9, Snapshot([]), 1, newest_head=8)
    assert place.roster.refuses(arrival, incarnation=9, now=0, head=7) is Refusal.STALE_COORDINATOR
    assert place.roster.refuses(arrival, incarnation=9, now=0, head=8) is None
    assert place.roster.refuses(arrival, incarnation=9, now=0) is None
