"""What an event obliges the coordinator to do, once it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.commands import (
    AskCache,
    CallBackLease,
    CancelChild,
    CloseRun,
    Command,
    EndReservation,
    GrantLeases,
    KeepReservation,
    PauseChild,
    ResumeChild,
    StartChild,
    StopAttempt,
)
from penstock_coordinator.core.run.events import Event
from penstock_coordinator.core.run.ranges import covered
from penstock_coordinator.core.run.state import ActiveStep, Paused, Run


def commands(run: Run, event: Event) -> list[Command]:
    """The duties of the event that was folded last. Idempotent; `resume` derives them again after a recovery."""
    duty = _TABLE.get(type(event))
    return duty(run, event) if duty is not None else []


def stop_attempt(active: ActiveStep, grace: int, reason: str) -> StopAttempt:
    return StopAttempt(active.agent, active.session, active.step, active.item, active.token, grace, reason)


def stop_doomed(run: Run) -> list[Command]:
    """Stop every lease of a step that is to be cancelled."""
    grace = 0 if run.immediate else run.plan.stop_grace
    attempts = [stop_attempt(active, grace, run.reason) for active in run.leased() if run.doomed(active.step)]
    return [*attempts, *(cancel_child(run, run_id) for (step, _), run_id in run.children.items() if run.doomed(step))]


def cancel_child(run: Run, run_id: bytes) -> CancelChild:
    return CancelChild(run_id, run.immediate, f"the run that it is a step of is being stopped: {run.reason}")


def cancel_given_up(run: Run, run_id: bytes) -> CancelChild:
    return CancelChild(
        run_id, run.immediate, f"the step that it is does not wait for it any more: {run.given_up[run_id]}"
    )


def pause_children(run: Run) -> list[Command]:
    assert run.paused is not None
    return [pause_child(run.paused, run_id) for run_id in run.children.values()]


def pause_child(paused: Paused, run_id: bytes) -> PauseChild:
    why = f": {paused.reason}" if paused.reason else ""
    return PauseChild(run_id, f"the run that it is a step of is paused{why}", paused.at)


def _start_child(_run: Run, event: e.ChildStarted) -> list[Command]:
    return [StartChild(event.step, event.item, event.run_id)]


def _end_child(run: Run, event: e.ChildEnded) -> list[Command]:
    return [] if event.reported else [cancel_given_up(run, event.run_id)]


def _resume(run: Run, _event: e.RunResumed) -> list[Command]:
    return [ResumeChild(run_id) for run_id in run.children.values()]


def _grant(run: Run, event: e.StepsLeased) -> list[Command]:
    step, item, _ = event.leases[0]
    return [GrantLeases(event.session, event.agent, run.seq, event.leases, run.agents_line(step, item))]


def _displace(run: Run, event: e.StepDisplaced) -> list[Command]:
    active = run.active_step(event.step, event.item)
    return [stop_displaced(run, active)] if active is not None and active.token else []


def stop_displaced(run: Run, active: ActiveStep) -> StopAttempt:
    return stop_attempt(active, run.plan.stop_grace, active.displaced.message if active.displaced else "displaced")


def _stop(run: Run, _event: e.RunCancelling) -> list[Command]:
    return stop_doomed(run)


def call_back(run: Run) -> list[Command]:
    """What has not started must not start any more."""
    return [CallBackLease(active.session, active.step, active.item, active.token) for active in run.leased()]


def _pause(run: Run, _event: e.RunPaused) -> list[Command]:
    return call_back(run) + pause_children(run)


def _exceed(run: Run, _event: e.CostBudgetExceeded) -> list[Command]:
    return call_back(run) if run.over_budget else []


def _ask(run: Run, event: e.CacheAsked) -> list[Command]:
    return [ask_cache(run, run.seq, event.step_runs)]


def ask_cache(run: Run, token: int, step_runs: Iterable[tuple[int, int]]) -> AskCache:
    return AskCache(token, tuple((step, item, run.computes_anew(step, item)) for step, item in step_runs))


def _missed(run: Run, event: e.CacheMissed) -> list[Command]:
    return keep_reservation(run, event.step, event.item)


def keep_reservation(run: Run, step: int, item: int) -> list[Command]:
    lookup = run.lookups[step, item]
    return [KeepReservation(step, item, lookup.token, lookup.key)] if lookup.reserved else []


def end_reservations(run: Run, event: Event) -> list[Command]:
    """Of the step runs that the event brings to rest; before it is folded."""
    found = ((key, run.lookups.get(key)) for key in _resting(run, event))
    known = isinstance(event, e.StepCompleted)
    return [
        EndReservation(step, item, lookup.token, lookup.key, known)
        for (step, item), lookup in found
        if lookup is not None and lookup.reserved
    ]


def _resting(run: Run, event: Event) -> list[tuple[int, int]]:
    """Those of the lookups, or that were none."""
    match event:
        case e.StepCompleted() | e.StepFailed() | e.StepCancelled():
            return [(event.step, event.item)]
        case e.StepsSettled():
            return [key for key in run.lookups if key[1] == e.WHOLE and covered(event.ranges, key[0])]
        case e.ItemsSettled():
            return [key for key in run.lookups if key[0] == event.step and covered(event.ranges, key[1])]
        case _:
            return []


def _close(_run: Run, event: e.RunEnded) -> list[Command]:
    return [CloseRun(event.state)]


_TABLE: dict[type, Callable[[Run, Any], list[Command]]] = {
    e.StepsLeased: _grant,
    e.RunCancelling: _stop,
    e.StepDisplaced: _displace,
    e.RunPaused: _pause,
    e.RunResumed: _resume,
    e.CostBudgetExceeded: _exceed,
    e.ChildStarted: _start_child,
    e.ChildEnded: _end_child,
    e.RunEnded: _close,
    e.CacheAsked: _ask,
    e.CacheMissed: _missed,
}
