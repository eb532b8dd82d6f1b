"""The values that rules look at: parameters, and what the run kept of outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan import values
from penstock_coordinator.core.plan.model import FromParameter, FromValue, Json, MapForm, MapSource, Step, StepMap
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.places import gathered
from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run


def output_of(run: Run, step: int) -> Json:
    """What the run kept of the step's output: None unless it is COMPLETED; of a mapped step the list (of lists) of its
    items' outputs, None where an item is not COMPLETED. Raises `InvalidJson`."""
    node = run.plan.steps[step]
    mapped = run.maps.get(step)
    if mapped is not None:
        outputs = [item_output(run, step, item) for item in range(mapped.count)]
        return gathered(run.plan, run, step, outputs, list, None)
    return _rebuilt(node, run.kept.get(step))


def item_output(run: Run, step: int, item: int) -> Json:
    """As `output_of`, of one item of an expanded step."""
    return _rebuilt(run.plan.steps[step], run.maps[step].kept.get(item))


def _rebuilt(step: Step, kept: tuple[bytes, ...] | None) -> Json:
    return None if kept is None else values.rebuild(step.kept_paths, kept)


def list_for(run: Run, source: MapSource) -> Json:
    """What stands where a list to map over should be. Raises `NoSuchPath`, and `InvalidJson` if an agent sent what is
    none."""
    if isinstance(source, FromValue):
        return values.parse(source.json)
    if isinstance(source, FromParameter):
        return run.parameter_values.get(source.name)
    return values.follow(source.path, output_of(run, source.step))


def length_for(run: Run, step: Step, owner: int) -> int | str:
    """How many items a nested map gets for an item of the step that it goes along with; a text that says what is there
    if it is no list."""
    source = step.map
    assert source is not None
    assert source.followed is not None
    followed = run.plan.steps[source.followed]
    kept = run.maps[followed.number].kept.get(owner)
    if kept is None:
        return "it is null, not a list"
    found = kept[len(followed.kept_paths) + followed.kept_lengths.index(source.path)]
    return values.length_in(found)


def item_value(run: Run, step: int, item: int) -> Json:
    """The value that an item of an expanded step stands for; of one that goes along with another step only the parts
    that conditions read."""
    over = run.plan.steps[step].map
    assert over is not None
    if over.form is MapForm.LISTS:
        return combined(over, lists_of(run, step), item)
    owner, followed = item, over.followed
    assert followed is not None
    groups = run.maps[step].groups
    if groups is not None:
        owner, position = groups.at(item)
    output = _rebuilt(run.plan.steps[followed], run.maps[followed].kept.get(owner))
    return output if groups is None else values.follow((*over.path, str(position)), output)


def lists_of(run: Run, step: int) -> tuple[list[Json], ...]:
    """The lists that an expanded step is mapped over. Kept in memory until the step is at rest."""
    mapped = run.maps[step]
    if mapped.values is None:
        over = run.plan.steps[step].map
        assert over is not None
        mapped.values = tuple(list_for(run, source) for source in over.lists)
    return mapped.values


def combined(over: StepMap, lists: Sequence[list[Json]], item: int) -> Json:
    """The item of that number: made when it is asked for, for a product may be much larger than its lists."""
    if not over.names:
        return lists[0][item]
    if over.zipped:
        return {name: each[item] for name, each in zip(over.names, lists, strict=True)}
    members: list[Json] = []
    for each in reversed(lists):
        item, position = divmod(item, len(each))
        members.append(each[position])
    return dict(zip(over.names, reversed(members), strict=True))


class Upstream:
    """What conditions see of other steps, each built once: good for as long as the run does not change."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[str, dict[str, Json]] = {}

    def of(self, names: Iterable[str]) -> dict[str, dict[str, Json]]:
        return {name: self._step(name) for name in names}

    def _step(self, name: str) -> dict[str, Json]:
        found = self._seen.get(name)
        if found is None:
            number = self._run.plan.numbers[name]
            state = self._run.state_of(number, WHOLE)
            output = output_of(self._run, number) if state is StepState.COMPLETED else None
            found = self._seen[name] = {"state": state.name, "output": output}
        return found
