"""What the row of a run gains by a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from penstock_coordinator.core.run.events import (
    CacheAsked,
    ChildStarted,
    RunCancelling,
    RunEnded,
    RunPaused,
    RunReopened,
    RunResumed,
    RunRollingBack,
    StepsLeased,
)
from penstock_coordinator.core.run.output import run_output
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import NewRun, RunChange

if TYPE_CHECKING:
    from penstock_coordinator.core.run.events import Event
    from penstock_coordinator.core.run.state import Run

_BEGINNINGS = frozenset({StepsLeased, ChildStarted, CacheAsked})
_ROW_EVENTS = frozenset({RunEnded, RunCancelling, RunPaused, RunResumed, RunReopened, RunRollingBack})


def row_changes(
    run: Run,
    new_run: NewRun | None,
    events: list[tuple[int, Event]],
    output: bytes | None,
    version_number: int | None = None,
) -> tuple[NewRun | None, RunChange | None]:
    """With the first record the row itself, `new_run` as it is now; later only what changed. `output` is what the run
    gives, if it is known; `version_number` that of the version that a new generation goes on with, if it is another."""
    if new_run is None and not _changed(run, events):
        return None, None
    # A record may hold the end of a generation and the beginning of the next one.
    ended = next((event for _, event in events if type(event) is RunEnded), None) if run.at_rest else None
    summary = None if ended is None else run.pack()
    end_time = None if ended is None else ended.at
    if run.state is not RunState.COMPLETED:
        output = None
    elif output is None:
        output = run_output(run)
    if new_run is not None:
        return (
            replace(
                new_run,
                state=int(run.state),
                reason=run.reason,
                start_time=run.started_at,
                end_time=end_time,
                summary=summary,
                output=output,
            ),
            None,
        )
    change = RunChange(int(run.state), run.reason, run.started_at, end_time, summary, output)
    # A run in its first generation was never opened again.
    reopened = run.generation > 1 and any(type(event) is RunReopened for _, event in events)
    return None, replace(change, **_reopened(run, events, version_number)) if reopened else change


def _reopened(run: Run, events: list[tuple[int, Event]], version_number: int | None) -> dict[str, Any]:
    """What a new generation changes of the row besides."""
    renewed = any(type(event) is RunReopened and event.parameters for _, event in events)
    return {
        "generation": run.generation,
        "version_number": version_number,
        "version_digest": None if version_number is None else run.plan.digest,
        "parameters": run.parameters if renewed else None,
    }


def _changed(run: Run, events: list[tuple[int, Event]]) -> bool:
    """Whether the run's row is another after the events: it ended, is being cancelled, or has just begun to run."""
    for _, event in events:
        kind = type(event)
        if kind in _ROW_EVENTS or (kind in _BEGINNINGS and event.at == run.started_at):
            return True
    return False
