"""What the live runs of a coordinator are at: kept up with each turn, so that nobody has to look at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from penstock_coordinator.core.run.states import RunState, StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.run.state import Run

_READY, _RUNNING, _WAITING = int(StepState.READY), int(StepState.RUNNING), int(StepState.WAITING)

Figures: TypeAlias = tuple[int, int, int, int]
"""Of a run: its state, and how many of its step runs are READY, RUNNING and WAITING."""


def figures_of(run: Run) -> Figures:
    plain, cleanup = run.tally, run.cleanup_tally
    return (
        run.state,
        plain[_READY] + cleanup[_READY],
        plain[_RUNNING] + cleanup[_RUNNING],
        plain[_WAITING] + cleanup[_WAITING],
    )


class LiveCounts:
    """Sums over the live runs. What is decided and not yet committed counts."""

    __slots__ = ("_deepest", "_deepest_before", "mail", "ready", "running", "runs", "waiting")

    def __init__(self) -> None:
        self.runs = [0] * (max(RunState) + 1)
        """By state."""
        self.ready = self.running = self.waiting = 0
        """Step runs."""
        self.mail = 0
        """Messages that runs have still to read."""
        self._deepest = self._deepest_before = 0

    # --- runs

    def enter(self, run: Run) -> None:
        state, ready, running, waiting = figures_of(run)
        self.runs[state] += 1
        self.ready += ready
        self.running += running
        self.waiting += waiting

    def leave(self, run: Run) -> None:
        state, ready, running, waiting = figures_of(run)
        self.runs[state] -= 1
        self.ready -= ready
        self.running -= running
        self.waiting -= waiting

    def changed(self, before: Figures, run: Run) -> None:
        """A turn of the run is over, which was as `before` when it began."""
        after = figures_of(run)
        if after == before:
            return
        self.runs[before[0]] -= 1
        self.runs[after[0]] += 1
        self.ready += after[1] - before[1]
        self.running += after[2] - before[2]
        self.waiting += after[3] - before[3]

    # --- mail

    def posted(self, depth: int) -> None:
        """One more message, to a run that has so many now."""
        self.mail += 1
        if depth > self._deepest:
            self._deepest = depth

    @property
    def deepest(self) -> int:
        """The most messages that one run had, since the last call of `turn_over` but one."""
        return max(self._deepest, self._deepest_before)

    def turn_over(self) -> None:
        """To be called now and then."""
        self._deepest_before, self._deepest = self._deepest, 0
