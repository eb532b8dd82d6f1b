"""What one line of a table says of a step run, and all that there is to say of its failed attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli.foreign_text import visible, visible_json
from penstock.cli.states import failure_line, failure_text
from penstock.cli.tables import MAX_FAILURE, shortened
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.v1 import run_service_pb2


def said_of(step_run: run_pb2.StepRun, waits_for: str = "") -> str:
    """Its output, else its failure, else what it waits for, in one line; of one that undoes another step, which."""
    if step_run.output_json and step_run.output_json != "null":
        return shortened(visible_json(step_run.output_json)) + (" (cached)" if step_run.cached else "")
    undoes = f"undoes {step_run.compensates}" if step_run.compensates else ""
    waits_for = waits_for or step_run.wait_reason or undoes or step_run.output_json
    return shortened(failure_line(step_run.failure) or waits_for, MAX_FAILURE)


def failed_attempts(response: run_service_pb2.GetStepRunResponse) -> Iterator[tuple[str, str]]:
    """A heading, and the failure with its whole message and traceback, of each attempt that has more to say than the
    table's line does and is not what the step run ended with."""
    shown = response.step_run.failure
    for attempt in response.attempts:
        failure = attempt.failure
        if failure == shown or not (failure.traceback or "\n" in failure.message.strip()):
            continue
        yield f"attempt {attempt.number}", whole_failure(failure)


def whole_failure(failure: run_pb2.Failure) -> str:
    """A traceback ends with the message: it is not said twice."""
    trace = visible(failure.traceback.rstrip())
    if trace and visible(failure.message.strip()) in trace:
        return trace
    return "\n".join(part for part in (failure_text(failure), trace) if part)
