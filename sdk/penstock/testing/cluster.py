"""A schedule with several coordinators: one is the head, the others follow and take over, or are its members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.testing.coordinator import Coordinator
from penstock.testing.doorsteps import Doorstep
from penstock.testing.faults import Fault, FaultKind
from penstock.testing.invariants import Invariants
from penstock.testing.journal import Reach
from penstock.testing.network import End, Link
from penstock.testing.placing import Placing
from penstock.testing.post import Letter, Post
from penstock.testing.registry import Registry
from penstock.testing.seats import Seat, Site
from penstock.testing.simulation import STRIKES, Scenario, Simulation
from penstock.testing.timeline import MILLISECOND, SECOND, PartyClock
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from penstock.testing.agents import AgentProcess
    from penstock.testing.machines import Machine
    from penstock.testing.placing import Start
    from penstock_coordinator.ports import RunId

FOLLOWERS_STOP, PEOPLE_WANT = 0.15, 0.5
"""By its chance, which planned stops are of one that follows; up to which a person wants another one to own."""
WITH_A_COMMIT = 0.4
"""By its chance, which deaths of members are while a commit is on its way."""
OLDER = 0.3
"""So often people and agents come to one that was an owner and may not know that it is over, if there is one."""
WAY = 2 * MILLISECOND
"""Between two coordinators."""


def simulation_of(scenario: Scenario, watch: Callable[[Invariants], None] | None = None) -> Simulation:
    return (Cluster if scenario.several else Simulation)(scenario, watch)


class Cluster(Simulation):
    def __init__(self, scenario: Scenario, watch: Callable[[Invariants], None] | None = None) -> None:
        super().__init__(scenario, watch)
        self.registry = Registry(self.store, self._rows_changed)
        self.sites = [
            Site(name, PartyClock(self.timeline, rate, began=(number + 1) * 1_000 * SECOND), Reach(self.store))
            for number, (name, rate) in enumerate(zip(self.addresses(), scenario.several, strict=True))
        ]
        self.post = Post(self)
        self.placing = Placing(self)

    def addresses(self) -> Sequence[str]:
        return [f"c{number}" for number in range(1, len(self.scenario.several) + 1)]

    def _rows_changed(self) -> None:
        self.invariants.rows_change(self.registry.rows)

    def count(self, what: str, times: int = 1) -> None:
        """Of ownership, something that happened."""
        self.happenings[what] += times

    # --- parties

    def start_coordinators(self) -> None:
        for site in self.sites:
            self.timeline.after(int(self.timeline.random.random() * SECOND), self._site_starts, site)

    def _site_starts(self, site: Site) -> None:
        """Whoever looks after it starts it when it has ended."""
        if site.seat is None:
            site.seat = Seat(self, site, self.scenario.ownership_lease)
            site.seat.begin()

    @property
    def seats(self) -> list[Seat]:
        return [site.seat for site in self.sites if site.seat is not None]

    def owning(self) -> list[Coordinator]:
        """Those that take themselves for owners, heads and members, the newest last."""
        found = [each.incarnation for each in self.seats if each.incarnation is not None and each.incarnation.alive]
        return sorted(found, key=lambda each: each.epoch)

    @property
    def coordinator(self) -> Coordinator | None:
        """Whom people come to: a head that serves, and whose lease has not run out."""
        serving = [each for each in self.owning() if each.is_head and each.serving and each.may_speak]
        if not serving:
            return None
        return serving[0] if len(serving) > 1 and self.timeline.random.random() < OLDER else serving[-1]

    def coordinator_of(self, run_id: RunId) -> Coordinator | None:
        """The head passes on what is of a run that lives at a member of its own."""
        head = self.coordinator
        row = self.store.runs.get(run_id)
        if head is None or row is None or row.owner == head.owner or RunState(row.state).at_rest:
            return head
        there = self.site(row.owner).seat
        inside = None if there is None else there.inside
        return inside if inside is not None and inside.head_epoch == head.epoch else head

    def start_run(self, start: Start) -> None:
        self.placing.place(start)

    def owner(self) -> Seat | None:
        """The head."""
        heads = [each for each in self.owning() if each.is_head]
        return next((each for each in self.seats if heads and each.incarnation is heads[-1]), None)

    def member(self, fault: Fault) -> Seat | None:
        """One of those that are there."""
        found = [each.seat for each in self.owning() if not each.is_head]
        members = [seat for seat in found if seat is not None]
        return members[fault.target % len(members)] if members else None

    def _follower(self, fault: Fault) -> Seat | None:
        owner = self.owner()
        following = [each for each in self.seats if each is not owner]
        return following[fault.target % len(following)] if following else None

    def incarnation(self, seat: Seat) -> Coordinator:
        site, scenario = seat.site, self.scenario
        return Coordinator(
            self.timeline,
            f"{site.name}.{site.boots}",
            self.store,
            site.clock,
            scenario.timing,
            self.plan_of,
            scenario.behave,
            self.invariants,
            seat,
            site.reach,
        )

    def site(self, name: str) -> Site:
        return next(site for site in self.sites if site.name == name)

    def _connect(
        self, process: AgentProcess, end: End, address: str, unreachable: Sequence[str] = (), member: str = ""
    ) -> Link | None:
        weather = process.machine.weathers[address]
        seat = self.site(address).seat
        if weather.cut or seat is None:
            return None
        step = Doorstep(seat, unreachable, member=member)
        other = End(seat, step.hear, step.ended)
        link = Link(self.timeline, weather, end, other)
        seat.reception.accept(other, link, step)
        return link

    def call(
        self,
        caller: Seat,
        name: str,
        question: Callable[[Seat, Callable[[bool], None]], None],
        answered: Callable[[bool], None],
    ) -> None:
        """`caller` asks that one something. No answer comes over a way that is cut."""
        site = self.site(name)

        def answer(told: bool) -> None:
            if not site.parted.get(caller.name):
                caller.after(WAY, answered, told)

        def arrive() -> None:
            if site.seat is not None:
                site.seat.run(question, site.seat, answer)

        if not caller.site.parted.get(name):
            self.timeline.after(WAY, arrive)

    # --- faults

    def coordinator_crash(self, fault: Fault) -> None:
        self._crash(self.owner(), fault)

    def follower_crash(self, fault: Fault) -> None:
        self._crash(self._follower(fault), fault)

    def _crash(self, seat: Seat | None, fault: Fault) -> None:
        if seat is not None:
            seat.crash()
            self.timeline.after(fault.span, self._site_starts, seat.site)

    def coordinator_freeze(self, fault: Fault) -> None:
        self._freeze(self.owner(), fault)

    def follower_freeze(self, fault: Fault) -> None:
        self._freeze(self._follower(fault), fault)

    @staticmethod
    def _freeze(seat: Seat | None, fault: Fault) -> None:
        if seat is not None:
            seat.freeze(fault.span)

    def owner_freeze_at_commit(self, fault: Fault) -> None:
        owner = self.owner()
        if owner is not None:
            self.store.after_apply_of[owner.name] = lambda: self._freeze(owner, fault)

    def owner_freeze_at_renewal(self, fault: Fault) -> None:
        owner = self.owner()
        if owner is not None:
            owner.on_renewal = lambda: self._freeze(owner, fault)

    def owner_cut_off(self, fault: Fault) -> None:
        self._cut_off(self.owner(), fault)

    def follower_cut_off(self, fault: Fault) -> None:
        self._cut_off(self._follower(fault), fault)

    def _cut_off(self, seat: Seat | None, fault: Fault) -> None:
        """From the database, in one direction or both."""
        if seat is not None:
            reach = seat.site.reach
            reach.out_cut, reach.back_cut = fault.chance < 0.7, fault.chance > 0.4
            self.store.was_away = True
            self.timeline.after(fault.span, reach.mend)

    # --- members

    def member_crash(self, fault: Fault) -> None:
        """At once, or when it commits something, which arrives after it."""
        seat = self.member(fault)
        if seat is not None and fault.chance < WITH_A_COMMIT:
            self.store.late_of[seat.name] = lambda: self._crash_if_there(seat, fault)
        else:
            self._crash(seat, fault)

    def member_freeze(self, fault: Fault) -> None:
        self._freeze(self.member(fault), fault)

    def member_freeze_at_commit(self, fault: Fault) -> None:
        seat = self.member(fault)
        if seat is not None:
            self.store.after_apply_of[seat.name] = lambda: self._freeze(seat, fault)

    def member_cut_off(self, fault: Fault) -> None:
        self._cut_off(self.member(fault), fault)

    def member_parted(self, fault: Fault) -> None:
        member, head = self.member(fault), self.owner()
        if member is not None and head is not None:
            self._part(member.site, head.site, fault)

    def member_leaves(self, fault: Fault) -> None:
        seat = self.member(fault)
        if seat is not None:
            seat.stop()
            self._start_after(seat, fault.span)

    def joins_late(self, fault: Fault) -> None:
        """It leaves its head, if it has one, and stays out for so long."""
        head = self.owner()
        seats = [seat for seat in self.seats if seat is not head]
        if seats:
            seats[fault.target % len(seats)].membership.stay_out(fault.span)

    def head_and_member_crash(self, fault: Fault) -> None:
        member, head = self.member(fault), self.owner()
        self._crash(head, fault)
        if member is not None:
            self.timeline.after(int(fault.chance * 200 * MILLISECOND), self._crash_if_there, member, fault)

    def _crash_if_there(self, seat: Seat, fault: Fault) -> None:
        if seat.alive and not self.healed:
            self._crash(seat, fault)

    def link_parted(self, fault: Fault) -> None:
        """An agent from a member."""
        seat = self.member(fault)
        if seat is not None:
            self._cut(fault, [self._machine(fault).weathers[seat.name]])

    def hand_over(self, fault: Fault) -> None:
        follower, owner = self._follower(fault), self.owner()
        if FOLLOWERS_STOP <= fault.chance < PEOPLE_WANT:
            if owner is not None and follower is not None:
                owner.hand_over(follower.name)
            return
        seat = follower if fault.chance < FOLLOWERS_STOP else owner
        if seat is not None:
            seat.stop()
            self._start_after(seat, fault.span)

    def _start_after(self, seat: Seat, span: int) -> None:
        """When it has ended."""
        if seat.alive and not self.healed:
            self.timeline.after(SECOND // 10, self._start_after, seat, span)
        else:
            self.timeline.after(span, self._site_starts, seat.site)

    def coordinators_parted(self, fault: Fault) -> None:
        one, other = (self.sites[(fault.target + way) % len(self.sites)] for way in (0, 1))
        self._part(one, other, fault)

    def _part(self, one: Site, other: Site, fault: Fault) -> None:
        one.parted[other.name] = True
        if fault.chance < 0.5:
            other.parted[one.name] = True
        self._ways_changed()
        self.timeline.after(fault.span, self._meet, one, other)

    def _meet(self, *sites: Site) -> None:
        for site in sites:
            site.parted.clear()
        self._ways_changed()

    def _ways_changed(self) -> None:
        """Between coordinators."""
        for seat in self.seats:
            for each in seat.reception.relayed:
                each.weather.follow()

    def serves_agents(self, machine: Machine, address: str) -> bool:
        """What it would answer on a connection of its own."""
        seat = self.site(address).seat
        if machine.weathers[address].cut or seat is None or seat.frozen:
            return False
        owning = seat.incarnation
        return owning is not None and owning.alive and owning.serving and seat.may_act

    def agent_parted(self, fault: Fault) -> None:
        machine = self._machine(fault)
        # Mostly from the owner: the others have little to say to it.
        owner = self.owner()
        name = owner.name if owner is not None and fault.chance < 0.8 else self.sites[fault.target % 3].name
        self._cut(fault, [machine.weathers[name]])

    def board_lost(self, fault: Fault) -> None:
        self.post.bad = True
        self.timeline.after(fault.span, setattr, self.post, "bad", False)
        # Whoever may write to it may write anything.
        forged = Letter("nobody", self.store.epoch + 5, fault.chance < 0.5)
        for site in self.sites:
            if site.seat is not None:
                site.seat.run(site.seat.hear, forged)

    def ownership_late(self, fault: Fault) -> None:
        self.registry.late += 1 + int(fault.chance * 4)

    def ownership_unknown(self, fault: Fault) -> None:
        self.registry.unknown += 1 + int(fault.chance * 4)

    def clock_jump(self, fault: Fault) -> None:
        site = self.sites[fault.target % len(self.sites)]
        site.clock.wall_offset += fault.span if fault.chance < 0.5 else -fault.span
        self._latest_wall = max(self._latest_wall, site.clock.wall_offset)

    strikes: ClassVar[Mapping[FaultKind, Callable[[Any, Fault], None]]] = STRIKES | {
        FaultKind.COORDINATOR_CRASH: coordinator_crash,
        FaultKind.COORDINATOR_FREEZE: coordinator_freeze,
        FaultKind.CLOCK_JUMP: clock_jump,
        FaultKind.OWNER_FREEZE_AT_COMMIT: owner_freeze_at_commit,
        FaultKind.OWNER_FREEZE_AT_RENEWAL: owner_freeze_at_renewal,
        FaultKind.OWNER_CUT_OFF: owner_cut_off,
        FaultKind.FOLLOWER_CUT_OFF: follower_cut_off,
        FaultKind.FOLLOWER_CRASH: follower_crash,
        FaultKind.FOLLOWER_FREEZE: follower_freeze,
        FaultKind.HAND_OVER: hand_over,
        FaultKind.COORDINATORS_PARTED: coordinators_parted,
        FaultKind.AGENT_PARTED: agent_parted,
        FaultKind.BOARD_LOST: board_lost,
        FaultKind.OWNERSHIP_LATE: ownership_late,
        FaultKind.OWNERSHIP_UNKNOWN: ownership_unknown,
        FaultKind.MEMBER_CRASH: member_crash,
        FaultKind.MEMBER_FREEZE: member_freeze,
        FaultKind.MEMBER_FREEZE_AT_COMMIT: member_freeze_at_commit,
        FaultKind.MEMBER_CUT_OFF: member_cut_off,
        FaultKind.MEMBER_PARTED: member_parted,
        FaultKind.MEMBER_LEAVES: member_leaves,
        FaultKind.JOINS_LATE: joins_late,
        FaultKind.HEAD_AND_MEMBER_CRASH: head_and_member_crash,
        FaultKind.LINK_PARTED: link_parted,
    }

    # --- healing

    def _heal_coordinators(self) -> None:
        self._heal_store()
        self.registry.late = self.registry.unknown = 0
        self.post.bad = False
        latest = max(self._latest_wall, *(site.clock.wall_offset for site in self.sites))
        for site in self.sites:
            site.reach.mend()
            site.clock.wall_offset = latest
            if site.seat is not None:
                site.seat.on_renewal = None
                site.seat.thaw()
        self._meet(*self.sites)
        self.invariants.heals(self)
        self.timeline.after(self.invariants.most_without_owner(), self._owner_is_there)

    def _owner_is_there(self) -> None:
        self.invariants.an_owner_emerges(self.coordinator)

    def _watch_over(self) -> None:
        for site in self.sites:
            self._site_starts(site)
        self.timeline.after(SECOND, self._watch_over)

    def _left_over(self) -> str:
        heads = [each for each in self.owning() if each.is_head]
        if len(heads) > 1:
            return f"{len(heads)} coordinators take themselves for the head"
        return super()._left_over()

    def to_be_empty(self) -> list[Coordinator]:
        return self.owning()
