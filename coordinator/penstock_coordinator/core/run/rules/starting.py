"""How a run begins."""

from __future__ import annotations

from penstock_coordinator.core.run.events import RunStarted
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import StartRun
from penstock_coordinator.core.run.state import Run


def start(run: Run, message: StartRun, ledger: Ledger) -> None:
    """Nothing happens if the run was started before."""
    if run.seq:
        return
    timeout = run.plan.timeout
    deadline = None if timeout is None else message.now + timeout
    ledger.emit(RunStarted(message.now, run.plan.digest, message.parameters, deadline))
