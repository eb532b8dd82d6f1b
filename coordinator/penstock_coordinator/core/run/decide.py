"""What a run makes of a message. Routes to the rules, in an order that matters, and decides nothing itself."""

from __future__ import annotations

from typing import assert_never

from penstock_coordinator.core.run.commands import ContinueRun
from penstock_coordinator.core.run.deadlines import due_timer
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import (
    AdmitRun,
    AttemptEnded,
    CancelRun,
    ChildRefused,
    ChildReported,
    ClockTick,
    Continue,
    DisplaceReady,
    DisplaceStep,
    InputsUnresolved,
    LeaseGone,
    Message,
    PauseRun,
    RaiseBudget,
    RequeueSteps,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
    SlotsOffered,
    StartRun,
    ValueAwaited,
    ValueFound,
    ValueMissing,
)
from penstock_coordinator.core.run.rules import (
    admission,
    attempts,
    budget,
    cache,
    children,
    control,
    displacing,
    endings,
    following,
    joins,
    leasing,
    maps,
    pausing,
    reopening,
    rollback,
    starting,
    waits,
)
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.run.timers import Timer, TimerKind


def decide(run: Run, message: Message, ledger: Ledger) -> None:
    """One turn: write to the ledger what the message leads to, and draw the consequences. The run evolves with it.

    Anything may come at any time; what does not fit the state changes nothing. What one turn may not do leaves a
    `ContinueRun` among the commands.
    """
    ledger.room = ledger.limit
    if run.plan.budget is not None:
        ledger.ended = message if isinstance(message, AttemptEnded) else None
    match message:
        case AttemptEnded():
            attempts.result(run, message, ledger)
        case SlotsOffered():
            leasing.place(run, message, ledger)
            return
        case StartRun():
            starting.start(run, message, ledger)
            if message.refused or message.over:
                control.refuse(run, message.refused or message.over, message.now, ledger, over=bool(message.over))
        case LeaseGone():
            attempts.lease_gone(run, message, ledger)
        case InputsUnresolved():
            attempts.inputs_unresolved(run, message, ledger)
        case CancelRun():
            control.cancel(run, message, ledger)
        case PauseRun():
            pausing.pause(run, message, ledger)
        case ResumeRun():
            pausing.resume(run, message, ledger)
        case RaiseBudget():
            budget.raise_limits(run, message, ledger)
        case RetryRun() | RerunStep() | RequeueSteps() | RollbackRun():
            reopening.reopen(run, message, ledger)
        case ClockTick():
            _tick(run, message, ledger)
        case AdmitRun():
            admission.admit(run, message, ledger)
            if message.refused:
                control.refuse(run, message.refused, message.now, ledger)
        case DisplaceStep():
            displacing.displace_step(run, message, ledger)
        case ChildReported():
            children.reported(run, message, ledger)
        case ChildRefused():
            children.refused(run, message, ledger)
        case ValueFound() | ValueMissing() | ValueAwaited():
            cache.answered(run, message, ledger)
        case DisplaceReady():
            displacing.displace_ready(run, message, ledger)
        case Continue():
            pass
        case _ as never:
            assert_never(never)
    if run.seq and not run.at_rest:
        _conclude(run, message.now, ledger)


def _conclude(run: Run, now: int, ledger: Ledger) -> None:
    """Consequences, until there are none or the turn is full."""
    while not run.at_rest:
        if run.unfinished:
            if ledger.room <= 0:
                ledger.answer(ContinueRun())
                return
            before = run.seq
            _draw(run, now, ledger)
            assert run.seq != before, "a consequence that is none would come for ever"
        elif run.open_steps or run.held is not None:
            return
        else:
            endings.end(run, now, ledger)


def _draw(run: Run, now: int, ledger: Ledger) -> None:
    """The consequences that can be seen now; they may have others."""
    if run.failing_fast:
        control.start_polite(run, RunState.FAILED, endings.failure_reason(run), now, ledger)
    if run.state is RunState.CANCELLING:
        control.sweep(run, now, ledger)
    if run.sweeping:
        return
    if run.rollback_owed:
        rollback.proceed(run, now, ledger)
    if run.frontier:
        maps.expand(run, joins.settle_frontier(run, now, ledger), now, ledger)
    if run.opening:
        following.open_items(run, now, ledger)
    if run.finished_maps:
        maps.close(run, now, ledger)
    if run.overspent and not run.deciding:
        budget.exceed(run, now, ledger)
        if run.stopped_by_budget:
            control.start_polite(run, RunState.FAILED, budget.stop_reason(run), now, ledger)
    if run.spawning and ledger.room > 0:
        children.start(run, now, ledger)
    if run.asking and ledger.room > 0:
        cache.ask(run, now, ledger)


def _tick(run: Run, tick: ClockTick, ledger: Ledger) -> None:
    while ledger.room > 0:
        timer = due_timer(run, tick.now, tick.queued_open_at)
        if timer is None:
            return
        _ring(run, timer, tick.now, ledger)


def _ring(run: Run, timer: Timer, now: int, ledger: Ledger) -> None:
    match timer.kind:
        case TimerKind.WAKE:
            waits.wake(run, timer, now, ledger)
        case TimerKind.QUEUED:
            waits.queued_too_long(run, timer, now, ledger)
        case TimerKind.OVERALL:
            waits.took_too_long(run, timer, now, ledger)
        case TimerKind.RUN:
            control.run_timed_out(run, now, ledger)
        case TimerKind.CANCEL:
            control.cancel_overdue(run, now, ledger)
        case _ as never:
            assert_never(never)
