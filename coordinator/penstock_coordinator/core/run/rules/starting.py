"""How a run begins."""

from __future__ import annotations

from penstock_coordinator.core.run.events import RunHeld, RunStarted
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import StartRun
from penstock_coordinator.core.run.state import Run


def start(run: Run, message: StartRun, ledger: Ledger) -> None:
    """Nothing happens if the run was started before. A held run's timeout counts from its admission."""
    if run.seq:
        return
    timeout, now = run.plan.timeout, message.now
    deadline = None if timeout is None or message.held is not None else now + timeout
    ledger.emit(RunStarted(now, run.plan.digest, message.parameters, deadline, cache=message.cache))
    if message.held is not None:
        ledger.emit(RunHeld(now, *message.held))
