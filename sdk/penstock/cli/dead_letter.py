"""One dead letter, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToJson

from penstock.cli.attempts import print_attempts
from penstock.cli.said import failed_attempts
from penstock.cli.states import budget_text, failure_text, letter_state, run_state
from penstock.cli.tables import shortened, time_text
from penstock.quantities import format_size
from penstock.v1 import run_service_pb2

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.v1 import dead_letter_service_pb2

MAX_VALUE = 2_000
"""Characters of an input or a parameter; --json has more."""


def print_letter(console: Console, found: dead_letter_service_pb2.GetDeadLetterResponse) -> None:
    letter, run = found.letter, found.run
    state = letter_state(letter.state)
    if letter.HasField("close_time"):
        state += f" {time_text(letter, 'close_time')}" + (f" by {letter.closed_by}" if letter.closed_by else "")
    _facts(
        console,
        [
            ("letter", letter.id),
            ("state", state),
            ("step", letter.display_name),
            ("failed", time_text(letter, "fail_time")),
            ("used up", budget_text(letter.budget)),
            ("failure", failure_text(found.step_run.failure if _is_same(found) else letter.failure)),
            ("run", f"{run.id} of {run.pipeline} version {run.version_number}, {run_state(run.state)}"),
            ("above", run.parent.run_id),
        ],
    )
    _values(console, "Parameters of the run", {name: MessageToJson(run.parameters[name]) for name in run.parameters})
    _inputs(console, found)
    _attempts(console, found)
    if found.log_lines:
        console.print(f"\nLast lines of attempt {found.log_lines[-1].attempt}:")
        for line in found.log_lines:
            console.print(f"  {line.text}", markup=False)
    for number, remedy in enumerate(found.remedies):
        console.print(("\nWhat to do:\n" if not number else "") + f"  {number + 1}. {remedy}", markup=False)


def _is_same(found: dead_letter_service_pb2.GetDeadLetterResponse) -> bool:
    """Whether the step run is as it was when the letter was written."""
    return found.step_run.failure.reason == found.letter.failure.reason and found.letter.close_time.seconds == 0


def _facts(console: Console, facts: list[tuple[str, Any]]) -> None:
    for fact, value in facts:
        if value:
            console.print(f"{fact:<9}", value, sep="", markup=False)


def _values(console: Console, title: str, values: dict[str, str]) -> None:
    if values:
        console.print(f"\n{title}:")
    for name, value in sorted(values.items()):
        console.print(f"  {name} = {shortened(value, MAX_VALUE)}", markup=False)


def _inputs(console: Console, found: dead_letter_service_pb2.GetDeadLetterResponse) -> None:
    if found.inputs_problem:
        console.print(f"\nIts inputs cannot be shown: {found.inputs_problem}", markup=False)
    texts = {each.name: each.json or f"({format_size(each.size_bytes)})" for each in found.inputs}
    _values(console, "Inputs", texts)


def _attempts(console: Console, found: dead_letter_service_pb2.GetDeadLetterResponse) -> None:
    response = run_service_pb2.GetStepRunResponse(step_run=found.step_run, attempts=found.attempts)
    if not print_attempts(console, response):
        return
    response.step_run.ClearField("failure")
    for heading, failure in failed_attempts(response):
        console.print(f"\n{heading}:\n{failure}", markup=False)
