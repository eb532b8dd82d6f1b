"""A step run of a live run, for readers."""

from __future__ import annotations

import msgspec

from penstock_coordinator.core.run.events import WHOLE, Failure
from penstock_coordinator.core.run.state import Run, Wait
from penstock_coordinator.core.run.states import StepState


class StepRunDetail(msgspec.Struct, frozen=True, gc=False):
    """What a run knows of a step run. Of one at rest, and of one that was not READY yet, that is its state alone."""

    state: StepState
    attempts: int = 0
    """Those that may have started user code."""
    first_ready_at: int | None = None
    ready_at: int | None = None
    first_leased_at: int | None = None
    leased_at: int | None = None
    """The newest lease, which it need not hold any more."""
    token: int = 0
    """Of the lease that it holds; 0: none."""
    session: int = 0
    agent: str = ""
    """Of the newest lease."""
    wait: Wait | None = None
    failure: Failure | None = None
    """Of the newest attempt that failed; or that the step run is displaced."""
    displaced: Failure | None = None


def describe(run: Run, step: int, item: int = WHOLE) -> StepRunDetail:
    """Raises `LookupError` for a step or an item that is not there (yet)."""
    state = run.state_of(step, item)
    active = run.active_step(step, item)
    if active is not None:
        return StepRunDetail(
            state,
            active.attempts,
            active.first_ready_at,
            active.ready_at,
            active.started_at,
            active.leased_at,
            active.token,
            active.session,
            active.agent,
            active.wait,
            active.displaced or active.last_failure,
            active.displaced,
        )
    if item != WHOLE and state is StepState.READY:
        ready_at = run.maps[step].first_ready_at(item)
        return StepRunDetail(state, run.spent_before(step, item), first_ready_at=ready_at, ready_at=ready_at)
    # What a step had before it became a map says nothing of its items.
    return StepRunDetail(state, 0 if item == WHOLE and step in run.maps else run.spent_before(step, item))
