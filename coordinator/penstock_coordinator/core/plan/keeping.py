"""Which steps of one version of a pipeline do the same work in another one.

Steps are compared by number: the plan of the later version is compiled onto that of the earlier one. How a step is
tried, when, and where makes no difference to what it gives: its retries, timeouts, queue, labels, resources, priority
and limits are not looked at.
"""

from __future__ import annotations

from dataclasses import replace

from penstock_coordinator.core.plan.model import Action, CommandAction, FunctionAction, Plan, Step, StepMap


def same_work(former: Plan, plan: Plan, number: int) -> bool:
    """Whether the step gives the same in both, if what comes before it does. False if one of them has no such step."""
    if number >= len(former.steps):
        return False
    old, new = former.steps[number], plan.steps[number]
    return (
        not (old.retired or new.retired)
        and old.cleanup == new.cleanup
        and (old.undoes is None) == (new.undoes is None)
        and old.inputs == new.inputs
        and old.condition == new.condition
        and old.env == new.env
        and old.secrets == new.secrets
        and _environment(former, old) == _environment(plan, new)
        and same_items(old.map, new.map)
        and _same_action(old.action, new.action, same_bundle=former.bundle_digest == plan.bundle_digest)
    )


def _environment(plan: Plan, step: Step) -> str:
    return "" if step.line < 0 else plan.lines[step.line].environment


def same_rule(old: Step, new: Step) -> bool:
    """Whether the trigger rule asks the same of the same steps."""
    return (old.rule, old.upstream) == (new.rule, new.upstream)


def same_parts(old: Step, new: Step) -> bool:
    """Whether a run keeps the same parts of the step's output."""
    return (old.kept_paths, old.kept_lengths, old.judged) == (new.kept_paths, new.kept_lengths, new.judged)


def same_items(old: StepMap | None, new: StepMap | None) -> bool:
    """How many of them run at once makes no difference."""
    if old is None or new is None:
        return old is new
    return replace(old, max_parallel=0) == replace(new, max_parallel=0)


def _same_action(old: Action, new: Action, *, same_bundle: bool) -> bool:
    if isinstance(old, FunctionAction) and isinstance(new, FunctionAction):
        if old.code_digest and new.code_digest:
            return old == new
        return same_bundle and (old.module, old.qualname) == (new.module, new.qualname)
    # A command may read any file of the bundle.
    return old == new and (same_bundle or not isinstance(old, CommandAction))
