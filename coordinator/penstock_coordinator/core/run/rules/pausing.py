"""Pausing a run: nothing starts, what runs goes on, leases that have not started are called back.

The rest of the run is drawn on as always, so that READY says what would start. If nothing is left to start, the run
ends although it is paused.
"""

from __future__ import annotations

from penstock_coordinator.core.run.events import RunPaused, RunResumed
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import PauseRun, ResumeRun
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState


def pause(run: Run, message: PauseRun, ledger: Ledger) -> None:
    """Again changes nothing; nor does it for a run that is being stopped, or at rest."""
    if run.seq and run.state < RunState.PAUSED:
        ledger.emit(RunPaused(message.now, message.requested_by, message.reason))


def resume(run: Run, message: ResumeRun, ledger: Ledger) -> None:
    """Nothing happens to a run that is not paused."""
    if run.paused is not None:
        ledger.emit(RunResumed(message.now, message.requested_by))
