"""Pausing a run: nothing starts, what runs goes on, leases that have not started are called back.

The rest of the run is drawn on as always, so that READY says what would start. If nothing is left to start, the run
ends although it is paused.

A pause goes down to the runs that steps are, and is theirs to give back: what a person paused below stays paused when
the run above goes on, and what a person resumed below goes on although the run above is paused.
"""

from __future__ import annotations

from penstock_coordinator.core.run.events import RunPaused, RunResumed
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import PauseRun, ResumeRun
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState


def pause(run: Run, message: PauseRun, ledger: Ledger) -> None:
    """Again changes nothing; nor does it for a run that is being stopped, or at rest. A rollback is held too."""
    from_above = message.above_since is not None
    pausable = run.state < RunState.PAUSED or run.state is RunState.ROLLING_BACK
    if run.seq and pausable and not _was_resumed(run, message):
        ledger.emit(RunPaused(message.now, message.requested_by, message.reason, from_above))
    elif run.paused is not None and run.paused.from_above and not from_above:
        # Held by the run above until now, and by a person from now on.
        ledger.emit(RunPaused(message.now, message.requested_by, message.reason))


def _was_resumed(run: Run, message: PauseRun) -> bool:
    """Whether it is the repetition of a pause that a person has taken off the run."""
    return message.above_since is not None and run.resumed_at is not None and run.resumed_at >= message.above_since


def resume(run: Run, message: ResumeRun, ledger: Ledger) -> None:
    """Nothing happens to a run that is not paused; nor, when the run above goes on, to one that a person paused."""
    if run.paused is not None and (run.paused.from_above or not message.from_above):
        ledger.emit(RunResumed(message.now, message.requested_by, message.from_above))
