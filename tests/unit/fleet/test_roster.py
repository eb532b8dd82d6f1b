"""Who is let in, and what becomes of leases when sessions come, speak and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.dispatch.dispatcher import Dispatcher
from penstock_coordinator.core.fleet.connected import Connected
from penstock_coordinator.core.fleet.gate import DATABASE_AWAY
from penstock_coordinator.core.fleet.pauses import PausedAgents
from penstock_coordinator.core.fleet.roster import Arrival, Refusal, Roster
from penstock_coordinator.core.fleet.session import Held, Snapshot, Verdict
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.core.run.events import Charge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey

LINE = Line("default")
SECOND = 1_000_000
KEY: LeaseKey = (b"r" * 16, 0, -1)


@dataclass(frozen=True)
class Spans:
    heartbeat_interval: int = 5 * SECOND
    lease_ttl: int = 30 * SECOND
    expiry_margin: int = 5 * SECOND
    accept_timeout: int = 10 * SECOND


class Said(Connected):
    """What was said to the agent, in order."""

    def __init__(self, holder: Holder, capacity: Capacity) -> None:
        super().__init__(holder, capacity)
        self.words: list[Any] = []

    def judge(self, verdicts: Sequence[tuple[Held, Verdict]], ttl: int) -> None:
        self.words += [(verdict, ttl) for _, verdict in verdicts]

    def answer_heartbeat(self, revoked: Sequence[Held], ttl: int, echo: int) -> None:
        self.words.append(("ack", ttl))

    def cancel(self, lease: Lease) -> None:
        self.words.append("cancel")

    def call_back(self, lease: Lease) -> None:
        self.words.append("call back")

    def pause(self, reason: str) -> None:
        self.words.append(reason)

    def resume(self) -> None:
        self.words.append("resume")

    def close(self, reason: str = "") -> None:
        self.words.append(("closed", reason))


class Place:
    """A roster and what it tells runs."""

    def __init__(self) -> None:
        self.told: list[tuple[LeaseKey, str, Charge]] = []
        self.dispatcher = Dispatcher()
        self.pauses = PausedAgents()
        self.roster: Roster[Said] = Roster(Spans(), self.dispatcher, self.pauses, self._tell, lambda: None)
        self._sessions = 0

    def _tell(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None:
        self.told.append((lease.key, cause, charge))

    def arrival(self, stream: int = 1, boot: str = "boot-1", held: Sequence[Held] = (), agent: str = "a") -> Arrival:
        return Arrival(agent, boot, stream, 2, 0, Snapshot(held, tells_given_up=True), self.roster.next_hello())

    def session(self, holder: Holder) -> Said:
        return Said(holder, Capacity(holder.session, holder.agent, frozenset({"default"}), {}, {}, 2, grant_limit=2))

    def enter(self, arrival: Arrival, now: int = 0) -> Said:
        self._sessions += 1
        assert self.roster.refuses_committed(arrival, self._sessions, now) is None
        session = self.session(self.roster.holder_of(arrival, self._sessions, now))
        self.roster.enter(session, arrival)
        return session

    def stand_in(self, arrival: Arrival, now: int) -> Said | None:
        former = self.roster.former_of(arrival, now)
        if former is None:
            return None
        session = self.session(self.roster.stand_in_for(former, arrival, now))
        self.roster.enter_stand_in(session, arrival)
        return session

    def grant(self, session: Said, now: int = 0, token: int = 7) -> Lease:
        session.capacity.promise(LINE, 1)
        lease = self.roster.leasing.add(session.holder, KEY, token, 1, LINE)
        self.roster.leasing.send(session, lease, now)
        return lease


def held(token: int = 7, *, waiting: bool = False) -> list[Held]:
    return [Held(KEY, token, finished=False, waiting=waiting)]


def test_a_hello_that_a_newer_process_overtook_is_refused() -> None:
    """Its session was committed late: the process that said it is gone, and what the newer one holds is not lost."""
    place = Place()
    slow = place.arrival(stream=3, boot="boot-1")
    newer = place.enter(place.arrival(boot="boot-2"))
    place.grant(newer)
    place.roster.stream_ended(newer, SECOND)
    assert place.roster.refuses_committed(slow, 9, 2 * SECOND) is Refusal.SUPERSEDED
    assert place.roster.refuses_committed(place.arrival(stream=1, boot="boot-3"), 10, 2 * SECOND) is None
    assert place.told == []


def test_a_process_is_not_let_in_beside_one_that_is_heard() -> None:
    place = Place()
    place.enter(place.arrival(boot="boot-1"))
    twin = place.arrival(boot="boot-2")
    assert place.roster.refuses(twin, 1, SECOND) is Refusal.ID_IN_USE
    assert place.roster.refuses(twin, 1, 8 * SECOND) is None, "nothing was heard of the other one for so long"


def test_who_has_seen_a_newer_incarnation_is_refused() -> None:
    place = Place()
    arrival = Arrival("a", "boot-1", 1, 2, 5, Snapshot([]), 1)
    assert place.roster.refuses(arrival, 4, 0) is Refusal.STALE_COORDINATOR
    assert place.roster.refuses(arrival, 5, 0) is None


def test_while_the_database_is_away_a_session_goes_on_and_comes_back_after_it() -> None:
    place = Place()
    first = place.enter(place.arrival())
    lease = place.grant(first)
    place.roster.stream_ended(first, SECOND)
    place.roster.gate.hold_back(DATABASE_AWAY, SECOND)
    again = place.stand_in(place.arrival(stream=2, held=held()), 2 * SECOND)
    assert again is not None
    assert again.words == [(Verdict.CONTINUE, 30 * SECOND), DATABASE_AWAY]
    assert (again.holder.committed, lease.holder) == (first.epoch, again.holder)
    assert not again.capacity.open
    # The database is back: nothing is placed on it all the same, and soon it is sent away.
    place.roster.gate.hold_back("", 3 * SECOND)
    assert not again.capacity.open
    assert place.roster.end_stand_ins(6 * SECOND) == [], "it has just come"
    assert place.roster.end_stand_ins(7 * SECOND) == [again]
    assert again.words[-1] == ("closed", "database_back")
    assert place.told == []


def test_a_database_that_is_away_while_nothing_waits_for_it_is_away_all_the_same() -> None:
    """Nothing is to be committed, so nobody has held anything back."""
    place = Place()
    place.roster.awake(0)
    first = place.enter(place.arrival())
    place.grant(first)
    place.roster.stream_ended(first, SECOND)
    place.roster.missed_database(SECOND)
    again = place.stand_in(place.arrival(stream=2, held=held()), SECOND)
    assert again is not None
    assert place.roster.end_stand_ins(20 * SECOND) == [], "it would find no session of its own"
    # Nobody can have taken over: however long it stood still, it renews.
    place.roster.awake(20 * SECOND)
    place.roster.heartbeat(again, held(), 0, 20 * SECOND)
    assert again.words[-1] == ("ack", 30 * SECOND)
    place.roster.found_database(21 * SECOND)
    assert place.roster.end_stand_ins(21 * SECOND) == [again]


def test_who_stood_still_before_the_database_was_missed_or_until_it_was_found_is_in_doubt() -> None:
    for away_at, back_at in ((60 * SECOND, 60 * SECOND), (SECOND, 60 * SECOND)):
        place = Place()
        session = place.enter(place.arrival())
        place.grant(session)
        place.roster.awake(0)
        place.roster.missed_database(away_at)
        place.roster.found_database(back_at)
        place.roster.heartbeat(session, held(), 0, 60 * SECOND)
        assert session.words[-1] == ("ack", 0)


def test_nobody_goes_on_with_nothing_or_with_what_is_anothers() -> None:
    place = Place()
    first = place.enter(place.arrival())
    assert place.stand_in(place.arrival(stream=2), SECOND) is None, "it holds nothing"
    place.grant(first)
    assert place.stand_in(place.arrival(stream=2, boot="boot-2"), SECOND) is None, "another process has it"
    place.roster.stream_ended(first, SECOND)
    assert place.stand_in(place.arrival(stream=1, held=held()), SECOND) is None, "it does not come on a later stream"


def test_who_says_hello_in_vain_is_heard_of() -> None:
    place = Place()
    first = place.enter(place.arrival())
    place.grant(first)
    place.roster.stream_ended(first, SECOND)
    place.roster.former_of(place.arrival(stream=1), 20 * SECOND)
    assert place.roster.expire(40 * SECOND) == []
    assert len(place.roster.expire(55 * SECOND)) == 1


def test_a_stream_that_the_coordinator_ends_says_nothing_of_the_agent() -> None:
    """Else a step would be charged with its death."""
    place = Place()
    place.grant(place.enter(place.arrival())).accepted = True
    place.roster.stream_ended(place.roster.sessions[1], 0)
    again = place.stand_in(place.arrival(stream=2, held=held()), SECOND)
    assert again is not None
    place.roster.end_stand_ins(6 * SECOND)
    again.holder.heard_at = 6 * SECOND
    place.roster.stream_ended(again, 6 * SECOND)
    place.roster.expire(60 * SECOND)
    assert place.told == [(KEY, "lease_expired", Charge.INFRASTRUCTURE)]


def test_what_waits_on_an_agent_is_called_back_for_an_idle_one_but_not_while_its_agent_prepares_for_it() -> None:
    place = Place()
    busy = place.enter(place.arrival())
    place.enter(place.arrival(agent="b"))
    lease = place.grant(busy)
    building = [Held(KEY, 7, finished=False, waiting=True, preparing=True)]
    for beat in range(1, 10):
        place.roster.heartbeat(busy, building, 0, beat * SECOND)
    assert busy.words == [("ack", 30 * SECOND)] * 9
    # Built, it stands behind others: two heartbeats tell so.
    place.roster.heartbeat(busy, held(waiting=True), 0, 10 * SECOND)
    assert "call back" not in busy.words
    place.roster.heartbeat(busy, held(waiting=True), 0, 11 * SECOND)
    assert lease.called_back
    assert busy.words[-1] == "call back"
    place.roster.leasing.released(busy, KEY, 7, "returned", started=False)
    assert place.told == [(KEY, "called_back", Charge.NOBODY)]


def test_an_agent_that_a_person_pauses_gets_nothing_and_hands_back_what_it_has_not_begun() -> None:
    place = Place()
    session = place.enter(place.arrival())
    lease = place.grant(session)
    place.pauses.begin_change("a")
    place.pauses.end_change("a", paused=True)
    place.roster.gate.follow_person("a", 0)
    assert session.words == ["requested", "call back"]
    assert lease.called_back
    assert place.roster.gate.refuses(session)
    assert not session.capacity.open
    place.roster.gate.raise_limit(session, 5)
    place.roster.gate.hold_back("overloaded", 0)
    place.roster.gate.hold_back("", 0)
    assert not session.capacity.open
    assert session.words[2:] == ["requested", "requested"], "it is to know of it whatever else there is"
    place.pauses.begin_change("a")
    place.pauses.end_change("a", paused=False)
    place.roster.gate.follow_person("a", 0)
    assert session.words[-1] == "resume"
    assert session.capacity.open


def test_what_runs_on_an_agent_that_is_paused_goes_on() -> None:
    place = Place()
    session = place.enter(place.arrival())
    place.grant(session)
    place.roster.heartbeat(session, held(), 0, 0)
    place.pauses.begin_change("a")
    place.pauses.end_change("a", paused=True)
    place.roster.gate.follow_person("a", 0)
    assert session.words == [("ack", 30 * SECOND), "requested"]


def test_a_change_that_nobody_knows_of_changes_nothing() -> None:
    pauses = PausedAgents()
    pauses.begin_change("a")
    pauses.end_change("a", paused=None)
    assert "a" not in pauses


def test_who_stood_still_renews_nothing_until_it_has_looked_at_its_fence() -> None:
    place = Place()
    session = place.enter(place.arrival())
    place.grant(session)
    place.roster.awake(0)
    place.roster.heartbeat(session, held(), 0, 20 * SECOND)
    assert session.words == [("ack", 0)]
    place.roster.standing.confirm(place.roster.standing.ask())
    place.roster.heartbeat(session, held(), 0, 20 * SECOND)
    assert session.words[-1] == ("ack", 30 * SECOND)


def test_who_may_have_been_replaced_renews_nothing_however_long_its_look_at_the_fence_takes() -> None:
    place = Place()
    session = place.enter(place.arrival())
    place.roster.standing.ends_at = 9 * SECOND
    place.roster.awake(7 * SECOND)
    place.roster.standing.ask()  # and no answer comes
    place.roster.heartbeat(session, [], 0, 9 * SECOND - 1)
    place.roster.heartbeat(session, [], 0, 9 * SECOND)
    place.roster.missed_database(10 * SECOND)
    place.roster.heartbeat(session, [], 0, 10 * SECOND)
    assert session.words == [("ack", 30 * SECOND), ("ack", 0), ("ack", 0)]


def test_each_time_that_runs_are_adopted_their_agents_have_a_whole_life_of_a_lease_to_come_back() -> None:
    place, life = Place(), Spans.lease_ttl + Spans.expiry_margin
    first, second = (KEY[0], 0, -1), (KEY[0], 1, -1)
    place.roster.leasing.wait_for("a", 3, first, 7, 1, LINE, (3, "boot-1"), now=0)
    place.roster.leasing.wait_for("a", 3, second, 8, 1, LINE, (3, "boot-1"), now=life - 1)
    place.roster.expire(2 * life - 2)
    assert place.told == []
    place.roster.expire(2 * life - 1)
    assert [key for key, _, _ in place.told] == [first, second]


def test_an_agent_that_was_heard_here_is_not_waited_for_longer_because_a_run_of_it_is_made_again() -> None:
    place, life = Place(), Spans.lease_ttl + Spans.expiry_margin
    session = place.enter(place.arrival())
    place.grant(session)
    place.roster.stream_ended(session, SECOND)
    place.roster.leasing.wait_for("a", 1, (KEY[0], 1, -1), 8, 1, LINE, (1, "boot-1"), now=life - 1)
    place.roster.expire(life)
    assert [key for key, _, _ in place.told] == [KEY, (KEY[0], 1, -1)]
