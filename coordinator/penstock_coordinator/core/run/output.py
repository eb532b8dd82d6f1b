"""What a run that is COMPLETED gives."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import FromStep, Json
from penstock_coordinator.core.plan.values import NULL, InvalidJson, NoSuchPath, dump_again, follow
from penstock_coordinator.core.run.sources import output_of
from penstock_coordinator.core.run.state import Run


def run_output(run: Run) -> bytes | None:
    """JSON, made of what the run kept of its steps' outputs; null where a step did not complete, or has no such part.
    None: the pipeline says of no output."""
    outputs = run.plan.outputs
    if not outputs:
        return None
    whole = {name: _part(run, source) for name, source in outputs}
    try:
        return dump_again(whole.get("", whole))
    except InvalidJson:
        return NULL


def output_fault(output: bytes | None, limit: int) -> str:
    """Why the run cannot give that output; "" if it can."""
    size = len(output or b"")
    if size <= limit:
        return ""
    return (
        f"OutputTooLarge: the output of the run has {size:,} bytes, past the limit of {limit:,}: write large values to"
        " files or a store and return their place, or have the operator raise PENSTOCK_MAX_RUN_OUTPUT_SIZE"
    )


def _part(run: Run, source: FromStep) -> Json:
    try:
        return follow(source.path, output_of(run, source.step))
    except (InvalidJson, NoSuchPath):
        return None
