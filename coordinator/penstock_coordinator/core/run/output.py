"""What a run that is COMPLETED gives."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import FromStep, Json
from penstock_coordinator.core.plan.values import NULL, InvalidJson, NoSuchPath, dump_again, follow
from penstock_coordinator.core.run.sources import output_of
from penstock_coordinator.core.run.state import Run

MAX_OUTPUT_BYTES = 1 << 20
"""Of the output of a run; one that is larger is left out."""


def run_output(run: Run) -> bytes | None:
    """JSON, made of what the run kept of its steps' outputs; null where a step did not complete, or has no such part.
    None: the pipeline says of no output, or it is too large."""
    outputs = run.plan.outputs
    if not outputs:
        return None
    whole = {name: _part(run, source) for name, source in outputs}
    try:
        made = dump_again(whole.get("", whole))
    except InvalidJson:
        return NULL
    return made if len(made) <= MAX_OUTPUT_BYTES else None


def _part(run: Run, source: FromStep) -> Json:
    try:
        return follow(source.path, output_of(run, source.step))
    except (InvalidJson, NoSuchPath):
        return None
