"""Steps without processes: the interface of the agent's executor, with outcomes that the seed draws.

A step's process is none of the agent's: it goes on while the agent is frozen, and the guardian ends it soon after the
agent has died. What it did stands in the ledger, written by the step itself.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.shell.loop import Process, current_process

from penstock_agent.core.inputs import AttemptsEnded, AttemptsStarted, Input, LeasesUnstarted
from penstock_agent.core.leases import Ended, Handle, Outcome
from penstock_agent.executors.channel import STDOUT, Failure, Finished, LogLines, Task
from penstock_agent.executors.output import OutputSink
from penstock_agent.executors.warm import RESULT_ID_BYTES, Job, WarmLimits

if TYPE_CHECKING:
    from tests.simulation.shell.world import World

MILLISECOND, SECOND = 1_000, 1_000_000


@dataclass
class Execution:
    """What a step wrote down of itself."""

    run: str
    step: str
    place: tuple[int, ...]
    attempt: int
    machine: str
    began: int
    ended: int | None = None
    outcome: Ended | None = None
    lines: int = 0
    """That it has printed."""


@dataclass
class Ledger:
    executions: list[Execution] = field(default_factory=list)


@dataclass(eq=False)
class Running:
    job: Job
    task: Task
    execution: Execution
    plan: tuple[int, Ended]
    """How long it takes, and how it ends, if nobody stops it."""
    over: bool = False


class StepRunner:
    """As `WarmExecutor`."""

    def __init__(
        self,
        world: World,
        limits: WarmLimits,
        folder: Path,
        boot_id: str,
        env: Mapping[str, str],
        output: OutputSink,
        clock: Callable[[], int],
        report: Callable[[Input], None],
    ) -> None:
        self._world = world
        self._slots = limits.slots
        self.outgoing = folder / "outgoing"
        self._clock = clock
        self._report = report
        self._output = output
        self._process: Process = current_process()
        self._waiting: deque[Job] = deque()
        self._running: dict[Handle, Running] = {}
        self._chance = world.chance(f"steps:{boot_id}")
        self._closing = False
        self.on_end: Callable[[Handle], None] = lambda _: None

    # --- orders

    def start(self, jobs: Iterable[Job]) -> None:
        self._waiting.extend(jobs)
        self._fill()

    def withdraw(self, handles: Iterable[Handle]) -> None:
        wanted = set(handles)
        found = [job.handle for job in self._waiting if job.handle in wanted]
        if found:
            self._waiting = deque(job for job in self._waiting if job.handle not in wanted)
            self._give_free(found)
            self._report(LeasesUnstarted(found))

    def _give_free(self, handles: Iterable[Handle]) -> None:
        """What they had is free."""
        for handle in handles:
            self.on_end(handle)

    def stop(self, handle: Handle, *, kill: bool) -> None:
        for job in self._waiting:
            if job.handle == handle:
                self._waiting.remove(job)
                self._give_free([handle])
                self._report(
                    AttemptsEnded([Outcome(handle, Ended.NEVER_STARTED, self._world.fresh(RESULT_ID_BYTES), 0)])
                )
                return
        running = self._running.get(handle)
        if running is None:
            return
        if kill:
            self._end_soon(running, 1 + int(self._chance.random() * 200 * MILLISECOND), Ended.STOPPED)
        elif self._chance.random() < 0.7:
            self._end_soon(running, 1 + int(self._chance.random() * 2 * SECOND), Ended.STOPPED)

    def next_deadline(self) -> int | None:
        return None

    def handle_timer(self) -> None:
        """There is none."""

    def starting(self) -> list[Handle]:
        """What begins begins at once."""
        return []

    def bundles_in_use(self) -> set[str]:
        return set()

    async def close(self) -> None:
        self._closing = True
        self._waiting.clear()
        self.die()

    def die(self) -> None:
        """The guardian ends what is left."""
        for running in self._running.values():
            running.over = True
            running.execution.ended = self._world.loop.now
        self._running.clear()

    # --- steps

    def _fill(self) -> None:
        begun: list[Handle] = []
        late: list[Handle] = []
        while self._waiting and len(self._running) < self._slots:
            job = self._waiting.popleft()
            task = job.task()
            if task.deadline <= self._clock():
                late.append(job.handle)
                continue
            begun.append(job.handle)
            self._begin(job, task)
        if late:
            self._give_free(late)
            self._report(LeasesUnstarted(late))
        if begun:
            self._report(AttemptsStarted(begun))

    def _begin(self, job: Job, task: Task) -> None:
        world = self._world
        machine = self._process.name.partition("/")[0]
        execution = Execution(task.run_id, task.step, tuple(task.place), task.attempt, machine, world.loop.now)
        world.ledger.executions.append(execution)
        running = self._running[job.handle] = Running(job, task, execution, self._drawn(task))
        world.trace("step", machine, task.run_id[-6:], task.step, *task.place, task.attempt)
        self._say(job.handle, 1, execution)
        self._end_soon(running, *running.plan)

    def _say(self, handle: Handle, number: int, execution: Execution) -> None:
        """A line of output."""
        execution.lines = number
        offset = self._world.loop.now - execution.began
        self._output.add(LogLines(handle, [(number, STDOUT, offset, f"line {number}")]))

    def _drawn(self, task: Task) -> tuple[int, Ended]:
        """By the step and its attempt, whatever else happens: a shrunk schedule has the same outcomes."""
        world = self._world
        named = f"{world.seed}:{task.run_id}:{task.step}:{task.place}:{task.attempt}"
        chance = random.Random(zlib.crc32(named.encode()))
        return world.manners.span(chance), Ended.OK if chance.random() >= world.manners.failing else Ended.FAILED

    def _end_soon(self, running: Running, after: int, ended: Ended) -> None:
        self._world.loop.later(after, self._end, running, ended)

    def _end(self, running: Running, ended: Ended) -> None:
        """The step's process has ended. The agent hears of it when it can."""
        if running.over:
            return
        running.over = True
        running.execution.ended, running.execution.outcome = self._world.loop.now, ended
        self._world.loop.within(self._process, self._told, running, ended)

    def _told(self, running: Running, ended: Ended) -> None:
        handle = running.job.handle
        if self._running.pop(handle, None) is None:
            return
        self._say(handle, 2, running.execution)
        run_time = self._world.loop.now - running.execution.began
        finished = Finished(handle, run_time=run_time)
        if ended is Ended.OK:
            finished.output = output_of(running.task)
        elif ended is Ended.FAILED:
            finished.failure = Failure("Failed", "the seed wanted it", "builtins.ValueError")
        else:
            finished.stopped = True
        self._output.attempt_ended(handle)
        self._give_free([handle])
        self._fill()
        self._report(AttemptsEnded([Outcome(handle, ended, self._world.fresh(RESULT_ID_BYTES), run_time, finished)]))


def output_of(task: Task) -> bytes:
    """What a step gives: the same whenever it succeeds."""
    if task.step.startswith("list"):
        return b'{"rows": [1, 2, 3]}'
    return b'{"text": "%s"}' % task.step.encode()


@dataclass(frozen=True)
class Manners:
    """How the steps of a schedule are."""

    longest: int = 50 * MILLISECOND
    failing: float = 0.1
    lazy: float = 0.05
    """So many take half a minute or more."""

    def span(self, chance: random.Random) -> int:
        if chance.random() < self.lazy:
            return int((10 + 60 * chance.random()) * SECOND)
        return 1 + int(chance.random() ** 3 * self.longest)
