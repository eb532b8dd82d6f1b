"""What a trigger rule makes of the upstream that it sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock_coordinator.core.plan.model import Step, TriggerRule
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.upstream import EARLY_RULES, ENDED_BADLY, standing

_SKIPPED, _UPSTREAM_FAILED, _READY = StepState.SKIPPED, StepState.UPSTREAM_FAILED, StepState.READY


class Tally(NamedTuple):
    """Upstream steps at rest, by what they count as."""

    success: int = 0
    failed: int = 0
    """FAILED and not allowed to, or CANCELLED."""
    upstream_failed: int = 0
    skipped: int = 0

    @property
    def bad(self) -> int:
        return self.failed + self.upstream_failed

    def with_one(self, seen: int) -> Tally:
        """One more upstream, that is seen in this state."""
        return Tally(
            self.success + (seen == StepState.COMPLETED),
            self.failed + (seen in ENDED_BADLY),
            self.upstream_failed + (seen == _UPSTREAM_FAILED),
            self.skipped + (seen == _SKIPPED),
        )


RULES: dict[TriggerRule, Callable[[Tally], StepState]] = {
    TriggerRule.ALL_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _SKIPPED if t.skipped else _READY,
    TriggerRule.ALL_FAILED: lambda t: _SKIPPED if t.success or t.skipped else _READY,
    TriggerRule.ALL_DONE: lambda t: _READY,
    TriggerRule.ONE_SUCCESS: lambda t: _READY if t.success else _UPSTREAM_FAILED if t.bad else _SKIPPED,
    TriggerRule.ONE_FAILED: lambda t: _READY if t.bad else _SKIPPED,
    TriggerRule.ONE_DONE: lambda t: _READY if t.success or t.failed else _SKIPPED,
    TriggerRule.NONE_FAILED: lambda t: _UPSTREAM_FAILED if t.bad else _READY,
    TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _READY if t.success else _SKIPPED,
    TriggerRule.NONE_SKIPPED: lambda t: _SKIPPED if t.skipped else _READY,
    TriggerRule.ALL_SKIPPED: lambda t: _SKIPPED if t.success or t.bad else _READY,
    TriggerRule.ALWAYS: lambda t: _READY,
}
"""READY: the rule holds. Otherwise the state in which the step comes to rest. One without an upstream is not asked."""

_SEEN = (StepState.COMPLETED, StepState.FAILED, _SKIPPED, _UPSTREAM_FAILED)


def decide_rule(run: Run, step: Step) -> StepState:
    """What the trigger rule makes of a step of the frontier. READY also of one that goes along with the items of a step
    that is expanded: there each item is decided for itself."""
    if not step.upstream or goes_along(run, step):
        return _READY
    return decide_plainly(run, step)


def decide_plainly(run: Run, step: Step) -> StepState:
    """What the trigger rule makes of the states of the upstream steps as wholes."""
    if step.rule in EARLY_RULES:
        return RULES[step.rule](_item_tally(run, step.upstream))
    states = run.states
    seen = bytes([states[number] for number in step.upstream])
    if step.rule is TriggerRule.ALL_SUCCESS and seen.count(StepState.COMPLETED) == len(seen):
        return _READY
    return RULES[step.rule](_tally(run, step.upstream, seen))


def goes_along(run: Run, step: Step) -> bool:
    """Whether the step gets its items with those of another one, which has some."""
    return step.map is not None and step.map.followed in run.maps


class ItemRule:
    """The trigger rule of a step that goes along with another one, for its items: each looks at the item that it goes
    along with in place of the whole step. Good for as long as the step is under way: the other upstream is at rest."""

    def __init__(self, run: Run, step: Step) -> None:
        others = [number for number in step.upstream if number != step.followed]
        if step.rule in EARLY_RULES:
            self._others = _item_tally(run, others)
        else:
            self._others = _tally(run, others, bytes([run.states[number] for number in others]))
        self._rule = RULES[step.rule]
        assert step.followed is not None
        self._allow = run.plan.steps[step.followed].allow_failure
        self._known: dict[int, StepState] = {}

    def decide(self, state: int) -> StepState:
        """By the state of the item, at rest, that is gone along with."""
        outcome = self._known.get(state)
        if outcome is None:
            outcome = self._known[state] = self._rule(self._others.with_one(standing(state, self._allow)))
        return outcome

    @property
    def may_hold(self) -> bool:
        """Whether it could hold for some item."""
        return any(self._rule(self._others.with_one(seen)) is _READY for seen in _SEEN)


def _tally(run: Run, upstream: Sequence[int], seen: bytes) -> Tally:
    """A mapped upstream is one upstream. Those that are not at rest do not count."""
    steps = run.plan.steps
    allowed = sum(
        1
        for number, state in zip(upstream, seen, strict=True)
        if state == StepState.FAILED and steps[number].allow_failure
    )
    return Tally(
        seen.count(StepState.COMPLETED) + allowed,
        sum(seen.count(state) for state in ENDED_BADLY) - allowed,
        seen.count(_UPSTREAM_FAILED),
        seen.count(_SKIPPED),
    )


def _item_tally(run: Run, upstream: Sequence[int]) -> Tally:
    """Each item of a mapped upstream is one upstream, and each part of it without items; an empty map counts as the
    step itself."""
    found = [0] * (StepState.ROLLED_BACK + 1)
    for number in upstream:
        allow = run.plan.steps[number].allow_failure
        mapped = run.maps.get(number)
        if mapped is None or not mapped.count:
            found[standing(run.states[number], allow)] += 1
            continue
        missing = missing_parts(run, run.plan.steps[number])
        for state in StepState:
            found[standing(state, allow)] += mapped.tally[state] + missing[state]
    bad = sum(found[state] for state in ENDED_BADLY)
    return Tally(found[StepState.COMPLETED], bad, found[_UPSTREAM_FAILED], found[_SKIPPED])


def missing_parts(run: Run, step: Step) -> Counter[StepState]:
    """The groups of nested maps that have no items, by what they count as. In a step that goes along with such a map
    nothing stands in their places: its rule says of them what it would say of items in that state."""
    chain: list[Step] = []
    followed = step.followed
    while followed is not None:
        chain.append(step)
        step = run.plan.steps[followed]
        followed = step.followed
    found: Counter[StepState] = Counter()
    for node in reversed(chain):
        groups = run.maps[node.number].groups
        if found:
            rule = ItemRule(run, node)
            outcomes = [(rule.decide(state), count) for state, count in found.items()]
            found = Counter()
            for outcome, count in outcomes:
                found[StepState.COMPLETED if outcome is StepState.READY else outcome] += count
        if groups is not None:
            found.update(groups.itemless())
    return found
