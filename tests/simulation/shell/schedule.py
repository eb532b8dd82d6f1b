"""One schedule: what the seed makes of it, played to its end."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.simulation.shell import checks
from tests.simulation.shell.clients import Client, Habits, Told
from tests.simulation.shell.loop import MICROSECONDS
from tests.simulation.shell.machines import AgentMachine, CoordinatorMachine
from tests.simulation.shell.steps import Manners
from tests.simulation.shell.world import SECOND, Broken, World, make_world

import random

START_PATIENCE = 60 * SECOND
CHAOS_PATIENCE = 400 * SECOND
REST_PATIENCE = 1_200 * SECOND
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
    pace: float = 4.0
    """Seconds between faults, on average."""
    manners: Manners = Manners()

    @staticmethod
    def of(seed: int) -> Script:
        chance = random.Random(f"{seed}:script")
        return Script(
            seed=seed,
            clients=chance.randint(1, 3),
            runs=chance.randint(1, 4),
            agents=chance.randint(1, 3),
            slots=chance.randint(1, 4),
            disorder=chance.choice((0.0, 0.0, 0.1, 1.0)),
            manners=Manners(failing=chance.choice((0.0, 0.1, 0.4)), lazy=chance.choice((0.0, 0.05, 0.3))),
        )


@dataclass
class Report:
    script: Script
    digest: str
    turns: int
    faults: dict[str, int]
    runs: int
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
            broken,
            list(world.lines),
        )


class Schedule:
    def __init__(self, world: World, script: Script) -> None:
        self.world = world
        self.script = script
        self.journal = checks.Journal(world)
        self.told = Told()
        world.manners = script.manners
        self.coordinator = CoordinatorMachine(world, {})
        self.agents = [AgentMachine(world, f"agent-{number}", script.slots) for number in range(script.agents)]
        habits = Habits(runs=script.runs)
        self.clients = [Client(world, number, habits, self.told) for number in range(script.clients)]
        self._looked_at = 0

    # --- its course

    def play(self) -> None:
        self._begin()
        self._until(lambda: all(client.done for client in self.clients), CHAOS_PATIENCE)
        self._until(self._at_rest, REST_PATIENCE, "nothing lost: after the last fault something is still under way")
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
        for agent in self.agents:
            checks.check_agent_at_rest(agent)
        checks.check_overlaps(self.world)

    def _end(self) -> None:
        for agent in self.agents:
            agent.drain()
        self._until(lambda: not any(agent.up for agent in self.agents), 60 * SECOND, "ends: an agent does not drain")
        self.coordinator.stop()
        self._until(lambda: not self.coordinator.up, 60 * SECOND, "ends: the coordinator does not stop")
        checks.check_ends(self.coordinator, self.agents)
        self._look(close=True)

    def _at_rest(self) -> bool:
        if not all(client.done for client in self.clients):
            return False
        return all(row.state >= 6 for row in self.world.database.runs.values())

    # --- how it is driven

    def _until(self, done: Callable[[], object], patience: int, else_broken: str = "") -> None:
        loop = self.world.loop
        deadline = loop.now + patience
        while not done():
            if loop.now > deadline or not loop.turn():
                if else_broken:
                    raise Broken(else_broken)
                return
            self._look()

    def _look(self, *, close: bool = False) -> None:
        world = self.world
        if self.told.wrong:
            raise Broken(self.told.wrong[0])
        if world.complaints or world.loop.faults:
            checks.check_complaints(world, ())
        running = self.coordinator.coordinator
        if running is not None:
            checks.check_coordinator(running.supervisor)
            if len(world.lines) != self._looked_at or close:
                self._looked_at = len(world.lines)
                checks.check_actors(running.supervisor, self.journal)
