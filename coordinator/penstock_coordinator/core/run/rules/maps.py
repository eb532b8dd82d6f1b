"""Mapped steps: one step run per item of a list."""

from __future__ import annotations

from collections.abc import Iterable

from penstock_coordinator.core.plan.model import FromParameter, FromValue, Json, Step
from penstock_coordinator.core.plan.values import InvalidJson, NoSuchPath
from penstock_coordinator.core.run.events import (
    WHOLE,
    Failure,
    ItemsReadied,
    ItemsSettled,
    MapExpanded,
    MapSettled,
    StepFailed,
)
from penstock_coordinator.core.run.judging import judge_item
from penstock_coordinator.core.run.ledger import CONDITION_COST, Ledger
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.sources import Upstream, items_of, kind_of, list_for
from penstock_coordinator.core.run.state import MapState, Run
from penstock_coordinator.core.run.states import StepState

MAX_ITEMS = 100_000


def expand(run: Run, steps: Iterable[int], now: int, ledger: Ledger) -> None:
    """Mapped steps whose rule and condition hold get their items, or fail."""
    for number in steps:
        step = run.plan.steps[number]
        try:
            found = list_for(run, step)
            why = _refusal(found)
        except NoSuchPath:
            found, why = None, "there is nothing"
        except InvalidJson as error:
            found, why = None, str(error)
        if why:
            failure = Failure("Map", f"cannot map over {_source_name(run, step)}: {why}")
            ledger.emit(StepFailed(now, number, WHOLE, failure))
        else:
            by_item = step.condition is not None and step.condition.reads_item
            ledger.emit(MapExpanded(now, number, len(found), not by_item))
            run.maps[number].values = found


def _refusal(found: Json) -> str:
    if not isinstance(found, list):
        return f"it is {kind_of(found)}, not a list"
    if len(found) > MAX_ITEMS:
        return f"it has {len(found):,} items and the limit is {MAX_ITEMS:,}; map over batches of items instead"
    return ""


def _source_name(run: Run, step: Step) -> str:
    source = step.map
    if isinstance(source, FromParameter):
        return f'the parameter "{source.name}"'
    if source is None or isinstance(source, FromValue):
        return "the given values"
    name, state = run.plan.steps[source.step].name, run.state_of(source.step)
    at = f' at "{".".join(source.path)}"' if source.path else ""
    ended = "" if state is StepState.COMPLETED else f" (which is {state.name})"
    return f'the output of "{name}"{ended}{at}'


def open_items(run: Run, now: int, ledger: Ledger) -> None:
    """Decide the conditions of items, as many as the turn has room for."""
    for number in list(run.opening):
        if ledger.room <= 0:
            return
        _open(run, number, now, ledger)


def _open(run: Run, number: int, now: int, ledger: Ledger) -> None:
    step, mapped = run.plan.steps[number], run.maps[number]
    values, upstream = items_of(run, number), Upstream(run)
    ready: list[int] = []
    skipped: list[int] = []
    failed: list[tuple[int, Failure]] = []
    item = mapped.states.find(StepState.PENDING)
    while item >= 0 and ledger.room > 0:
        ledger.room -= CONDITION_COST
        judged = judge_item(run, step, upstream, values[item])
        if isinstance(judged, Failure):
            failed.append((item, judged))
        else:
            (ready if judged else skipped).append(item)
        item = mapped.states.find(StepState.PENDING, item + 1)
    for at, failure in failed:
        ledger.emit(StepFailed(now, number, at, failure))
    if skipped:
        ledger.emit(ItemsSettled(now, number, StepState.SKIPPED, packed(skipped)))
    if ready:
        ledger.emit(ItemsReadied(now, number, packed(ready)))


def close(run: Run, now: int, ledger: Ledger) -> None:
    """Mapped steps whose items are all at rest come to rest themselves."""
    for number in list(run.finished_maps):
        ledger.emit(MapSettled(now, number, _joined(run.plan.steps[number], run.maps[number])))


def _joined(step: Step, mapped: MapState) -> StepState:
    """The state of a map, by those of its items. An empty one is COMPLETED."""
    if mapped.tally[StepState.FAILED] and not step.allow_failure:
        return StepState.FAILED
    if mapped.tally[StepState.CANCELLED]:
        return StepState.CANCELLED
    if mapped.count and mapped.tally[StepState.SKIPPED] == mapped.count:
        return StepState.SKIPPED
    return StepState.COMPLETED
