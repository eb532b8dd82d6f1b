"""What is counted of runs, by facts that are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from penstock_coordinator.core.counts.histogram import Histogram
from penstock_coordinator.core.plan.slo_tiers import SloTier
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.losses import CAUSES
from penstock_coordinator.core.run.states import RunState, StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.run.events import Event, Range
    from penstock_coordinator.core.run.state import Run

USER, INFRASTRUCTURE, POISON, NONE = "user", "infrastructure", "poison", "none"
"""Whose fault it was."""
OUR_FAULT = frozenset(
    {
        "AgentLost",
        "ArtifactStore",
        "BundleUnavailable",
        "QueuedTimeout",
        "ResultUnstorable",
    }
)
"""Reasons of failures that no step is to blame for: machines, stores, and agents that there were not enough of."""
REJECTED, OTHER = "rejected", "other"

_CHARGED = {e.Charge.INFRASTRUCTURE: INFRASTRUCTURE, e.Charge.STARTED: INFRASTRUCTURE, e.Charge.POISON: POISON}
_SECOND = 1_000_000


class RunCounts:
    """Instants are microseconds since 1970."""

    def __init__(self) -> None:
        self.started = [0] * len(SloTier)
        self.ended: dict[tuple[RunState, SloTier, str], int] = {}
        """By state, tier, and of those that FAILED whose fault it was."""
        self.steps_ended = [0] * (max(StepState) + 1)
        """Step runs, by state."""
        self.retries: dict[str, int] = {}
        """By whose fault it was that the attempt before came to nothing."""
        self.letters = [0] * len(e.Budget)
        """Dead letters, by what is used up."""
        self.losses = dict.fromkeys((*sorted(CAUSES), REJECTED, OTHER), 0)
        """Leases that ended without a result, by cause."""
        self.hits = self.misses = self.waits = 0
        """Questions to the cache."""
        self.dispatch_seconds = [Histogram() for _ in SloTier]
        """From when there was room for a step run that was READY to the committed grant, with what it was kept waiting
        by the coordinator itself."""
        self.slot_time = self.cpu_time = 0
        """Of attempts that have ended, in microseconds."""
        self.memory_time = 0.0
        """Bytes times seconds."""
        self._withheld_from = 0
        self._withheld = (0, 0)
        """From when to when the coordinator last let nothing be placed."""
        self._fault = ""
        """Of the attempt that the turn has ended last."""

    # --- the coordinator lets nothing be placed

    def withhold(self, now: int) -> None:
        self._withheld_from = self._withheld_from or now

    def go_on(self, now: int) -> None:
        if self._withheld_from:
            self._withheld = self._withheld_from, now
            self._withheld_from = 0

    # --- what was committed

    def committed(self, run: Run, events: Iterable[tuple[int, Event]], now: int) -> None:
        """The events of one turn. `now` is needed if there are grants among them. The run may be further by now."""
        self._fault = ""
        for _, event in events:
            count = _COUNTERS.get(type(event))
            if count is not None:
                count(self, run, event, now)

    def spent(self, slot_time: int, cpu_time: int, peak_memory_bytes: int) -> None:
        """By an attempt that has ended."""
        self.slot_time += slot_time
        self.cpu_time += cpu_time
        self.memory_time += peak_memory_bytes * (slot_time / _SECOND)

    def note_run_started(self, run: Run, _event: e.RunStarted, _now: int) -> None:
        self.started[run.plan.slo_tier] += 1

    def note_run_ended(self, run: Run, event: e.RunEnded, _now: int) -> None:
        key = (event.state, run.plan.slo_tier, fault_of(run) if event.state is RunState.FAILED else NONE)
        self.ended[key] = self.ended.get(key, 0) + 1

    def note_step_completed(self, _run: Run, _event: object, _now: int) -> None:
        self.steps_ended[StepState.COMPLETED] += 1

    def note_step_failed(self, _run: Run, _event: object, _now: int) -> None:
        self._fault = ""
        self.steps_ended[StepState.FAILED] += 1

    def note_step_cancelled(self, _run: Run, _event: object, _now: int) -> None:
        self._fault = ""
        self.steps_ended[StepState.CANCELLED] += 1

    def note_settled(self, _run: Run, event: e.StepsSettled | e.ItemsSettled, _now: int) -> None:
        self.steps_ended[event.state] += _count(event.ranges)

    def note_rolled_back(self, _run: Run, event: e.StepsRolledBack | e.ItemsRolledBack, _now: int) -> None:
        self.steps_ended[StepState.ROLLED_BACK] += _count(event.ranges)

    def note_cached(self, run: Run, event: e.StepCached, now: int) -> None:
        self.hits += 1
        self.note_step_completed(run, event, now)

    def note_missed(self, _run: Run, _event: object, _now: int) -> None:
        self.misses += 1

    def note_awaited(self, _run: Run, _event: object, _now: int) -> None:
        self.waits += 1

    def note_attempt_failed(self, _run: Run, _event: object, _now: int) -> None:
        self._fault = USER

    def note_lease_lost(self, _run: Run, event: e.LeaseLost, _now: int) -> None:
        self._fault = _CHARGED.get(event.charge, "")
        cause = cause_of(event.cause)
        self.losses[cause] += 1

    def note_step_again(self, _run: Run, _event: object, _now: int) -> None:
        """At once. What was charged to nobody is no retry: the attempt had not begun."""
        fault, self._fault = self._fault, ""
        if fault:
            self.retries[fault] = self.retries.get(fault, 0) + 1

    def note_step_waiting(self, run: Run, event: e.StepWaiting, now: int) -> None:
        if event.reason is e.WaitReason.BACKOFF:
            self.note_step_again(run, event, now)

    def note_leased(self, run: Run, event: e.StepsLeased, now: int) -> None:
        """The room was offered, or found, at the time of the event."""
        waited, waits = max(now - event.at, 0), self.dispatch_seconds[run.plan.slo_tier]
        if not self._withheld[1] or (run.created_at or 0) >= self._withheld[1]:
            waits.add(waited / _SECOND, len(event.leases))
            return
        for step, item, _ in event.leases:
            waits.add((waited + self._kept_waiting(run, step, item, event.at)) / _SECOND)

    def _kept_waiting(self, run: Run, step: int, item: int, at: int) -> int:
        active = run.active_step(step, item)
        since, until = self._withheld
        return 0 if active is None else max(min(until, at) - max(since, active.ready_at), 0)


def fault_of(run: Run) -> str:
    """Whose fault it is that the run FAILED: by the first failure that is not allowed. Timeouts and budgets of a run
    are its user's."""
    found = run.first_failure or run.earlier_failure
    return INFRASTRUCTURE if found is not None and found[2].reason in OUR_FAULT else USER


def cause_of(cause: str) -> str:
    """Agents say causes in words of their own; of those there is no end."""
    if cause in CAUSES:
        return cause
    return REJECTED if cause.startswith(REJECTED) else OTHER


def _count(ranges: Iterable[Range]) -> int:
    return sum(stop - first for first, stop in ranges)


_COUNTERS: dict[type, Callable[[RunCounts, Run, Any, int], None]] = {
    e.RunStarted: RunCounts.note_run_started,
    e.RunEnded: RunCounts.note_run_ended,
    e.StepCompleted: RunCounts.note_step_completed,
    e.StepFailed: RunCounts.note_step_failed,
    e.StepCancelled: RunCounts.note_step_cancelled,
    e.StepsSettled: RunCounts.note_settled,
    e.ItemsSettled: RunCounts.note_settled,
    e.StepsRolledBack: RunCounts.note_rolled_back,
    e.ItemsRolledBack: RunCounts.note_rolled_back,
    e.StepCached: RunCounts.note_cached,
    e.CacheMissed: RunCounts.note_missed,
    e.CacheAwaited: RunCounts.note_awaited,
    e.AttemptFailed: RunCounts.note_attempt_failed,
    e.ChildEnded: RunCounts.note_attempt_failed,
    e.LeaseLost: RunCounts.note_lease_lost,
    e.StepReturned: RunCounts.note_step_again,
    e.StepWaiting: RunCounts.note_step_waiting,
    e.StepsLeased: RunCounts.note_leased,
}
