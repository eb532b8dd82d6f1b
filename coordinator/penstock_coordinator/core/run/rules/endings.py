"""How a run ends."""

from __future__ import annotations

from penstock_coordinator.core.run.events import Failure, RunEnded
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.output import OutputTooLarge, run_output
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

REASON_LIMIT = 1_000
"""Characters of a run's reason; the whole message is in the step run."""


def end(run: Run, now: int, ledger: Ledger) -> None:
    """All steps are at rest, and so is the run."""
    if run.verdict is not None:
        ledger.emit(RunEnded(now, run.verdict, run.reason))
    elif run.first_failure is not None or run.earlier_failure is not None:
        ledger.emit(RunEnded(now, RunState.FAILED, failure_reason(run)))
    elif run.left_cancelled:
        ledger.emit(RunEnded(now, RunState.CANCELLED, "steps that were cancelled before did not run again"))
    else:
        try:
            ledger.output = run_output(run, ledger.limits.output_bytes)
        except OutputTooLarge as fault:
            ledger.emit(RunEnded(now, RunState.FAILED, str(fault)))
        else:
            ledger.emit(RunEnded(now, RunState.COMPLETED, ""))


def failure_reason(run: Run) -> str:
    """Names the first failure that is not allowed."""
    found = run.first_failure or run.earlier_failure
    assert found is not None
    step, item, failure = found
    text = f'step "{run.display_name(step, item)}" failed: {_kind(failure)}'
    if failure.message:
        text += f": {failure.message}"
    return text if len(text) <= REASON_LIMIT else text[: REASON_LIMIT - 1] + "…"


def _kind(failure: Failure) -> str:
    """What people call it: of an exception that user code raised, its class."""
    raised = failure.error_class.rpartition(".")[2] if failure.reason == "UserError" else ""
    return raised or failure.reason
