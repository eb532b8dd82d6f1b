"""What a case expects, held against what came of it. Answers every difference, not only the first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.e2e.cases.case_runs import Played, state_name
from tests.e2e.cases.neutral_conditions import STATES, UnknownInCase
from tests.e2e.cases.step_ledger import began, ended, of_step, parted

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUTS = {"Timeout", "OverallTimeout", "QueuedTimeout"}


def differences(played: Played, expected: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for what, wanted in expected.items():
        if what not in _CHECKS:
            raise UnknownInCase(f"the expectation {what!r}")
        found += _CHECKS[what](played, wanted)
    return found


def _run(played: Played, wanted: str | None) -> Iterator[str]:
    if wanted is None:
        return
    state = run_pb2.RunState.Name(played.run.state).removeprefix("RUN_STATE_")
    timed_out = state == "FAILED" and "timeout" in played.run.reason
    if not (timed_out if wanted == "TIMED_OUT" else state == STATES[wanted]):
        yield f"the run is {state} ({played.run.reason}), not {wanted}"


def _steps(played: Played, wanted: dict[str, Any]) -> Iterator[str]:
    for name, state in wanted.items():
        if state is None:
            continue
        accepted = state if isinstance(state, list) else [state]
        step = _step_run(played, name)
        if not any(_is(step, each) for each in accepted):
            yield f"{name} is {state_name(step)} ({step.failure.reason} {step.failure.message}), not {state}"


def _is(step: run_pb2.StepRun, wanted: str) -> bool:
    if wanted == "TIMED_OUT":
        return step.state == run_pb2.STEP_RUN_STATE_FAILED and step.failure.reason in TIMEOUTS
    return state_name(step) == STATES[wanted]


def _step_run(played: Played, name: str) -> run_pb2.StepRun:
    step, item = parted(name)
    return played.client.get_step_run(played.run.id, step, item).step_run


def _executions(played: Played, wanted: dict[str, int]) -> Iterator[str]:
    for name, count in wanted.items():
        found = len(of_step(played.executions, name))
        if found != count:
            yield f"{name} ran {found} times, not {count}"
    for name in wanted:
        told = _step_run(played, name).attempt_count
        item = parted(name)[1]
        run = [each for each in of_step(played.executions, name) if item is not None or each.item is None]
        if run and told != len(run):
            yield f"{name} ran {len(run)} times, and the system says {told}"


def _outputs(played: Played, wanted: dict[str, Any]) -> Iterator[str]:
    for name, output in wanted.items():
        text = _step_run(played, name).output_json
        found = json.loads(text) if text else None
        if found != output or isinstance(found, bool) != isinstance(output, bool):
            yield f"{name} put out {found!r}, not {output!r}"


def _order(played: Played, wanted: list[list[str]]) -> Iterator[str]:
    for first, second in wanted:
        name, _, which = second.partition(":")
        if which not in ("", "end"):
            raise UnknownInCase(f"the order {second!r}")
        mark = ended if which else began
        if not ended(played.executions, first) <= mark(played.executions, name):
            yield f"{first} did not end before {second}"


def _overlap(played: Played, wanted: list[list[str]]) -> Iterator[str]:
    for one, other in wanted:
        last_start = max(began(played.executions, one), began(played.executions, other))
        if last_start >= min(ended(played.executions, one), ended(played.executions, other)):
            yield f"{one} and {other} did not overlap"


def _at_most(played: Played, wanted: float) -> Iterator[str]:
    if played.seconds > wanted:
        yield f"it took {played.seconds:.1f} s, not at most {wanted} s"


def _at_least(played: Played, wanted: float) -> Iterator[str]:
    if played.seconds < wanted:
        yield f"it took {played.seconds:.2f} s, not at least {wanted} s"


def _same_run_id(played: Played, wanted: bool) -> Iterator[str]:
    same = all(each == played.run.id for each in played.answered)
    if not played.answered or same is not wanted:
        yield f"further submissions were answered with {played.answered}, and the run is {played.run.id}"


def _second_submission(played: Played, wanted: str) -> Iterator[str]:
    if played.answered != [wanted]:
        yield f"further submissions were answered with {played.answered}, not {wanted}"


def _reasons(played: Played, wanted: dict[str, str]) -> Iterator[str]:
    for name, reason in wanted.items():
        found = _step_run(played, name).failure.reason
        if found != reason:
            yield f"{name} failed with {found!r}, not {reason!r}"


def _most_at_once(played: Played, wanted: int) -> Iterator[str]:
    marks = [(each.start, 1) for each in played.executions] + [(each.end or 0, -1) for each in played.executions]
    running = most = 0
    for _, change in sorted(marks):
        running += change
        most = max(most, running)
    if most > wanted:
        yield f"{most} steps ran at once, not at most {wanted}"


_CHECKS: dict[str, Callable[[Played, Any], Iterator[str]]] = {
    "run": _run,
    "steps": _steps,
    "executions": _executions,
    "outputs": _outputs,
    "order": _order,
    "overlap": _overlap,
    "max_total_s": _at_most,
    "min_total_s": _at_least,
    "same_run_id": _same_run_id,
    "second_submission": _second_submission,
    "reasons": _reasons,
    "most_at_once": _most_at_once,
}
