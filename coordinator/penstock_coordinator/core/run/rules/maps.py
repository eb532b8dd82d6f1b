"""Mapped steps: one step run per item of a list, of several lists, or of another mapped step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from penstock_coordinator.core.plan.model import FromParameter, FromStep, Json, MapForm, MapSource, Step, StepMap
from penstock_coordinator.core.plan.values import InvalidJson, NoSuchPath, kind_of
from penstock_coordinator.core.run.events import WHOLE, Failure, MapExpanded, MapSettled, StepFailed
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.sources import list_for
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.tallies import decide_plainly, goes_along, missing_parts

_REMEDY = "map over batches of items instead, or have the operator raise PENSTOCK_MAX_ITEMS_OF_STEP"


def expand(run: Run, steps: Iterable[int], now: int, ledger: Ledger) -> None:
    """Mapped steps whose rule and condition hold get their items, or fail. Those that go along with another one have
    all items of that one, or none yet if they are nested: what becomes of each is decided later."""
    for number in steps:
        step = run.plan.steps[number]
        assert step.map is not None
        if goes_along(run, step):
            assert step.map.followed is not None
            nested = step.map.form is MapForm.NESTED
            count = 0 if nested else run.maps[step.map.followed].count
            ledger.emit(MapExpanded(now, number, count, False))
        else:
            _expand_lists(run, step, step.map, now, ledger)


def _expand_lists(run: Run, step: Step, over: StepMap, now: int, ledger: Ledger) -> None:
    try:
        lists = tuple(_list(run, source, ledger.limits.items) for source in over.lists)
        count = _count(over, lists, ledger.limits.items)
    except _NotMappable as error:
        failure = Failure("Map", f"cannot map over {error}")
        ledger.emit(StepFailed(now, step.number, WHOLE, failure))
        return
    by_item = step.condition is not None and step.condition.reads_item
    ledger.emit(MapExpanded(now, step.number, count, not by_item))
    run.maps[step.number].values = lists


class _NotMappable(Exception):
    """Says over what, and why."""


def _list(run: Run, source: MapSource, limit: int) -> list[Json]:
    try:
        found = list_for(run, source)
    except NoSuchPath:
        raise _NotMappable(f"{_source_name(run, source)}: there is nothing") from None
    except InvalidJson as error:
        raise _NotMappable(f"{_source_name(run, source)}: {error}") from None
    if not isinstance(found, list):
        raise _NotMappable(f"{_source_name(run, source)}: it is {kind_of(found)}, not a list")
    if len(found) > limit:
        text = f"it has {len(found):,} items and the limit is {limit:,}; {_REMEDY}"
        raise _NotMappable(f"{_source_name(run, source)}: {text}")
    return found


def _count(over: StepMap, lists: Sequence[list[Json]], limit: int) -> int:
    """How many items the lists make together."""
    if not over.names:
        return len(lists[0])
    lengths = ", ".join(f'"{name}" has {len(each):,}' for name, each in zip(over.names, lists, strict=True))
    if over.zipped:
        if len({len(each) for each in lists}) > 1:
            raise _NotMappable(f"lists of different lengths together: {lengths}")
        return len(lists[0])
    count = prod(len(each) for each in lists)
    if count > limit:
        text = f"{lengths}, which makes {count:,} items, and the limit is {limit:,}"
        raise _NotMappable(f"every combination of the lists: {text}; {_REMEDY}")
    return count


def _source_name(run: Run, source: MapSource) -> str:
    if isinstance(source, FromParameter):
        return f'the parameter "{source.name}"'
    if not isinstance(source, FromStep):
        return "the given values"
    name, state = run.plan.steps[source.step].name, run.state_of(source.step)
    at = f' at "{".".join(source.path)}"' if source.path else ""
    ended = "" if state is StepState.COMPLETED else f" (which is {state.name})"
    return f'the output of "{name}"{ended}{at}'


def close(run: Run, now: int, ledger: Ledger) -> None:
    """Mapped steps whose items are all at rest come to rest themselves."""
    for number in list(run.finished_maps):
        ledger.emit(MapSettled(now, number, _whole(run, run.plan.steps[number], run.maps[number])))


def _whole(run: Run, step: Step, mapped: MapState) -> StepState:
    """The state of a map, by those of its items, and of its parts that never had any."""
    if step.undoes is not None:
        return _whole_undoing(step, mapped)
    missing = missing_parts(run, step)

    def some(state: StepState) -> int:
        return mapped.tally[state] + missing[state]

    if some(StepState.FAILED) and not step.allow_failure:
        return StepState.FAILED
    if mapped.tally[StepState.CANCELLED] or _is_cut_short(run, step):
        return StepState.CANCELLED
    if some(StepState.UPSTREAM_FAILED):
        return StepState.UPSTREAM_FAILED
    parts = mapped.count + missing.total()
    if parts:
        return StepState.SKIPPED if some(StepState.SKIPPED) == parts else StepState.COMPLETED
    return _empty(run, step)


def _whole_undoing(step: Step, mapped: MapState) -> StepState:
    """Of a map that undoes another one: nothing is undone of items that did not complete."""
    for state in (StepState.FAILED, StepState.CANCELLED, StepState.UPSTREAM_FAILED):
        if mapped.tally[state] and not (state is StepState.FAILED and step.allow_failure):
            return state
    return StepState.COMPLETED


def _is_cut_short(run: Run, step: Step) -> bool:
    """Whether more items would have come, here or in what it goes along with, had the run not been cancelled."""
    while step.followed is not None:
        groups, followed = run.maps[step.number].groups, run.state_of(step.followed)
        if not followed.at_rest or (groups is not None and groups.undecided > 0):
            return True
        if followed is not StepState.CANCELLED:
            return False
        step = run.plan.steps[step.followed]
    return False


def _empty(run: Run, step: Step) -> StepState:
    """An empty map is COMPLETED. Of one that went along with an empty one the rule is asked now."""
    outcome = StepState.READY if step.followed is None else decide_plainly(run, step)
    return StepState.COMPLETED if outcome is StepState.READY else outcome
