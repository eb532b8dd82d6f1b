"""What the evaluator predicts, held against what the system says. Answers every difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.e2e.random_dags.playing import Found, describe, state_of

if TYPE_CHECKING:
    from tests.e2e.random_dags.dags import Dag, Json
    from tests.e2e.random_dags.predictions import Part, Prediction

    from penstock.v1 import run_pb2

AT_REST = ("COMPLETED", "FAILED", "SKIPPED", "UPSTREAM_FAILED", "CANCELLED")
RUN_AT_REST = ("COMPLETED", "FAILED", "CANCELLED")


def differences(predicted: Prediction, found: Found, *, attempts: bool = True) -> list[str]:
    """With `attempts` also of their numbers."""
    return [*_of_run(predicted, found), *_of_steps(predicted, found, attempts), *inconsistencies(found)]


def _of_run(predicted: Prediction, found: Found) -> Iterator[str]:
    if predicted.state != found.state:
        yield f"the run is {found.state} ({found.reason}), not {predicted.state}"
    elif parsed(found.output) != predicted.output:
        yield f"the run gives {found.output}, not {json.dumps(predicted.output)}"


def _of_steps(predicted: Prediction, found: Found, attempts: bool) -> Iterator[str]:
    if predicted.steps.keys() != found.steps.keys():
        yield f"the steps are {sorted(found.steps)}, not {sorted(predicted.steps)}"
        return
    for name, part in predicted.steps.items():
        yield from _of_one(name, part, found.steps[name], attempts and part.parts is None)
        expected, there = part.items, found.items.get(name, {})
        if expected.keys() != there.keys():
            yield f"{name} has the items {sorted(there)}, not {sorted(expected)}"
            continue
        for place, item in expected.items():
            yield from _of_one(f"{name}{list(place)}", item, there[place], attempts)


def _of_one(name: str, part: Part, found: run_pb2.StepRun, attempts: bool) -> Iterator[str]:
    same = state_of(found) == part.state and _same_reason(part, found)
    if attempts and part.attempts is not None:
        same = same and found.attempt_count == part.attempts
    if same and not part.group and part.state == "COMPLETED":
        same = parsed(found.output_json) == part.output
    if not same:
        told = f"{found.failure.reason} {found.failure.message} attempts={found.attempt_count}"
        yield f"{name} is {state_of(found)} {told} output={found.output_json[:200]}, not {describe(part)}"


def _same_reason(part: Part, found: run_pb2.StepRun) -> bool:
    return not part.reason or found.failure.reason == part.reason


def parsed(text: str) -> Json:
    return json.loads(text) if text else None


def inconsistencies(found: Found) -> Iterator[str]:
    """What holds of every run at rest, however it ended."""
    if found.state not in RUN_AT_REST:
        yield f"the run is {found.state}"
    counted: dict[str, int] = {}
    for name, step in found.steps.items():
        runs = found.items.get(name)
        for each in [step] if runs is None else runs.values():
            counted[state_of(each)] = counted.get(state_of(each), 0) + 1
            if state_of(each) not in AT_REST:
                yield f"{each.display_name} is {state_of(each)} in a run that is {found.state}"
        if state_of(step) not in AT_REST:
            yield f"{name} is {state_of(step)} in a run that is {found.state}"
    told = {state: getattr(found.counts, state.lower()) for state in AT_REST}
    if {state: count for state, count in told.items() if count} != counted:
        yield f"the run counts {told}, and there are {counted}"


def stopped_differences(dag: Dag, predicted: Prediction, found: Found) -> Iterator[str]:
    """Of a run that was stopped: what came to its end before is as predicted, all else is CANCELLED."""
    yield from inconsistencies(found)
    allowed = (predicted.state, "FAILED" if dag.fail_fast else "CANCELLED")
    if found.state not in allowed:
        yield f"the run is {found.state} ({found.reason}), neither of {allowed}"
    for step in dag.steps:
        if not step.cleanup and step.name in found.steps:
            yield from _of_stopped(step.name, predicted.steps[step.name], found)


def _of_stopped(name: str, part: Part, found: Found) -> Iterator[str]:
    if state_of(found.steps[name]) != "CANCELLED":
        yield from _of_one(name, part, found.steps[name], part.parts is None)
    for place, item in found.items.get(name, {}).items():
        expected = part.at(place)
        if expected is None:
            yield f"{name}{list(place)} is not to be"
        elif state_of(item) != "CANCELLED":
            yield from _of_one(f"{name}{list(place)}", expected, item, attempts=True)
