"""Why the steps of a run are not running, with what the coordinator knows beyond the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from penstock_coordinator.core.dispatch.standing import mismatch
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.explain import explain, explain_open, explain_run
from penstock_coordinator.core.run.explain.situations import (
    AgentSituation,
    KeySituation,
    LineSituation,
    Reason,
    StepExplanation,
    Unknown,
    WindowSituation,
)
from penstock_coordinator.core.run.explain.words import one_line
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.history import run_at
from penstock_coordinator.runtime.reading import Reader, barrier
from penstock_coordinator.runtime.secrets import lacking_secrets
from penstock_coordinator.runtime.views import SetAside, UnknownStepRun

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Line, Plan
    from penstock_coordinator.core.run.explain.situations import Outside
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.session import AgentSession
    from penstock_coordinator.runtime.supervisor import Supervisor

MAX_EXPLANATIONS = 1_000


@dataclass(frozen=True, slots=True)
class RunExplanation:
    plan: Plan
    shape: Shaped
    reasons: list[Reason]
    steps: list[StepExplanation]
    omitted: int
    """Step runs that were not explained, because there are too many."""


class _Surroundings:
    """What a live run's coordinator knows."""

    def __init__(self, supervisor: Supervisor, actor: Actor, lacking: frozenset[str]) -> None:
        self._lacking = lacking
        self.now = supervisor.clock.now()
        self.queued_open_at = supervisor.queued_open_at(actor.run)
        self._supervisor = supervisor
        self._actor = actor
        self._lines: dict[int, LineSituation] = {}

    def line(self, position: int) -> LineSituation:
        found = self._lines.get(position)
        if found is None:
            found = self._lines[position] = self._situation(self._actor.run.line_at(position), position)
        return found

    def _situation(self, line: Line, position: int) -> LineSituation:
        """Nobody comes before a run that is not in the line: it is about to be leased, or to join."""
        fleet = self._supervisor.fleet
        connected = [_situation(each, line, paused=each.holder.agent in fleet.pauses) for each in fleet.sessions()]
        left = [AgentSituation(each.agent, mismatch(each, line), left=True) for each in fleet.left.all()]
        agents = (*connected, *left)
        now = self._supervisor.clock.monotonic()
        standing = self._supervisor.dispatcher.standing(line, self._actor.run_id, position, now)
        member = self._supervisor.coordinator_id if self._supervisor.whereabouts.head_epoch else ""
        if standing is None:
            return LineSituation(agents, member=member)
        return LineSituation(agents, standing.ahead, standing.priority, standing.effective_priority, member)

    def step_key(self, position: int) -> KeySituation | None:
        return self._supervisor.limits.situation_of_steps(self._actor, position)

    def child_state(self, run_id: bytes) -> str:
        child = self._supervisor.actor(run_id)
        return "" if child is None else child.run.state.name

    def child_key(self, run_id: bytes) -> KeySituation | None:
        child = self._supervisor.actor(run_id)
        return None if child is None else self._supervisor.limits.situation_of_run(child)

    def child_over_budget(self, run_id: bytes) -> bool:
        child = self._supervisor.actor(run_id)
        return child is not None and child.run.over_budget

    def note(self, step: int, item: int) -> str:
        key = (self._actor.run_id, step, item)
        notes = (session.notes.get(key) for session in self._supervisor.fleet.sessions())
        return one_line(next((note for note in notes if note), ""))

    def run_key(self) -> KeySituation | None:
        return self._supervisor.limits.situation_of_run(self._actor)

    def lacks_secret(self, name: str) -> bool:
        return name in self._lacking

    def window(self) -> WindowSituation | None:
        return self._supervisor.budgets.situation(self._actor)


def _situation(session: AgentSession, line: Line, *, paused: bool) -> AgentSituation:
    capacity = session.capacity
    return AgentSituation(
        agent=capacity.agent,
        lacks=mismatch(capacity, line),
        draining=session.draining,
        full=not capacity.room(line),
        disk_low=session.disk_low,
        leases=capacity.leases,
        slots=capacity.slots,
        paused=paused,
    )


async def explain_steps(supervisor: Supervisor, run_id: RunId, step: int | None, item: int) -> RunExplanation:
    """Why a step run, or everything that is not at rest, is not running. Raises `UnknownRun`, `UnknownStepRun`."""
    actor = supervisor.actor(run_id)
    if actor is None:
        run = await _run_at_rest(supervisor, run_id)
        explanation = _explained(run, Unknown(supervisor.clock.now()), step, item)
    else:
        lacking = await _lacking_secrets(supervisor, actor.run)
        explanation = _explained(actor.run, _Surroundings(supervisor, actor, lacking), step, item)
        await barrier(actor)
    if step is not None and explanation.steps[0].state is StepState.FAILED:
        explanation.steps[0] = await _with_failure(supervisor, run_id, explanation.steps[0])
    return explanation


async def _lacking_secrets(supervisor: Supervisor, run: Run) -> frozenset[str]:
    """Of those that the run's steps name. Nothing is said of them while it cannot be known."""
    named = {use.name for step in run.plan.steps for use in step.secrets}
    return await lacking_secrets(supervisor.stores.secrets, named)


async def _with_failure(supervisor: Supervisor, run_id: RunId, found: StepExplanation) -> StepExplanation:
    """The run itself does not keep why its step runs failed."""
    view, _ = await Reader(supervisor).step_run(run_id, found.step, found.item)
    if view.failure is None:
        return found
    why = view.failure.error_class or view.failure.reason
    why += f": {one_line(view.failure.message)}" if view.failure.message else ""
    details = {"state": found.state.name, "failure": view.failure.reason, "message": view.failure.message}
    failed = Reason("AtRest", f"It is FAILED: {why.removesuffix('.')}.", details)
    return replace(found, reasons=[failed, *found.reasons[1:]])


async def _run_at_rest(supervisor: Supervisor, run_id: RunId) -> Run:
    if run_id in supervisor.set_aside:
        raise SetAside(run_id, supervisor.set_aside[run_id])
    row = await supervisor.stores.runs.get(run_id)
    if row is None:
        raise await unknown(supervisor.stores, run_id)
    run, _ = await run_at(supervisor.stores.journal, supervisor.plans, run_id, row.last_seq)
    return run


def _explained(run: Run, outside: Outside, step: int | None, item: int) -> RunExplanation:
    reasons = explain_run(run, outside)
    if step is None:
        steps, omitted = explain_open(run, outside, MAX_EXPLANATIONS)
        return RunExplanation(run.plan, run, reasons, steps, omitted)
    try:
        found = [explain(run, step, item, outside)]
    except LookupError as error:
        raise UnknownStepRun from error
    if item == WHOLE and step in run.maps and not run.state_of(step).at_rest:
        found += [each for each in explain_open(run, outside, MAX_EXPLANATIONS)[0] if each.step == step]
    return RunExplanation(run.plan, run, reasons, found, 0)
