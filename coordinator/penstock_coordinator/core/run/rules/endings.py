"""How a run ends, or what it comes to instead of an end."""

from __future__ import annotations

from penstock_coordinator.core.run.compensating import rolling_back
from penstock_coordinator.core.run.events import Failure, RunEnded
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.output import OutputTooLarge, run_output
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

REASON_LIMIT = 1_000
"""Characters of a run's reason; the whole message is in the step run."""


def end(run: Run, now: int, ledger: Ledger) -> None:
    """All steps are at rest, and so is the run; or what it did is undone first."""
    if run.verdict is RunState.FAILED:
        _fail(run, run.reason, now, ledger)
    elif run.verdict is not None:
        ledger.emit(RunEnded(now, run.verdict, run.reason))
    elif run.undoing is not None:
        _end_rollback(run, now, ledger)
    elif run.first_failure is not None or run.earlier_failure is not None:
        _fail(run, failure_reason(run), now, ledger)
    elif run.left_cancelled:
        ledger.emit(RunEnded(now, RunState.CANCELLED, "steps that were cancelled before did not run again"))
    else:
        try:
            ledger.output = run_output(run, ledger.limits.output_bytes)
        except OutputTooLarge as fault:
            _fail(run, str(fault), now, ledger)
        else:
            ledger.emit(RunEnded(now, RunState.COMPLETED, ""))


def _fail(run: Run, reason: str, now: int, ledger: Ledger) -> None:
    if run.plan.rolls_back and run.undoing is None:
        ledger.emit(rolling_back(run, reason, "", now))
    else:
        ledger.emit(RunEnded(now, RunState.FAILED, reason))


def _end_rollback(run: Run, now: int, ledger: Ledger) -> None:
    assert run.undoing is not None
    if run.first_failure is None:
        ledger.emit(RunEnded(now, RunState.ROLLED_BACK, run.undoing.reason))
        return
    why = f" (rolled back because: {run.undoing.reason})" if run.undoing.reason else ""
    ledger.emit(RunEnded(now, RunState.FAILED, _cut(f"not all is undone: {failure_reason(run)}{why}")))


def failure_reason(run: Run) -> str:
    """Names the first failure that is not allowed."""
    found = run.first_failure or run.earlier_failure
    assert found is not None
    step, item, failure = found
    text = f'step "{run.display_name(step, item)}" failed: {_kind(failure)}'
    if failure.message:
        text += f": {failure.message}"
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= REASON_LIMIT else text[: REASON_LIMIT - 1] + "…"


def _kind(failure: Failure) -> str:
    """What people call it: of an exception that user code raised, its class."""
    raised = failure.error_class.rpartition(".")[2] if failure.reason == "UserError" else ""
    return raised or failure.reason
