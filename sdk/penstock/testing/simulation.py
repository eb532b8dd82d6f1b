"""One schedule: agents, coordinators, people and a database on one timeline; first chaos, then everything is mended and
all that was accepted must come to its end."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.testing.agents import AgentProcess, AgentSpec
from penstock.testing.coordinator import Coordinator, Timing
from penstock.testing.executions import Behave
from penstock.testing.faults import OF_RUNS, Fault, FaultKind
from penstock.testing.invariants import Invariants, Violation
from penstock.testing.journal import Store
from penstock.testing.machines import Machine
from penstock.testing.network import End, Link, Weather
from penstock.testing.people import People
from penstock.testing.sessions import Stream
from penstock.testing.timeline import MILLISECOND, SECOND, PartyClock, Timeline
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from penstock.testing.placing import Start
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import RunId

MOST_STEPS = 60_000
"""Things that happen in a schedule; more mean that it turns in circles."""
KEEPALIVE = 15 * SECOND
LOOK = 500 * MILLISECOND


@dataclass(frozen=True)
class RunSpec:
    """A run that somebody starts."""

    plan: Plan
    parameters: bytes = b"{}"
    at: int = 0
    """True microseconds since the beginning."""


@dataclass(frozen=True)
class Scenario:
    """All of a schedule but the chance in it, which is the seed's."""

    seed: int
    agents: tuple[AgentSpec, ...]
    runs: tuple[RunSpec, ...]
    faults: tuple[Fault, ...]
    behave: Behave
    plans: Mapping[str, Plan] = field(default_factory=dict)
    """By pipeline, of those that steps are runs of."""
    timing: Timing = field(default_factory=Timing)
    chaos: int = 20 * SECOND
    """When everything is mended."""
    patience: int = 900 * SECOND
    """How long after that all runs may take to come to their ends."""
    coordinator_rate: float = 1.0
    several: tuple[float, ...] = ()
    """How fast the clocks of the coordinators go, if there are several (see `penstock.testing.cluster`)."""
    ownership_lease: int = 2 * SECOND
    join: bool = False
    """Those that follow become members of the head."""


@dataclass
class Outcome:
    """How a schedule went."""

    scenario: Scenario
    states: dict[int, RunState]
    """Of the runs that were accepted, by their place in the scenario."""
    faults: Counter[str]
    """Those that happened, by kind."""
    events: dict[str, int]
    executions: int
    steps: int
    ended_at: int
    trace: list[tuple[Any, ...]]
    violation: Violation | None = None
    ownership: Counter[str] = field(default_factory=Counter)
    """What several coordinators did about it."""

    @property
    def trace_hash(self) -> str:
        """The same for the same seed, in every process."""
        return hashlib.blake2b(repr(self.trace).encode(), digest_size=16).hexdigest()


class Simulation:
    strikes: ClassVar[Mapping[FaultKind, Callable[[Any, Fault], None]]] = {}

    def __init__(self, scenario: Scenario, watch: Callable[[Invariants], None] | None = None) -> None:
        self.scenario = scenario
        self.timeline = Timeline(scenario.seed)
        self.invariants = Invariants(self.timeline, scenario.timing, self.plan_of)
        self.invariants.agents = self.processes  # type: ignore[method-assign] # only the simulation knows who lives
        if watch is not None:
            watch(self.invariants)
        self.store = Store(self.timeline, self.invariants.appended)
        self.invariants.store = self.store
        self._plans = {run.plan.digest: run.plan for run in scenario.runs}
        self._plans |= {plan.digest: plan for plan in scenario.plans.values()}
        self.clock = PartyClock(self.timeline, scenario.coordinator_rate)
        self.machines = [
            Machine(
                self.timeline,
                spec,
                scenario.behave,
                self.invariants,
                self._connect,
                self.serves_agents,
                self.addresses(),
            )
            for spec in scenario.agents
        ]
        self.incarnations = 0
        self.coordinators: list[Coordinator] = []
        """Those that live; the newest is the last."""
        self.people = People(self)
        self.happened: Counter[str] = Counter()
        self.happenings: Counter[str] = Counter()
        self.healed = False
        self._latest_wall = 0

    def addresses(self) -> Sequence[str]:
        """Of coordinators."""
        return ("",)

    def plan_of(self, name: str, former: Plan | None) -> Plan:
        """By digest, or by the pipeline's name. Raises `KeyError`."""
        found = self._plans.get(name)
        return self.scenario.plans[name] if found is None else found

    def processes(self) -> list[AgentProcess]:
        return [machine.process for machine in self.machines if machine.process is not None]

    @property
    def coordinator(self) -> Coordinator | None:
        """The newest that lives."""
        living = [each for each in self.coordinators if each.alive]
        return living[-1] if living else None

    # --- the schedule

    def play(self) -> Outcome:
        """Raises nothing: a broken promise is in the outcome."""
        violation: Violation | None = None
        try:
            self._begin()
            self._go_on_until(self.scenario.chaos)
            self._heal()
            self._come_to_rest()
        except Violation as found:
            violation = found
        except Exception as error:
            # A fault of a core's own: nothing that it decides from here on means anything.
            violation = Violation("raises_nothing", f"{type(error).__name__}: {error}")
            violation.__cause__ = error
        return self._outcome(violation)

    def _outcome(self, violation: Violation | None) -> Outcome:
        states = {}
        for place, run_id in self.people.run_ids.items():
            row = self.store.runs.get(run_id)
            if row is not None:
                states[place] = RunState(row.state)
        return Outcome(
            self.scenario,
            states,
            self.happened,
            self.invariants.events,
            self.invariants.executions,
            self.timeline.steps,
            self.timeline.now,
            self.timeline.trace,
            violation,
            self.happenings,
        )

    def _begin(self) -> None:
        self.start_coordinators()
        for machine in self.machines:
            machine.boot()
        for place, run in enumerate(self.scenario.runs):
            self.timeline.at(run.at, self.people.start, place)
        for fault in self.scenario.faults:
            self.timeline.at(fault.at, self._strike, fault)

    def _go_on_until(self, instant: int) -> None:
        timeline = self.timeline
        timeline.at(instant, self._nothing)
        if not timeline.go_on_until(instant, MOST_STEPS):
            raise Violation("comes_to_rest", f"{MOST_STEPS} things have happened, and it goes on")

    @staticmethod
    def _nothing() -> None:
        """A moment to look around."""

    def _come_to_rest(self) -> None:
        """3, I3: once everything is mended, every accepted run comes to its end, and nothing is left over."""
        left = "it has not come to rest"
        while left:
            self._wait_for_rest(self.timeline.now + self.scenario.patience)
            settled = self.timeline.now + 60 * SECOND
            # Somebody who waited for the end of a run to do it again may come just then.
            while (left := self._left_over()) and self._at_rest():
                if self.timeline.now >= settled:
                    raise Violation("nothing_leaks", left)
                self._go_on_until(self.timeline.now + LOOK)
        for shadow in self.invariants.shadows.values():
            self.invariants.bookkeeping_is_right(shadow.run)

    def _wait_for_rest(self, deadline: int) -> None:
        while not self._at_rest():
            if self.timeline.now > deadline:
                raise Violation("comes_to_rest", f"not at rest: {self._unfinished()}")
            self._go_on_until(self.timeline.now + LOOK)

    def _at_rest(self) -> bool:
        return self.people.all_answered and all(row.state >= RunState.COMPLETED for row in self.store.runs.values())

    def _unfinished(self) -> str:
        live = [
            f"run {int.from_bytes(run_id, 'big')} is {RunState(row.state).name}"
            for run_id, row in self.store.runs.items()
            if not RunState(row.state).at_rest
        ]
        return ", ".join(live) or "somebody has no answer"

    def _left_over(self) -> str:
        """What should not be there any more, once all runs are at rest; empty: nothing."""
        coordinator = self.coordinator
        if coordinator is None or not coordinator.serving:
            return "the coordinator is not back"
        for each in self.to_be_empty():
            if left := _left_in(each):
                return left
        for process in self.processes():
            if process.holder.book.all or process.executor.running:
                return f"{process.name} holds {len(process.holder.book.all)} leases"
            if process.machine.disk.durable or process.spool.live:
                return f"the spool of {process.name} is not empty"
            stream = process.holder.home
            if stream is None or stream.grants_seen >= stream.limit_sent:
                return f"{process.name} asks for no work"
        return ""

    def to_be_empty(self) -> list[Coordinator]:
        """Those that own, in the end."""
        return [] if self.coordinator is None else [self.coordinator]

    def coordinator_of(self, run_id: RunId) -> Coordinator | None:
        """Whom people come to who mean that run."""
        return self.coordinator

    def start_run(self, start: Start) -> None:
        """At the coordinator that somebody came to."""
        start.at(start.coordinator)

    # --- parties

    def start_coordinators(self) -> None:
        self.start_coordinator()

    def start_coordinator(self) -> None:
        self.incarnations += 1
        coordinator = Coordinator(
            self.timeline,
            f"coordinator-{self.incarnations}",
            self.store,
            self.clock,
            self.scenario.timing,
            self.plan_of,
            self.scenario.behave,
            self.invariants,
        )
        self.coordinators = [each for each in self.coordinators if each.alive or each is self.coordinators[-1]]
        self.coordinators.append(coordinator)
        coordinator.begin()

    def serves_agents(self, machine: Machine, address: str) -> bool:
        """Nobody is sent anywhere."""
        return False

    def _connect(
        self, process: AgentProcess, end: End, address: str, unreachable: Sequence[str] = (), member: str = ""
    ) -> Link | None:
        """To the coordinator that listens; sometimes an older one that does not know yet that it is over."""
        weather = process.machine.weathers[address]
        if weather.cut:
            return None
        listening = [each for each in self.coordinators if each.alive and each.serving]
        if not listening:
            return None
        older = len(listening) > 1 and self.timeline.random.random() < 0.3
        coordinator = listening[0] if older else listening[-1]
        stream = Stream(coordinator)
        other = End(coordinator, stream.hear, stream.ended)
        link = Link(self.timeline, weather, end, other)
        coordinator.accept(other, link, stream)
        return link

    # --- faults

    def _strike(self, fault: Fault) -> None:
        if self.healed:
            return
        self.timeline.note("fault", fault.kind.value, fault.target, fault.span)
        self.happened[fault.kind.value] += 1
        if fault.kind in OF_RUNS:
            self.people.act(fault)
        else:
            self.strikes[fault.kind](self, fault)

    def _machine(self, fault: Fault) -> Machine:
        return self.machines[fault.target % len(self.machines)]

    def agent_crash(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.crash()
        self.timeline.after(fault.span, machine.boot)

    def agent_crash_at_result(self, fault: Fault) -> None:
        self._machine(fault).on_result = lambda: self.agent_crash(fault)

    def agent_crash_at_sync(self, fault: Fault) -> None:
        self._machine(fault).disk.breaks_after = lambda: self.agent_crash(fault)

    def agent_gone(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.vanish()
        self.timeline.after(fault.span, machine.boot)

    def poison(self, fault: Fault) -> None:
        for machine in self.machines:
            machine.poison.add(fault.target)
            self.timeline.after(fault.span, machine.poison.discard, fault.target)

    def agent_freeze(self, fault: Fault) -> None:
        process = self._machine(fault).process
        if process is not None:
            process.freeze_all(fault.span)

    def agent_drain(self, fault: Fault) -> None:
        process = self._machine(fault).process
        if process is not None and not process.holder.draining:
            process.drain(int((0.1 + 10 * fault.chance) * SECOND))

    def disk_full(self, fault: Fault) -> None:
        disk = self._machine(fault).disk
        disk.full = disk.was_full = True
        self.timeline.after(fault.span, setattr, disk, "full", False)

    def _link(self, fault: Fault) -> Link | None:
        """One of the agent's."""
        process = self._machine(fault).process
        links = [] if process is None else process.links()
        return links[int(fault.chance * 1_000) % len(links)] if links else None

    def stream_break(self, fault: Fault) -> None:
        for number in range(1 + int(fault.chance * 4)):
            self.timeline.after(int(number * fault.chance * 400 * MILLISECOND), self._snap, fault)

    def _snap(self, fault: Fault) -> None:
        link = self._link(fault)
        if link is not None:
            link.snap()

    def bad_link(self, fault: Fault) -> None:
        machine = self._machine(fault)
        machine.was_slow = True
        for weather in machine.weathers.values():
            weather.late = int((1 + 5 * fault.chance) * SECOND)
            self.timeline.after(int(fault.span * fault.chance / 2), setattr, weather, "out_cut", True)
        self.timeline.after(fault.span, machine.mend_network)

    def stream_ghost(self, fault: Fault) -> None:
        link = self._link(fault)
        if link is not None:
            link.ghosts = True
            link.snap()

    def stream_delay(self, fault: Fault) -> None:
        self._machine(fault).was_slow = True
        for weather in self._machine(fault).weathers.values():
            weather.delay = int(fault.chance * 4 * SECOND)
            self.timeline.after(fault.span, setattr, weather, "delay", 2 * MILLISECOND)

    def partition(self, fault: Fault) -> None:
        self._cut(fault, self._machine(fault).weathers.values())

    def _cut(self, fault: Fault, weathers: Iterable[Weather]) -> None:
        """In one direction or both."""
        self._machine(fault).was_slow = True
        for weather in weathers:
            weather.out_cut = fault.chance < 0.75
            weather.in_cut = fault.chance > 0.4
            weather.partitions += 1
            self.timeline.after(fault.span, weather.mend)
        process = self._machine(fault).process
        for link in [] if process is None else process.links():
            if not link.weather.cut:
                continue
            patience = KEEPALIVE // 2 + int(self.timeline.random.random() * KEEPALIVE // 2)
            self.timeline.after(patience, self._give_up, link, weather.partitions)

    @staticmethod
    def _give_up(link: Link, partition: int) -> None:
        """The transport has had no answer for so long, at both ends."""
        if link.weather.cut and link.weather.partitions == partition:
            link.snap()

    def coordinator_crash(self, fault: Fault) -> None:
        coordinator = self.coordinator
        if coordinator is not None:
            coordinator.crash()
        self.timeline.after(fault.span, self._start_if_none)

    def _start_if_none(self) -> None:
        """Whoever looks after it starts another one when the newest has ended."""
        if not self.coordinators[-1].alive:
            self.start_coordinator()

    def coordinator_crash_at_commit(self, fault: Fault) -> None:
        self.store.after_apply = lambda: self.coordinator_crash(fault)

    def coordinator_freeze(self, fault: Fault) -> None:
        coordinator = self.coordinator
        if coordinator is not None:
            coordinator.freeze(fault.span)

    def coordinator_replaced(self, fault: Fault) -> None:
        coordinator = self.coordinator
        if coordinator is not None:
            coordinator.freeze(fault.span)
            self.timeline.after(int(fault.chance * fault.span), self.start_coordinator)

    def database_away(self, fault: Fault) -> None:
        self.store.away = self.store.was_away = True
        self.timeline.after(fault.span, setattr, self.store, "away", False)

    def commit_unknown(self, fault: Fault) -> None:
        self.store.unknown += 1 + int(fault.chance * 3)

    def commit_late(self, fault: Fault) -> None:
        self.store.late += 1 + int(fault.chance * 2)

    def commit_slow(self, fault: Fault) -> None:
        self.store.slowness = int(fault.chance * 3 * SECOND)
        self.timeline.after(fault.span, setattr, self.store, "slowness", 0)

    def clock_jump(self, fault: Fault) -> None:
        self.clock.wall_offset += fault.span if fault.chance < 0.5 else -fault.span
        self._latest_wall = max(self._latest_wall, self.clock.wall_offset)

    def drain_order(self, fault: Fault) -> None:
        coordinator = self.coordinator
        if coordinator is not None:
            coordinator.fleet.order_drain(self._machine(fault).spec.name, int(fault.chance * 10 * SECOND))

    def agent_pause(self, fault: Fault) -> None:
        agent = self._machine(fault).spec.name
        self.people.pause_agent(agent, paused=True)
        self.timeline.after(fault.span, lambda: self.people.pause_agent(agent, paused=False))

    # --- healing

    def _heal(self) -> None:
        """Everything is mended; from now on nothing goes wrong."""
        self.healed = True
        self.timeline.note("fault", "all is mended")
        self._heal_coordinators()
        self._watch_over()
        for machine in self.machines:
            self._heal_machine(machine)
        self.people.heal()

    def _heal_coordinators(self) -> None:
        self._heal_store()
        for coordinator in self.coordinators:
            coordinator.thaw()
        # Set right, to a time that is not before any that it showed.
        self.clock.wall_offset = max(self.clock.wall_offset, self._latest_wall)

    def _heal_store(self) -> None:
        store = self.store
        store.away, store.unknown, store.late, store.slowness, store.after_apply = False, 0, 0, 0, None
        store.after_apply_of.clear()
        store.late_of.clear()

    def _watch_over(self) -> None:
        self._start_if_none()
        self.timeline.after(SECOND, self._watch_over)

    def _heal_machine(self, machine: Machine) -> None:
        for weather in machine.weathers.values():
            weather.delay = 2 * MILLISECOND
        machine.mend_network()
        machine.disk.full = False
        machine.poison.clear()
        machine.on_result = machine.disk.breaks_after = None
        if machine.process is not None:
            machine.process.thaw()
        machine.boot()
        machine.replace_when_drained = True
        if machine.drained:
            machine.replace()


def _left_in(coordinator: Coordinator) -> str:
    if coordinator.actors:
        return f"{len(coordinator.actors)} actors live at {coordinator.name}"
    if len(coordinator.fleet.leases):
        return f"{len(coordinator.fleet.leases)} leases are counted by {coordinator.name}"
    for session in coordinator.fleet.sessions.values():
        capacity = session.capacity
        if capacity.leases or capacity.permits or any(abs(used) > 1e-6 for used in capacity.used.values()):
            return f"slots of {capacity.agent} are taken: {capacity.leases} leases, {capacity.permits} permits"
    return ""


STRIKES: dict[FaultKind, Callable[[Any, Fault], None]] = {
    FaultKind.AGENT_CRASH: Simulation.agent_crash,
    FaultKind.AGENT_CRASH_AT_RESULT: Simulation.agent_crash_at_result,
    FaultKind.AGENT_CRASH_AT_SYNC: Simulation.agent_crash_at_sync,
    FaultKind.AGENT_GONE: Simulation.agent_gone,
    FaultKind.POISON: Simulation.poison,
    FaultKind.AGENT_FREEZE: Simulation.agent_freeze,
    FaultKind.AGENT_DRAIN: Simulation.agent_drain,
    FaultKind.DISK_FULL: Simulation.disk_full,
    FaultKind.STREAM_BREAK: Simulation.stream_break,
    FaultKind.STREAM_GHOST: Simulation.stream_ghost,
    FaultKind.STREAM_DELAY: Simulation.stream_delay,
    FaultKind.BAD_LINK: Simulation.bad_link,
    FaultKind.PARTITION: Simulation.partition,
    FaultKind.COORDINATOR_CRASH: Simulation.coordinator_crash,
    FaultKind.COORDINATOR_CRASH_AT_COMMIT: Simulation.coordinator_crash_at_commit,
    FaultKind.COORDINATOR_FREEZE: Simulation.coordinator_freeze,
    FaultKind.COORDINATOR_REPLACED: Simulation.coordinator_replaced,
    FaultKind.DATABASE_AWAY: Simulation.database_away,
    FaultKind.COMMIT_UNKNOWN: Simulation.commit_unknown,
    FaultKind.COMMIT_LATE: Simulation.commit_late,
    FaultKind.COMMIT_SLOW: Simulation.commit_slow,
    FaultKind.CLOCK_JUMP: Simulation.clock_jump,
    FaultKind.DRAIN_ORDER: Simulation.drain_order,
    FaultKind.AGENT_PAUSE: Simulation.agent_pause,
}
Simulation.strikes = STRIKES
