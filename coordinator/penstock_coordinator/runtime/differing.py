"""What is different between two runs: of the runs as wholes, and step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.values import dump, parse
from penstock_coordinator.core.run.numbering import Place
from penstock_coordinator.core.run.places import place_of, spelled_place
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.runtime.views import UnknownRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock_coordinator.core.plan.model import Json
    from penstock_coordinator.core.run.numbering import Place
    from penstock_coordinator.ports import RunId, RunIndex
    from penstock_coordinator.runtime.reading import Reader
    from penstock_coordinator.runtime.views import RunView, StepRunView

NOTED_MICROSECONDS = 10_000
"""Durations that differ by less are alike, and by less than a tenth too."""
COMPARED_ITEM_BYTES = 16 << 20
"""The outputs of a map's items are compared one by one up to here."""
NAMED_ITEMS = 5
PAGE = 1_000
WHOLE = -1


@dataclass(frozen=True, slots=True)
class Change:
    """Values as JSON; None: not there."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class StepChanges:
    """`before` and `after` tell in which run the step is."""

    step: str
    before: bool
    after: bool
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunDifference:
    changes: list[Change]
    steps: list[StepChanges]
    """Those that differ, in the order of the first run's specification; those of the second alone come last."""


async def difference(reader: Reader, index: RunIndex, first: RunId, second: RunId) -> RunDifference:
    """Raises `UnknownRun`."""
    before = await reader.run(first)
    try:
        after = await reader.run(second)
    except UnknownRun as error:
        error.field = "other_run_id"
        raise
    old, new = await _steps(reader, before), await _steps(reader, after)
    steps: list[StepChanges] = []
    for name in [*old, *(name for name in new if name not in old)]:
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            steps.append(StepChanges(name, one is not None, other is not None))
        elif changes := [*_step(one, other), *await _items(reader, index, before, one, after, other)]:
            steps.append(StepChanges(name, True, True, changes))
    return RunDifference(list(_run(before, after)), steps)


async def _steps(reader: Reader, view: RunView) -> dict[str, StepRunView]:
    found: dict[str, StepRunView] = {}
    after: tuple[int, int] | None = None
    while page := await reader.step_runs(view.row.run_id, None, frozenset(), after, PAGE):
        found.update((view.plan.steps[each.step].name, each) for each in page)
        after = (page[-1].step, page[-1].item)
    return found


def _run(before: RunView, after: RunView) -> Iterator[Change]:
    one, other = before.row, after.row
    yield from _change("pipeline", one.pipeline, other.pipeline)
    yield from _change("version_number", one.version_number, other.version_number)
    yield from _members("parameters", _object(one.parameters), _object(other.parameters))
    yield from _members("labels", dict(one.labels), dict(other.labels))
    yield from _change("state", RunState(one.state).name, RunState(other.state).name)
    yield from _change("reason", one.reason, other.reason)
    yield from _change("generation", before.generation, after.generation)
    yield from _change("priority", one.origin.priority, other.origin.priority)
    yield from _change("weight", one.origin.weight, other.origin.weight)
    yield from _duration(_span(one.start_time, one.end_time), _span(other.start_time, other.end_time))


def _object(packed: bytes) -> dict[str, Json]:
    found: dict[str, Json] = parse(packed)
    return found


def _step(one: StepRunView, other: StepRunView) -> Iterator[Change]:
    yield from _change("state", StepState(one.state).name, StepState(other.state).name)
    yield from _change("attempts", one.attempts, other.attempts)
    if one.output != other.output:
        yield Change("output", one.output, other.output)
    before, after = one.failure, other.failure
    yield from _change("failure.reason", before and before.reason, after and after.reason)
    yield from _change("failure.message", before and before.message, after and after.message)
    yield from _change("failure.error_class", before and before.error_class, after and after.error_class)
    yield from _members("items", _counts(one), _counts(other))
    yield from _duration(_span(one.start_time, one.end_time), _span(other.start_time, other.end_time))


def _counts(view: StepRunView) -> dict[str, Json]:
    return {} if view.item_counts is None else {name: n for name, n in view.item_counts._asdict().items() if n}


async def _items(
    reader: Reader, index: RunIndex, before: RunView, one: StepRunView, after: RunView, other: StepRunView
) -> Iterable[Change]:
    """Of a mapped step, the outputs of items at places that both have."""
    if one.item_counts is None or other.item_counts is None:
        return []
    first, second = (before.row.run_id, one.step), (after.row.run_id, other.step)
    if max(await index.outputs_size(*first), await index.outputs_size(*second)) > COMPARED_ITEM_BYTES:
        return []
    old, new = await _outputs(reader, index, before, one.step), await _outputs(reader, index, after, other.step)
    differing = sorted(place for place in old.keys() & new.keys() if old[place] != new[place])
    named = [Change(f"output{spelled_place(place)}", old[place], new[place]) for place in differing[:NAMED_ITEMS]]
    more = len(differing) - len(named)
    return named + ([Change("output[...]", None, dump(f"{more} more items have other outputs"))] if more else [])


async def _outputs(reader: Reader, index: RunIndex, view: RunView, step: int) -> dict[Place, bytes]:
    run_id = view.row.run_id
    outputs = await index.outputs(run_id, step)
    # Asked for last: it knows of every item that has an output.
    shape = await reader.shape(run_id)
    states = shape.items_of(step) or b""
    # Rows of former generations may be of items that are no more.
    return {
        place_of(view.plan, shape, step, item): output
        for item, output in outputs
        if 0 <= item < len(states) and states[item] == StepState.COMPLETED
    }


def _span(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else end - begin


def _duration(before: int | None, after: int | None) -> Iterator[Change]:
    """In seconds, if the difference is one that people would see."""
    if before is None or after is None or abs(before - after) <= max(NOTED_MICROSECONDS, max(before, after) // 10):
        return
    yield Change("duration_seconds", dump(before / 1e6), dump(after / 1e6))


def _change(path: str, before: Json, after: Json) -> Iterator[Change]:
    if before != after:
        yield Change(path, None if before is None else dump(before), None if after is None else dump(after))


def _members(path: str, before: dict[str, Json], after: dict[str, Json]) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        yield from _change(f"{path}.{name}", before.get(name), after.get(name))
