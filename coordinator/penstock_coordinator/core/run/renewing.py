"""A retry that goes on with another version of the pipeline: which step runs stay as they are.

What came to a good end stays if the step does the same work in the new version, and if all that it rests on stays. All
else runs again, what is new runs, and what the version does not have any more is left behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from penstock_coordinator.core.plan.keeping import same_items, same_parts, same_rule, same_work
from penstock_coordinator.core.plan.model import Plan, Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.resets import (
    AGAIN,
    NotPossible,
    Reset,
    ended_badly,
    in_order,
    lost_its_list,
    reset_cleanup,
    stays_expanded,
)
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState


def retry_with(run: Run, plan: Plan) -> Reset:
    """Of a run at rest. Raises `NotPossible`."""
    reset = Reset()
    for step in in_order(plan):
        if not step.cleanup and step.undoes is None:
            _judge(run, plan, step, reset)
    if not reset.count and not _left_behind(run, plan):
        raise NotPossible(
            f"the run is {run.state.name}, and nothing of it would run again with that version: rerun a step instead"
        )
    reset_cleanup(plan, reset)
    return reset


def check_same_work(former: Plan, plan: Plan) -> None:
    """A rollback may go on with other steps that undo, but not with other work that was done. Raises `NotPossible`."""
    for step in plan.steps:
        old = former.steps[step.number] if step.number < len(former.steps) else None
        if step.undoes is not None or (old is not None and old.undoes is not None):
            if old is not None and not step.retired and (old.undoes is None) != (step.undoes is None):
                raise NotPossible(_OTHER_WORK.format(name=step.name))
            continue
        if old is None or step.retired != old.retired or not same_items(old.map, step.map):
            raise NotPossible(_OTHER_WORK.format(name=step.name))


_OTHER_WORK = (
    'that version does not have the same steps as the run, which is to be undone: "{name}" is in one of them alone, or'
    " is mapped over something else. Roll the run back with its own version, or with one that changes no more than the"
    " steps that undo others"
)


def _left_behind(run: Run, plan: Plan) -> bool:
    """Whether the new version does without what came to no good end: then the run may come to one as it is."""
    return any(step.retired and ended_badly(run, step.number) for step in plan.steps)


def _judge(run: Run, plan: Plan, step: Step, reset: Reset) -> None:
    number = step.number
    if not same_work(run.plan, plan, number) or not _decided_alike(run, step):
        reset.steps.add(number)
    elif ended_badly(run, number) or any(reset.touches(each) for each in step.upstream):
        items = _items_again(run, plan, step, reset)
        if items:
            reset.items[number] = items
        else:
            reset.steps.add(number)


def _decided_alike(run: Run, step: Step) -> bool:
    """What ran stays, whenever it might run now. What did not run rests on the rule, and so may items that go along
    with others."""
    if run.states[step.number] != StepState.SKIPPED and step.followed is None:
        return True
    return same_rule(run.plan.steps[step.number], step)


def _items_again(run: Run, plan: Plan, step: Step, reset: Reset) -> list[int]:
    """The items to be reset if the map can stay expanded; none if it cannot."""
    if step.number not in run.maps or lost_its_list(run, step, reset) or not stays_expanded(run, plan, step, reset):
        return []
    along = set(() if step.followed is None else reset.items.get(step.followed, ()))
    return [item for item, state in enumerate(run.maps[step.number].states) if state in AGAIN or item in along]


def parts_wanted(run: Run, plan: Plan, reset: Reset) -> Iterator[tuple[int, list[int]]]:
    """The outputs that stay and of which the run has to keep other parts than before: steps, and their items ([WHOLE]
    of one that is not mapped)."""
    for step in plan.steps[: len(run.plan.steps)]:
        number = step.number
        if step.retired or number in reset.steps or same_parts(run.plan.steps[number], step):
            continue
        if step.kept_paths or step.kept_lengths:
            items = list(_that_stay(run, number, reset.items.get(number, ())))
            if items:
                yield number, items


def _that_stay(run: Run, number: int, again: Iterable[int]) -> Iterator[int]:
    """Of what the step gave."""
    states = run.items_of(number)
    if states is None:
        yield from [WHOLE] if run.states[number] == StepState.COMPLETED else []
        return
    gone = set(again)
    yield from (item for item, state in enumerate(states) if state == StepState.COMPLETED and item not in gone)
