"""A new generation: step runs leave rest, and everything that is counted is counted anew.

Takes time by the size of the run, as its start does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from heapq import heapify

from penstock_coordinator.core.plan.model import Plan, Step, TriggerRule
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Failure, Range
from penstock_coordinator.core.run.evolve.budget import begin_spending
from penstock_coordinator.core.run.evolve.counters import keep, note_opened, spend
from penstock_coordinator.core.run.evolve.renewing import go_on_with
from penstock_coordinator.core.run.mapped import MapState
from penstock_coordinator.core.run.numbering import Numbering
from penstock_coordinator.core.run.openings import opening
from penstock_coordinator.core.run.places import place_of
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.ready import UNMAPPED
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.timers import Timer, TimerKind
from penstock_coordinator.core.run.undoing import Undoing
from penstock_coordinator.core.run.upstream import ENDED_BADLY, fires_early, may_fire_early, standing

_PENDING, _RUNNING, _COMPLETED = StepState.PENDING, StepState.RUNNING, StepState.COMPLETED
_FAILED = frozenset({StepState.FAILED})
_NOT_AGAIN = Failure("NotRunAgain", "it failed in a former generation and did not run again")


def run_reopened(run: Run, seq: int, event: e.RunReopened) -> None:
    run.generation = event.generation
    run.openings = (*run.openings, opening(event))
    for step, item, count in event.attempts:
        spend(run, step, item, count)
    _tidy_queues(run)
    wholes = list(_positions(event.steps))
    plan = run.plan if event.version_digest == run.plan.digest else run.plans[event.version_digest]
    _keep_numbers(run, wholes, plan, seq)
    if plan is not run.plan:
        go_on_with(run, plan)
    if event.parameters:
        run.set_parameters(event.parameters)
    run.anew = (frozenset() if run.at_rest else run.anew) | frozenset(event.anew)
    for number in wholes:
        _reset_step(run, number)
    for number, ranges in event.items:
        _reset_items(run, number, ranges)
    for number, ranges in event.items:
        _note_due(run, run.plan.steps[number], ranges)
    for step, item, parts in event.kept:
        keep(run, step, item, parts)
    _forget_timers(run, set(wholes), dict(event.items))
    _note_earlier_failure(run)
    if run.at_rest:
        _begin_again(run, event)
    run.undoing = Undoing(event.reason, event.requested_by) if event.kind is e.Reopening.ROLLBACK else None
    _count_again(run)


def _positions(ranges: Iterable[Range]) -> Iterable[int]:
    return (number for first, stop in ranges for number in range(first, stop))


def _begin_again(run: Run, event: e.RunReopened) -> None:
    run.state = RunState.PENDING
    run.reason = ""
    run.started_at = run.ended_at = None
    run.verdict = None
    run.immediate = False
    run.cancel_deadline = 0
    run.admitted_at = event.at
    run.deadline = event.deadline
    begin_spending(run)
    if event.deadline is not None:
        run.start_clock(Timer(event.deadline, TimerKind.RUN))


def _tidy_queues(run: Run) -> None:
    """What left READY from the middle of a queue for good may come back after all: forget where it stood."""
    for queue in run.queues.values():
        waiting = queue.waiting()
        queue.clear()
        for step, item in waiting:
            if item == WHOLE:
                queue.add(run.states, UNMAPPED, step, step + 1)
            else:
                queue.add(run.maps[step].states, step, item, item + 1)


# --- what is reset


def _keep_numbers(run: Run, wholes: list[int], plan: Plan, seq: int) -> None:
    """Maps may have other numbers for their items: what is kept of them stays with their places."""
    retired = [number for number in run.maps if plan.steps[number].retired]
    for number in {*wholes, *retired} & run.maps.keys():
        if number in run.numberings:
            run.numberings[number].begin_anew(seq)
        elif plan is not run.plan or run.plan.steps[number].depth > 1:
            places = [place_of(run.plan, run, number, item) for item in range(run.maps[number].count)]
            run.numberings = {**run.numberings, number: Numbering(places, seq)}


def _reset_step(run: Run, number: int) -> None:
    run.states[number] = _PENDING if run.plan.steps[number].undoes is None else StepState.SKIPPED
    run.maps.pop(number, None)
    run.kept.pop(number, None)
    run.opening.pop(number, None)
    run.finished_maps.pop(number, None)


def _reset_items(run: Run, number: int, ranges: Iterable[Range]) -> None:
    """The map stays expanded, and is under way again."""
    mapped = run.maps[number]
    waiting = [item for item in mapped.due.walk(mapped.states, _PENDING) if not _covers(ranges, item)]
    mapped.due.clear()
    for first, stop in packed(sorted(waiting)):
        mapped.due.add(first, stop)
    _free_ready_times(mapped)
    for first, stop in ranges:
        mapped.states[first:stop] = bytes((_PENDING,)) * (stop - first)
        for item in range(first, stop):
            mapped.kept.pop(item, None)
    mapped.tally = [mapped.states.count(state) for state in range(len(mapped.tally))]
    mapped.remaining = sum(mapped.tally[:_COMPLETED])
    mapped.values = None
    run.states[number] = _RUNNING
    run.finished_maps.pop(number, None)


def _covers(ranges: Iterable[Range], item: int) -> bool:
    return any(first <= item < stop for first, stop in ranges)


def _free_ready_times(mapped: MapState) -> None:
    """From now on items may become READY in any order."""
    if mapped.ready_times is not None:
        return
    times = array("q", bytes(8 * mapped.count))
    ends = [*(first for first, _ in mapped.ready_marks[1:]), mapped.count]
    for (first, at), stop in zip(mapped.ready_marks, ends, strict=False):
        times[first:stop] = array("q", [at]) * max(stop - first, 0)
    mapped.ready_times = times
    mapped.ready_marks = []


def _note_due(run: Run, step: Step, ranges: Iterable[Range]) -> None:
    """Which of the reset items can be decided at once: of a map that goes along with another one those whose
    counterpart is at rest."""
    mapped = run.maps[step.number]
    along = None if step.followed is None or mapped.groups is not None else run.maps[step.followed].states
    for first, stop in ranges:
        if along is None:
            mapped.due.add(first, stop)
            continue
        for item in range(first, stop):
            if along[item] >= _COMPLETED:
                mapped.due.add(item, item + 1)
    note_opened(run, step.number, mapped)


def _forget_timers(run: Run, wholes: set[int], items: dict[int, tuple[Range, ...]]) -> None:
    """Clocks of what is reset; of a run at rest there are none."""
    for name in ("timers", "queued_timers"):
        timers: list[Timer] = []
        for timer in getattr(run, name):
            if timer.step not in wholes:
                timers += _outside(timer, items.get(timer.step, ()))
        heapify(timers)
        setattr(run, name, timers)


def _outside(timer: Timer, ranges: Iterable[Range]) -> list[Timer]:
    """What is left of a clock when that of these items is taken out."""
    left = [timer]
    for first, stop in ranges:
        cut: list[Timer] = []
        for each in left:
            if stop <= each.first or first >= each.stop:
                cut.append(each)
                continue
            cut += [each._replace(stop=first)] if each.first < first else []
            cut += [each._replace(first=stop)] if stop < each.stop else []
        left = cut
    return left


# --- what is counted anew


def _note_earlier_failure(run: Run) -> None:
    """What failed before and does not run again still fails the run, but stops nothing any more."""
    former = run.first_failure or run.earlier_failure
    run.first_failure = run.earlier_failure = None
    if former is not None and _still_bad(run, former[0], former[1]):
        run.earlier_failure = former
        return
    for step in run.plan.steps:
        if step.allow_failure:
            continue
        mapped = run.maps.get(step.number)
        item = WHOLE if mapped is None else mapped.states.find(StepState.FAILED)
        if _still_bad(run, step.number, item, failed_only=True):
            run.earlier_failure = (step.number, item, _NOT_AGAIN)
            return


def _still_bad(run: Run, step: int, item: int, *, failed_only: bool = False) -> bool:
    """What was displaced is CANCELLED, and counts as a failure only where it is known to have been that."""
    mapped, bad = run.maps.get(step), _FAILED if failed_only else ENDED_BADLY
    if item == WHOLE:
        groups = None if mapped is None else mapped.groups
        return run.states[step] in bad or (groups is not None and StepState.FAILED in groups.states)
    return mapped is not None and item < mapped.count and mapped.states[item] in bad


def _count_again(run: Run) -> None:
    steps, states = run.plan.steps, run.states
    run.stayed = bytes(state >= _COMPLETED for state in states)
    run.open_steps = run.stayed.count(0)
    run.open_work = sum(1 for step in steps if not step.cleanup and not run.stayed[step.number])
    run.open_upstream = array("I", [_open_upstream(run, step) for step in steps])
    # New ones: those of a version without cleanup steps share theirs.
    run.tally, run.cleanup_tally = [0] * len(run.tally), [0] * len(run.tally)
    for step in steps:
        if step.retired:
            continue
        tally, mapped = run.tally_of(step), run.maps.get(step.number)
        if mapped is None:
            tally[states[step.number]] += 1
        else:
            tally[:] = [some + more for some, more in zip(tally, mapped.tally, strict=True)]
    run.frontier = {
        step.number: None for step in steps if states[step.number] == _PENDING and _can_be_decided(run, step)
    }


def _open_upstream(run: Run, step: Step) -> int:
    return sum(
        1
        for number in step.upstream
        if not run.stayed[number] and not (number in run.maps and number == step.followed and _goes_with(run, step))
    )


def _goes_with(run: Run, step: Step) -> bool:
    assert step.followed is not None
    return step.number in run.plan.steps[step.followed].followers


def _can_be_decided(run: Run, step: Step) -> bool:
    if not step.upstream:
        return not step.cleanup or not run.open_work
    if step.rule is TriggerRule.ALWAYS or not run.open_upstream[step.number]:
        return True
    if not may_fire_early(step):
        return False
    return any(_fires(run, step, number) for number in step.upstream)


def _fires(run: Run, step: Step, upstream: int) -> bool:
    allow, mapped = run.plan.steps[upstream].allow_failure, run.maps.get(upstream)
    seen = [run.states[upstream]]
    if mapped is not None:
        seen += [state for state in StepState if mapped.tally[state]]
    return any(fires_early(step, standing(state, allow)) for state in seen)
