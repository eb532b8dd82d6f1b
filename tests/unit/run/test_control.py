"""What people ask of a run, at every state that it can be in: each has a decided outcome (docs/control.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.run.driver import Driver
from tests.unit.run.plans import Node, build

from penstock_coordinator.core.run.events import Outcome, RunReopened
from penstock_coordinator.core.run.messages import (
    AttemptEnded,
    CancelRun,
    Message,
    PauseRun,
    RerunStep,
    ResumeRun,
    RetryRun,
    SlotsOffered,
    StartRun,
)
from penstock_coordinator.core.run.states import RunState, StepState

A, B = 0, 1
"""`b` comes after `a`; `c` stands alone."""
REFUSED = "refused"


def driver() -> Driver:
    return Driver(build([Node("a"), Node("b", ["a"]), Node("c")]))


def pending() -> Driver:
    made = driver()
    made.start()
    return made


def held() -> Driver:
    made = driver()
    made.send(StartRun(0, b"{}", held=("k", 1)))
    return made


def running() -> Driver:
    """`a` is at rest, `b` and `c` hold leases."""
    made = pending()
    lease(made)
    end(made, A)
    lease(made)
    return made


def branch_at_rest() -> Driver:
    """`a` and `b` are at rest, `c` holds a lease."""
    made = running()
    end(made, B)
    return made


def paused() -> Driver:
    made = running()
    made.send(PauseRun(0))
    return made


def cancelling() -> Driver:
    made = running()
    made.send(CancelRun(0, False, ""))
    return made


def completed() -> Driver:
    made = branch_at_rest()
    end(made, 2)
    return made


def failed() -> Driver:
    made = running()
    end(made, B, Outcome.FAILED)
    end(made, 2)
    return made


def cancelled() -> Driver:
    made = cancelling()
    for step, _, _ in made.tokens():
        end(made, step, Outcome.CANCELLED)
    return made


def lease(made: Driver) -> None:
    made.send(SlotsOffered(0, 0, 1, "agent", 9))


def end(made: Driver, step: int, outcome: Outcome | None = None) -> None:
    token = next(token for number, _, token in made.tokens() if number == step)
    made.send(AttemptEnded(0, step, -1, token, b"", 1, outcome))


POLITE, NOW = CancelRun(0, False, ""), CancelRun(0, True, "")
PAUSE, RESUME, RETRY, RERUN = PauseRun(0), ResumeRun(0), RetryRun(0), RerunStep(0, A, -1)
S = RunState
MESSAGES = (POLITE, NOW, PAUSE, RESUME, RETRY, RERUN)
OUTCOMES: dict[Callable[[], Driver], tuple[RunState | str, ...]] = {
    pending: (S.CANCELLED, S.CANCELLED, S.PAUSED, S.PENDING, REFUSED, REFUSED),
    held: (S.CANCELLED, S.CANCELLED, S.PAUSED, S.PENDING, REFUSED, REFUSED),
    running: (S.CANCELLING, S.CANCELLING, S.PAUSED, S.RUNNING, REFUSED, REFUSED),
    branch_at_rest: (S.CANCELLING, S.CANCELLING, S.PAUSED, S.RUNNING, REFUSED, S.RUNNING),
    paused: (S.CANCELLING, S.CANCELLING, S.PAUSED, S.RUNNING, REFUSED, REFUSED),
    cancelling: (S.CANCELLING, S.CANCELLING, S.CANCELLING, S.CANCELLING, REFUSED, REFUSED),
    completed: (S.COMPLETED, S.COMPLETED, S.COMPLETED, S.COMPLETED, REFUSED, S.PENDING),
    failed: (S.FAILED, S.FAILED, S.FAILED, S.FAILED, S.PENDING, S.PENDING),
    cancelled: (S.CANCELLED, S.CANCELLED, S.CANCELLED, S.CANCELLED, S.PENDING, S.PENDING),
}


@pytest.mark.parametrize("state", OUTCOMES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("number", range(len(MESSAGES)), ids=["polite", "now", "pause", "resume", "retry", "rerun"])
def test_every_state_and_message_have_an_outcome(state: Callable[[], Driver], number: int) -> None:
    made, message, expected = state(), MESSAGES[number], OUTCOMES[state][number]
    before = made.run.state
    assert_outcome(made, message, expected, before)


def assert_outcome(made: Driver, message: Message, expected: RunState | str, before: RunState) -> None:
    ledger = made.send(message)
    if expected == REFUSED:
        assert ledger.refusal
        assert not ledger.events
        assert made.run.state is before
    else:
        assert not ledger.refusal
        assert made.run.state is expected


@pytest.mark.parametrize("state", [completed, failed, cancelled], ids=lambda state: state.__name__)
def test_what_is_asked_twice_is_done_once(state: Callable[[], Driver]) -> None:
    made = state()
    first = RERUN if made.run.state is S.COMPLETED else RETRY
    made.send(first)
    assert made.send(first).refusal
    assert sum(isinstance(event, RunReopened) for event in made.events) == 1
    assert made.run.generation == 2


def test_a_retry_keeps_what_is_done_and_counts_attempts_on() -> None:
    made = failed()
    made.send(RETRY)
    assert [made.run.state_of(step) for step in range(3)] == [StepState.COMPLETED, StepState.READY, StepState.COMPLETED]
    assert [made.run.attempts_used(step, -1) for step in range(3)] == [1, 1, 1]
    lease(made)
    assert made.run.active[B].attempts == 2
    end(made, B)
    assert made.run.state is S.COMPLETED
    assert made.run.attempts_used(B, -1) == 2
