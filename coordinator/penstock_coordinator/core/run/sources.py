"""The values that rules look at: parameters, and what the run kept of outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan import values
from penstock_coordinator.core.plan.model import FromParameter, FromValue, Json, Step
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run


def output_of(run: Run, step: int) -> Json:
    """What the run kept of the step's output: None unless it is COMPLETED; of a mapped step the list of its items'
    outputs, None where an item is not COMPLETED. Raises `InvalidJson`."""
    node = run.plan.steps[step]
    mapped = run.maps.get(step)
    if mapped is not None:
        return [
            values.rebuild(node.kept_paths, mapped.kept[item]) if item in mapped.kept else None
            for item in range(mapped.count)
        ]
    kept = run.kept.get(step)
    return values.rebuild(node.kept_paths, kept) if kept is not None else None


def list_for(run: Run, step: Step) -> Json:
    """What the step is mapped over: hopefully a list. Raises `NoSuchPath`, and `InvalidJson` if an
    agent sent what is none."""
    source = step.map
    assert source is not None
    if isinstance(source, FromValue):
        return values.parse(source.json)
    if isinstance(source, FromParameter):
        return run.parameter_values.get(source.name)
    return values.follow(source.path, output_of(run, source.step))


def kind_of(value: Json) -> str:
    """A JSON value's kind, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return {int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}[type(value)]


def items_of(run: Run, step: int) -> list[Json]:
    """The items of a mapped step that is expanded, in order. Kept in memory until the step is at rest."""
    mapped = run.maps[step]
    if mapped.values is None:
        mapped.values = list_for(run, run.plan.steps[step])
    return mapped.values


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
