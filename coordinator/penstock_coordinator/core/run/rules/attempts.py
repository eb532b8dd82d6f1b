"""What becomes of a step run when an attempt ends, or is lost.

Three budgets, and each attempt is charged to one at most. Failures of user code are charged to the step's retries,
lost leases to a budget of the infrastructure's own, and agents whose process died of it, perhaps, count as poison. What
certainly never started, and what was handed back or stopped, is charged to nobody.
"""

from __future__ import annotations

from typing import NamedTuple

from penstock_coordinator.core.plan import values
from penstock_coordinator.core.run.commands import AcknowledgeResult, AckStatus
from penstock_coordinator.core.run.displaced import stopped, stopping
from penstock_coordinator.core.run.events import (
    ArtifactsMade,
    AttemptFailed,
    AttemptTimed,
    Budget,
    Charge,
    Failure,
    LeaseLost,
    MemoryRaised,
    Outcome,
    StepCompleted,
    StepFailed,
    StepReturned,
    StepWaiting,
    WaitReason,
)
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.losses import POISONOUS, losses_in_words, poison_in_words
from penstock_coordinator.core.run.messages import AttemptEnded, AttemptTiming, InputsUnresolved, LeaseGone
from penstock_coordinator.core.run.raised import memory_of
from penstock_coordinator.core.run.retrying import OUT_OF_MEMORY, backoff, is_retried, raised_memory
from penstock_coordinator.core.run.state import ActiveStep, Run

_DEFAULT_REASONS = {
    Outcome.FAILED: "UserError",
    Outcome.TIMED_OUT: "Timeout",
    Outcome.CANCELLED: "Cancelled",
    Outcome.LOST: "AgentLost",
}


def result(run: Run, message: AttemptEnded, ledger: Ledger) -> None:
    """Only the newest token is heard. Every result is answered, when all that it led to is committed."""
    active = run.speaker(message.step, message.item, message.token)
    if active is None:
        heard = run.has_heard(message.step, message.item, message.token)
        ledger.answer(_answer(message, AckStatus.DUPLICATE if heard else AckStatus.STALE))
        return
    if message.report.timing is not None:
        ledger.emit(_timed(message, message.report.timing))
    if message.outcome is None:
        _completed(run, message, active, ledger)
    elif message.outcome is Outcome.LOST:
        _lost(run, message.now, active, _Loss(_why(message).message, Charge.INFRASTRUCTURE), ledger)
    else:
        _failed(run, message, active, message.outcome, _why(message), ledger)
    ledger.answer(_answer(message, AckStatus.COMMITTED))


def _timed(message: AttemptEnded, timing: AttemptTiming) -> AttemptTimed:
    run_time = message.report.run_duration
    spans = (timing.environment, run_time, timing.upload, timing.age)
    return AttemptTimed(message.now, message.step, message.item, message.token, *spans)


def _answer(message: AttemptEnded, status: AckStatus) -> AcknowledgeResult:
    return AcknowledgeResult(message.session, message.step, message.item, message.token, message.result_id, status)


def _completed(run: Run, message: AttemptEnded, active: ActiveStep, ledger: Ledger) -> None:
    try:
        kept = _kept(run, message)
    except values.InvalidJson as error:
        why = Failure("OutputUnserialisable", f"the output: {error}")
        _failed(run, message, active, Outcome.FAILED, why, ledger)
        return
    if message.artifacts:
        ledger.emit(ArtifactsMade(message.now, message.step, message.item, message.token, message.artifacts))
    ledger.emit(StepCompleted(message.now, message.step, message.item, message.token, kept))


def _kept(run: Run, message: AttemptEnded) -> tuple[bytes, ...]:
    step = run.plan.steps[message.step]
    if not step.kept_paths and not step.kept_lengths:
        return ()
    if message.kept is not None:
        return message.kept
    return values.keep(step, message.output or values.NULL)


def _failed(
    run: Run, message: AttemptEnded, active: ActiveStep, outcome: Outcome, why: Failure, ledger: Ledger
) -> None:
    now, number, item = message.now, message.step, message.item
    ledger.emit(AttemptFailed(now, number, item, message.token, outcome, why))
    retry = run.plan.steps[number].retry
    if stopping(run, active):
        stopped(run, active, now, ledger)
    elif active.failures >= retry.max_attempts or not is_retried(retry, _names(message, outcome, why)):
        ledger.emit(StepFailed(now, number, item, why, Budget.RETRIES))
    else:
        if why.reason == OUT_OF_MEMORY and retry.memory_factor > 1:
            _raise_memory(run, message, active, ledger)
        wait = backoff(retry, active.failures, message.jitter)
        if wait:
            ledger.emit(StepWaiting(now, number, item, WaitReason.BACKOFF, now + wait))
        else:
            ledger.emit(StepReturned(now, number, item))


def _raise_memory(run: Run, message: AttemptEnded, active: ActiveStep, ledger: Ledger) -> None:
    """The next attempts ask for more, if there is an agent that has more."""
    step = run.plan.steps[active.step]
    asked = memory_of(run.line_at(run.agents_line(active.step, active.item)))
    found = raised_memory(step.retry, memory_of(run.plan.lines[step.line]), asked, message.memory_most)
    if found is not None:
        ledger.emit(MemoryRaised(message.now, active.step, active.item, *found))


def _why(message: AttemptEnded) -> Failure:
    if message.failure is not None:
        return message.failure
    return Failure(_DEFAULT_REASONS[message.outcome or Outcome.FAILED])


def _names(message: AttemptEnded, outcome: Outcome, why: Failure) -> set[str]:
    """All that a retry policy may call this failure: classes, also of bases, with or without their modules."""
    classes = (why.error_class, *message.error_bases)
    names = {why.reason, *classes, *(name.rpartition(".")[2] for name in classes)}
    if outcome is Outcome.TIMED_OUT:
        names.add("Timeout")
    if message.report.exit_code is not None:
        names.add(f"ExitCode:{message.report.exit_code}")
    names.discard("")
    return names


def lease_gone(run: Run, message: LeaseGone, ledger: Ledger) -> None:
    """A lease ended without a result. Nothing happens if it is not the newest one."""
    active = run.speaker(message.step, message.item, message.token)
    if active is not None:
        _lost(run, message.now, active, _loss(active, message), ledger)


class _Loss(NamedTuple):
    cause: str
    charge: Charge
    boot: str = ""


def _loss(active: ActiveStep, message: LeaseGone) -> _Loss:
    """A process dies once: what counted as dead and was lost again had only been cut off."""
    if message.charge is not Charge.POISON:
        return _Loss(message.cause, message.charge)
    if message.boot in active.deaths:
        return _Loss(message.cause, Charge.INFRASTRUCTURE)
    return _Loss(message.cause, Charge.POISON, message.boot)


def _lost(run: Run, now: int, active: ActiveStep, loss: _Loss, ledger: Ledger) -> None:
    number, item = active.step, active.item
    ledger.emit(LeaseLost(now, number, item, active.token, *loss))
    if stopping(run, active):
        stopped(run, active, now, ledger)
    elif len(active.deaths) >= POISONOUS:
        why = Failure("Poison", poison_in_words(len(active.deaths), active.agent))
        ledger.emit(StepFailed(now, number, item, why, Budget.POISON))
    elif active.losses >= (run.plan.steps[number].retry.max_losses or ledger.limits.losses):
        why = Failure("AgentLost", losses_in_words(active.losses, active.agent, loss.cause))
        ledger.emit(StepFailed(now, number, item, why, Budget.INFRASTRUCTURE))
    else:
        ledger.emit(StepReturned(now, number, item))


def inputs_unresolved(run: Run, message: InputsUnresolved, ledger: Ledger) -> None:
    """The attempt did not start, and no other would."""
    active = run.speaker(message.step, message.item, message.token)
    if active is None:
        return
    now, number, item = message.now, message.step, message.item
    ledger.emit(LeaseLost(now, number, item, message.token, "inputs_unresolved", Charge.NOBODY))
    if stopping(run, active):
        stopped(run, active, now, ledger)
    else:
        ledger.emit(StepFailed(now, number, item, message.failure))
