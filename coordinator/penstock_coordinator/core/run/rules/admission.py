"""A run that waits for its place under a limit on runs."""

from __future__ import annotations

from penstock_coordinator.core.run.events import RunAdmitted, RunHeld
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import AdmitRun
from penstock_coordinator.core.run.state import Run


def admit(run: Run, message: AdmitRun, ledger: Ledger) -> None:
    """Nothing happens to a run that is not held. Its timeout counts from now on, if it waits for nothing else."""
    if run.held is None or message.refused:
        return
    if message.held is not None:
        ledger.emit(RunHeld(message.now, *message.held))
        return
    timeout = run.plan.timeout if run.undoing is None else None
    ledger.emit(RunAdmitted(message.now, None if timeout is None else message.now + timeout))
