"""User code, as the steps' own diary has it: what really ran, where, and from when to when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from penstock.testing.timeline import MILLISECOND, Process
from penstock_agent.core.leases import Ended, Handle, Lease, LeaseKey

if TYPE_CHECKING:
    from penstock.testing.invariants import Invariants


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What an attempt does."""

    duration: int = 50 * MILLISECOND
    """Microseconds."""
    output: bytes = b""
    """JSON; empty is null."""
    fails: bool = False
    stubborn: bool = False
    """It ignores a polite stop."""
    error: str = "app.Boom"
    """The class of the error, if it fails."""
    unresolvable: bool = False
    """Its inputs cannot be made: it never begins."""


Behave: TypeAlias = Callable[[LeaseKey, int], Behaviour]
"""What an attempt does, by its step run and its number."""


@dataclass(slots=True, eq=False)
class Execution:
    """User code that runs."""

    agent: str
    key: LeaseKey
    token: int
    attempt: int
    began: int
    """True time."""
    behaviour: Behaviour
    stopped: bool = False
    ended: int | None = None
    machine_paused: bool = False
    """Its agent was frozen, or out of sight of it, meanwhile."""


@dataclass(slots=True)
class Executor:
    """Runs attempts on `slots` slots; those that find none free wait, and can be taken back."""

    process: Process
    slots: int
    behave: Behave
    invariants: Invariants
    report: Callable[[Handle, Ended, int, bytes | str], None]
    """The handle, how it ended, its run time, and its output or the class of its error."""
    began: Callable[[Handle], None]
    unstarted: Callable[[list[Handle]], None]
    too_late: Callable[[Lease], bool]
    kills: Callable[[LeaseKey], bool]
    """Whether the step run takes its agent with it."""
    die: Callable[[], None]
    _queue: dict[Handle, Lease] = field(default_factory=dict)
    running: dict[Handle, Execution] = field(default_factory=dict)

    def start(self, leases: list[Lease]) -> None:
        for lease in leases:
            self._queue[lease.handle] = lease
        self.process.after(300, self._fill)

    def _fill(self) -> None:
        while self._queue and len(self.running) < self.slots:
            lease = self._queue.pop(next(iter(self._queue)))
            if self.too_late(lease):
                self.process.after(100, self.report, lease.handle, Ended.NEVER_STARTED, 0, b"")
            else:
                self._begin(lease)

    def _begin(self, lease: Lease) -> None:
        timeline = self.process.timeline
        execution = Execution(
            self.process.name,
            lease.key,
            lease.token,
            lease.attempt,
            timeline.now,
            self.behave(lease.key, lease.attempt),
        )
        self.running[lease.handle] = execution
        self.process.note("runs", *lease.key, lease.token, lease.attempt)
        self.invariants.execution_begins(execution, lease)
        # User code goes on while the agent is frozen; that it has ended is heard of later.
        timeline.after(execution.behaviour.duration, self._run_down, lease.handle, execution)
        if self.kills(lease.key):
            timeline.after(min(20 * MILLISECOND, execution.behaviour.duration // 2), self._kill_agent, execution)
        self.began(lease.handle)

    def _kill_agent(self, execution: Execution) -> None:
        if execution.ended is None and self.process.alive:
            self.die()

    def _run_down(self, handle: Handle, execution: Execution) -> None:
        """User code has come to its end by itself, unless it was stopped before."""
        if execution.ended is None:
            self._end(handle, execution, Ended.FAILED if execution.behaviour.fails else Ended.OK)

    def _end(self, handle: Handle, execution: Execution, ended: Ended) -> None:
        timeline = self.process.timeline
        execution.ended = timeline.now
        self.invariants.execution_ends(execution)
        if self.process.alive:
            run_time = timeline.now - execution.began
            behaviour = execution.behaviour
            body: bytes | str = behaviour.output if ended is Ended.OK else behaviour.error
            self.process.run(self._hear, handle, ended, run_time, body)

    def _hear(self, handle: Handle, ended: Ended, run_time: int, body: bytes | str) -> None:
        self.running.pop(handle, None)
        self.report(handle, ended, run_time, body)
        self._fill()

    def stop(self, handle: Handle, *, kill: bool) -> None:
        """Its end is reported in any case, also if it never started."""
        if handle in self._queue:
            del self._queue[handle]
            self.process.after(100, self.report, handle, Ended.NEVER_STARTED, 0, b"")
            return
        execution = self.running.get(handle)
        if execution is None or execution.ended is not None:
            return
        if not kill and execution.behaviour.stubborn:
            return
        delay = int(self.process.timeline.random.random() * (300 if kill else 800) * MILLISECOND)
        self.process.timeline.after(delay, self._stopped, handle, execution)

    def _stopped(self, handle: Handle, execution: Execution) -> None:
        if execution.ended is None:
            self._end(handle, execution, Ended.STOPPED)

    def withdraw(self, handles: list[Handle]) -> None:
        found = [handle for handle in handles if self._queue.pop(handle, None) is not None]
        if found:
            self.unstarted(found)

    def crash(self) -> None:
        """Everything that it runs dies with the agent."""
        for execution in self.running.values():
            if execution.ended is None:
                execution.ended = self.process.timeline.now
                self.invariants.execution_ends(execution)
        self.running.clear()
        self._queue.clear()
