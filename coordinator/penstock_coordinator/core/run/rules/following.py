"""Items that are decided one by one: those of maps that go along with other maps, each when the item that it goes along
with is at rest, and those of any map whose condition reads the item."""

from __future__ import annotations

from itertools import islice

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.events import (
    Failure,
    ItemsAdded,
    ItemsReadied,
    ItemsSettled,
    StepFailed,
)
from penstock_coordinator.core.run.judging import judge_item
from penstock_coordinator.core.run.ledger import CONDITION_COST, Ledger
from penstock_coordinator.core.run.mapped import UNDECIDED, Groups, MapState
from penstock_coordinator.core.run.places import display_name
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.sources import Upstream, length_for
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.tallies import ItemRule

_REMEDY = "return shorter lists, or have the operator raise PENSTOCK_MAX_ITEMS_OF_STEP"
_READY, _PENDING = StepState.READY, StepState.PENDING


def open_items(run: Run, now: int, ledger: Ledger) -> None:
    """Decide as many as the turn has room for."""
    for number in list(run.opening):
        if ledger.room <= 0:
            return
        step, mapped = run.plan.steps[number], run.maps[number]
        if mapped.groups is not None:
            _add_groups(run, step, mapped, mapped.groups, now, ledger)
        _Opening(run, step, mapped).decide(now, ledger)


class _Opening:
    """Items of one map that are decided together, so that their facts are few events."""

    def __init__(self, run: Run, step: Step, mapped: MapState) -> None:
        self._run = run
        self._step = step
        self._mapped = mapped
        self._upstream = Upstream(run)
        self._asks = step.condition is not None and step.condition.reads_item
        along = step.followed is not None and mapped.groups is None
        self._rule = ItemRule(run, step) if along else None
        self._failed: list[tuple[int, Failure]] = []
        self._outcomes: dict[StepState, list[int]] = {
            StepState.UPSTREAM_FAILED: [],
            StepState.SKIPPED: [],
            _READY: [],
        }

    def decide(self, now: int, ledger: Ledger) -> None:
        for item in self._mapped.due.walk(self._mapped.states, _PENDING):
            if ledger.room <= 0:
                break
            self._decide(item, ledger)
        self._emit(now, ledger)

    def _decide(self, item: int, ledger: Ledger) -> None:
        outcome = _READY
        if self._rule is not None:
            ledger.room -= 1
            assert self._step.followed is not None
            outcome = self._rule.decide(self._run.maps[self._step.followed].states[item])
        if outcome is _READY and self._asks:
            ledger.room -= CONDITION_COST
            judged = judge_item(self._run, self._step, self._upstream, item)
            if isinstance(judged, Failure):
                self._failed.append((item, judged))
                return
            outcome = _READY if judged else StepState.SKIPPED
        self._outcomes[outcome].append(item)

    def _emit(self, now: int, ledger: Ledger) -> None:
        number = self._step.number
        for item, failure in self._failed:
            ledger.emit(StepFailed(now, number, item, failure))
        for state, items in self._outcomes.items():
            if not items:
                continue
            ranges = packed(sorted(items))
            ledger.emit(
                ItemsReadied(now, number, ranges) if state is _READY else ItemsSettled(now, number, state, ranges)
            )


def _add_groups(run: Run, step: Step, mapped: MapState, groups: Groups, now: int, ledger: Ledger) -> None:
    """The lists of items that came to rest become items of a nested map."""
    assert step.followed is not None
    rule, states = ItemRule(run, step), run.maps[step.followed].states
    owners = mapped.due_owners.walk(groups.states, UNDECIDED)
    for owner in list(islice(owners, max(ledger.room, 0))):
        ledger.room -= 1
        outcome = rule.decide(states[owner])
        if outcome is _READY:
            ledger.emit(_group(run, step, mapped, owner, now, ledger.limits.items))
        else:
            ledger.emit(ItemsAdded(now, step.number, owner, 0, outcome))


def _group(run: Run, step: Step, mapped: MapState, owner: int, now: int, limit: int) -> ItemsAdded:
    found = length_for(run, step, owner)
    if isinstance(found, int) and mapped.count + found > limit:
        found = f"with its {found:,} items the step would have more than the limit of {limit:,}; {_REMEDY}"
    if isinstance(found, str):
        why = Failure("Map", f"cannot map over {_owner_name(run, step, owner)}: {found}")
        return ItemsAdded(now, step.number, owner, 0, StepState.FAILED, why)
    by_item = step.condition is not None and step.condition.reads_item
    return ItemsAdded(now, step.number, owner, found, _PENDING if by_item else _READY)


def _owner_name(run: Run, step: Step, owner: int) -> str:
    assert step.map is not None
    followed = step.map.followed
    assert followed is not None
    at = f' at "{".".join(step.map.path)}"' if step.map.path else ""
    state = StepState(run.maps[followed].states[owner])
    ended = "" if state is StepState.COMPLETED else f" (which is {state.name})"
    return f'the output of "{display_name(run.plan, run, followed, owner)}"{ended}{at}'
