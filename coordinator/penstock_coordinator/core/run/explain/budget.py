"""Budgets of which nothing is left: of the run, or of its pipeline."""

from __future__ import annotations

from penstock_coordinator.core.plan.budget import FIELDS, WINDOW_NAMES, used_of
from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.run.child_ids import spelled_id
from penstock_coordinator.core.run.explain.situations import Reason, WindowSituation
from penstock_coordinator.core.run.explain.words import about, counted, listed
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState


def over_budget(run: Run) -> Reason:
    spending = run.spending
    assert spending is not None
    measure = spending.measure
    assert measure is not None
    used, limit = spending.used.of(measure), spending.limits.of(measure)
    option = f"--{FIELDS[measure].replace('_', '-')}"
    text = (
        f"The run has used {used_of(measure, used, limit)}, its budget: what runs goes on, and nothing more starts"
        f" before the budget is raised (penstock budget raise {spelled_id(run.run_id)} {option} MORE)"
        " or the run is cancelled."
    )
    return Reason("Budget", text, {"measure": FIELDS[measure], "used": used / 1e6, "limit": limit / 1e6})


def held_by_budget(run: Run) -> Reason | None:
    """Which step runs would begin, were something left of the run's budget. Takes time by the number of steps."""
    texts, count = [], 0
    for number, step in enumerate(run.plan.steps):
        items = run.item_counts(number)
        ready = items.ready if items is not None else run.states[number] == StepState.READY
        if ready:
            texts.append(f'"{step.name}"' if items is None else f'{counted(ready, "item")} of "{step.name}"')
            count += ready
    if not count:
        return None
    are = f"{counted(count, 'step run')} that {'is' if count == 1 else 'are'} READY"
    text = f"The budget holds back {are}: {listed(texts)}."
    return Reason("Budget", text, {"held_step_runs": count})


def waits_for_window(found: WindowSituation, now: int) -> Reason:
    window = WINDOW_NAMES[found.per]
    option = f"--{FIELDS[found.measure].replace('_', '-')}"
    used = used_of(found.measure, found.used, found.limit)
    text = (
        f'The run has not begun: the runs of "{found.pipeline}" have used {used} of their budget of this {window}.'
        f" It begins when the next {window} does, in {about(found.until - now)}, or the budget is raised"
        f" (penstock budget raise --pipeline {found.pipeline} {option} MORE)."
    )
    details: dict[str, Json] = {
        "pipeline": found.pipeline,
        "per": window,
        "measure": FIELDS[found.measure],
        "used": found.used / 1e6,
        "limit": found.limit / 1e6,
        "until_us": found.until,
    }
    return Reason("PipelineBudget", text, details)
