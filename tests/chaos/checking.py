"""Compares what was accepted, what the journal says and what really ran; charges each execution beyond the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.chaos.chaos_flows import STEP_RUNS
from tests.chaos.coordinator_faults import CALLERS, NETWORK
from tests.chaos.faults import AGENT, COORDINATOR, DATABASE_LINK, DISK, LINK, PLACE, POSTGRES, STEP, Fault
from tests.chaos.journal import Grant, RunStory
from tests.chaos.ledger import Execution, Key
from tests.chaos.world import ALONE, Times

from penstock_coordinator.core.run.states import RunState

SLACK = 3.0
"""Seconds between a cause and its effect, besides the times of leases."""
START_SECONDS = 4.0
CLOCK_SLACK = 50_000
"""Microseconds: two processes read one clock."""
GIVEN_UP = "Poison"
OF_AGENT = (AGENT, LINK, PLACE, DISK)
OF_ALL = (COORDINATOR, POSTGRES, DATABASE_LINK, CALLERS, NETWORK)
Blamable: TypeAlias = "tuple[str | tuple[str, str], ...]"
"""Targets, or kinds with their targets."""
_BLAMABLE: dict[str, tuple[Blamable, ...]] = {
    "failed: Crash/": ((("kill", STEP),),),
    "lost: agent_restarted": ((("kill", AGENT),),),
}
_OTHERWISE: tuple[Blamable, ...] = (OF_AGENT, OF_ALL)
"""The first of these with a fault near is to blame: of several faults the one that lasted longest."""


@dataclass(slots=True)
class Verdict:
    """Of one round."""

    accepted: int = 0
    completed: int = 0
    given_up: int = 0
    """Runs with a step that several agents were lost with."""
    steps: int = 0
    """Step runs that are committed."""
    executions: int = 0
    planned: int = 0
    """Executions that failed as they were meant to."""
    doubles: Counter[str] = field(default_factory=Counter)
    """Executions beyond the first, by the fault that is charged, and what the journal says of the lease."""
    charged: list[dict[str, object]] = field(default_factory=list)
    """The same one by one."""
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.problems


class Check:
    def __init__(self, faults: Sequence[Fault], executions: dict[Key, list[Execution]], times: Times = ALONE) -> None:
        self._silence = times.ttl + times.margin + SLACK
        self._faults = [fault for fault in faults if fault.began]
        self._executions = executions
        self.verdict = Verdict()

    def acknowledged(self, run_ids: Sequence[str], stored: Iterable[str]) -> None:
        """Every run whose start was acknowledged is there, once; and no other."""
        say = self.verdict.problems.append
        self.verdict.accepted = len(run_ids)
        twice = [run_id for run_id, count in Counter(run_ids).items() if count > 1]
        if twice:
            say(f"{len(twice)} run ids were acknowledged twice, such as {twice[0]}")
        lost, extra = set(run_ids) - set(stored), set(stored) - set(run_ids)
        if lost:
            say(f"LOST: {len(lost)} accepted runs are not in the journal, such as {min(lost)}")
        if extra:
            say(f"{len(extra)} runs are in the journal that nobody was told of, such as {min(extra)}")

    def run(self, story: RunStory) -> None:
        verdict = self.verdict
        verdict.problems += story.problems
        if story.state is None or not story.at_rest:
            verdict.problems.append(f"STUCK: run {story.run_id} is {story.state.name if story.state else 'not there'}")
            return
        if story.state is RunState.COMPLETED:
            verdict.completed += 1
            done = sum(1 for grants in story.grants.values() if grants and grants[-1].fate == "completed")
            if done != STEP_RUNS:
                verdict.problems.append(f"run {story.run_id} is COMPLETED with {done} of {STEP_RUNS} steps")
        elif story.reason.split(" ")[-1:] and GIVEN_UP in story.reason:
            verdict.given_up += 1
        else:
            verdict.problems.append(f"run {story.run_id} is {story.state.name}: {story.reason}")
        for key, grants in story.grants.items():
            if grants:  # else it is a problem already: something is said of a step that was never leased
                self._step(story, key, grants)

    def _step(self, story: RunStory, key: Key, grants: list[Grant]) -> None:
        executions = self._executions.get(key, [])
        self.verdict.executions += len(executions)
        if not grants[-1].fate:
            story_end = f"{key[1]} {key[2]} of run {key[0]} still has a lease, token {grants[-1].token}"
            self.verdict.problems.append(story_end)
        granted = self._match(key, grants, executions)
        if grants[-1].fate == "completed":
            self.verdict.steps += 1
            self._winner(story, key, grants[-1], granted)
        self._charge(key, granted, grants[-1])

    def _match(self, key: Key, grants: list[Grant], executions: list[Execution]) -> list[tuple[Execution, Grant]]:
        """Each execution with the lease that it had: the newest with its agent and its attempt from before its begin,
        that no other execution had."""
        found: list[tuple[Execution, Grant]] = []
        taken: set[int] = set()
        for execution in executions:
            fitting = [
                grant
                for grant in grants
                if (grant.agent, grant.attempt) == (execution.agent, execution.attempt)
                and grant.at <= execution.began + CLOCK_SLACK
                and grant.token not in taken
            ]
            if not fitting:
                self.verdict.problems.append(
                    f"{key[1]} {key[2]} of run {key[0]} ran without a lease of its own: attempt {execution.attempt} on"
                    f" {execution.agent}, process {execution.pid}"
                )
                continue
            # An agent runs the leases of a step in the order in which it got them.
            grant = fitting[0] if len(fitting) == 1 else self._likely(fitting, execution)
            taken.add(grant.token)
            found.append((execution, grant))
        return found

    @staticmethod
    def _likely(grants: list[Grant], execution: Execution) -> Grant:
        open_then = [grant for grant in grants if not grant.fate_at or grant.fate_at >= execution.began - CLOCK_SLACK]
        return (open_then or grants)[0]

    def _winner(self, story: RunStory, key: Key, grant: Grant, granted: list[tuple[Execution, Grant]]) -> None:
        """The output is that of the execution that had the newest token, and it was given what was committed."""
        say = self.verdict.problems.append
        where = f"{key[1]} {key[2]} of run {key[0]}"
        output = story.outputs.get(key, "").strip('"')
        won = next((pair for pair in granted if pair[0].nonce == output), None)
        if won is None:
            say(f"{where}: its output {output!r} is in no line of the ledger")
            return
        execution, had = won
        if not execution.ended or execution.failed:
            say(f"{where}: its output is of an execution that never ended well")
        if (had.agent, had.attempt) != (grant.agent, grant.attempt):
            say(f"{where}: its output has token {had.token}, the newest is {grant.token}")
        committed = {value.strip('"') for value in story.outputs.values()}
        strange = execution.given - committed
        if strange:
            say(f"{where}: was given {sorted(strange)}, which was never committed")

    # --- who pays

    def _charge(self, key: Key, granted: list[tuple[Execution, Grant]], last: Grant) -> None:
        """Every execution but the one that is committed (of a step that is not: but the last) needs a cause."""
        kept = next((pair for pair in reversed(granted) if pair[1].token == last.token), None)
        for pair in granted:
            if pair is kept:
                continue
            execution, grant = pair
            if execution.failed and grant.fate.startswith("failed: "):
                self.verdict.planned += 1
                continue
            cause = self._cause(execution, grant)
            if cause is None:
                self.verdict.problems.append(
                    f"{key[1]} {key[2]} of run {key[0]} ran more than once, and no fault is to blame: attempt"
                    f" {grant.attempt} on {grant.agent}, token {grant.token}, {grant.fate or 'without an end'}"
                )
            else:
                self.verdict.doubles[f"{cause} ({grant.fate})"] += 1
                self.verdict.charged.append(
                    {
                        "step_run": " ".join(key),
                        "agent": grant.agent,
                        "leased": grant.at / 1e6,
                        "began": execution.began / 1e6,
                        "ended": execution.ended / 1e6,
                        "fate": grant.fate,
                        "fate_at": grant.fate_at / 1e6,
                        "charged_to": cause,
                    }
                )

    def _cause(self, execution: Execution, grant: Grant) -> str | None:
        """The fault that the lease was lost for: of its step's process, of its agent or the way to it, or of what all
        depend on; the latest before the end of the lease."""
        if not grant.fate:
            return None
        begin, end = execution.began / 1e6 - self._silence, grant.fate_at / 1e6 + SLACK
        near = [fault for fault in self._faults if fault.began <= end and fault.ended >= begin]
        for blamable in _BLAMABLE.get(grant.fate, _OTHERWISE):
            blamed = [f for f in near if (f.kind, f.target) in blamable or f.target in blamable]
            blamed = [f for f in blamed if f.target in OF_ALL or f.name == grant.agent]
            if blamed:
                silence = (grant.fate_at / 1e6 - self._silence, grant.fate_at / 1e6)
                return max(blamed, key=lambda fault: (_share(fault, silence), fault.began)).title
        return None


def _share(fault: Fault, silence: tuple[float, float]) -> float:
    """Seconds of the time before the end of the lease in which the fault kept somebody from speaking. Who is killed
    needs some to start again."""
    end = fault.ended + (START_SECONDS if fault.kind in ("kill", "crash") else 0.0)
    return max(0.0, min(end, silence[1]) - max(fault.began, silence[0]))
