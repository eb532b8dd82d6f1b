"""What a run owes after a recovery."""

from __future__ import annotations

from penstock_coordinator.core.run.commands import AwaitLease, Command, ContinueRun, StartChild
from penstock_coordinator.core.run.duties import (
    ask_cache,
    call_back,
    cancel_given_up,
    keep_reservation,
    pause_children,
    stop_displaced,
    stop_doomed,
)
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState


def resume(run: Run) -> list[Command]:
    """The duties that the state still owes, after all committed events were folded. Whether they were done before is
    unknown, so they are idempotent."""
    if run.at_rest:
        return []
    owed: list[Command] = [
        AwaitLease(active.agent, active.session, active.step, active.item, active.token, active.attempts)
        for active in run.leased()
    ]
    owed += [stop_displaced(run, active) for active in run.leased() if active.displaced is not None]
    owed += [StartChild(step, item, run_id) for (step, item), run_id in run.children.items()]
    owed += _lookups(run)
    owed += [cancel_given_up(run, run_id) for run_id in run.given_up]
    if run.state is RunState.CANCELLING:
        owed += stop_doomed(run)
    if run.paused is not None:
        owed += call_back(run)
        owed += pause_children(run)
    elif run.over_budget:
        owed += call_back(run)
    if run.unfinished:
        owed.append(ContinueRun())
    return owed


def _lookups(run: Run) -> list[Command]:
    """Questions are asked again under their own tokens: what was reserved for them is theirs."""
    owed: list[Command] = []
    asked: dict[int, list[tuple[int, int]]] = {}
    for (step, item), lookup in run.lookups.items():
        if run.awaits_value(step, item):
            asked.setdefault(lookup.token, []).append((step, item))
        else:
            owed += keep_reservation(run, step, item)
    return [*owed, *(ask_cache(run, token, step_runs) for token, step_runs in asked.items())]
