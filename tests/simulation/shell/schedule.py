"""One schedule: what the seed makes of it, played to its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from tests.simulation.shell import checks
from tests.simulation.shell.clients import Client, Habits, Told
from tests.simulation.shell.faults import DISTURBANCES, FAULTS, KINDS, PAUSES, Mischief
from tests.simulation.shell.machines import AgentMachine, CoordinatorMachine, Edge, Machine
from tests.simulation.shell.steps import Manners
from tests.simulation.shell.world import SECOND, Broken, World, make_world

from penstock_coordinator.core.run.states import RunState, StepState

START_PATIENCE = 60 * SECOND
REST_PATIENCE = 1_800 * SECOND
"""After the last fault, all that was accepted is at rest within this: long steps, timeouts and leases that must run
out come one after the other."""


@dataclass(frozen=True)
class Script:
    """What a seed decides before anything happens; a shrunk one has less of it."""

    seed: int
    clients: int = 2
    runs: int = 3
    agents: int = 2
    slots: int = 2
    disorder: float = 0.0
    kinds: tuple[str, ...] = ()
    """Of faults."""
    most_faults: int = 1_000
    pace: float = 4.0
    """Seconds between faults, on average."""
    chaos: float = 60.0
    """Seconds until they cease."""
    manners: Manners = field(default_factory=Manners)

    @staticmethod
    def of(seed: int) -> Script:
        chance = random.Random(f"{seed}:script")
        share = chance.choice((0.0, 0.1, 0.3, 0.6))
        kinds = tuple(kind for kind in KINDS if chance.random() < (share if kind in FAULTS else 0.3))
        # Many runs on few slots take long enough as it is.
        lazy = chance.choice((0.0, 0.05)) if "crowds" in kinds else chance.choice((0.0, 0.05, 0.3))
        return Script(
            seed=seed,
            clients=chance.randint(1, 3),
            runs=chance.randint(1, 4),
            agents=chance.randint(1, 3),
            slots=chance.randint(1, 4),
            disorder=chance.choice((0.0, 0.0, 0.1, 1.0)),
            kinds=kinds,
            pace=chance.choice((0.3, 2.0, 6.0)),
            chaos=chance.choice((10.0, 40.0, 120.0)),
            manners=Manners(failing=chance.choice((0.0, 0.1, 0.4)), lazy=lazy),
        )


@dataclass
class Report:
    script: Script
    digest: str
    turns: int
    faults: dict[str, int]
    runs: int
    events: dict[str, int]
    """By kind, those of all journals."""
    broken: Broken | None = None
    lines: list[tuple[Any, ...]] = field(default_factory=list)


def play(script: Script) -> Report:
    with make_world(script.seed, script.disorder) as world:
        schedule = Schedule(world, script)
        broken: Broken | None = None
        try:
            schedule.play()
        except Broken as error:
            broken = error
            world.trace("BROKEN", str(error))
        return Report(
            script,
            world.digest(),
            world.loop.turns,
            dict(world.faults),
            len(world.database.runs),
            schedule.journal.kinds,
            broken,
            list(world.lines),
        )


class Schedule:
    def __init__(self, world: World, script: Script) -> None:
        self.world = world
        self.script = script
        self.journal = checks.Journal(world)
        self.told = Told()
        self.tap = world.network.tap = checks.Wiretap(self.journal)
        world.manners = script.manners
        self.coordinator = CoordinatorMachine(world, {})
        self.agents = [AgentMachine(world, f"agent-{number}", script.slots) for number in range(script.agents)]
        self.mischief = Mischief(self)
        habits = Habits(
            impatient=0.3 if "impatient clients" in script.kinds else 0.0,
            repeating=0.3 if "repeating clients" in script.kinds else 0.0,
            steering=0.7 if "steering clients" in script.kinds else 0.0,
            crowds="crowds" in script.kinds,
            calm=not (DISTURBANCES & set(script.kinds)) and "impatient clients" not in script.kinds,
            bulk=0.3 if "bulk jobs" in script.kinds else 0.0,
            runs=script.runs,
        )
        self.clients = [Client(world, number, habits, self.told) for number in range(script.clients)]
        self._looked_at = 0
        self._ending = False
        self._starting: set[str] = set()
        self._service = world.chance("service")

    @property
    def machines(self) -> list[Machine]:
        return [self.coordinator, *self.agents]

    # --- its course

    def play(self) -> None:
        self._begin()
        self.mischief.begin()
        over = self.world.loop.now + int(self.script.chaos * SECOND)
        self._until(lambda: self.world.loop.now >= over or self._at_rest(), int(self.script.chaos * SECOND) + SECOND)
        self.mischief.heal()
        self._until(self._at_rest, REST_PATIENCE, "nothing lost: long after the last fault something is under way:")
        self._settle()
        self._check_rest()
        self._end()

    def _begin(self) -> None:
        world = self.world
        self.coordinator.start()
        for agent in self.agents:
            agent.start()
        first = Client(world, 0, Habits(), self.told)
        applied = world.loop.spawn(first.process, first.apply())
        self._until(applied.done, START_PATIENCE, "nothing lost: pipelines were not applied")
        for client in self.clients:
            client.start()

    def _settle(self) -> None:
        """Acknowledgements, spools and connections come to rest."""
        until = self.world.loop.now + 60 * SECOND
        self._until(lambda: self.world.loop.now >= until, 61 * SECOND)

    def _check_rest(self) -> None:
        checks.check_runs(self.journal, self.told)
        checks.check_requests(self.journal, self.world, self.told)
        running = self.coordinator.coordinator
        assert running is not None
        checks.check_rest(running.supervisor)
        checks.check_edge(cast("Edge", running.server))
        for agent in self.agents:
            checks.check_agent_at_rest(agent)
        if not DISTURBANCES & self.world.faults.keys():
            checks.check_undisturbed(self.world, self.journal)
        if not PAUSES & self.world.faults.keys():
            checks.check_overlaps(self.world)

    def _end(self) -> None:
        self._ending = True
        for agent in self.agents:
            agent.drain()
        self._until(lambda: not any(agent.up for agent in self.agents), 60 * SECOND, "ends: an agent does not drain")
        self.coordinator.stop()
        self._until(lambda: not self.coordinator.up, 60 * SECOND, "ends: the coordinator does not stop")
        checks.check_ends(self.coordinator, self.agents)
        self.world.loop.reap()
        self._look(close=True)

    def _at_rest(self) -> bool:
        if not all(client.done for client in self.clients):
            return False
        return all(row.state >= 6 for row in self.world.database.runs.values())

    def _under_way(self) -> str:
        told = [client.process.name for client in self.clients if not client.done]
        for run_id, row in self.world.database.runs.items():
            if row.state < 6:
                story = self.journal.story(run_id)
                steps = "" if story is None else [state.name for state in map(StepState, story.run.states)]
                told.append(f"{row.pipeline} {run_id.hex()[-6:]} {RunState(row.state).name} {steps}")
        return "; ".join(told)

    # --- how it is driven

    def _until(self, done: Callable[[], object], patience: int, else_broken: str = "") -> None:
        loop = self.world.loop
        deadline = loop.now + patience
        while not done():
            if loop.now > deadline or not loop.turn():
                if else_broken:
                    raise Broken(f"{else_broken} {self._under_way()}")
                return
            self._look()

    def _tend(self) -> None:
        """What is down is started again, as a service manager does."""
        for machine in self.machines:
            if isinstance(machine, AgentMachine) and machine.gone:
                continue
            if not machine.up and machine.name not in self._starting and not self._ending:
                self._starting.add(machine.name)
                longest = 3 if machine is self.coordinator else 45
                self.world.loop.later(int((0.1 + self._service.random() ** 3 * longest) * SECOND), self._start, machine)

    def _start(self, machine: Machine) -> None:
        self._starting.discard(machine.name)
        if not self._ending:
            machine.start()

    def _look(self, *, close: bool = False) -> None:
        world = self.world
        if world.loop.turns % 16 == 0:
            self._tend()
        if self.tap.broken is not None:
            raise self.tap.broken
        if self.told.wrong:
            raise Broken(self.told.wrong[0])
        if world.complaints or world.loop.faults:
            checks.check_complaints(world)
        running = self.coordinator.coordinator
        if running is not None and self.coordinator.up and (close or world.loop.last is self.coordinator.process):
            checks.check_coordinator(running.supervisor)
            if len(world.lines) != self._looked_at or close:
                self._looked_at = len(world.lines)
                right = "clock set" not in world.faults
                checks.check_actors(running.supervisor, self.journal, clocks_are_right=right)
