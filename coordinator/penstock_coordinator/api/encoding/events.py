"""Committed events, as watchers see them: what became of the run and of its step runs.

An attempt that ended badly, or a lease that was lost, does not by itself say what its step is now: that follows in the
same turn. Their changes therefore have no state; the failure is said with them, and again with what follows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, assert_never

from penstock.v1 import run_pb2
from penstock.v1.run_service_pb2 import Event as WireEvent
from penstock.v1.run_service_pb2 import StepChange
from penstock_coordinator.api.encoding.runs import cache_source, failure
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.api.fields import run_id_text
from penstock_coordinator.core.plan.budget import Measure, used_of
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.losses import lost_in_words
from penstock_coordinator.core.run.mapped import Groups
from penstock_coordinator.core.run.places import nests, place_of, same_group
from penstock_coordinator.core.run.states import RunState, StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.numbering import Numbering

_Ended = e.AttemptFailed | e.LeaseLost | e.ChildEnded


class EventEncoder:
    """Encodes the events of one run in their order. It must see them all from the first lease on, or from the first
    event: `skip` those that nobody asked for. If it `hangs_on_all`, it must see them all."""

    def __init__(self, plan: Plan, *, reopened: bool = False) -> None:
        """`plan` is that of the first event; others are to be expected. `reopened`: the run has had more than one
        generation."""
        self._plan = plan
        self._coming: deque[Plan] = deque()
        self._at_rest = False
        self._pending = True
        """The run has not had its first lease, nor been cancelled before it."""
        self._failures: dict[tuple[int, int], e.Failure] = {}
        """Of attempts that ended in this turn."""
        self._reasons: dict[tuple[int, int], str] = {}
        """Of leases that came back in this turn, and are charged to nobody."""
        self._rolling_back = False
        self._paused = False
        self.hangs_on_all = nests(plan) or reopened
        """Whether places, or states, hang on all that was before."""
        self._groups: dict[int, Groups] = {}
        self._counts: dict[int, int] = {}

    @property
    def newest_plan(self) -> Plan:
        """The last one that it knows of."""
        return self._coming[-1] if self._coming else self._plan

    def expect(self, plan: Plan) -> None:
        """An event comes by which the run goes on with another version."""
        self._coming.append(plan)

    @property
    def pending(self) -> bool:
        return self._pending

    def items_of(self, step: int) -> bytes | bytearray | None:
        return None

    def groups_of(self, step: int) -> Groups | None:
        """As `Run.groups_of`, of what has been seen."""
        return self._groups.get(step)

    @property
    def numberings(self) -> Mapping[int, Numbering]:
        """Not needed for events."""
        return {}

    def skip(self, event: e.Event) -> None:
        self._renew(event)
        if isinstance(event, e.ItemsAdded):
            self._added(event)
        self._begin(event)

    def _begin(self, event: e.Event) -> None:
        if isinstance(event, e.StepsLeased | e.ChildStarted | e.CacheAsked | e.RunCancelling | e.RunEnded):
            self._pending = False
        if isinstance(event, e.RunPaused | e.RunResumed | e.RunCancelling | e.RunEnded):
            self._paused = isinstance(event, e.RunPaused)
        if isinstance(event, e.RunRollingBack):
            self._rolling_back = True
        elif isinstance(event, e.RunEnded):
            self._at_rest = True
        elif isinstance(event, e.RunReopened):
            self._pending, self._at_rest = self._pending or self._at_rest, False
            self._rolling_back = False
            self._forget_groups(event)

    def _renew(self, event: e.Event) -> None:
        if isinstance(event, e.RunReopened) and event.version_digest != self._plan.digest:
            self._plan = self._coming.popleft()

    def _forget_groups(self, event: e.RunReopened) -> None:
        for first, stop in event.steps:
            for step in range(first, stop):
                self._groups.pop(step, None)
                self._counts.pop(step, None)

    def encode(self, number: int, event: e.Event) -> WireEvent:
        self._renew(event)
        state, reason = self._run_change(event)
        if isinstance(event, e.ItemsAdded):
            self._added(event)
        message = WireEvent(
            number=number,
            time=instant(event.at),
            type=type(event).__name__,
            run_state=run_pb2.RunState.ValueType(state),
            run_reason=reason,
            steps=self._step_changes(event),
            generation=getattr(event, "generation", 0),
            requested_by=getattr(event, "requested_by", ""),
        )
        self._begin(event)
        return message

    def _added(self, event: e.ItemsAdded) -> None:
        groups = self._groups.setdefault(event.step, Groups(0))
        first = self._counts.get(event.step, 0)
        self._counts[event.step] = first + event.count
        groups.reach(event.owner)
        groups.add(event.owner, first, event.count, event.state)

    def _run_change(self, event: e.Event) -> tuple[int, str]:
        match event:
            case e.RunStarted():
                return RunState.PENDING, ""
            case e.StepsLeased() | e.ChildStarted() | e.CacheAsked() if self._pending and not self._rolling_back:
                return RunState.RUNNING, ""
            case e.RunReopened() if self._at_rest:
                return RunState.PENDING, event.reason
            case e.RunPaused():
                return RunState.PAUSED, event.reason
            case e.RunResumed() if self._rolling_back:
                return RunState.ROLLING_BACK, ""
            case e.RunResumed():
                return RunState.PENDING if self._pending else RunState.RUNNING, ""
            case e.RunHeld():
                return RunState.PENDING, f'waits for a place under the key "{event.key}", whose limit is {event.limit}'
            case e.RunCancelling():
                return RunState.CANCELLING, event.reason
            case e.RunRollingBack():
                return RunState.PAUSED if self._paused else RunState.ROLLING_BACK, event.reason
            case e.RunEnded():
                return event.state, event.reason
            case e.CostBudgetExceeded():
                return 0, f"budget: {used_of(Measure(event.measure), event.used, event.limit)} are used"
            case _:
                return 0, ""

    def _step_changes(self, event: e.Event) -> Iterable[StepChange]:
        match event:
            case (
                e.RunStarted()
                | e.RunCancelling()
                | e.RunPaused()
                | e.RunResumed()
                | e.RunEnded()
                | e.RunHeld()
                | e.RunAdmitted()
                | e.ArtifactsMade()
                | e.AttemptTimed()
                | e.CostBudgetCharged()
                | e.CostBudgetExceeded()
                | e.CostBudgetRaised()
            ):
                return ()
            case e.RunReopened():
                return self._reopened(event)
            case e.RunRollingBack():
                return self._to_undo(event)
            case e.StepsRolledBack():
                return self._steps(event.ranges, StepState.ROLLED_BACK)
            case e.ItemsRolledBack():
                return self._items(event.step, event.ranges, StepState.ROLLED_BACK)
            case e.StepsReadied():
                return self._steps(event.ranges, StepState.READY)
            case e.StepsSettled():
                return self._steps(event.ranges, event.state)
            case e.MapExpanded():
                return self._expanded(event)
            case e.ItemsAdded():
                return self._group(event)
            case e.ItemsReadied():
                return self._items(event.step, event.ranges, StepState.READY)
            case e.ItemsSettled():
                return self._items(event.step, event.ranges, event.state)
            case e.StepsLeased():
                return self._leased(event)
            case e.StepCompleted():
                return (self._rested(event, StepState.COMPLETED),)
            case e.StepCancelled():
                return (self._rested(event, StepState.CANCELLED),)
            case e.StepFailed():
                return (self._rested(event, StepState.FAILED, event.failure),)
            case e.MapSettled():
                return (self._change(event.step, e.WHOLE, event.state),)
            case e.StepWaiting():
                return (self._waiting(event),)
            case e.StepWoken() | e.StepReturned():
                return (self._follows(event.step, event.item, StepState.READY),)
            case e.AttemptFailed():
                return (self._ended(event, event.failure),)
            case e.ChildStarted():
                return (self._child_started(event),)
            case e.ChildEnded():
                return (self._child_ended(event),)
            case e.StepDisplaced():
                why = e.Failure("Displaced", e.displaced_by(event))
                return (self._change(event.step, event.item, None, why),)
            case e.CacheAsked():
                return (self._change(step, item, StepState.WAITING) for step, item in event.step_runs)
            case e.CacheAwaited():
                return (self._change(event.step, event.item, StepState.WAITING),)
            case e.CacheMissed():
                return (self._change(event.step, event.item, StepState.READY),)
            case e.StepCached():
                return (self._cached(event),)
            case e.MemoryRaised():
                return (self._change(event.step, event.item, None),)
            case e.LeaseLost():
                return (self._lost(event),)
            case _:
                assert_never(event)

    def _change(self, step: int, item: int, state: StepState | None, why: e.Failure | None = None) -> StepChange:
        change = StepChange(step=self._plan.steps[step].name)
        change.item.extend(place_of(self._plan, self, step, item))
        if state is not None:
            change.state = run_pb2.StepRunState.ValueType(state)
        if why is not None:
            change.failure.CopyFrom(failure(why))
        return change

    def _steps(self, ranges: Iterable[e.Range], state: StepState) -> Iterator[StepChange]:
        return (self._change(step, e.WHOLE, state) for first, stop in ranges for step in range(first, stop))

    def _items(self, step: int, ranges: Iterable[e.Range], state: StepState) -> Iterator[StepChange]:
        for first, stop in ranges:
            at = first
            while at < stop:
                until = same_group(self._plan, self, step, at, stop)
                change = self._change(step, at, state)
                change.item_count = until - at
                yield change
                at = until

    def _reopened(self, event: e.RunReopened) -> Iterator[StepChange]:
        for first, stop in event.steps:
            for step in range(first, stop):
                unused = self._plan.steps[step].undoes is not None
                yield self._change(step, e.WHOLE, StepState.SKIPPED if unused else StepState.PENDING)
        yield from self._again(event.items)

    def _to_undo(self, event: e.RunRollingBack) -> Iterator[StepChange]:
        yield from self._steps(event.steps, StepState.PENDING)
        yield from self._again(event.items)

    def _again(self, items: Iterable[tuple[int, tuple[e.Range, ...]]]) -> Iterator[StepChange]:
        for step, ranges in items:
            yield self._change(step, e.WHOLE, StepState.RUNNING)
            yield from self._items(step, ranges, StepState.PENDING)

    def _expanded(self, event: e.MapExpanded) -> Iterator[StepChange]:
        whole = self._change(event.step, e.WHOLE, StepState.RUNNING)
        whole.expanded_count = event.count
        yield whole
        if event.count:
            state = StepState.READY if event.ready else StepState.PENDING
            yield from self._items(event.step, [(0, event.count)], state)

    def _group(self, event: e.ItemsAdded) -> Iterator[StepChange]:
        if event.count:
            first = self._groups[event.step].firsts[event.owner]
            yield from self._items(event.step, [(first, first + event.count)], event.state)
        elif event.failure is not None:
            yield self._change(event.step, e.WHOLE, None, event.failure)

    def _leased(self, event: e.StepsLeased) -> Iterator[StepChange]:
        for step, item, attempt in event.leases:
            change = self._change(step, item, StepState.RUNNING)
            change.attempt = attempt
            change.agent_id = event.agent
            yield change

    def _child_started(self, event: e.ChildStarted) -> StepChange:
        change = self._change(event.step, event.item, StepState.WAITING)
        change.attempt = event.attempt
        change.child_run_id = run_id_text(event.run_id)
        return change

    def _child_ended(self, event: e.ChildEnded) -> StepChange:
        change = self._ended(event, event.failure)
        change.child_run_id = run_id_text(event.run_id)
        return change

    def _cached(self, event: e.StepCached) -> StepChange:
        change = self._change(event.step, event.item, StepState.COMPLETED)
        change.cache_source.CopyFrom(cache_source(event.source))
        return change

    def _rested(
        self,
        event: e.StepCompleted | e.StepCancelled | e.StepFailed,
        state: StepState,
        why: e.Failure | None = None,
    ) -> StepChange:
        self._failures.pop((event.step, event.item), None)
        self._reasons.pop((event.step, event.item), None)
        return self._change(event.step, event.item, state, why)

    def _ended(self, event: _Ended, why: e.Failure | None) -> StepChange:
        if why is not None:
            self._failures[event.step, event.item] = why
        return self._change(event.step, event.item, None, why)

    def _lost(self, event: e.LeaseLost) -> StepChange:
        why = lost_in_words(event.cause)
        if event.charge is not e.Charge.NOBODY:
            return self._ended(event, e.Failure("AgentLost", why))
        change = self._change(event.step, event.item, None)
        change.reason = self._reasons[event.step, event.item] = why
        return change

    def _follows(self, step: int, item: int, state: StepState) -> StepChange:
        change = self._change(step, item, state, self._failures.pop((step, item), None))
        change.reason = self._reasons.pop((step, item), "")
        return change

    def _waiting(self, event: e.StepWaiting) -> StepChange:
        change = self._follows(event.step, event.item, StepState.WAITING)
        if event.until is not None:
            change.wait_until.CopyFrom(instant(event.until))
        return change
