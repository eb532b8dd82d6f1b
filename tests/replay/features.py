"""What a chronicle shows of the vocabulary of journals, so that few of them can be chosen which show all of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from tests.replay.chronicles import Chronicle

from penstock_coordinator.core.run.events import Event, decode

_AT_REST = frozenset({"COMPLETED", "FAILED", "CANCELLED", "ROLLED_BACK"})


def features_of(chronicle: Chronicle) -> frozenset[str]:
    """Kinds of events with the values that matter of their fields, and the states in which runs and steps are left."""
    found: set[str] = set()
    for run in chronicle.runs:
        for record in run.records:
            for event in decode(record.payload):
                found.update(_of_event(event))
        found.update(_of_state(run.state))
    return frozenset(found)


def _of_event(event: Event) -> Iterator[str]:
    kind = type(event).__name__
    yield kind
    for name in event.__struct_fields__:
        value = _kind_of(getattr(event, name))
        if value:
            yield f"{kind} {name}={value}"


def _kind_of(value: Any) -> str:
    match value:
        case enum.Enum():
            return value.name
        case bool() | None:
            return str(value)
        case ():
            return "empty"
        case tuple():
            return "filled"
    return ""


def _of_state(state: dict[str, Any]) -> Iterator[str]:
    left = "at rest" if state["state"] in _AT_REST else "live"
    yield f"run {state['state']}"
    for name in ("held", "paused", "children", "given_up", "first_failure", "earlier_failure", "demand"):
        if state[name]:
            yield f"{left}, {name}"
    if len(state["version"]) > 1:
        yield f"{left}, of another version"
    for step in state["steps"]:
        for each in (step, *step.get("items", ())):
            kind = "step" if each is step else "item"
            yield f"{left}, {kind} {each['state']}{' leased' if 'holder' in each else ''}"
