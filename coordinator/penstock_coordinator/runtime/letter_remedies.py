"""What to do about a dead letter, in sentences for people."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from penstock_coordinator.core.run.events import Budget
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import LetterState

if TYPE_CHECKING:
    from penstock_coordinator.ports import DeadLetter
    from penstock_coordinator.runtime.views import RunView

_CAUSES = {
    Budget.RETRIES: "Find out from the failure, its trace and the log why the step's own code failed.",
    Budget.INFRASTRUCTURE: (
        "Its agents were lost while they ran it, and not by its doing as far as is known: look at their machines and at"
        " the network. `retry.max_losses` of the step, or PENSTOCK_MAX_LOSSES, is how many may be lost."
    ),
    Budget.POISON: (
        "Three agents died while they ran it: look for what kills a whole agent (memory, a full disk, a signal to its"
        " process) in what the step does, and in what else ran there. Give it agents of its own (`queue`, `labels`)"
        " or more room (`resources`) before it runs again."
    ),
}
_REASONS = {
    "QueuedTimeout": "No agent took it in time: see `penstock agents list`, and `timeouts.queued` of the step.",
    "OverallTimeout": "Its time was up, with all attempts and waits: see `timeouts.overall` of the step.",
    "Input": "Its inputs cannot be made of what its upstream gave: rerun that, or apply a version that reads it well.",
    "Map": "What it is mapped over is no list that fits: rerun its upstream, or apply a version that reads it well.",
    "Condition": "Its condition cannot be evaluated: apply a version with one that can.",
    "BundleUnavailable": "The code of its version is not there any more: apply the pipeline again.",
    "SubPipeline": "The run that the step is could not be started: the failure says what is missing.",
}

_OF_THE_STEP = {
    "Environment": (
        "Its environment cannot be built: mend its requirements, or what the agents know of indexes and interpreters;"
        " the failure has what uv said last."
    ),
}


def _cause(budget: Budget, reason: str) -> str:
    of_the_step = _OF_THE_STEP.get(reason) if budget is Budget.RETRIES else None
    return of_the_step or _CAUSES.get(budget) or _REASONS.get(reason, "See the failure for what stands against it.")


def remedies(found: DeadLetter, view: RunView, *, gone: bool = False, undoing: bool = False) -> list[str]:
    """In the order in which they are to be tried; none for a letter that is not open. `undoing`: the newest generation
    of the run is a rollback, however far it came."""
    if found.state is not LetterState.OPEN or gone:
        return []
    letter, row = found.letter, view.row
    run_id = str(uuid.UUID(bytes=found.run_id))
    budget = Budget(letter.budget)
    said = [_cause(budget, letter.reason)]
    state = RunState(row.state)
    if state is RunState.CANCELLING:
        said.append(f"The run is being stopped: wait until it is at rest (`penstock watch {run_id}`).")
    if undoing or state in (RunState.ROLLING_BACK, RunState.ROLLED_BACK):
        said.append(_of_an_undone_run(run_id, state))
    else:
        said.append(
            f"When the cause is mended: `penstock dead-letters requeue {run_id}:{letter.seq}`. If the mending is new"
            f" code, apply it and go on with it: `penstock retry {run_id} --newest-version`, once the run is at rest."
        )
    if row.origin.parent is not None:
        above = uuid.UUID(bytes=row.origin.parent.run_id)
        said.append(
            f"The run is a step of the run {above}, which does not wait for it any more if it has failed too: then"
            f" `penstock retry {above}` runs all of it again."
        )
    said.append(f"If it need not run again: `penstock dead-letters purge {run_id}:{letter.seq}`.")
    return said


def _of_an_undone_run(run_id: str, state: RunState) -> str:
    """Such a run refuses a requeue of what it did, and goes on with what could not be undone."""
    if state is RunState.ROLLED_BACK:
        return (
            f"What the run did is undone. When the cause is mended: `penstock retry {run_id}` does its work again; add"
            " --newest-version if the mending is new code."
        )
    if state.at_rest or state is RunState.CANCELLING:
        return (
            f"Not all that the run did is undone: `penstock retry {run_id}` goes on with the rollback; add"
            " --newest-version if the mending is new code. Once the run is ROLLED_BACK, another retry does its work"
            " again."
        )
    return (
        f"The run is being rolled back: wait until it is at rest (`penstock watch {run_id}`). Once it is ROLLED_BACK,"
        f" `penstock retry {run_id}` does its work again."
    )
