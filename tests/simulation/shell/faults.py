"""What can go wrong in a schedule. Each kind does one thing now, and undoes it by itself a while later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.shell.machines import AgentMachine, being_spooled
from tests.simulation.shell.wire import DOWN, UP, Connection
from tests.simulation.shell.world import MILLISECOND, SECOND

from penstock_coordinator.adapters.memory.faults import CommitUnknown, FailBefore
from penstock_coordinator.core.run.events import LeaseLost, decode

if TYPE_CHECKING:
    from tests.simulation.shell.loop import Process
    from tests.simulation.shell.schedule import Schedule

    from penstock_coordinator.ports import Record

Fault = Callable[["Mischief"], bool]
"""False: there was nothing to do it to."""

PAUSES = frozenset({"agent hung", "agent frozen"})
"""Faults that let a step run on past its lease, as nobody is there to stop it."""
DISTURBANCES = frozenset(
    {
        "coordinator killed",
        "coordinator stopped",
        "coordinator frozen",
        "coordinator doubled",
        "agent killed",
        "agent killed in a write",
        "agent's machine lost",
        "agent's machine removed",
        "agent drained",
        "agent hung",
        "agent frozen",
        "connection lost",
        "connection half-open",
        "connection stalled",
        "database away",
        "record refused",
        "clock set",
    }
)
"""Without any of these every attempt runs once, and ends as its step ended it."""

MOST_SET_BACK = 300 * SECOND


class Mischief:
    """Does faults of the script's kinds until `heal`."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self._chance = schedule.world.chance("faults")
        self._kinds = [kind for kind in FAULTS if kind in schedule.script.kinds]
        self._over = False
        self._left = schedule.script.most_faults
        self._furthest = 0

    def begin(self) -> None:
        world, kinds = self._world, self._schedule.script.kinds
        if "slow database" in kinds:
            world.faults["slow database"] += 1
            world.database.distance = lambda: self._chance.random() ** 4 * 0.5
            self._schedule.coordinator.faults.slow = self._slow
        if "slow network" in kinds:
            world.faults["slow network"] += 1
            world.network.slowness = 300 * MILLISECOND
        if "clocks drift" in kinds:
            world.faults["clocks drift"] += 1
            for machine in self._schedule.machines:
                world.skews[machine.name] = self._chance.uniform(-4e-4, 4e-4)
        if self._kinds:
            self._plan()

    def _slow(self) -> tuple[float, float]:
        return self._chance.random() ** 4, self._chance.random() ** 4

    def _plan(self) -> None:
        self._world.loop.later(int(self._chance.expovariate(1 / self._schedule.script.pace) * SECOND), self._next)

    def _next(self) -> None:
        if self._over or not self._left:
            return
        kind = self._chance.choice(self._kinds)
        if FAULTS[kind](self):
            self._left -= 1
            self._world.faults[kind] += 1
            self._world.trace("FAULT", kind)
        self._plan()

    def heal(self) -> None:
        """Nothing goes wrong any more, and what is broken is mended."""
        self._over = True
        world, coordinator = self._world, self._schedule.coordinator
        world.trace("HEAL")
        world.database.there.set()
        world.database.distance = lambda: 0.0
        world.network.slowness = 1_000
        coordinator.faults.slow = coordinator.faults.refuse = None
        coordinator.faults.failures.clear()
        for process in (coordinator.process, *coordinator.older, *(agent.process for agent in self._schedule.agents)):
            if process.frozen:
                world.loop.thaw(process)
        for connection in world.network.connections:
            if any(connection.deaf):
                connection.lose(world.network.latency())

    # --- helpers of the kinds

    def _later(self, low: int, high: int, undo: Callable[[], None]) -> None:
        self._world.loop.later(low + int(self._chance.random() ** 2 * (high - low)), self._undo, undo)

    def _undo(self, undo: Callable[[], None]) -> None:
        if not self._over:
            undo()

    def _agent(self) -> AgentMachine | None:
        up = [agent for agent in self._schedule.agents if agent.up and not agent.process.frozen]
        return self._chance.choice(up) if up else None

    def _connection(self) -> Connection | None:
        found = [each for each in self._world.network.connections if each.open and each.calls]
        return self._chance.choice(found) if found else None

    # --- coordinators

    def kill_coordinator(self) -> bool:
        machine = self._schedule.coordinator
        if not machine.up:
            return False
        machine.kill(silent=self._chance.random() < 0.2)
        return True

    def stop_coordinator(self) -> bool:
        machine = self._schedule.coordinator
        if not machine.up or machine.process.frozen or machine.coordinator is None:
            return False
        machine.stop()
        return True

    def freeze_coordinator(self) -> bool:
        machine = self._schedule.coordinator
        if not machine.up or machine.process.frozen:
            return False
        self._freeze(machine.process, 60 * SECOND)
        return True

    def _freeze(self, process: Process, longest: int) -> None:
        """SIGSTOP: its peers' keepalive finds it out."""
        loop = self._world.loop
        loop.freeze(process)
        loop.later(self._world.network.keepalive(), self._lose_if_frozen, process)
        self._later(100 * MILLISECOND, longest, lambda: loop.thaw(process))

    def _lose_if_frozen(self, process: Process) -> None:
        if process.frozen:
            self._world.network.process_died(process, silent=False)

    def double_coordinator(self) -> bool:
        """It is frozen, taken for dead, and started again; then the old one wakes up."""
        machine = self._schedule.coordinator
        if not machine.up or machine.process.frozen or machine.coordinator is None:
            return False
        self._freeze(machine.process, 40 * SECOND)
        machine.leave_behind()
        return True

    # --- agents

    def kill_agent(self) -> bool:
        agent = self._agent()
        if agent is not None:
            agent.kill(torn=int(self._chance.random() * 200))
        return agent is not None

    def tear_spool(self) -> bool:
        """Killed the next time that it writes to its spool, if that is soon: the record is torn."""
        agent = self._agent()
        if agent is not None:
            self._tear(agent, agent.process, 2_000)
        return agent is not None

    def _tear(self, agent: AgentMachine, process: Process, looks: int) -> None:
        if self._over or not process.alive or not looks:
            return
        if being_spooled(process):
            agent.kill(torn=1 + int(self._chance.random() * 100))
        else:
            self._world.loop.later(5 * MILLISECOND, self._tear, agent, process, looks - 1)

    def lose_machine(self) -> bool:
        agent = self._agent()
        if agent is not None:
            agent.kill(silent=True)
        return agent is not None

    def remove_machine(self) -> bool:
        """For good, if another one is left."""
        agent = self._agent()
        if agent is None or len([each for each in self._schedule.agents if not each.gone]) < 2:
            return False
        agent.gone = True
        agent.kill(silent=True)
        return True

    def drain_agent(self) -> bool:
        agent = self._agent()
        if agent is not None:
            agent.drain()
        return agent is not None

    def hang_agent(self) -> bool:
        """Its loop does nothing; the connection lives."""
        agent = self._agent()
        if agent is not None:
            process, loop = agent.process, self._world.loop
            loop.freeze(process)
            self._later(100 * MILLISECOND, 90 * SECOND, lambda: loop.thaw(process))
        return agent is not None

    def freeze_agent(self) -> bool:
        agent = self._agent()
        if agent is not None:
            self._freeze(agent.process, 90 * SECOND)
        return agent is not None

    # --- the network

    def lose_connection(self) -> bool:
        connection = self._connection()
        if connection is not None:
            network = self._world.network
            connection.lose(network.latency(), int(self._chance.random() ** 3 * 20 * SECOND))
        return connection is not None

    def half_open(self) -> bool:
        connection = self._connection()
        if connection is not None:
            connection.go_silent(*self._chance.choice(((UP,), (DOWN,), (UP, DOWN))))
        return connection is not None

    def stall(self) -> bool:
        connection = self._connection()
        if connection is not None:
            connection.stall(int(self._chance.random() ** 2 * 12 * SECOND))
        return connection is not None

    # --- the database

    def lose_database(self) -> bool:
        database = self._world.database
        if not database.there.is_set():
            return False
        database.there.clear()
        self._later(10 * MILLISECOND, 90 * SECOND, database.there.set)
        return True

    def fail_commit(self) -> bool:
        self._schedule.coordinator.faults.failures.append(FailBefore())
        return True

    def lose_answer(self) -> bool:
        self._schedule.coordinator.faults.failures.append(CommitUnknown())
        return True

    def refuse_record(self) -> bool:
        """The next records that are not the first of their runs are such that the database cannot store."""
        faults = self._schedule.coordinator.faults
        if faults.refuse is not None:
            return False

        left = 1 + int(self._chance.random() ** 2 * 5)
        chosen = self._chance.choice((_any, _loses_a_lease, self._is_offered_room))

        def refuse(record: Record) -> str | None:
            nonlocal left
            if record.first_seq == 1 or not chosen(record):
                return None
            left -= 1
            if not left:
                faults.refuse = None
            return "the seed wanted it"

        faults.refuse = refuse
        return True

    def _is_offered_room(self, record: Record) -> bool:
        """The actor has an offer in its mail, that it will not read."""
        running = self._schedule.coordinator.coordinator
        actor = None if running is None else running.supervisor.actor(record.run_id)
        return actor is not None and any(mail.permit is not None for mail in actor.mail or ())

    # --- clocks

    def set_clock(self) -> bool:
        """Backoffs and timeouts are instants of the wall clock: what it is set back by, they take longer."""
        world = self._world
        world.wall_offset += int(self._chance.uniform(-1, 1) * self._chance.choice((1, 60, 3_600)) * SECOND)
        self._furthest = max(self._furthest, world.wall_offset)
        world.wall_offset = max(world.wall_offset, self._furthest - MOST_SET_BACK)
        return True


def _any(record: Record) -> bool:
    return True


def _loses_a_lease(record: Record) -> bool:
    return any(isinstance(event, LeaseLost) for event in decode(record.payload))


FAULTS: dict[str, Fault] = {
    "coordinator killed": Mischief.kill_coordinator,
    "coordinator stopped": Mischief.stop_coordinator,
    "coordinator frozen": Mischief.freeze_coordinator,
    "coordinator doubled": Mischief.double_coordinator,
    "agent killed": Mischief.kill_agent,
    "agent killed in a write": Mischief.tear_spool,
    "agent's machine lost": Mischief.lose_machine,
    "agent's machine removed": Mischief.remove_machine,
    "agent drained": Mischief.drain_agent,
    "agent hung": Mischief.hang_agent,
    "agent frozen": Mischief.freeze_agent,
    "connection lost": Mischief.lose_connection,
    "connection half-open": Mischief.half_open,
    "connection stalled": Mischief.stall,
    "database away": Mischief.lose_database,
    "commit failed": Mischief.fail_commit,
    "commit unknown": Mischief.lose_answer,
    "record refused": Mischief.refuse_record,
    "clock set": Mischief.set_clock,
}
STANDING = ("slow database", "slow network", "clocks drift")
"""From the beginning to the healing."""
HABITS = ("impatient clients", "repeating clients", "steering clients", "bulk jobs", "crowds")
KINDS = (*FAULTS, *STANDING, *HABITS)
