"""A schedule with several coordinators: one owns the runs, the others follow and take over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.testing.coordinator import Coordinator
from penstock.testing.faults import Fault, FaultKind
from penstock.testing.invariants import Invariants
from penstock.testing.journal import Reach
from penstock.testing.members import Doorstep, Member, Seat
from penstock.testing.network import End, Link
from penstock.testing.post import Letter, Post
from penstock.testing.registry import Registry
from penstock.testing.simulation import STRIKES, Scenario, Simulation
from penstock.testing.timeline import MILLISECOND, SECOND, PartyClock

if TYPE_CHECKING:
    from penstock.testing.agents import AgentProcess
    from penstock.testing.machines import Machine

FOLLOWERS_STOP, PEOPLE_WANT = 0.15, 0.5
"""By its chance, which planned stops are of one that follows; up to which a person wants another one to own."""
OLDER = 0.3
"""So often people and agents come to one that was an owner and may not know that it is over, if there is one."""
WAY = 2 * MILLISECOND
"""Between two coordinators."""


def simulation_of(scenario: Scenario, watch: Callable[[Invariants], None] | None = None) -> Simulation:
    return (Cluster if scenario.several else Simulation)(scenario, watch)


class Cluster(Simulation):
    def __init__(self, scenario: Scenario, watch: Callable[[Invariants], None] | None = None) -> None:
        super().__init__(scenario, watch)
        self.registry = Registry(self.store)
        self.seats = [
            Seat(name, PartyClock(self.timeline, rate, began=(number + 1) * 1_000 * SECOND), Reach(self.store))
            for number, (name, rate) in enumerate(zip(self.addresses(), scenario.several, strict=True))
        ]
        self.post = Post(self)

    def addresses(self) -> Sequence[str]:
        return [f"c{number}" for number in range(1, len(self.scenario.several) + 1)]

    def count(self, what: str) -> None:
        """Of ownership, something that happened."""
        self.happenings[what] += 1

    # --- parties

    def start_coordinators(self) -> None:
        for seat in self.seats:
            self.timeline.after(int(self.timeline.random.random() * SECOND), self._seat_starts, seat)

    def _seat_starts(self, seat: Seat) -> None:
        """Whoever looks after it starts it when it has ended."""
        if seat.member is None:
            seat.member = Member(self, seat, self.scenario.ownership_lease)
            seat.member.begin()

    @property
    def members(self) -> list[Member]:
        return [seat.member for seat in self.seats if seat.member is not None]

    def owning(self) -> list[Coordinator]:
        """Those that take themselves for the owner, the newest last."""
        found = [each.incarnation for each in self.members if each.incarnation is not None and each.incarnation.alive]
        return sorted(found, key=lambda each: each.epoch)

    @property
    def coordinator(self) -> Coordinator | None:
        """Whom people come to: one that serves, and whose lease has not run out."""
        serving = [each for each in self.owning() if each.serving and each.may_speak]
        if not serving:
            return None
        return serving[0] if len(serving) > 1 and self.timeline.random.random() < OLDER else serving[-1]

    def owner(self) -> Member | None:
        owning = self.owning()
        return next((each for each in self.members if owning and each.incarnation is owning[-1]), None)

    def _follower(self, fault: Fault) -> Member | None:
        owner = self.owner()
        following = [each for each in self.members if each is not owner]
        return following[fault.target % len(following)] if following else None

    def incarnation(self, member: Member) -> Coordinator:
        seat, scenario = member.seat, self.scenario
        return Coordinator(
            self.timeline,
            f"{seat.name}.{seat.boots}",
            self.store,
            seat.clock,
            scenario.timing,
            self.plan_of,
            scenario.behave,
            self.invariants,
            member,
            seat.reach,
        )

    def seat(self, name: str) -> Seat:
        return next(seat for seat in self.seats if seat.name == name)

    def _connect(self, process: AgentProcess, end: End, address: str, unreachable: Sequence[str] = ()) -> Link | None:
        weather = process.machine.weathers[address]
        member = self.seat(address).member
        if weather.cut or member is None:
            return None
        step = Doorstep(member, unreachable)
        other = End(member, step.hear, step.ended)
        link = Link(self.timeline, weather, end, other)
        member.accept(other, link, step)
        return link

    def call_to_prepare(self, caller: Member, name: str, answered: Callable[[str, bool], None]) -> None:
        """`caller` stops, and asks that one to read its runs. No answer comes over a way that is cut."""
        seat = self.seat(name)

        def answer(prepared: bool) -> None:
            if not seat.parted.get(caller.name):
                caller.after(WAY, answered, name, prepared)

        def arrive() -> None:
            if seat.member is not None:
                seat.member.run(seat.member.prepare, caller.name, answer)

        if not caller.seat.parted.get(name):
            self.timeline.after(WAY, arrive)

    # --- faults

    def coordinator_crash(self, fault: Fault) -> None:
        self._crash(self.owner(), fault)

    def follower_crash(self, fault: Fault) -> None:
        self._crash(self._follower(fault), fault)

    def _crash(self, member: Member | None, fault: Fault) -> None:
        if member is not None:
            member.crash()
            self.timeline.after(fault.span, self._seat_starts, member.seat)

    def coordinator_freeze(self, fault: Fault) -> None:
        self._freeze(self.owner(), fault)

    def follower_freeze(self, fault: Fault) -> None:
        self._freeze(self._follower(fault), fault)

    @staticmethod
    def _freeze(member: Member | None, fault: Fault) -> None:
        if member is not None:
            member.freeze(fault.span)

    def owner_freeze_at_commit(self, fault: Fault) -> None:
        self.store.after_apply = lambda: self.coordinator_freeze(fault)

    def owner_freeze_at_renewal(self, fault: Fault) -> None:
        owner = self.owner()
        if owner is not None:
            owner.on_renewal = lambda: self._freeze(owner, fault)

    def owner_cut_off(self, fault: Fault) -> None:
        self._cut_off(self.owner(), fault)

    def follower_cut_off(self, fault: Fault) -> None:
        self._cut_off(self._follower(fault), fault)

    def _cut_off(self, member: Member | None, fault: Fault) -> None:
        """From the database, in one direction or both."""
        if member is not None:
            reach = member.seat.reach
            reach.out_cut, reach.back_cut = fault.chance < 0.7, fault.chance > 0.4
            self.store.was_away = True
            self.timeline.after(fault.span, reach.mend)

    def hand_over(self, fault: Fault) -> None:
        follower, owner = self._follower(fault), self.owner()
        if FOLLOWERS_STOP <= fault.chance < PEOPLE_WANT:
            if owner is not None and follower is not None:
                owner.hand_over(follower.name)
            return
        member = follower if fault.chance < FOLLOWERS_STOP else owner
        if member is not None:
            member.stop()
            self._start_after(member, fault.span)

    def _start_after(self, member: Member, span: int) -> None:
        """When it has ended."""
        if member.alive and not self.healed:
            self.timeline.after(SECOND // 10, self._start_after, member, span)
        else:
            self.timeline.after(span, self._seat_starts, member.seat)

    def coordinators_parted(self, fault: Fault) -> None:
        one, other = (self.seats[(fault.target + way) % len(self.seats)] for way in (0, 1))
        one.parted[other.name] = True
        if fault.chance < 0.5:
            other.parted[one.name] = True
        self._ways_changed()
        self.timeline.after(fault.span, self._meet, one, other)

    def _meet(self, *seats: Seat) -> None:
        for seat in seats:
            seat.parted.clear()
        self._ways_changed()

    def _ways_changed(self) -> None:
        """Between coordinators."""
        for member in self.members:
            for each in member.relayed:
                each.weather.follow()

    def serves_agents(self, machine: Machine, address: str) -> bool:
        """What it would answer on a connection of its own."""
        member = self.seat(address).member
        if machine.weathers[address].cut or member is None or member.frozen:
            return False
        owning = member.incarnation
        return owning is not None and owning.alive and owning.serving and member.may_act

    def agent_parted(self, fault: Fault) -> None:
        machine = self._machine(fault)
        # Mostly from the owner: the others have little to say to it.
        owner = self.owner()
        name = owner.name if owner is not None and fault.chance < 0.8 else self.seats[fault.target % 3].name
        self._cut(fault, [machine.weathers[name]])

    def board_lost(self, fault: Fault) -> None:
        self.post.bad = True
        self.timeline.after(fault.span, setattr, self.post, "bad", False)
        # Whoever may write to it may write anything.
        forged = Letter("nobody", self.store.epoch + 5, fault.chance < 0.5)
        for seat in self.seats:
            if seat.member is not None:
                seat.member.run(seat.member.hear, forged)

    def ownership_late(self, fault: Fault) -> None:
        self.registry.late += 1 + int(fault.chance * 4)

    def ownership_unknown(self, fault: Fault) -> None:
        self.registry.unknown += 1 + int(fault.chance * 4)

    def clock_jump(self, fault: Fault) -> None:
        seat = self.seats[fault.target % len(self.seats)]
        seat.clock.wall_offset += fault.span if fault.chance < 0.5 else -fault.span
        self._latest_wall = max(self._latest_wall, seat.clock.wall_offset)

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
    }

    # --- healing

    def _heal_coordinators(self) -> None:
        self._heal_store()
        self.registry.late = self.registry.unknown = 0
        self.post.bad = False
        latest = max(self._latest_wall, *(seat.clock.wall_offset for seat in self.seats))
        for seat in self.seats:
            seat.reach.mend()
            seat.clock.wall_offset = latest
            if seat.member is not None:
                seat.member.on_renewal = None
                seat.member.thaw()
        self._meet(*self.seats)
        self.invariants.heals(self)
        self.timeline.after(self.invariants.most_without_owner(), self._owner_is_there)

    def _owner_is_there(self) -> None:
        self.invariants.an_owner_emerges(self.coordinator)

    def _watch_over(self) -> None:
        for seat in self.seats:
            self._seat_starts(seat)
        self.timeline.after(SECOND, self._watch_over)

    def _left_over(self) -> str:
        owning = self.owning()
        if len(owning) > 1:
            return f"{len(owning)} coordinators take themselves for the owner"
        return super()._left_over()
