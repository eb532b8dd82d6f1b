"""The spans that the journal of a run tells of.

Fold the events in their order; each one that ends something gives the spans that are complete with it. The same events
give the same spans, bit for bit: whoever folds a journal again, after a crash or as the next owner of the run, sends
nothing new. Instants are those of the events; how an attempt's time was spent is what its agent said of it, laid out
backwards from the instant at which its result was decided on, so no two clocks are compared.

What never came to an agent, a run or the cache (a step that was skipped) has no span.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Charge, Event, Outcome, Range, WaitReason
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.traces.ids import Kind, SpanIds
from penstock_coordinator.core.traces.ready import ReadyTimes

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan

Value: TypeAlias = str | int | bool
Attributes: TypeAlias = tuple[tuple[str, Value], ...]

NO_ERROR = ""


class Link(msgspec.Struct, frozen=True, gc=False):
    """To another span of the trace."""

    span_id: bytes
    attributes: Attributes = ()


class Moment(msgspec.Struct, frozen=True, gc=False):
    """Something that happened while a span was open."""

    name: str
    at: int
    attributes: Attributes = ()


class Span(msgspec.Struct, frozen=True, gc=False):
    """Instants in microseconds since 1970. `parent` empty: the span has none."""

    span_id: bytes
    parent: bytes
    name: str
    start: int
    end: int
    attributes: Attributes = ()
    links: tuple[Link, ...] = ()
    moments: tuple[Moment, ...] = ()
    error: str = NO_ERROR
    """Why it failed, for people; empty: it did not."""


class TracedRun(msgspec.Struct, frozen=True, gc=False):
    """What spans tell of a run besides its journal."""

    run_id: bytes
    name: str
    """Of the run, as clients write its id."""
    pipeline: str
    version: int
    parent: bytes
    """The span that the run is below; empty: none."""


class _Lease(msgspec.Struct, gc=False):
    token: int
    at: int
    attempt: int
    agent: str
    timing: e.AttemptTimed | None = None


class _Open(msgspec.Struct):
    """A step run that is under way."""

    span_id: bytes
    start: int
    lease: _Lease | None = None
    former: Link | None = None
    """The attempt before."""
    moments: list[Moment] = msgspec.field(default_factory=list)
    attempts: int = 0


class RunSpans:
    """Of one run. `add` each event once, in order."""

    def __init__(self, run: TracedRun, plan: Plan) -> None:
        self._run = run
        self.plan = plan
        """Another one is put here before the event that says that the run goes on with it is added."""
        self.last_seq = 0
        self.ended = False
        """At rest, until a new generation begins."""
        self._id = SpanIds(run.run_id).of
        self._generation = 1
        self._first = self._span_id = self._id(Kind.RUN, 1)
        """Spans of the run: of its first generation, of this one."""
        self._began = 0
        self._moments: list[Moment] = []
        self._take_overs: list[Moment] = []
        self._open: dict[tuple[int, int], _Open] = {}
        self._maps: dict[int, int] = {}
        """Since when mapped steps have items."""
        self._ready = ReadyTimes()
        self._spans: list[Span] = []

    def add(self, seq: int, event: Event) -> list[Span]:
        """The spans that end with the event."""
        self.last_seq = seq
        fold = self._folds.get(type(event))
        if fold is None:
            return []
        fold(self, event)
        if not self._spans:
            return self._spans
        spans, self._spans = self._spans, []
        return spans

    def taken_over(self, at: int, coordinator: str, epoch: int) -> None:
        """A coordinator goes on with the run after another one, or after its own restart."""
        who: Attributes = (("penstock.coordinator.id", coordinator), ("penstock.coordinator.epoch", epoch))
        self._take_overs.append(Moment("taken over", at, who))

    # --- ids

    def _step_run_id(self, step: int, item: int) -> bytes:
        return self._id(Kind.STEP_RUN, step, item, self._generation)

    # --- the run

    def _started(self, event: e.RunStarted) -> None:
        self._began = event.at

    def _paused(self, event: e.RunPaused) -> None:
        self._moments.append(Moment("paused", event.at, _told(event.requested_by, event.reason)))

    def _resumed(self, event: e.RunResumed) -> None:
        self._moments.append(Moment("resumed", event.at, _told(event.requested_by)))

    def _cancelling(self, event: e.RunCancelling) -> None:
        self._moments.append(Moment("cancelling", event.at, _told(event.requested_by, event.reason)))

    def _waits_for_place(self, event: e.RunHeld) -> None:
        self._moments.append(Moment("held", event.at, (("penstock.limit.key", event.key),)))

    def _admitted(self, event: e.RunAdmitted) -> None:
        self._moments.append(Moment("admitted", event.at))

    def _rolling_back(self, event: e.RunRollingBack) -> None:
        self._moments.append(Moment("rolling back", event.at, _told(event.requested_by, event.reason)))
        self._maps.update(dict.fromkeys((step for step, _ in event.items), event.at))

    def _reopened(self, event: e.RunReopened) -> None:
        self._generation, self._began, self.ended = event.generation, event.at, False
        self._span_id = self._id(Kind.RUN, event.generation)
        self._moments = [Moment(event.kind.name.lower(), event.at, _told(event.requested_by, event.reason))]
        # Maps that stay expanded have items of this generation.
        self._maps = {step: event.at for step, _ in event.items}

    def _ended(self, event: e.RunEnded) -> None:
        self.ended = True
        for step, item in list(self._open):
            self._close(step, item, event.at, StepState.CANCELLED)
        run, generation = self._run, self._generation
        failed = event.state in (RunState.FAILED, RunState.ROLLED_BACK)
        self._spans.append(
            Span(
                self._span_id,
                run.parent if generation == 1 else self._first,
                f"run {run.pipeline}",
                self._began,
                event.at,
                (
                    ("penstock.run.id", run.name),
                    ("penstock.pipeline.name", run.pipeline),
                    ("penstock.pipeline.version", run.version),
                    ("penstock.run.generation", generation),
                    ("penstock.run.state", event.state.name),
                ),
                () if generation == 1 else (Link(self._id(Kind.RUN, generation - 1), _WHY_RETRY),),
                tuple(sorted((*self._moments, *self._take_overs_of(event.at)), key=lambda moment: moment.at)),
                (event.reason or event.state.name) if failed else NO_ERROR,
            )
        )
        self._moments = []
        self._ready.clear()
        self._maps.clear()

    def _take_overs_of(self, end: int) -> list[Moment]:
        """Those of this generation: they are known before the journal is read."""
        return [moment for moment in self._take_overs if self._began <= moment.at <= end]

    # --- steps

    def _steps_readied(self, event: e.StepsReadied) -> None:
        for first, stop in event.ranges:
            for step in range(first, stop):
                self._ready.note(step, WHOLE, WHOLE + 1, event.at)

    def _items_readied(self, event: e.ItemsReadied) -> None:
        self._note_items(event.step, event.ranges, event.at)

    def _note_items(self, step: int, ranges: tuple[Range, ...], at: int) -> None:
        for first, stop in ranges:
            self._ready.note(step, first, stop, at)

    def _expanded(self, event: e.MapExpanded) -> None:
        self._maps[event.step] = event.at
        self._ready.items[event.step] = event.count
        if event.ready:
            self._ready.note(event.step, 0, event.count, event.at)

    def _items_added(self, event: e.ItemsAdded) -> None:
        before = self._ready.items.get(event.step, 0)
        self._ready.items[event.step] = before + event.count
        if event.state is StepState.READY:
            self._ready.note(event.step, before, before + event.count, event.at)

    def _map_settled(self, event: e.MapSettled) -> None:
        self._end_map(event.step, event.at, event.state)

    def _end_map(self, step: int, at: int, state: StepState, error: str = NO_ERROR) -> None:
        start = self._maps.pop(step, None)
        if start is None:
            return
        failed = error or (state.name if state is StepState.FAILED else NO_ERROR)
        items: Attributes = (("penstock.step.items", self._ready.items.get(step, 0)),)
        self._step_span(self._step_run_id(step, WHOLE), step, WHOLE, start, at, state, failed, items)

    def _again_ready(self, event: e.StepWoken | e.StepReturned | e.CacheMissed) -> None:
        self._ready.note(event.step, event.item, event.item + 1, event.at)

    def _leased(self, event: e.StepsLeased) -> None:
        for step, item, attempt in event.leases:
            ready = self._ready.take(step, item, event.at)
            found = self._opened(step, item, ready)
            found.lease = _Lease(self.last_seq, event.at, attempt, event.agent)
            found.attempts += 1
            queued = self._id(Kind.QUEUED, step, item, self.last_seq)
            self._spans.append(Span(queued, found.span_id, "queued", ready, event.at))

    def _opened(self, step: int, item: int, at: int) -> _Open:
        found = self._open.get((step, item))
        if found is None:
            found = self._open[step, item] = _Open(self._step_run_id(step, item), at)
        return found

    def _timed(self, event: e.AttemptTimed) -> None:
        found = self._open.get((event.step, event.item))
        if found is not None and found.lease is not None and found.lease.token == event.token:
            found.lease.timing = event

    def _waiting(self, event: e.StepWaiting) -> None:
        found = self._open.get((event.step, event.item))
        if found is not None and event.reason is WaitReason.BACKOFF:
            found.moments.append(Moment("backoff", event.at))

    def _asked_cache(self, event: e.CacheAsked) -> None:
        for step, item in event.step_runs:
            self._opened(step, item, self._ready.take(step, item, event.at))

    def _awaits_cache(self, event: e.CacheAwaited) -> None:
        found = self._opened(event.step, event.item, event.at)
        found.moments.append(Moment("awaits the cache", event.at, (("penstock.cache.step", event.display_name),)))

    def _cached(self, event: e.StepCached) -> None:
        self._opened(event.step, event.item, event.at)
        self._close(event.step, event.item, event.at, StepState.COMPLETED, NO_ERROR, (("penstock.step.cached", True),))

    def _child_started(self, event: e.ChildStarted) -> None:
        """The run below has its span in the step run's."""
        found = self._opened(event.step, event.item, self._ready.take(event.step, event.item, event.at))
        found.attempts += 1

    # --- attempts

    def _completed(self, event: e.StepCompleted) -> None:
        self._end_attempt(event.step, event.item, event.at, "COMPLETED")
        self._close(event.step, event.item, event.at, StepState.COMPLETED)

    def _attempt_failed(self, event: e.AttemptFailed) -> None:
        why = _in_words(event.failure)
        self._end_attempt(event.step, event.item, event.at, event.outcome.name, event.failure.reason, why)

    def _lost(self, event: e.LeaseLost) -> None:
        cause: Attributes = (("penstock.lease.lost", event.cause),)
        if event.charge is Charge.NOBODY:
            self._end_attempt(event.step, event.item, event.at, "RETURNED", more=cause, link=_WHY_TAKEN_OVER)
        else:
            name = Outcome.LOST.name
            self._end_attempt(
                event.step, event.item, event.at, name, "AgentLost", event.cause, more=cause, link=_WHY_TAKEN_OVER
            )

    def _failed(self, event: e.StepFailed) -> None:
        why = _in_words(event.failure)
        self._end_attempt(event.step, event.item, event.at, Outcome.TIMED_OUT.name, event.failure.reason, why)
        if event.item == WHOLE and event.step in self._maps:
            self._end_map(event.step, event.at, StepState.FAILED, why)
            return
        if (event.step, event.item) not in self._open and not self._ready.knows(event.step, event.item):
            return
        self._opened(event.step, event.item, self._ready.take(event.step, event.item, event.at))
        self._close(event.step, event.item, event.at, StepState.FAILED, why)

    def _cancelled(self, event: e.StepCancelled) -> None:
        self._end_attempt(event.step, event.item, event.at, Outcome.CANCELLED.name)
        self._close(event.step, event.item, event.at, StepState.CANCELLED)

    def _settled(self, event: e.StepsSettled) -> None:
        """Mostly they were never begun; who waits for the cache was."""
        for step, item in [key for key in self._open if key[1] == WHOLE and _within(key[0], event.ranges)]:
            self._close(step, item, event.at, event.state)
        for step in [step for step in self._maps if _within(step, event.ranges)]:
            self._end_map(step, event.at, event.state)

    def _items_settled(self, event: e.ItemsSettled) -> None:
        for step, item in [key for key in self._open if key[0] == event.step and _within(key[1], event.ranges)]:
            self._close(step, item, event.at, event.state)

    # --- spans

    def _close(
        self, step: int, item: int, at: int, state: StepState, error: str = NO_ERROR, more: Attributes = ()
    ) -> None:
        found = self._open.pop((step, item), None)
        if found is None:
            return
        attributes: Attributes = (("penstock.step.attempts", found.attempts), *more)
        self._step_span(found.span_id, step, item, found.start, at, state, error, attributes, tuple(found.moments))

    def _step_span(
        self,
        span_id: bytes,
        step: int,
        item: int,
        start: int,
        end: int,
        state: StepState,
        error: str,
        more: Attributes,
        moments: tuple[Moment, ...] = (),
    ) -> None:
        name = self.plan.steps[step].name
        attributes: Attributes = (("penstock.step.name", name), ("penstock.step.state", state.name), *more)
        if item == WHOLE:
            parent = self._span_id
        else:
            parent = self._step_run_id(step, WHOLE)
            attributes = (*attributes, ("penstock.step.item", item))
        self._spans.append(Span(span_id, parent, f"step {name}", start, end, attributes, (), moments, error))

    def _end_attempt(
        self,
        step: int,
        item: int,
        at: int,
        outcome: str,
        reason: str = "",
        error: str = NO_ERROR,
        *,
        more: Attributes = (),
        link: Attributes | None = None,
    ) -> None:
        found = self._open.get((step, item))
        if found is None or found.lease is None:
            return
        lease, found.lease = found.lease, None
        attempt = self._id(Kind.ATTEMPT, step, item, lease.token)
        attributes: Attributes = (
            ("penstock.run.id", self._run.name),
            ("penstock.attempt.number", lease.attempt),
            ("penstock.attempt.outcome", outcome),
            ("penstock.agent.id", lease.agent),
            *more,
        )
        if reason:
            attributes = (*attributes, ("error.type", reason))
        links = () if found.former is None else (found.former,)
        self._spans.append(
            Span(attempt, found.span_id, "attempt", lease.at, at, attributes, links, error=error or reason)
        )
        self._phases(step, item, lease, attempt, at, error or reason)
        found.former = Link(attempt, _WHY_RETRY if link is None else link)

    def _phases(self, step: int, item: int, lease: _Lease, attempt: bytes, at: int, error: str) -> None:
        """Of an attempt that the agent told nothing of, only that it was leased: nobody knows when it began."""
        timing = lease.timing
        if timing is None:
            self._spans.append(Span(self._id(Kind.LEASED, step, item, lease.token), attempt, "leased", lease.at, at))
            return
        uploaded = max(at - timing.age, lease.at)
        executed = max(uploaded - timing.upload, lease.at)
        entered = max(executed - timing.execution, lease.at)
        prepared = max(entered - timing.environment, lease.at)
        name = f"execute {self.plan.steps[step].name}"
        add, new = self._spans.append, self._id
        token = lease.token
        add(Span(new(Kind.LEASED, step, item, token), attempt, "leased", lease.at, prepared))
        add(Span(new(Kind.ENVIRONMENT, step, item, token), attempt, "environment", prepared, entered))
        add(Span(new(Kind.EXECUTION, step, item, token), attempt, name, entered, executed, error=error))
        if timing.upload:
            add(Span(new(Kind.UPLOAD, step, item, token), attempt, "upload", executed, uploaded))

    _folds: ClassVar[dict[type, Callable[[RunSpans, Any], None]]] = {
        e.RunStarted: _started,
        e.RunPaused: _paused,
        e.RunResumed: _resumed,
        e.RunCancelling: _cancelling,
        e.RunHeld: _waits_for_place,
        e.RunAdmitted: _admitted,
        e.RunRollingBack: _rolling_back,
        e.RunReopened: _reopened,
        e.RunEnded: _ended,
        e.StepsReadied: _steps_readied,
        e.ItemsReadied: _items_readied,
        e.MapExpanded: _expanded,
        e.ItemsAdded: _items_added,
        e.MapSettled: _map_settled,
        e.StepWoken: _again_ready,
        e.StepReturned: _again_ready,
        e.CacheMissed: _again_ready,
        e.StepsLeased: _leased,
        e.AttemptTimed: _timed,
        e.StepWaiting: _waiting,
        e.CacheAsked: _asked_cache,
        e.CacheAwaited: _awaits_cache,
        e.StepCached: _cached,
        e.ChildStarted: _child_started,
        e.StepCompleted: _completed,
        e.AttemptFailed: _attempt_failed,
        e.LeaseLost: _lost,
        e.StepFailed: _failed,
        e.StepCancelled: _cancelled,
        e.StepsSettled: _settled,
        e.ItemsSettled: _items_settled,
    }


_WHY_RETRY: Attributes = (("penstock.link", "retry"),)
_WHY_TAKEN_OVER: Attributes = (("penstock.link", "lease lost"),)


def _told(requested_by: str, reason: str = "") -> Attributes:
    given = (("penstock.requested_by", requested_by), ("penstock.reason", reason))
    return tuple((name, value) for name, value in given if value)


def _in_words(failure: e.Failure) -> str:
    return f"{failure.reason}: {failure.message}" if failure.message else failure.reason


def _within(number: int, ranges: tuple[Range, ...]) -> bool:
    return any(first <= number < stop for first, stop in ranges)
