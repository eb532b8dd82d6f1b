"""What a new generation resets, and which maps can stay expanded when items of them are reset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from penstock_coordinator.core.plan.model import Plan, Step
from penstock_coordinator.core.run.mapped import WITH_ITEMS
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState

AGAIN = frozenset({StepState.FAILED, StepState.CANCELLED, StepState.UPSTREAM_FAILED, StepState.ROLLED_BACK})
"""What did not come to a good end, or was undone."""
_QUIET_GROUPS = WITH_ITEMS | {StepState.SKIPPED}


class NotPossible(Exception):
    """It cannot be done to the run as it is; the text says why, and the remedy."""


@dataclass(slots=True)
class Reset:
    """What is to run again."""

    steps: set[int] = field(default_factory=set)
    """As wholes."""
    items: dict[int, Sequence[int]] = field(default_factory=dict)
    """Single items of maps that stay expanded, ascending."""
    undone: set[int] = field(default_factory=set)
    """Of the steps: those that were undone, and all that comes after them: it rests on what is no more."""
    to_undo: int = 0
    """How many steps a rollback would undo; a mapped one counts as one."""

    def touches(self, step: int) -> bool:
        return step in self.steps or step in self.items

    @property
    def count(self) -> int:
        """A mapped step counts as one."""
        return len(self.steps) + len(self.items) + self.to_undo


def in_order(plan: Plan) -> Iterator[Step]:
    """Every step after its upstream."""
    missing = [len(step.upstream) for step in plan.steps]
    found = [step for step in plan.steps if not step.upstream and not step.retired]
    for step in found:
        yield step
        for number in step.downstream:
            missing[number] -= 1
            if not missing[number]:
                found.append(plan.steps[number])


def was_undone(run: Run, number: int) -> bool:
    """Or some of its items were."""
    mapped = run.maps.get(number)
    if mapped is not None and mapped.tally[StepState.ROLLED_BACK]:
        return True
    return run.states[number] == StepState.ROLLED_BACK


def unused_again(run: Run, plan: Plan, *, undoing: bool) -> list[int]:
    """The steps that undo others and that a new generation finds unused, though they are not; of `plan`, the one that
    it goes on with. One that goes on with undoing leaves what has done its work."""
    known = len(run.states)
    return [
        number
        for number in plan.undoing
        if number < known
        and (run.states[number] != StepState.SKIPPED or number in run.maps)
        and not (undoing and _has_undone(run, plan, number))
    ]


def _has_undone(run: Run, plan: Plan, number: int) -> bool:
    """A mapped one is expanded anew, with what it has done."""
    step, former = plan.steps[number], run.plan.steps[number]
    if number in run.maps or step.undoes is None or step.undoes != former.undoes:
        return False
    return run.states[step.undoes] == StepState.ROLLED_BACK


def reset_cleanup(plan: Plan, reset: Reset) -> None:
    for step in plan.steps:
        if step.cleanup:
            reset.items.pop(step.number, None)
            reset.steps.add(step.number)


def ended_badly(run: Run, number: int) -> bool:
    """Also a map that is COMPLETED or SKIPPED because what failed in it was allowed to."""
    mapped = run.maps.get(number)
    if run.states[number] in AGAIN or mapped is None:
        return run.states[number] in AGAIN
    groups = mapped.groups is not None and not AGAIN.isdisjoint(mapped.groups.states)
    return groups or any(mapped.tally[state] for state in AGAIN)


def lost_its_list(run: Run, step: Step, reset: Reset) -> bool:
    """Of an expanded step: its items were those of items, or of lists, that are made anew."""
    if step.followed is None:
        return False
    return step.followed in reset.steps or (run.maps[step.number].groups is not None and reset.touches(step.followed))


def stays_expanded(run: Run, plan: Plan, step: Step, reset: Reset) -> bool:
    """Whether single items of an expanded step can be reset. `plan` is the one that the run goes on with."""
    # One that names the step elsewhere too waits for the whole of it.
    follows = step.followed is not None and step.number in plan.steps[step.followed].followers
    others = [number for number in step.upstream if number != step.followed or not follows]
    if any(reset.touches(number) or not run.state_of(number).at_rest for number in others):
        return False
    mapped = run.maps[step.number]
    if mapped.groups is not None:
        whole = all(state in _QUIET_GROUPS for state in mapped.groups.states)
        return whole and step.followed is not None and not reset.touches(step.followed)
    return step.followed is None or run.maps[step.followed].count == mapped.count
