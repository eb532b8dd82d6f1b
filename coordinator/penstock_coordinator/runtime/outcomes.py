"""What becomes of an append, in the words of whoever asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from penstock_coordinator.core.run.events import Failure, Outcome
from penstock_coordinator.core.run.messages import AttemptEnded
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.ports import Committed, KeyTaken, NotNewest, Removed, Repeated, RunId
from penstock_coordinator.runtime.views import NotAccepted, Stopping, UnknownRun

if TYPE_CHECKING:
    from penstock_coordinator.ports import AppendOutcome

StartAnswer: TypeAlias = RunId | Repeated | KeyTaken | NotNewest
"""The run that was started, or why there is none."""


def start_answer(run_id: RunId, outcome: AppendOutcome | BaseException) -> StartAnswer:
    return outcome if isinstance(outcome, KeyTaken | NotNewest) else accepted(run_id, outcome)


def accepted(run_id: RunId, outcome: AppendOutcome | BaseException) -> RunId | Repeated:
    if isinstance(outcome, Committed):
        return run_id
    if isinstance(outcome, Repeated):
        return outcome
    if isinstance(outcome, asyncio.CancelledError):
        raise Stopping
    if isinstance(outcome, Removed):
        raise UnknownRun(run_id=run_id)
    if isinstance(outcome, NotPossible):
        raise outcome
    raise NotAccepted(str(outcome))


def unstorable_result(result: AttemptEnded) -> AttemptEnded:
    """The database refuses what the attempt said, for its content: it failed for that reason."""
    return AttemptEnded(
        now=result.now,
        step=result.step,
        item=result.item,
        token=result.token,
        result_id=result.result_id,
        session=result.session,
        outcome=Outcome.FAILED,
        failure=Failure("ResultUnstorable", "the database refuses to store what the attempt returned"),
        jitter=result.jitter,
    )
