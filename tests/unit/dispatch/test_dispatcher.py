"""Who is offered which room: fairness, exactness, and that nobody waits beside free room."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.dispatch.dispatcher import Dispatcher, Permit
from penstock_coordinator.core.dispatch.tiers import Applicant
from penstock_coordinator.core.plan.model import Line

DEFAULT = Line("default")
GPU = Line("default", resources=(("gpu", 1.0),))
EU = Line("default", labels=(("zone", "eu"),))
OTHER = Line("other")


def capacity(session: int, limit: int, **settings: object) -> Capacity:
    fields: dict[str, object] = {"queues": frozenset({"default"}), "labels": {}, "resources": {}, "slots": 4}
    fields.update(settings)
    made = Capacity(session=session, agent=f"agent-{session}", **fields)  # type: ignore[arg-type]  # a test's shorthand
    made.grant_limit = limit
    return made


def applicant(run: bytes, line: Line = DEFAULT) -> Applicant:
    return Applicant(run, 0, line, priority=0)


def total(permits: list[Permit]) -> int:
    return sum(permit.count for permit in permits)


def test_a_run_takes_free_room_in_its_own_turn_and_no_more_than_there_is() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_session(capacity(1, 3))
    dispatcher.add_session(capacity(2, 2))
    assert total(dispatcher.reserve(DEFAULT, 10)) == 5
    assert dispatcher.reserve(DEFAULT, 1) == []


def test_places_are_spread_over_the_sessions() -> None:
    dispatcher = Dispatcher()
    for session in (1, 2, 3, 4):
        dispatcher.add_session(capacity(session, 10))
    counts = {permit.session: permit.count for permit in dispatcher.reserve(DEFAULT, 8)}
    assert set(counts) == {1, 2, 3, 4}
    assert max(counts.values()) <= 3


def test_the_idle_session_is_preferred_to_the_busy_one() -> None:
    dispatcher = Dispatcher()
    busy, idle = capacity(1, 10), capacity(2, 10)
    busy.leases = 4
    dispatcher.add_session(busy)
    dispatcher.add_session(idle)
    (permit,) = dispatcher.reserve(DEFAULT, 1)
    assert permit.session == 2


def test_only_sessions_that_serve_the_line_are_offered() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_session(capacity(1, 5))
    dispatcher.add_session(capacity(2, 5, labels={"zone": "eu"}))
    dispatcher.add_session(capacity(3, 5, resources={"gpu": 2.0}))
    assert {permit.session for permit in dispatcher.reserve(EU, 9)} == {2}
    gpu = dispatcher.reserve(GPU, 9)
    assert [(permit.session, permit.count) for permit in gpu] == [(3, 2)]
    assert dispatcher.reserve(OTHER, 1) == []


def test_resources_are_free_again_when_the_lease_ends() -> None:
    dispatcher = Dispatcher()
    session = capacity(1, 5, resources={"gpu": 1.0})
    dispatcher.add_session(session)
    assert total(dispatcher.reserve(GPU, 2)) == 1
    session.grant()
    dispatcher.set_demand(applicant(b"r", GPU), 1, 0)
    session.end(GPU)
    dispatcher.made_room(1)
    (offer,) = dispatcher.offers(0)
    assert offer.permit.count == 1


def test_thirds_of_a_core_add_up_to_a_core() -> None:
    third = Line("default", resources=(("cpu", 1 / 3),))
    dispatcher = Dispatcher()
    dispatcher.add_session(capacity(1, 9, resources={"cpu": 1.0}))
    assert total(dispatcher.reserve(third, 9)) == 3


def test_those_who_wait_take_turns_whatever_their_size() -> None:
    dispatcher = Dispatcher()
    dispatcher.set_demand(applicant(b"big"), 1000, 0)
    dispatcher.set_demand(applicant(b"small"), 2, 0)
    session = capacity(1, 0)
    dispatcher.add_session(session)
    served: list[bytes] = []
    for limit in range(1, 8):
        session.grant_limit = limit
        dispatcher.made_room(1)
        for offer in dispatcher.offers(0):
            assert offer.permit.count == 1
            served.append(offer.run_id)
    assert served.count(b"small") == 2
    assert served.index(b"small") <= 1, "the small one does not wait behind the thousand"


def test_a_newcomer_cannot_have_saved_up() -> None:
    dispatcher = Dispatcher()
    session = capacity(1, 0)
    dispatcher.add_session(session)
    dispatcher.set_demand(applicant(b"old"), 100, 0)
    for limit in range(1, 51):
        session.grant_limit = limit
        dispatcher.made_room(1)
        dispatcher.offers(0)
    dispatcher.set_demand(applicant(b"new"), 100, 0)
    served = []
    for limit in range(51, 71):
        session.grant_limit = limit
        dispatcher.made_room(1)
        served += [offer.run_id for offer in dispatcher.offers(0)]
    assert 8 <= served.count(b"old") <= 12


def test_a_session_that_is_gone_gets_nothing_and_takes_nothing_back() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_session(capacity(1, 5))
    (permit,) = dispatcher.reserve(DEFAULT, 2)
    dispatcher.remove_session(1)
    dispatcher.give_back(permit, 2)
    assert dispatcher.reserve(DEFAULT, 1) == []


def test_a_thousand_forgotten_lines_do_not_pile_up() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_session(capacity(1, 5))
    for number in range(3_000):
        only = applicant(b"r", Line("default", labels=(("k", str(number)),)))
        dispatcher.set_demand(only, 1, 0)
        dispatcher.set_demand(only, 0, 0)
    assert len(dispatcher._lines) <= 1_001


POSITIONS = [(DEFAULT, 0), (GPU, 0), (EU, 0), (DEFAULT, 3)]
"""Of the plan of each run: a line, and the priority of its steps."""


def machine_applicant(run: bytes, position: int) -> Applicant:
    line, priority = POSITIONS[position]
    if run == b"d":
        return Applicant(run, position, line, priority + 2, 4.0, "team", 2.0)
    return Applicant(run, position, line, priority, 1.0 + run[0] % 3, None)


class DispatchMachine(RuleBasedStateMachine):
    """Runs, sessions and places in every order; afterwards each place is counted once and nobody waits beside room."""

    @initialize()
    def begin(self) -> None:
        self.dispatcher = Dispatcher()
        self.sessions: dict[int, Capacity] = {}
        self.leases: list[tuple[int, Line]] = []
        self.held: list[Permit] = []
        self.demand: dict[tuple[bytes, int], int] = {}
        self.now = 0
        self.epoch = 0

    @rule(span=st.integers(1, 200))
    def time_passes(self, span: int) -> None:
        self.now += span * 1_000_000

    @rule(limit=st.integers(0, 6), gpu=st.integers(0, 2), eu=st.booleans())
    def session_comes(self, limit: int, gpu: int, eu: bool) -> None:
        self.epoch += 1
        made = capacity(self.epoch, limit, resources={"gpu": float(gpu)}, labels={"zone": "eu"} if eu else {})
        self.sessions[self.epoch] = made
        self.dispatcher.add_session(made)
        self.carry()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def session_goes(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.sessions)))
        del self.sessions[epoch]
        self.dispatcher.remove_session(epoch)
        self.leases = [lease for lease in self.leases if lease[0] != epoch]
        self.held = [permit for permit in self.held if permit.session != epoch]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), more=st.integers(1, 5))
    def credits_grow(self, data: st.DataObject, more: int) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.sessions)))
        self.sessions[epoch].grant_limit += more
        self.dispatcher.made_room(epoch)
        self.carry()

    @rule(run=st.sampled_from([b"a", b"b", b"c", b"d"]), position=st.integers(0, 3), want=st.integers(0, 6))
    def run_has_ready_steps(self, run: bytes, position: int, want: int) -> None:
        permits = self.dispatcher.reserve(POSITIONS[position][0], want) if want else []
        assert total(permits) <= want
        self.held += permits
        self.demand[run, position] = want - total(permits)
        self.dispatcher.set_demand(machine_applicant(run, position), want - total(permits), self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def permit_is_used(self, data: st.DataObject) -> None:
        permit = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        used = data.draw(st.integers(0, permit.count))
        for _ in range(used):
            self.sessions[permit.session].grant()
            self.leases.append((permit.session, permit.line))
        self.dispatcher.give_back(permit, permit.count - used)
        self.carry()

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def lease_ends(self, data: st.DataObject) -> None:
        epoch, line = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.sessions[epoch].end(line)
        self.dispatcher.made_room(epoch)
        self.carry()

    def carry(self) -> None:
        for offer in self.dispatcher.offers(self.now):
            assert POSITIONS[offer.position][0] == offer.permit.line
            assert self.demand[offer.run_id, offer.position] >= offer.permit.count > 0
            self.demand[offer.run_id, offer.position] -= offer.permit.count
            self.held.append(offer.permit)

    @invariant()
    def nothing_is_given_twice(self) -> None:
        for epoch, session in self.sessions.items():
            permits = sum(permit.count for permit in self.held if permit.session == epoch)
            assert session.permits == permits
            assert session.leases == sum(1 for lease in self.leases if lease[0] == epoch)
            assert session.granted + permits <= session.grant_limit
            assert session.used.get("gpu", 0.0) <= session.resources["gpu"]

    @invariant()
    def nobody_waits_beside_free_room(self) -> None:
        for (_, position), waiting in self.demand.items():
            line = POSITIONS[position][0]
            if waiting:
                assert all(not session.serves(line) or not session.room(line) for session in self.sessions.values())

    @invariant()
    def the_line_knows_who_waits(self) -> None:
        for line in (DEFAULT, GPU, EU):
            waiting = sum(demand for (_, position), demand in self.demand.items() if POSITIONS[position][0] == line)
            assert self.dispatcher.waiting(line) == waiting

    @invariant()
    def those_who_wait_stand_somewhere(self) -> None:
        for (run, position), demand in self.demand.items():
            line = POSITIONS[position][0]
            found = self.dispatcher.standing(line, run, position, self.now)
            assert (found is not None) == (demand > 0)
            if found is not None:
                assert 0 <= found.ahead <= self.dispatcher.waiting(line) - 1


TestDispatch = DispatchMachine.TestCase
TestDispatch.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
