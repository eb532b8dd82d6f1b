"""Trigger rules and conditions, before and after they are decided."""

from __future__ import annotations

from collections.abc import Iterator

from penstock_coordinator.core.plan.model import Json, Step, TriggerRule
from penstock_coordinator.core.plan.paths import NoSuchPath, follow
from penstock_coordinator.core.plan.values import InvalidJson
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.explain.situations import (
    Reason,
)
from penstock_coordinator.core.run.explain.undoing import at_rest_undoing
from penstock_coordinator.core.run.explain.words import (
    NAMED,
    counted,
    listed,
    value_text,
)
from penstock_coordinator.core.run.sources import Upstream
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.tallies import ItemRule, decide_rule

_RULES: dict[TriggerRule, str] = {
    TriggerRule.ALL_SUCCESS: "all of its upstream steps to be COMPLETED",
    TriggerRule.ALL_FAILED: "all of its upstream steps to have failed",
    TriggerRule.ALL_DONE: "all of its upstream steps to be at rest",
    TriggerRule.ONE_SUCCESS: "one of its upstream steps to be COMPLETED",
    TriggerRule.ONE_FAILED: "one of its upstream steps to have failed",
    TriggerRule.ONE_DONE: "one of its upstream steps to be COMPLETED or to have failed",
    TriggerRule.NONE_FAILED: "all of its upstream steps to be at rest and none to have failed",
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: "none of its upstream steps to have failed and one to be COMPLETED",
    TriggerRule.NONE_SKIPPED: "all of its upstream steps to be at rest and none to be SKIPPED",
    TriggerRule.ALL_SKIPPED: "all of its upstream steps to be SKIPPED",
    TriggerRule.ALWAYS: "nothing",
}


def pending(run: Run, step: Step, item: int) -> Iterator[Reason]:
    if item != WHOLE:
        yield _item_pending(run, step, item)
        return
    if step.cleanup and not step.upstream:
        yield Reason(
            "CleanupWaits",
            f"It is a cleanup step: it waits until all else is at rest, which is {counted(run.open_work, 'step')} yet.",
            {"open_steps": run.open_work},
        )
    open_steps = [number for number in step.upstream if _is_waited_for(run, step, number)]
    for number in open_steps[:NAMED]:
        yield _upstream(run, number)
    if len(open_steps) > NAMED:
        text = f"It waits for {counted(len(open_steps) - NAMED, 'more upstream step')}."
        yield Reason("Upstream", text, {"more": len(open_steps) - NAMED})
    if open_steps:
        details = {"rule": step.rule.name.lower()}
        yield Reason("TriggerRule", f"Its trigger rule {step.rule.name.lower()} asks for {_RULES[step.rule]}.", details)
    if step.condition is not None and not step.condition.reads_item:
        values = _values(run, step)
        text = f"After that its condition is decided: {step.condition.source}{_known(values)}."
        yield Reason("When", text, {"condition": step.condition.source, "values": values})


def _is_waited_for(run: Run, step: Step, number: int) -> bool:
    """Of a step that is gone along with, the items are waited for, not the step."""
    if run.states[number] >= StepState.COMPLETED:
        return False
    return number not in run.maps or step.number not in run.plan.steps[number].followers


def _item_pending(run: Run, step: Step, item: int) -> Reason:
    followed = followed_item(run, step, item)
    if followed is None:
        return Reason("When", "Its condition is about to be decided.", {})
    name, state = run.display_name(*followed), run.state_of(*followed)
    if state.at_rest:
        return Reason("TriggerRule", f'"{name}" is {state.name}, and its rule is about to be decided.', {})
    text = f'It waits for "{name}", which is {state.name}.'
    return Reason("Upstream", text, {"step": name, "state": state.name})


def followed_item(run: Run, step: Step, item: int) -> tuple[int, int] | None:
    """The step run that an item goes along with, in a map that goes item by item."""
    if item == WHOLE or step.followed is None or run.maps[step.number].groups is not None:
        return None
    return step.followed, item


def _upstream(run: Run, number: int) -> Reason:
    name, state = run.plan.steps[number].name, run.state_of(number)
    details: dict[str, Json] = {"step": name, "state": state.name}
    counts = run.item_counts(number)
    more = ""
    if counts is not None:
        total = sum(counts)
        done = total - counts.pending - counts.ready - counts.running - counts.waiting
        more = f" ({done} of {total} items are at rest)"
        details |= {"items": total, "items_at_rest": done}
    return Reason("Upstream", f'It waits for "{name}", which is {state.name}{more}.', details)


def _values(run: Run, step: Step) -> dict[str, Json]:
    """What is known of the parameters and outputs that the step's condition reads."""
    condition = step.condition
    assert condition is not None
    values: dict[str, Json] = {}
    for name in condition.parameters:
        values[f"params.{name}"] = run.parameter_values.get(name)
    try:
        upstream = Upstream(run).of(condition.steps)
    except InvalidJson:
        upstream = {}
    for name in sorted(upstream):
        if run.state_of(run.plan.numbers[name]).at_rest:
            if condition.reads_state:
                values[f"steps.{name}.state"] = upstream[name]["state"]
            for path in condition.output_paths.get(name, ()):
                values[".".join((f"steps.{name}.output", *path))] = _at(path, upstream[name]["output"])
    return values


def _at(path: tuple[str, ...], value: Json) -> Json:
    try:
        return follow(path, value)
    except NoSuchPath:
        return None


def _known(values: dict[str, Json]) -> str:
    if not values:
        return ""
    texts = [f"{name} is {value_text(value)}" for name, value in list(values.items())[:NAMED]]
    return f" ({', '.join(texts)})"


def at_rest(run: Run, step: Step, item: int, state: StepState) -> Iterator[Reason]:
    yield Reason("AtRest", f"It is {state.name}.", {"state": state.name})
    if step.undoes is not None:
        yield from at_rest_undoing(run, step, state)
        return
    if state not in (StepState.SKIPPED, StepState.UPSTREAM_FAILED):
        return
    if item != WHOLE:
        yield from _item_at_rest(run, step, item)
        return
    if decide_rule(run, step) is StepState.READY:
        if step.condition is not None:
            values = _values(run, step)
            text = f"Its condition was false: {step.condition.source}{_known(values)}."
            yield Reason("When", text, {"condition": step.condition.source, "values": values})
        return
    texts = [_ended(run, number) for number in step.upstream]
    details = {"rule": step.rule.name.lower()}
    text = f"Its trigger rule {step.rule.name.lower()} asks for {_RULES[step.rule]}: {listed(texts)}."
    yield Reason("TriggerRule", text, details)


def _item_at_rest(run: Run, step: Step, item: int) -> Iterator[Reason]:
    """Why an item that goes along with another one did not run."""
    followed = followed_item(run, step, item)
    if followed is None:
        return
    others = [_ended(run, number) for number in step.upstream if number != step.followed]
    texts = [f'"{run.display_name(*followed)}" is {run.state_of(*followed).name}', *others]
    asks = f"Its trigger rule {step.rule.name.lower()} asks for {_RULES[step.rule]}"
    if ItemRule(run, step).decide(run.state_of(*followed)) is StepState.READY:
        source = "" if step.condition is None else step.condition.source
        yield Reason("When", f"Its condition was false: {source}.", {"condition": source})
    else:
        yield Reason("TriggerRule", f"{asks}: {listed(texts)}.", {"rule": step.rule.name.lower()})


def _ended(run: Run, number: int) -> str:
    step, state = run.plan.steps[number], run.state_of(number)
    allowed = " (which is allowed, and counts as COMPLETED)" if step.allow_failure and state is StepState.FAILED else ""
    return f'"{step.name}" is {state.name}{allowed}'
