"""One round: load, faults, healing, and the reckoning."""

from __future__ import annotations

import asyncio
import bisect
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import chaos_flows as flows
from tests.chaos import coordinator_faults, ledger
from tests.chaos.checking import Check, Verdict
from tests.chaos.coordinator_faults import CoordinatorTrouble
from tests.chaos.faults import COORDINATOR, Fault, Trouble, script
from tests.chaos.journal import Reader, RunStory
from tests.chaos.take_overs import TakeOver, take_overs
from tests.chaos.world import OWNERSHIP, World
from tests.chaos.writers import problems

from penstock.errors import PenstockError
from penstock.v1 import run_pb2

SLOW_SHARE = 0.1
"""Of the runs, have a step of 1 to 2 s."""
IDLE_SECONDS = 15.0
PROBE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Of all rounds."""

    seed: str
    runs: int
    """In flight at the begin of a round."""
    seconds: float
    """Of faults in a round."""
    every: float
    """Seconds between the begins of two faults, on average."""
    least_steps: float
    """Per minute of a round; with fewer it is void."""
    rest_seconds: float = 120.0
    """Within so many after all is healed, every accepted run is at rest."""
    least_live: float = 1 / 3
    """When a smaller share of the runs is left, more are started."""
    filled_up: bool = False
    """Only as many as were left are started; else the same number again."""


@dataclass(slots=True)
class Outcome:
    number: int
    seed: str
    seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from each kill of the coordinator to the first lease after it."""
    take_overs: list[TakeOver] = field(default_factory=list)
    """Of several coordinators."""
    hops: int = 0
    """Sessions of agents that came to an owner by another coordinator."""
    rest_seconds: float = 0.0
    """From healing to the last run at rest."""
    void: bool = False


class Round:
    def __init__(self, world: World, plan: Plan, number: int, log: Path, tell: Callable[[str], None]) -> None:
        self._world = world
        self._plan = plan
        self._tell = tell
        self.outcome = Outcome(number, f"{plan.seed}:{number}")
        self._ledger = world.folder / f"round-{number}.ledger"
        self._accepted = world.folder / f"round-{number}.accepted"
        self._trouble = CoordinatorTrouble(world, log) if world.several else Trouble(world, log)
        self._orders = 0
        self._looked_at = 0.0

    def run(self) -> Outcome:
        began, outcome = time.monotonic(), self.outcome
        exits = sum(len(part.exits) for part in self._world.parts)
        hops = self._world.sessions_by_a_hop()
        self._order(self._plan.runs)
        written = coordinator_faults.script if self._world.several else script
        self._trouble.play(
            written(outcome.seed, self._plan.seconds, self._plan.every, self._world),
            lambda: self._goes_on(began + self._plan.seconds),
        )
        outcome.faults = self._trouble.done
        self._world.heal()
        healed = time.monotonic()
        stuck = not self._wait(lambda: not self._world.starter.busy and self._live() == 0, self._plan.rest_seconds)
        outcome.rest_seconds = time.monotonic() - healed
        asyncio.run(self._reckon())
        self._check_processes(exits)
        outcome.hops = self._world.sessions_by_a_hop() - hops
        if not stuck:
            self._check_slots()
        outcome.seconds = time.monotonic() - began
        outcome.void = outcome.verdict.steps < self._plan.least_steps * outcome.seconds / 60
        return outcome

    # --- load

    def _order(self, count: int) -> None:
        self._orders += 1
        self._world.starter.start(
            round=self.outcome.number,
            count=count,
            slow=SLOW_SHARE,
            ledger=str(self._ledger),
            accepted=str(self._accepted),
            seed=f"{self.outcome.seed}:{self._orders}",
        )

    def _goes_on(self, end: float) -> bool:
        """Looks after the load besides."""
        now = time.monotonic()
        if now - self._looked_at > 2.0 and end - now > 5.0 and not self._world.starter.busy:
            self._looked_at = now
            live = self._live()
            if live is not None and live < self._plan.runs * self._plan.least_live:
                self._order(self._plan.runs - live if self._plan.filled_up else self._plan.runs)
        return now < end

    def _live(self) -> int | None:
        """Runs that are not at rest; None if the database does not say."""

        async def ask() -> int:
            async with Reader(self._world.server.dsn) as reader:
                return await reader.live()

        try:
            return asyncio.run(asyncio.wait_for(ask(), 5.0))
        except Exception:
            return None

    @staticmethod
    def _wait(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    # --- the reckoning

    def _accepted_runs(self) -> list[str]:
        return self._accepted.read_text().split() if self._accepted.exists() else []

    async def _reckon(self) -> None:
        check = Check(self.outcome.faults, ledger.read(self._ledger), self._world.times)
        self.outcome.verdict = check.verdict
        run_ids = self._accepted_runs()
        async with Reader(self._world.server.dsn) as reader:
            check.acknowledged(run_ids, await reader.runs_of(self.outcome.number))
            stories = await reader.stories(list(dict.fromkeys(run_ids)))
            writes = await reader.writes(self.outcome.number) if self._world.several else []
        for story in stories:
            check.run(story)
        if self._world.several:
            check.verdict.problems += problems(writes, members=self._world.members)
            leases = set().union(*(story.leases for story in stories))
            self.outcome.take_overs = take_overs(self.outcome.faults, writes, leases, OWNERSHIP)
        else:
            self.outcome.recoveries = self._recoveries(stories)

    def _recoveries(self, stories: list[RunStory]) -> list[float]:
        leased = sorted(grant.at for story in stories for grants in story.grants.values() for grant in grants)
        found = []
        for fault in self.outcome.faults:
            if fault.began and (fault.kind, fault.target) == ("kill", COORDINATOR):
                at = bisect.bisect_right(leased, int(fault.began * 1e6))
                if at < len(leased):
                    found.append(round(leased[at] / 1e6 - fault.began, 3))
        return found

    def _check_processes(self, exits_before: int) -> None:
        """Nobody ends by himself, but a coordinator that cannot start without its database, and an agent whose disk is
        full when it starts."""
        for part in self._world.parts:
            for end in part.exits:
                if end.at < time.time() - self.outcome.seconds or self._excused(part.name, end.at, end.code):
                    continue
                self.outcome.verdict.problems.append(
                    f"{part.name} ended by itself with {end.code}: see {part.log.name}"
                )
        self._exits_before = exits_before

    def _excused(self, name: str, at: float, code: int) -> bool:
        near = [fault for fault in self.outcome.faults if fault.began and fault.began <= at <= fault.ended + 10.0]
        if name in self._world.coordinators:
            return code in (1, 2) and any(fault.target in ("postgres", "database link", "network") for fault in near)
        return code == 1 and any(fault.target == "disk" and fault.name == name for fault in near)

    # --- slots

    def _check_slots(self) -> None:
        """Agents are connected and idle, and each can use all of its slots at once."""
        say = self.outcome.verdict.problems.append
        if not self._wait(self._all_idle, IDLE_SECONDS):
            say(f"LEAK: agents are not idle: {[(a.id, a.state, a.leases) for a in self._world.client.list_agents()]}")
        probes = [self._probe(name) for name in self._world.agents]
        for name, run_id in zip(self._world.agents, probes, strict=True):
            try:
                ended = self._world.client.run(run_id).wait(PROBE_SECONDS)
            except PenstockError as error:
                say(f"LEAK: the slots of {name}: {type(error).__name__}: {error}")
                continue
            if ended.state != run_pb2.RUN_STATE_COMPLETED:
                say(f"LEAK: not all slots of {name} can be used: {ended.reason}")

    def _all_idle(self) -> bool:
        try:
            agents = self._world.connected()
        except PenstockError:
            return False
        return len(agents) == len(self._world.agents) and not any(agent.leases for agent in agents)

    def _probe(self, name: str) -> str:
        folder = self._world.folder / "probes" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        slots = self._world.slots
        parameters = {
            "items": list(range(slots)),
            "folder": str(folder),
            "expected": slots,
            "seconds": PROBE_SECONDS / 2,
        }
        return self._world.client.start(flows.probe_of(name), parameters).id
