"""From a schedule that broke a promise to the shortest one that breaks it too, and to a script that people can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.testing.cluster import simulation_of
from penstock.testing.simulation import Outcome, Scenario
from penstock.testing.timeline import SECOND
from penstock_coordinator.core.plan.model import PipelineAction

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Step

MOST_PLAYED = 300
LAST_LINES = 60


def play(scenario: Scenario) -> Outcome:
    return simulation_of(scenario).play()


def shrunk(outcome: Outcome, again: Callable[[Scenario], Outcome] = play) -> Outcome:
    """The same promise broken, with fewer agents, runs, kinds of faults and faults, and no more time than it takes.
    Chance is the same seed's, but what is left out draws no more from it: so this is a search, not a proof."""
    violation = outcome.violation
    if violation is None:
        return outcome
    best, played = outcome, 0
    progress = True
    while progress and played < MOST_PLAYED:
        progress = False
        for smaller in _smaller(best.scenario):
            played += 1
            tried = again(smaller)
            if tried.violation is not None and tried.violation.invariant == violation.invariant:
                best, progress = tried, True
                break
            if played >= MOST_PLAYED:
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """The largest cuts first."""
    kinds = list(dict.fromkeys(fault.kind for fault in scenario.faults))
    if len(kinds) > 1:
        for kind in kinds:
            yield replace(scenario, faults=tuple(fault for fault in scenario.faults if fault.kind is not kind))
    if len(scenario.runs) > 1:
        for place in range(len(scenario.runs)):
            yield replace(scenario, runs=(*scenario.runs[:place], *scenario.runs[place + 1 :]))
    if len(scenario.agents) > 1:
        for place in range(len(scenario.agents)):
            yield replace(scenario, agents=(*scenario.agents[:place], *scenario.agents[place + 1 :]))
    for place in range(len(scenario.faults)):
        yield replace(scenario, faults=(*scenario.faults[:place], *scenario.faults[place + 1 :]))
    yield from _fewer_steps(scenario)


def _fewer_steps(scenario: Scenario) -> Iterator[Scenario]:
    """Without the last steps: nothing that stays comes after them."""
    plan = scenario.runs[0].plan
    count = len(plan.steps)
    for keep in dict.fromkeys((count // 2, count - 1)):
        if 0 < keep < count and all(run.plan is plan for run in scenario.runs):
            smaller = first_steps(plan, keep)
            yield replace(scenario, runs=tuple(replace(run, plan=smaller) for run in scenario.runs))


def first_steps(plan: Any, keep: int) -> Any:
    """The plan without the steps from `keep` on. A step never comes before its upstream."""
    steps = tuple(
        replace(
            step,
            downstream=tuple(number for number in step.downstream if number < keep),
            followers=tuple(number for number in step.followers if number < keep),
            joiners=tuple(number for number in step.joiners if number < keep),
        )
        for step in plan.steps[:keep]
    )
    return replace(
        plan,
        digest=f"{plan.digest} to {keep}",
        steps=steps,
        numbers={name: number for name, number in plan.numbers.items() if number < keep},
        cleanup_roots=tuple(number for number in plan.cleanup_roots if number < keep),
        outputs=(),
    )


# --- for people


def script(outcome: Outcome, command: str) -> str:
    """What is there, what goes wrong when, and the last of what happened until the promise was broken."""
    scenario, violation = outcome.scenario, outcome.violation
    lines = [f"broken: {violation}", f"again:  {command}", "", "agents:"]
    lines += [f"  {agent.name}: {agent.slots} slots, clock x {agent.clock_rate}" for agent in scenario.agents]
    if scenario.several:
        rates = ", ".join(f"clock x {rate}" for rate in scenario.several)
        lines.append(f"coordinators: {rates}; an ownership lease of {scenario.ownership_lease / SECOND:g} s")
    for place, run in enumerate(scenario.runs):
        lines += [f"run {place}, started at {run.at / SECOND:.3f} s:"]
        lines += [f"  {_step(step)}" for step in run.plan.steps]
    lines += ["faults:", *(f"  {fault}" for fault in scenario.faults)]
    lines += [f"the last of {len(outcome.trace)} lines:"]
    lines += [f"  {line_of(entry)}" for entry in outcome.trace[-LAST_LINES:]]
    return "\n".join(lines)


def _step(step: Step) -> str:
    kind = f"run of {step.action.pipeline}" if isinstance(step.action, PipelineAction) else "step"
    parts = [f"{step.number} {step.name}: {kind}"]
    if step.upstream:
        parts.append(f"after {', '.join(map(str, step.upstream))} ({step.rule.name.lower()})")
    if step.map is not None:
        parts.append("mapped")
    if step.condition is not None:
        parts.append(f"when {step.condition.source}")
    if step.retry.max_attempts > 1:
        parts.append(f"{step.retry.max_attempts} attempts")
    return ", ".join(parts)


def line_of(entry: tuple[Any, ...]) -> str:
    instant, who, what, *details = entry
    return f"{instant / SECOND:10.4f} s  {who:<14} {what} " + " ".join(map(_plain, details)).rstrip()


def _plain(detail: Any) -> str:
    return f"run:{int.from_bytes(detail, 'big') % 100_000}" if isinstance(detail, bytes) else str(detail)
