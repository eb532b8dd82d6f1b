"""Reads a run's journal with the documentation in hand, and nothing of the core's own bookkeeping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import singledispatchmethod

from penstock_coordinator.core.plan.budget import Amounts, Per, exceeded
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS
from penstock_coordinator.core.plan.model import MapForm, PipelineAction, Plan
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Budget, Charge, Event
from penstock_coordinator.core.run.numbering import Place
from penstock_coordinator.core.run.raised import memory_of
from penstock_coordinator.core.run.retrying import MOST_RAISED
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.run.states import StepState as S

MOST_DEATHS = 3


@dataclass
class Life:
    """A step run, as the events tell of it."""

    state: S = S.PENDING
    number: int = 0
    token: int = 0
    failures: int = 0
    losses: int = 0
    deaths: tuple[str, ...] = ()
    ready_at: int = 0
    first_ready_at: int = 0
    until: int = 0
    displaced: bool = False
    former: int = 0
    """Attempts of former generations."""
    child: bytes = b""
    """The run that it waits for."""
    question: int = 0
    """The number of the event by which the cache was asked."""
    missed: bool = False
    """The cache does not have it."""
    memory_bytes: int = 0
    """More than its step asks for; 0: it does not."""

    @property
    def displaced_for_good(self) -> bool:
        return self.displaced and self.state is S.CANCELLED


@dataclass
class Auditor:
    plan: Plan
    losses: int = DEFAULT_RUN_LIMITS.losses
    """That a step run may have, where its policy does not say."""
    lives: dict[tuple[int, int], Life] = field(default_factory=dict)
    holders: set[tuple[int, int]] = field(default_factory=set)
    counts: dict[int, int] = field(default_factory=dict)
    """Items of nested maps."""
    groups: dict[int, dict[int, S]] = field(default_factory=dict)
    """Their groups without items, by owner."""
    cancelling: e.RunCancelling | None = None
    ended: e.RunEnded | None = None
    started: e.RunStarted | None = None
    held: bool = False
    paused_at: int | None = None
    paused_from_above: bool = False
    children: set[bytes] = field(default_factory=set)
    """All runs that steps have been."""
    deadline: int | None = None
    generation: int = 1
    next_plan: Plan | None = None
    """Of the version that the next generation may go on with."""

    former: dict[tuple[int, Place], int] = field(default_factory=dict)
    """Attempts of items that are gone, should their places come again."""
    places: dict[int, list[Place]] = field(default_factory=dict)
    """Of the items of nested maps."""
    rolling: bool = False
    """What was done is being undone, or was to be."""
    to_roll: bool = False
    """It will be."""
    charged: set[tuple[int, int, int]] = field(default_factory=set)
    """(step, item, token) of attempts that were charged to a budget."""
    used: Amounts = field(default_factory=Amounts)
    limits: Amounts | None = None
    """Of the run's own budget; None: it has none."""
    over_at: int | None = None
    counted: int = 0
    undone_before: set[int] = field(default_factory=set)
    """Steps that were undone in the former generation."""
    to_undo: set[tuple[int, int]] = field(default_factory=set)
    """The step runs that undo it."""
    rests: dict[int, int] = field(default_factory=dict)
    """By step the number of the event by which it came to rest as a whole, for the last time."""
    begun: set[tuple[int, Place, int]] = field(default_factory=set)
    """Steps, places and numbers of all attempts."""

    def place(self, step: int, item: int) -> Place:
        if item == WHOLE:
            return ()
        places = self.places.get(self.plan.steps[step].shape)
        return (item,) if places is None else places[item]

    def _begin(self, step: int, item: int, number: int) -> None:
        attempt = (step, self.place(step, item), number)
        assert attempt not in self.begun
        self.begun.add(attempt)

    def life(self, step: int, item: int) -> Life:
        if (step, item) not in self.lives:
            count = self.former.pop((step, self.place(step, item)), 0)
            self.lives[step, item] = Life(number=count, former=count)
        return self.lives[step, item]

    def doomed(self, step: int) -> bool:
        return self.cancelling is not None and (self.cancelling.now or not self.plan.steps[step].cleanup)

    def read(self, seq: int, event: Event) -> None:
        assert self.ended is None or isinstance(event, e.RunReopened), "something happened after the end"
        self._read(event, seq)

    def check_clocks(self, now: int) -> None:
        """After a tick nothing is overdue that is not being cancelled."""
        if self.ended is not None:
            return
        assert self.cancelling is None or now < self.cancelling.deadline or (self.cancelling.now and not self._waits)
        if self.cancelling is None and self.deadline is not None and not self.rolling:
            assert now < self.deadline
        for (step, _), life in self.lives.items():
            limits = self.plan.steps[step].timeouts
            if self.doomed(step) or life.state.at_rest or life.state is S.PENDING:
                continue
            assert limits.overall is None or now < life.first_ready_at + limits.overall
            assert life.state is not S.WAITING or life.child or life.question or now < life.until
            held = self.paused_at is not None or (self.over_at is not None and not self._not_held_by_budget(step))
            if not held and life.state is S.READY:
                assert limits.queued is None or now < life.ready_at + limits.queued

    @property
    def _waits(self) -> bool:
        """For an agent, or for a run of its own."""
        return bool(self.holders) or any(life.child for life in self.lives.values())

    @singledispatchmethod
    def _read(self, event: Event, seq: int) -> None:
        raise AssertionError(f"unknown event {event}")

    @_read.register
    def _(self, event: e.RunStarted, seq: int) -> None:
        assert seq == 1
        self.started, self.deadline = event, event.deadline
        self._begin_spending()

    def _begin_spending(self) -> None:
        budget = self.plan.budget
        self.used, self.over_at, self.counted = Amounts(), None, 0
        self.limits = budget.limits if budget is not None and budget.per is Per.RUN else None

    @_read.register
    def _(self, event: e.CostBudgetCharged, seq: int) -> None:
        assert self.plan.budget is not None
        assert (event.step, event.item) in self.holders
        assert self.life(event.step, event.item).token == event.token
        lease = (event.step, event.item, event.token)
        assert lease not in self.charged, "an attempt is charged once"
        self.charged.add(lease)
        self.used = self.used.plus(Amounts(event.slot_time, event.cpu_time, event.price))

    @_read.register
    def _(self, event: e.CostBudgetExceeded, seq: int) -> None:
        assert self.limits is not None
        assert self.over_at is None
        measure = exceeded(self.used, self.limits)
        assert measure is not None
        assert (event.measure, event.used, event.limit) == (measure, self.used.of(measure), self.limits.of(measure))
        assert self.cancelling is None
        assert not self.to_roll
        self.over_at = event.at

    @_read.register
    def _(self, event: e.CostBudgetRaised, seq: int) -> None:
        assert self.limits is not None
        limits = Amounts(event.slot_time, event.cpu_time, event.price)
        assert limits != self.limits
        assert limits == self.limits.most(limits)
        self.limits = limits
        if self.over_at is not None and exceeded(self.used, limits) is None:
            since = self.over_at if self.paused_at is None else min(self.over_at, self.paused_at)
            self._shift(max(since, self.counted), event.at, cleanup=False)
            self.over_at, self.counted = None, event.at

    def _shift(self, since: int, at: int, *, cleanup: bool) -> None:
        """Clocks of those that wait for an agent stood still."""
        for (step, _), life in self.lives.items():
            if life.state is S.READY and self._not_held_by_budget(step) is cleanup:
                life.ready_at += max(at - max(since, life.ready_at), 0)

    def _not_held_by_budget(self, step: int) -> bool:
        return self.plan.steps[step].cleanup or self._undoes(step)

    def _check_budget(self, step: int) -> None:
        """Of a step run that starts."""
        nothing_left = self.limits is not None and exceeded(self.used, self.limits) is not None
        assert not nothing_left or self._not_held_by_budget(step) or self.cancelling is not None

    @_read.register
    def _(self, event: e.RunHeld, seq: int) -> None:
        assert self.started is not None
        assert not self.holders
        assert self.deadline is None
        self.held = True

    @_read.register
    def _(self, event: e.RunAdmitted, seq: int) -> None:
        assert self.held
        assert self.cancelling is None
        assert self.generation > 1 or not self.lives
        timeout = None if self.to_roll else self.plan.timeout
        assert event.deadline == (None if timeout is None else event.at + timeout)
        self.held, self.deadline = False, event.deadline

    @_read.register
    def _(self, event: e.RunPaused, seq: int) -> None:
        assert self.paused_at is None or (self.paused_from_above and not event.from_above)
        assert self.cancelling is None
        self.paused_at = event.at if self.paused_at is None else self.paused_at
        self.paused_from_above = event.from_above

    @_read.register
    def _(self, event: e.RunResumed, seq: int) -> None:
        assert self.cancelling is None
        assert self.paused_from_above or not event.from_above
        assert self._unpause(event.at)

    def _unpause(self, at: int) -> bool:
        """Queued clocks stood still since."""
        since, self.paused_at = self.paused_at, None
        if since is None:
            return False
        held = since if self.over_at is None else max(min(since, self.over_at), self.counted)
        self._shift(since, at, cleanup=True)
        self._shift(held, at, cleanup=False)
        if self.over_at is not None:
            self.counted = at
        return True

    @_read.register
    def _(self, event: e.StepDisplaced, seq: int) -> None:
        life = self.life(event.step, event.item)
        assert life.state in (S.READY, S.RUNNING)
        assert not life.displaced
        assert not self.doomed(event.step)
        life.displaced = True

    @_read.register
    def _(self, event: e.StepsReadied, seq: int) -> None:
        for first, stop in event.ranges:
            for step in range(first, stop):
                self._ready(step, WHOLE, event.at)

    @_read.register
    def _(self, event: e.MapExpanded, seq: int) -> None:
        assert self.plan.steps[event.step].map is not None
        for item in range(event.count):
            self.life(event.step, item)
            if event.ready:
                self._ready(event.step, item, event.at)

    @_read.register
    def _(self, event: e.ItemsAdded, seq: int) -> None:
        step = self.plan.steps[event.step]
        assert step.followed is not None
        assert self.life(step.followed, event.owner).state.at_rest
        assert (event.failure is not None) == (event.state is S.FAILED)
        assert not event.count or event.state in (S.READY, S.PENDING)
        first = self.counts.get(event.step, 0)
        self.counts[event.step] = first + event.count
        owner, places = self.place(step.followed, event.owner), self.places.setdefault(event.step, [])
        for position in range(event.count):
            places.append((*owner, position))
        groups = self.groups.setdefault(event.step, {})
        assert event.owner not in groups
        if event.state is not S.PENDING and (event.state is not S.READY or not event.count):
            groups[event.owner] = S.COMPLETED if event.state is S.READY else event.state
        for item in range(first, first + event.count):
            self.life(event.step, item)
            if event.state is S.READY:
                self._ready(event.step, item, event.at)

    @_read.register
    def _(self, event: e.ItemsReadied, seq: int) -> None:
        for first, stop in event.ranges:
            for item in range(first, stop):
                self._ready(event.step, item, event.at)

    def _ready(self, step: int, item: int, at: int) -> None:
        life = self.life(step, item)
        assert life.state is S.PENDING
        assert not self.doomed(step)
        assert not self.held
        if self.plan.steps[step].undoes is None:
            assert not self.rolling
            self._check_along(step, item)
        else:
            self._check_undoing(step, item)
        life.state, life.ready_at, life.first_ready_at = S.READY, at, at

    def _check_undoing(self, step: int, item: int) -> None:
        """It undoes what is COMPLETED, after all that rests on that."""
        assert self.rolling
        undone = self.plan.steps[step].undoes
        assert undone is not None
        assert self.life(undone, item).state is S.COMPLETED
        for number in self._resting_on(undone):
            undo = self.plan.steps[number].compensate
            for other, place in self.to_undo:
                life = self.life(other, place)
                assert other != undo or life.state is S.COMPLETED or self._allowed(other, life)

    def _allowed(self, step: int, life: Life) -> bool:
        return life.state is S.FAILED and self.plan.steps[step].allow_failure

    def _resting_on(self, step: int) -> set[int]:
        """All that came to rest after the step and hangs together with it by such steps."""
        found: set[int] = set()
        ahead = [step]
        while ahead:
            at = ahead.pop()
            node = self.plan.steps[at]
            later = [each for each in node.downstream if self._rest(each) >= self._rest(at)]
            later += [each for each in node.upstream if self._rest(each) > self._rest(at)]
            ahead += [each for each in later if each not in found]
            found.update(later)
        return found

    def _rest(self, step: int) -> int:
        return self.rests.get(step, 0)

    @_read.register
    def _(self, event: e.RunRollingBack, seq: int) -> None:
        assert not self.holders
        assert not self.held
        assert not any(life.state in (S.READY, S.RUNNING, S.WAITING) for life in self.lives.values())
        self.rolling, self.to_roll, self.cancelling, self.deadline = True, False, None, None
        whole = {(step, WHOLE) for step in _each(event.steps)}
        found = whole | {(step, item) for step, ranges in event.items for item in _each(ranges)}
        done = {key for key, life in self.lives.items() if life.state is S.COMPLETED and not self._undoes(key[0])}
        expanded = {step for step, item in self.lives if item != WHOLE}
        steps = self.plan.steps
        assert found == {
            (undo, item)
            for step, item in done
            if (undo := steps[step].compensate) is not None and (item != WHOLE or step not in expanded)
        }
        self.to_undo = found
        for key in found:
            life = self.life(*key)
            assert life.state in (S.PENDING, S.SKIPPED)
            life.state = S.PENDING

    def _undoes(self, step: int) -> bool:
        return self.plan.steps[step].undoes is not None

    @_read.register
    def _(self, event: e.StepsRolledBack, seq: int) -> None:
        for step in _each(event.ranges):
            items = [life for (number, item), life in self.lives.items() if number == step and item != WHOLE]
            if not items:
                self._undone(step, WHOLE)
            assert all(life.state is not S.COMPLETED for life in items)

    @_read.register
    def _(self, event: e.ItemsRolledBack, seq: int) -> None:
        for item in _each(event.ranges):
            self._undone(event.step, item)

    def _undone(self, step: int, item: int) -> None:
        undo = self.plan.steps[step].compensate
        assert undo is not None
        life, other = self.life(step, item), self.life(undo, item)
        assert life.state is S.COMPLETED
        assert other.state is S.COMPLETED or self._allowed(undo, other)
        life.state = S.ROLLED_BACK

    @_read.register
    def _(self, event: e.StepsSettled, seq: int) -> None:
        for first, stop in event.ranges:
            for step in range(first, stop):
                self._settled(step, WHOLE, event.state)
                self.rests[step] = seq

    @_read.register
    def _(self, event: e.ItemsSettled, seq: int) -> None:
        assert event.state is not S.UPSTREAM_FAILED or self.plan.steps[event.step].followed is not None
        for first, stop in event.ranges:
            for item in range(first, stop):
                self._settled(event.step, item, event.state)

    def _check_along(self, step: int, item: int) -> None:
        """An item waits for the one that it goes along with."""
        node = self.plan.steps[step]
        if item != WHOLE and node.map is not None and node.map.form is MapForm.EACH and node.followed is not None:
            assert self.life(node.followed, item).state.at_rest

    def _settled(self, step: int, item: int, state: S) -> None:
        life = self.life(step, item)
        if state is not S.CANCELLED and not self._undoes(step):
            self._check_along(step, item)
        assert life.number == life.former
        assert life.state is S.PENDING or (life.state is S.READY and state is S.CANCELLED)
        assert (state is S.CANCELLED) == self.doomed(step)
        life.state = state

    @_read.register
    def _(self, event: e.StepsLeased, seq: int) -> None:
        assert self.paused_at is None
        for step, item, number in event.leases:
            life = self.life(step, item)
            assert life.state is S.READY
            self._check_budget(step)
            assert number == life.number + 1
            off = self.started is not None and self.started.cache is e.CacheMode.OFF
            assert off or life.missed or self.plan.steps[step].cache is None
            assert not self.doomed(step)
            assert not life.displaced
            life.state, life.number, life.token = S.RUNNING, number, seq
            self._begin(step, item, number)
            self.holders.add((step, item))
        assert not self.plan.max_parallel or len(self.holders) <= self.plan.max_parallel

    @_read.register
    def _(self, event: e.CacheAsked, seq: int) -> None:
        assert self.paused_at is None
        for step, item in event.step_runs:
            life = self.life(step, item)
            self._check_budget(step)
            assert self.plan.steps[step].cache is not None
            assert life.state is S.READY
            assert not life.question
            assert not self.doomed(step)
            life.state, life.question = S.WAITING, seq

    @_read.register
    def _(self, event: e.CacheAwaited, seq: int) -> None:
        life = self.life(event.step, event.item)
        assert life.state is S.WAITING
        assert life.question

    @_read.register
    def _(self, event: e.CacheMissed, seq: int) -> None:
        life = self.life(event.step, event.item)
        assert life.state is S.WAITING
        assert life.question
        assert event.key or not event.reserved
        life.state, life.ready_at, life.missed = S.READY, event.at, True

    @_read.register
    def _(self, event: e.StepCached, seq: int) -> None:
        self._rests(event.step, event.item, seq)
        life = self.life(event.step, event.item)
        assert life.state is S.WAITING
        assert life.question
        assert not life.missed
        life.state = S.COMPLETED

    @_read.register
    def _(self, event: e.ChildStarted, seq: int) -> None:
        assert self.paused_at is None
        life = self.life(event.step, event.item)
        assert isinstance(self.plan.steps[event.step].action, PipelineAction)
        self._check_budget(event.step)
        assert life.state is S.READY
        assert event.attempt == life.number + 1
        assert not self.doomed(event.step)
        assert event.run_id not in self.children
        self.children.add(event.run_id)
        self._begin(event.step, event.item, event.attempt)
        life.state, life.number, life.child = S.WAITING, event.attempt, event.run_id

    @_read.register
    def _(self, event: e.ChildEnded, seq: int) -> None:
        life = self.life(event.step, event.item)
        assert life.state is S.WAITING
        assert life.child == event.run_id
        assert (event.failure is None) == (event.state is RunState.COMPLETED)
        life.child, life.state = b"", S.RUNNING
        life.failures += event.failure is not None

    def _release(self, step: int, item: int, token: int, *, free: bool = False) -> Life:
        life = self.life(step, item)
        if self.plan.budget is not None:
            assert ((step, item, token) in self.charged) is not free
        assert life.state is S.RUNNING
        assert life.token == token
        life.token = 0
        self.holders.remove((step, item))
        return life

    def _rests(self, step: int, item: int, seq: int) -> None:
        if item == WHOLE:
            self.rests[step] = seq

    @_read.register
    def _(self, event: e.ArtifactsMade, seq: int) -> None:
        assert event.artifacts
        assert (event.step, event.item) in self.holders
        assert self.life(event.step, event.item).token == event.token

    @_read.register
    def _(self, event: e.AttemptTimed, seq: int) -> None:
        assert (event.step, event.item) in self.holders
        assert self.life(event.step, event.item).token == event.token

    @_read.register
    def _(self, event: e.StepCompleted, seq: int) -> None:
        self._rests(event.step, event.item, seq)
        if isinstance(self.plan.steps[event.step].action, PipelineAction):
            life = self.life(event.step, event.item)
            assert life.state is S.RUNNING
            assert not event.token
            life.state = S.COMPLETED
        else:
            self._release(event.step, event.item, event.token).state = S.COMPLETED

    @_read.register
    def _(self, event: e.AttemptFailed, seq: int) -> None:
        self._release(event.step, event.item, event.token).failures += 1

    @_read.register
    def _(self, event: e.MemoryRaised, seq: int) -> None:
        """After an attempt that failed, to more than before, and never beyond what the step allows."""
        step, life = self.plan.steps[event.step], self.life(event.step, event.item)
        first = memory_of(self.plan.lines[step.line])
        assert not life.token
        assert life.failures
        assert max(life.memory_bytes, first) < event.memory_bytes <= event.wanted_bytes <= MOST_RAISED * first
        assert event.wanted_bytes <= max(life.memory_bytes, first) * step.retry.memory_factor
        life.memory_bytes = event.memory_bytes

    @_read.register
    def _(self, event: e.LeaseLost, seq: int) -> None:
        life = self._release(event.step, event.item, event.token, free=event.charge is Charge.NOBODY)
        life.losses += event.charge is Charge.INFRASTRUCTURE
        if event.charge is Charge.POISON:
            assert event.boot not in life.deaths
            life.deaths = (*life.deaths, event.boot)
        if event.charge is Charge.NOBODY:
            self.begun.remove((event.step, self.place(event.step, event.item), life.number))
            life.number -= 1

    @_read.register
    def _(self, event: e.StepWaiting, seq: int) -> None:
        life = self._again(event.step, event.item)
        retry = self.plan.steps[event.step].retry
        wait = retry.initial_backoff * retry.multiplier ** (life.failures - 1)
        assert event.until is not None
        assert wait * (1 - retry.jitter) <= event.until - event.at <= wait
        life.state, life.until = S.WAITING, event.until

    @_read.register
    def _(self, event: e.StepWoken, seq: int) -> None:
        life = self.life(event.step, event.item)
        assert life.state is S.WAITING
        assert event.at >= life.until
        life.state, life.ready_at = S.READY, event.at

    @_read.register
    def _(self, event: e.StepReturned, seq: int) -> None:
        life = self._again(event.step, event.item)
        life.state, life.ready_at = S.READY, event.at

    def _most_losses(self, step: int) -> int:
        return self.plan.steps[step].retry.max_losses or self.losses

    def _again(self, step: int, item: int) -> Life:
        """A step run gets another attempt."""
        life = self.life(step, item)
        assert life.state is S.RUNNING
        assert not life.token
        assert not self.doomed(step)
        assert not life.displaced
        assert life.failures < self.plan.steps[step].retry.max_attempts
        assert life.losses < self._most_losses(step)
        assert len(life.deaths) < MOST_DEATHS
        return life

    @_read.register
    def _(self, event: e.StepFailed, seq: int) -> None:
        self._rests(event.step, event.item, seq)
        life = self.life(event.step, event.item)
        node = self.plan.steps[event.step]
        assert not life.token
        assert not self.doomed(event.step)
        match event.failure.reason:
            case "Map" | "Condition":
                assert life.state is S.PENDING
            case "QueuedTimeout":
                assert life.state is S.READY
                assert event.at >= life.ready_at + (node.timeouts.queued or 0)
            case "OverallTimeout":
                assert event.at >= life.first_ready_at + (node.timeouts.overall or 0)
            case "Displaced":
                assert life.displaced
                assert node.allow_failure
            case "AgentLost":
                assert life.losses == self._most_losses(event.step)
                assert event.budget is Budget.INFRASTRUCTURE
            case "Poison":
                assert len(life.deaths) == MOST_DEATHS
                assert event.budget is Budget.POISON
            case "Input" | "SubPipeline":
                assert life.state is S.RUNNING
            case _:
                chosen = node.retry.retry_on or node.retry.never_retry_on
                assert life.failures == node.retry.max_attempts or chosen
        life.state = S.FAILED

    @_read.register
    def _(self, event: e.StepCancelled, seq: int) -> None:
        self._rests(event.step, event.item, seq)
        life = self.life(event.step, event.item)
        assert life.number or life.state is S.RUNNING or life.displaced or life.question
        assert not life.token
        assert not life.state.at_rest
        assert self.doomed(event.step) or (life.displaced and not self.plan.steps[event.step].allow_failure)
        life.state = S.CANCELLED

    @_read.register
    def _(self, event: e.MapSettled, seq: int) -> None:
        self.rests[event.step] = seq
        allowed = self.plan.steps[event.step].allow_failure
        items = Counter(life.state for (step, item), life in self.lives.items() if step == event.step and item >= 0)
        assert all(state.at_rest for state in items)
        parts = items + Counter(self.groups.get(event.step, {}).values())
        followed = self.plan.steps[event.step].followed
        if parts[S.FAILED] and not allowed:
            expected = S.FAILED
        elif parts[S.CANCELLED]:
            expected = S.CANCELLED
        elif parts[S.UPSTREAM_FAILED]:
            expected = S.UPSTREAM_FAILED
        else:
            expected = S.SKIPPED if parts and set(parts) == {S.SKIPPED} else S.COMPLETED
        # Where places are missing in what it goes along with, the rule is asked of them too.
        if self._undoes(event.step) or followed is None or (parts and self.plan.steps[followed].depth == 1):
            assert event.state is expected or (self.doomed(event.step) and event.state is S.CANCELLED)

    @_read.register
    def _(self, event: e.RunCancelling, seq: int) -> None:
        before = self.cancelling
        self._unpause(event.at)
        if before is not None:
            assert event.now >= before.now
            assert event.verdict is before.verdict or event.verdict is RunState.CANCELLED
            assert event.now > before.now or event.verdict is not before.verdict
        self.cancelling = event

    @_read.register
    def _(self, event: e.RunReopened, seq: int) -> None:
        assert event.generation == self.generation + 1
        assert self.ended is not None or event.kind is not e.Reopening.RETRY
        self.rolling, self.to_roll = False, event.kind is e.Reopening.ROLLBACK
        if self.to_roll:
            assert all(self._undoes(step) or self._new_undoes(step) for step in _each(event.steps)), (
                "a rollback runs nothing again"
            )
        self.undone_before = {step for (step, _), life in self.lives.items() if life.state is S.ROLLED_BACK}
        counts = {(step, item): count for step, item, count in event.attempts}
        keys = {(step, item) for step, ranges in event.items for item in _each(ranges)}
        wholes = set(_each(event.steps))
        renewed = self.next_plan if event.version_digest != self.plan.digest else None
        left = set() if renewed is None else {step.number for step in renewed.steps if step.retired}
        keys |= {key for key in self.lives if key[0] in wholes | left}
        assert not keys & self.holders
        used: dict[int, list[int]] = {}
        for (step, place), count in self.former.items():
            if step in wholes | left and place:
                used.setdefault(step, []).append(count)
        for key in sorted(keys):
            life = self.lives.pop(key, Life())
            assert life.state.at_rest or life.state is S.PENDING
            if event.kind is e.Reopening.RETRY and renewed is None:
                assert life.state is not S.COMPLETED or self._may_go(key[0], event)
            if key[1] == WHOLE:
                assert counts.get(key, 0) == life.number, key
            elif life.number:
                used.setdefault(key[0], []).append(life.number)
            if key[0] not in left and (key[0] not in wholes or key[1] == WHOLE):
                self.lives[key] = Life(number=life.number, former=life.number)
            elif life.number:
                self.former[key[0], self.place(*key)] = life.number
        for step in {key[0] for key in keys} | {step for step, item in counts if item != WHOLE}:
            told = sorted(count for (at, item), count in counts.items() if at == step and item != WHOLE and count)
            assert told == sorted(used.get(step, [])), step
        for number in wholes | left:
            self.places.pop(number, None)
            self.counts.pop(number, None)
            self.groups.pop(number, None)
        self.plan = renewed or self.plan
        self.generation, self.held = event.generation, False
        if self.ended is not None:
            self.ended, self.cancelling, self.deadline, self.paused_at = None, None, event.deadline, None
            self._begin_spending()

    def _may_go(self, step: int, event: e.RunReopened) -> bool:
        """What is COMPLETED stays, but for cleanup steps, items of a map that gets a new list, and what rests on steps
        that were undone."""
        node = self.plan.steps[step]
        if node.cleanup or node.map is not None or node.undoes is not None:
            return True
        return bool(self._before(step) & self.undone_before)

    def _before(self, step: int) -> set[int]:
        """All that the step depends on."""
        found: set[int] = set()
        ahead = [step]
        while ahead:
            more = set(self.plan.steps[ahead.pop()].upstream) - found
            found |= more
            ahead += more
        return found

    def _new_undoes(self, step: int) -> bool:
        return self.next_plan is not None and self.next_plan.steps[step].undoes is not None

    def _check_end_of_rollback(self, event: e.RunEnded) -> None:
        lives = {key: life for key, life in self.lives.items() if self._undoes(key[0])}
        bad = {step: life for (step, _), life in lives.items() if life.state is S.FAILED or life.displaced_for_good}
        failed = any(not self._allowed(step, life) for step, life in bad.items())
        assert event.state is (RunState.FAILED if failed else RunState.ROLLED_BACK)
        if failed:
            return
        for (step, _), life in self.lives.items():
            undo = self.plan.steps[step].compensate
            assert undo is None or life.state is not S.COMPLETED, "something was left undone"

    @_read.register
    def _(self, event: e.RunEnded, seq: int) -> None:
        assert not self.holders
        assert event.state is not RunState.FAILED or self.rolling or not self.plan.rolls_back
        bad = {step for (step, _), life in self.lives.items() if life.state is S.FAILED or life.displaced_for_good}
        bad |= {step for step, groups in self.groups.items() if S.FAILED in groups.values()}
        failed = any(not self.plan.steps[step].allow_failure for step in bad)
        if self.cancelling is not None:
            assert event.state is self.cancelling.verdict
        elif self.rolling:
            self._check_end_of_rollback(event)
        else:
            left = any(life.state is S.CANCELLED for life in self.lives.values())
            expected = RunState.FAILED if failed else RunState.CANCELLED if left else RunState.COMPLETED
            if expected is RunState.COMPLETED and self.plan.outputs and event.reason.startswith("OutputTooLarge"):
                expected = RunState.FAILED
            # What was displaced in a former generation, and stays, counts as CANCELLED unless it was the first failure.
            assert event.state is expected or (left and self.generation > 1 and event.state is RunState.CANCELLED)
        self.ended = event


def _each(ranges: tuple[e.Range, ...]) -> Iterator[int]:
    return (number for first, stop in ranges for number in range(first, stop))
