"""A new generation of a run: which step runs run again, and which stay as they are.

A retry resets what ended badly and what that kept from running; what is COMPLETED stays. A rerun resets a step, or one
item, and everything that comes after it, however it ended. A requeue does that for several step runs that FAILED, and
for what was stopped because of them. Cleanup steps run again at the end of all of these.

A rollback runs nothing again: what is COMPLETED and can be undone is undone. A retry of a run whose rollback did not
come to a good end goes on with the rollback.

Of a map that can stay expanded single items are reset: nothing but the items that it goes along with may be reset
before it. Any other map is reset as a whole and gets a new list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from penstock_coordinator.core.plan.model import Plan, Step
from penstock_coordinator.core.run.compensating import items_to_undo, steps_to_undo
from penstock_coordinator.core.run.events import WHOLE, Reopening, RunHeld, RunReopened
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import (
    RenewingMessage,
    ReopenMessage,
    RequeueSteps,
    RerunStep,
    RetryRun,
    RollbackRun,
)
from penstock_coordinator.core.run.openings import began_in
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.renewing import check_same_work, retry_with
from penstock_coordinator.core.run.resets import (
    AGAIN,
    NotPossible,
    Reset,
    ended_badly,
    in_order,
    lost_its_list,
    reset_cleanup,
    stays_expanded,
    unused_again,
    was_undone,
)
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState

_PENDING, _SKIPPED = StepState.PENDING, StepState.SKIPPED
NAMED = 10
"""So many steps a refusal names."""
_KINDS = {RetryRun: Reopening.RETRY, RerunStep: Reopening.RERUN, RequeueSteps: Reopening.REQUEUE}


def reopen(run: Run, message: ReopenMessage, ledger: Ledger) -> None:
    try:
        reset = reset_for(run, message)
    except NotPossible as refused:
        ledger.refusal = str(refused)
        return
    plan = plan_after(run, message)
    kind = _kind(run, message)
    if kind in (Reopening.RETRY, Reopening.ROLLBACK):
        reset.steps.update(unused_again(run, plan, undoing=kind is Reopening.ROLLBACK))
    renewed = plan is not run.plan
    ledger.emit(
        RunReopened(
            at=message.now,
            generation=run.generation + 1,
            kind=kind,
            version_digest=plan.digest,
            deadline=_deadline(run, plan, message, kind),
            steps=packed(sorted(reset.steps)),
            items=tuple((step, packed(items)) for step, items in sorted(reset.items.items())),
            attempts=tuple(_attempts(run, plan, reset)),
            kept=message.kept if isinstance(message, RenewingMessage) and renewed else (),
            requested_by=message.requested_by,
            reason=message.reason or _former_reason(run, kind),
            parameters=message.parameters if isinstance(message, RenewingMessage) and renewed else b"",
            anew=((message.step, message.item),) if run.plan.caches and isinstance(message, RerunStep) else (),
        )
    )
    # A run of which nothing is left to do, since its version does without what failed, needs no place: it ends now.
    if message.held is not None and (run.open_steps or (kind is Reopening.ROLLBACK and reset.to_undo)):
        ledger.emit(RunHeld(message.now, *message.held))


def _kind(run: Run, message: ReopenMessage) -> Reopening:
    return Reopening.ROLLBACK if undoes(run, message) else _KINDS[type(message)]


def _former_reason(run: Run, kind: Reopening) -> str:
    """Of the rollback that is gone on with."""
    return run.undoing.reason if run.undoing is not None and kind is Reopening.ROLLBACK else ""


def undoes(run: Run, message: ReopenMessage) -> bool:
    """Also a retry does, of a run that was to be rolled back and is not; and a requeue of what could not undo."""
    if isinstance(message, RollbackRun):
        return True
    if isinstance(message, RerunStep) or run.undoing is None or run.state is RunState.ROLLED_BACK:
        return False
    return isinstance(message, RetryRun) or any(_is_undoing(run, number) for number, _ in message.targets)


def _is_undoing(run: Run, number: int) -> bool:
    return number < len(run.plan.steps) and run.plan.steps[number].undoes is not None


def plan_after(run: Run, message: ReopenMessage) -> Plan:
    """What the new generation goes on with."""
    version = message.version if isinstance(message, RenewingMessage) else ""
    return run.plans[version] if version not in ("", run.plan.digest) else run.plan


def _deadline(run: Run, plan: Plan, message: ReopenMessage, kind: Reopening) -> int | None:
    if not run.at_rest:
        return run.deadline
    if kind is Reopening.ROLLBACK:
        return None
    timeout = plan.timeout
    return None if timeout is None or message.held is not None else message.now + timeout


def _attempts(run: Run, plan: Plan, reset: Reset) -> Iterator[tuple[int, int, int]]:
    """Also of what is left behind: a later version may have it again."""
    former: dict[int, set[int]] = {}
    for step, item in run.spent:
        former.setdefault(step, set()).add(item)
    left = {step.number for step in plan.steps if step.retired and not run.plan.steps[step.number].retired}
    for number in sorted(each for each in reset.steps | left if each < len(run.states)):
        yield from _used(run, number, [WHOLE])
        mapped = run.maps.get(number)
        there = range(0 if mapped is None else mapped.count)
        kept = {run.kept_number(number, item) for item in there}
        for item in sorted(former.get(number, set()) - kept - {WHOLE}):
            yield number, item, run.spent[number, item]
        yield from _used(run, number, there)
    for number, items in sorted(reset.items.items()):
        yield from _used(run, number, items)


def _used(run: Run, number: int, items: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    for item in items:
        count = run.attempts_used(number, item)
        if count:
            yield number, run.kept_number(number, item), count


def reset_for(run: Run, message: ReopenMessage) -> Reset:
    """What the message would reset now. Raises `NotPossible`."""
    plan = plan_after(run, message)
    if isinstance(message, RequeueSteps):
        _check_newest(run, message)
    if undoes(run, message):
        return _rollback(run, plan)
    if isinstance(message, RetryRun):
        return _retry(run, plan)
    if isinstance(message, RequeueSteps):
        return _requeue(run, message.targets)
    assert isinstance(message, RerunStep)
    return _rerun(run, message.step, message.item)


# --- rollback


def _rollback(run: Run, plan: Plan) -> Reset:
    _check_not_rolling_back(run)
    if not run.at_rest:
        raise NotPossible(
            f"the run is {run.state.name}: only a run at rest can be rolled back; wait, or cancel it first"
        )
    if plan is not run.plan:
        check_same_work(run.plan, plan)
        _check_undone_too(run, plan)
    to_undo = _to_undo(run, plan)
    if run.state is RunState.ROLLED_BACK and not to_undo:
        raise NotPossible("the run is ROLLED_BACK already; to do its work again, retry it")
    return Reset(to_undo=to_undo)


def _check_undone_too(run: Run, plan: Plan) -> None:
    """What the run would undo with the version that it has is not left as it is by another one."""
    left = [
        f'"{step.name}"'
        for step in run.plan.steps
        if step.compensate is not None
        and plan.steps[step.number].compensate is None
        and _has_completed(run, step.number)
    ]
    if left:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        raise NotPossible(
            f"that version has no compensate for {', '.join(left[:NAMED])}{more}, which the run has done and would undo"
            " with the version that it has: roll the run back with that one, or give each of them a compensate in the"
            " new version (one that does nothing, if nothing is to be done)"
        )


def _to_undo(run: Run, plan: Plan) -> int:
    """Steps as wholes, by a plan whose other steps are the run's own."""
    if plan is run.plan:
        return len(steps_to_undo(run)) + len(items_to_undo(run))
    undone = (step.number for step in plan.steps if step.compensate is not None and step.number < len(run.states))
    return sum(1 for number in undone if _has_completed(run, number))


def _has_completed(run: Run, number: int) -> bool:
    mapped = run.maps.get(number)
    if mapped is not None:
        return mapped.tally[StepState.COMPLETED] > 0
    return run.states[number] == StepState.COMPLETED


# --- retry


def _retry(run: Run, plan: Plan) -> Reset:
    if not run.at_rest:
        raise NotPossible(f"the run is {run.state.name}: only a run at rest can be retried; wait, or cancel it first")
    if plan is not run.plan:
        return retry_with(run, plan)
    reset = Reset()
    for step in in_order(run.plan):
        if not step.cleanup:
            _retry_step(run, step, reset)
    if not reset.count and not _only_end_is_bad(run):
        raise NotPossible(
            f"the run is {run.state.name} and nothing in it failed or was cancelled: rerun a step instead"
        )
    reset_cleanup(run.plan, reset)
    return reset


def _only_end_is_bad(run: Run) -> bool:
    """Whether the cancel came when there was nothing left to be stopped, or nothing failed but cleanup steps, or
    nothing was there to be undone."""
    return run.state in (RunState.CANCELLED, RunState.ROLLED_BACK) or any(
        step.cleanup and ended_badly(run, step.number) for step in run.plan.steps
    )


def _retry_step(run: Run, step: Step, reset: Reset) -> None:
    number, state = step.number, run.states[step.number]
    expanded = number in run.maps
    if was_undone(run, number) or any(each in reset.undone for each in step.upstream):
        reset.undone.add(number)
    if step.undoes is not None:
        return  # at its beginning a generation finds it unused
    undone = number in reset.undone and state == StepState.COMPLETED
    if undone or (expanded and lost_its_list(run, step, reset)):
        reset.steps.add(number)
    elif ended_badly(run, number) or (state == _SKIPPED and any(reset.touches(each) for each in step.upstream)):
        items = _items_again(run, step, reset) if expanded else []
        if items:
            reset.items[number] = items
        else:
            reset.steps.add(number)


def _items_again(run: Run, step: Step, reset: Reset) -> list[int]:
    """The items to be reset if the map can stay expanded; none if it cannot."""
    if not stays_expanded(run, run.plan, step, reset):
        return []
    along = set(() if step.followed is None else reset.items.get(step.followed, ()))
    return [
        item
        for item, state in enumerate(run.maps[step.number].states)
        if state in AGAIN or (state == _SKIPPED and item in along)
    ]


# --- rerun


def _rerun(run: Run, number: int, item: int) -> Reset:
    _check_target(run, number, item)
    target, reset = run.plan.steps[number], Reset()
    if item == WHOLE:
        reset.steps.add(number)
    else:
        if not stays_expanded(run, run.plan, target, reset):
            raise NotPossible(
                f'no single item of "{target.name}" can run again, because what it is mapped over is incomplete or is'
                " being made anew: rerun the whole step"
            )
        reset.items[number] = (item,)
    for step in in_order(run.plan):
        if step.number != number and any(reset.touches(each) for each in step.upstream):
            _rerun_after(run, step, reset)
    if not target.cleanup:
        reset_cleanup(run.plan, reset)
    return _quiet(run, reset)


def _check_target(run: Run, number: int, item: int) -> None:
    _check_not_undone(run)
    undone = run.plan.steps[number].undoes
    if undone is not None:
        name = run.plan.steps[undone].name
        raise NotPossible(f'the step undoes "{name}", and runs when the run is rolled back: roll it back instead')
    name, state = run.display_name(number, item), run.state_of(number, item)
    _check_not_stopping(run)
    if state is _PENDING:
        raise NotPossible(f'"{name}" is PENDING: it has not run yet, and runs by itself')
    if not state.at_rest:
        raise NotPossible(f'"{name}" is {state.name}: wait until it is at rest, or cancel the run')


def _check_not_undone(run: Run) -> None:
    _check_not_rolling_back(run)
    if run.state is RunState.ROLLED_BACK:
        raise NotPossible(
            "the run is ROLLED_BACK, and what it did is undone: retry it to do its work again, or start a new run"
        )
    if run.undoing is not None:
        raise NotPossible(
            f"the run is {run.state.name}, and not all that it did is undone: retry it, which goes on with the rollback"
        )


def _check_not_rolling_back(run: Run) -> None:
    if run.undoing is None or run.at_rest:
        return
    state = "" if run.state is RunState.ROLLING_BACK else f" and {run.state.name}"
    remedy = "" if run.state is RunState.CANCELLING else ", or cancel the rollback"
    raise NotPossible(f"the run is being rolled back already{state}: wait until it is at rest{remedy}")


def _check_not_stopping(run: Run) -> None:
    if run.state is RunState.CANCELLING:
        raise NotPossible("the run is CANCELLING: wait until it is at rest")
    if run.failing_fast:
        raise NotPossible("the run is about to be stopped by its first failure: wait until it is at rest")


def _rerun_after(run: Run, step: Step, reset: Reset) -> None:
    """Item by item, if it goes along with a map of which single items run again; else the whole."""
    followed = step.followed
    if (
        followed is not None
        and followed in reset.items
        and step.number in run.maps
        and run.maps[step.number].groups is None
        and stays_expanded(run, run.plan, step, reset)
    ):
        reset.items[step.number] = reset.items[followed]
    else:
        reset.steps.add(step.number)


def _quiet(run: Run, reset: Reset) -> Reset:
    """Without what is PENDING anyway. Raises `NotPossible` if a part of it is under way."""
    _check_quiet(run, reset)
    reset.steps = {step for step in reset.steps if run.states[step] != _PENDING}
    return reset


def _check_quiet(run: Run, reset: Reset) -> None:
    """Nothing of it may be under way."""
    keys = [(step, WHOLE) for step in sorted(reset.steps)]
    keys += [(step, item) for step, items in sorted(reset.items.items()) for item in items]
    for step, item in keys:
        state = run.state_of(step, item)
        if state is not _PENDING and not state.at_rest:
            name = run.display_name(step, item)
            raise NotPossible(f'"{name}", which would run again too, is {state.name}: wait until it is at rest')


# --- requeue


def _check_newest(run: Run, message: RequeueSteps) -> None:
    """A failure that was dealt with already is not the present one, even if the step run FAILED again since."""
    for (number, item), generation in zip(message.targets, message.failed_in, strict=bool(message.failed_in)):
        if generation < began_in(run.openings, number, item):
            raise NotPossible(
                f'"{run.plan.steps[number].name}" was begun again since that failure: if it failed once more there is'
                " another letter, see `penstock dead-letters list` (List)"
            )


def _requeue(run: Run, targets: Iterable[tuple[int, int]]) -> Reset:
    """What FAILED, what comes after it, and what was stopped because of a failure."""
    _check_not_undone(run)
    _check_not_stopping(run)
    wanted: dict[int, list[int]] = {}
    for number, item in sorted(targets):
        _check_failed(run, number, item)
        wanted.setdefault(number, []).append(item)
    reset, stopped = Reset(), run.at_rest and run.verdict is RunState.FAILED
    for step in in_order(run.plan):
        if any(reset.touches(each) for each in step.upstream):
            _rerun_after(run, step, reset)
        if stopped and not step.cleanup:
            _begin_stopped(run, step, reset)
        if step.number in wanted:
            _begin_failed(run, step, wanted[step.number], reset)
    if any(not run.plan.steps[number].cleanup for number in wanted):
        reset_cleanup(run.plan, reset)
    return _quiet(run, reset)


def _check_failed(run: Run, number: int, item: int) -> None:
    if number >= len(run.states) or run.plan.steps[number].retired:
        raise NotPossible("the version that the run goes on with does not have the step any more")
    mapped = run.maps.get(number)
    if item != WHOLE and (mapped is None or item >= mapped.count):
        raise NotPossible(f'"{run.plan.steps[number].name}" does not have the item any more: its list was made anew')
    state = run.state_of(number, item)
    if state is not StepState.FAILED:
        raise NotPossible(f'"{run.display_name(number, item)}" is {state.name} and not FAILED: there is nothing to do')


def _begin_failed(run: Run, step: Step, items: list[int], reset: Reset) -> None:
    if step.number in reset.steps:
        return
    if items[0] == WHOLE:
        reset.items.pop(step.number, None)
        reset.steps.add(step.number)
    elif stays_expanded(run, run.plan, step, reset):
        reset.items[step.number] = sorted({*items, *reset.items.get(step.number, ())})
    else:
        raise NotPossible(
            f'no single item of "{step.name}" can run again, because what it is mapped over is incomplete or is being'
            " made anew: retry the run, or rerun the whole step"
        )


def _begin_stopped(run: Run, step: Step, reset: Reset) -> None:
    """A failure, or the run's time, stopped the run: what it left CANCELLED goes on too."""
    number = step.number
    if number in reset.steps:
        return
    mapped = run.maps.get(number)
    if mapped is None:
        if run.states[number] == StepState.CANCELLED:
            reset.steps.add(number)
        return
    items = [item for item, state in enumerate(mapped.states) if state == StepState.CANCELLED]
    if items and stays_expanded(run, run.plan, step, reset):
        reset.items[number] = sorted({*items, *reset.items.get(number, ())})
    elif items or (mapped.groups is not None and StepState.CANCELLED in mapped.groups.states):
        reset.items.pop(number, None)
        reset.steps.add(number)
