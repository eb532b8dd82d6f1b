"""What must hold of a run after every turn. For tests: it takes time by the size of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.deadlines import next_deadline, standing_timers
from penstock_coordinator.core.run.events import WHOLE, CacheMode, WaitReason
from penstock_coordinator.core.run.evolve.maps import watchers_of
from penstock_coordinator.core.run.evolve.passing import may_begin
from penstock_coordinator.core.run.item_queue import ItemQueue
from penstock_coordinator.core.run.losses import POISONOUS
from penstock_coordinator.core.run.mapped import UNDECIDED, Groups, MapState, Places
from penstock_coordinator.core.run.places import item_at, place_of
from penstock_coordinator.core.run.state import RETIRED, ActiveStep, Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.summary import unpack
from penstock_coordinator.core.run.tallies import decide_rule
from penstock_coordinator.core.run.upstream import fires_early, standing

StepRun: TypeAlias = tuple[Step, int, StepState]
"""(step, item, state)"""
StepRuns: TypeAlias = list[StepRun]

_COUNTED = StepState.ROLLED_BACK + 1
_LIVE = (StepState.READY, StepState.RUNNING, StepState.WAITING)


def check_invariants(run: Run, *, clock_is_steady: bool = True) -> None:
    """Raises AssertionError, with what does not hold. `clock_is_steady`: the wall clock was never set back, so that
    instants are in the order of the events."""
    found = list(step_runs(run))
    _check_counters(run, found)
    _check_active(run, found)
    if clock_is_steady:
        _check_instants(run, found)
    _check_queues(run, found)
    _check_maps(run)
    if run.seq:
        if run.undoing is None:
            _check_order(run)
        _check_frontier(run)
    _check_undoing(run, found)
    _check_rest(run)
    _check_summary(run, found)
    _check_retired(run)


def standing_steps(run: Run) -> list[Step]:
    """Those that the run's version has."""
    return [step for step in run.plan.steps if not step.retired]


def step_runs(run: Run) -> Iterator[StepRun]:
    """All step runs as they are counted: the items of a step that is expanded, else the step."""
    for step in standing_steps(run):
        mapped = run.maps.get(step.number)
        if mapped is None:
            yield step, WHOLE, run.state_of(step.number)
        else:
            for item in range(mapped.count):
                yield step, item, run.state_of(step.number, item)


def _check_counters(run: Run, step_runs: StepRuns) -> None:
    found = [0] * _COUNTED, [0] * _COUNTED
    for step, _, state in step_runs:
        found[step.cleanup][state] += 1
    for cleanup in (False, True):
        assert run.tallies[cleanup] == found[cleanup], (cleanup, run.tallies[cleanup], found[cleanup])
    assert sum(run.counts()) == len(step_runs)
    at_rest = [step.retired or run.state_of(step.number).at_rest for step in run.plan.steps]
    assert run.open_steps == at_rest.count(False)
    assert run.open_work == sum(1 for step in run.plan.steps if not step.cleanup and not at_rest[step.number])
    for step in run.plan.steps:
        waits_for = [number for number in step.upstream if not at_rest[number] and not _opens_with(run, step, number)]
        assert run.open_upstream[step.number] == len(waits_for), step.name
    assert run.running == found[False][StepState.RUNNING] + found[True][StepState.RUNNING]
    assert not run.plan.max_parallel or run.running <= run.plan.max_parallel


def _check_active(run: Run, step_runs: StepRuns) -> None:
    tokens = 0
    for step, item, state in step_runs:
        active = run.active_step(step.number, item)
        if active is None:
            assert state not in _LIVE or (item != WHOLE and state is StepState.READY), (step.name, item, state)
            continue
        assert state in _LIVE, (step.name, item, state)
        assert (active.step, active.item) == (step.number, item)
        assert (active.token > 0) == (state is StepState.RUNNING)
        assert (active.wait is not None) == (state is StepState.WAITING)
        assert active.displaced is None or state is StepState.RUNNING
        assert active.token <= run.seq
        _check_budgets(step, active)
        tokens += active.token > 0
    _check_children(run, step_runs)
    _check_lookups(run, step_runs)
    assert tokens == run.running == sum(1 for _ in run.leased())
    assert run.active.keys() <= {step.number for step in run.plan.steps if step.map is None}


def _check_children(run: Run, step_runs: StepRuns) -> None:
    """Those that wait for their own runs are known, and counted."""
    found, away = {}, [0, 0]
    for step, item, _ in step_runs:
        active = run.active_step(step.number, item)
        if active is not None and active.wait is not None and active.wait.reason is WaitReason.SUB_PIPELINE:
            found[step.number, item] = bytes.fromhex(active.wait.key)
            away[step.cleanup] += 1
    assert run.children == found
    assert run.away == tuple(away)


def _check_lookups(run: Run, step_runs: StepRuns) -> None:
    for (number, item), lookup in run.lookups.items():
        assert run.plan.steps[number].cache is not None
        assert run.cache is not CacheMode.OFF
        assert not run.state_of(number, item).at_rest
        assert not (lookup.reserved or lookup.key) or not run.awaits_value(number, item)
        assert not lookup.reserved or lookup.key
    for step, item, _ in step_runs:
        assert not run.awaits_value(step.number, item) or (step.number, item) in run.lookups


def _check_budgets(step: Step, active: ActiveStep) -> None:
    assert 0 <= active.failures <= max(step.retry.max_attempts - 1, 0), step.name
    charged = active.failures + active.losses + len(active.deaths)
    assert charged + (active.token > 0) <= active.attempts, step.name
    assert len(active.deaths) == len(set(active.deaths)) < POISONOUS, step.name


def _check_instants(run: Run, step_runs: StepRuns) -> None:
    for step, item, _ in step_runs:
        active = run.active_step(step.number, item)
        if active is None:
            continue
        assert active.first_ready_at <= active.ready_at
        if active.leased_at is not None and active.started_at is not None:
            assert active.first_ready_at <= active.started_at <= active.leased_at


def _check_queues(run: Run, step_runs: StepRuns) -> None:
    ready: dict[int, set[tuple[int, int]]] = {}
    for step, item, state in step_runs:
        if state is StepState.READY and not _is_held(run, step, item):
            ready.setdefault(run.line_of(step, item), set()).add((step.number, item))
    counts = {line: queue.count for line, queue in run.queues.items()}
    assert counts == {line: len(found) for line, found in ready.items()}
    for line, queue in run.queues.items():
        waiting = queue.waiting()
        assert len(waiting) == len(set(waiting)), f"line {line} holds a step run twice"
        assert set(waiting) == ready.get(line, set()), line


def _check_maps(run: Run) -> None:
    for number, mapped in run.maps.items():
        states = mapped.states
        assert mapped.count == len(states)
        assert mapped.tally == [states.count(state) for state in range(len(mapped.tally))]
        assert mapped.remaining == sum(1 for state in states if not StepState(state).at_rest)
        settled = run.state_of(number).at_rest
        assert settled or run.state_of(number) is StepState.RUNNING
        assert not settled or not mapped.remaining
        assert (number in run.finished_maps) == (not settled and not mapped.remaining and _is_closed(run, number))
        assert settled or (number in run.opening) == bool(_due(run, number, mapped))
        assert not settled or number not in run.opening
        assert set(mapped.kept) <= {item for item in range(mapped.count) if states[item] == StepState.COMPLETED}

        _check_places(run.plan.steps[number], mapped)
        _check_shape(run, run.plan.steps[number], mapped)


def _opens_with(run: Run, step: Step, number: int) -> bool:
    """Whether the step goes along with that one and need not wait for it as a whole."""
    return number in run.maps and step.number in run.plan.steps[number].followers


def _is_held(run: Run, step: Step, item: int) -> bool:
    places = None if item == WHOLE else run.maps[step.number].places
    return places is not None and places.holds(item)


def _is_closed(run: Run, number: int) -> bool:
    """Whether the map gets no items any more."""
    followed, groups = run.plan.steps[number].followed, run.maps[number].groups
    if followed is None or run.doomed(number):
        return True
    return run.state_of(followed).at_rest and (groups is None or UNDECIDED not in groups.states)


def _due(run: Run, number: int, mapped: MapState) -> list[int]:
    """What could be decided now, by the plain definition."""
    pending = [item for item, state in enumerate(mapped.states) if state == StepState.PENDING]
    followed = run.plan.steps[number].followed
    if run.plan.steps[number].undoes is not None:
        return pending if may_begin(run, run.plan.steps[number]) else []
    if followed is None:
        return pending
    along = run.maps[followed].states
    if mapped.groups is None:
        return [item for item in pending if StepState(along[item]).at_rest]
    if run.doomed(number):
        return pending
    groups = mapped.groups.states
    return pending + [at for at, state in enumerate(groups) if state == UNDECIDED and StepState(along[at]).at_rest]


def _check_places(step: Step, mapped: MapState) -> None:
    """Of a map with a limit: nobody is held while a place is free."""
    places = mapped.places
    assert (places is not None) == (step.map is not None and step.map.max_parallel > 0)
    if places is None:
        return
    held = {item for item in range(mapped.count) if places.holds(item)}
    assert all(mapped.states[item] == StepState.READY for item in held)
    assert not held or places.taken == places.limit
    assert places.taken <= places.limit
    under_way = {item for item in range(mapped.count) if mapped.states[item] in (StepState.READY, StepState.RUNNING)}
    waiting = {item for item, active in mapped.active.items() if active.wait and active.wait.within}
    assert places.taken == len((under_way | waiting) - held)


def _check_shape(run: Run, step: Step, mapped: MapState) -> None:
    """Every item has a place of its own, and the place leads back to it."""
    seen = set()
    for item in range(mapped.count):
        place = place_of(run.plan, run, step.number, item)
        assert len(place) == step.depth
        assert item_at(run.plan, run, step.number, place) == item
        seen.add(place)
    assert len(seen) == mapped.count
    if step.followed is None or run.state_of(step.number).at_rest:
        return
    followed = run.maps[step.followed]
    if mapped.groups is None:
        assert mapped.count == followed.count
    else:
        assert len(mapped.groups.states) == followed.count
        assert mapped.groups.undecided == mapped.groups.states.count(UNDECIDED)


def _decidable(run: Run, step: Step) -> bool:
    """By the plain definition: all upstream at rest, or a rule that need not wait, and nothing else to wait for."""
    if step.undoes is not None:
        return may_begin(run, step)
    if not step.upstream:
        return not step.cleanup or run.open_work == 0
    if step.rule.name == "ALWAYS" or not run.open_upstream[step.number]:
        return True
    return any(fires_early(step, state) for number in step.upstream for state in _seen(run, number))


def _seen(run: Run, number: int) -> list[int]:
    allow = run.plan.steps[number].allow_failure
    states = [run.states[number], *(run.items_of(number) or b"")]
    return [standing(state, allow) for state in states]


def _check_order(run: Run) -> None:
    """Nothing was decided before its rule could be; since what the rule rests on is at rest, it still says the same.
    But for what was decided in a former generation: steps that stayed, and maps that stayed expanded."""
    for step in standing_steps(run):
        state = run.state_of(step.number)
        if (
            step.undoes is not None
            or state in (StepState.PENDING, StepState.CANCELLED)
            or (run.stayed and run.stayed[step.number])
        ):
            continue
        assert _decidable(run, step), f"{step.name} did not wait for its upstream"
        expanded = step.number in run.maps
        if state is not StepState.SKIPPED and not (expanded and (run.stayed or step.followed is not None)):
            expected = state if state is StepState.UPSTREAM_FAILED else StepState.READY
            assert decide_rule(run, step) is expected, step.name


def _check_undoing(run: Run, step_runs: StepRuns) -> None:
    """Nothing is undone that did not complete, and not before what rests on it; and nothing else goes on meanwhile."""
    begun = run.undoing is not None and run.undoing.begun
    for step, item, state in step_runs:
        if step.undoes is None:
            assert not begun or state.at_rest, f"{step.name} goes on while the run is rolled back"
            continue
        if run.undoing is None:
            assert state is StepState.SKIPPED, f"{step.name} undoes something, and nobody asked for it"
            continue
        undone = None if item != WHOLE and step.undoes not in run.maps else run.state_of(step.undoes, item)
        if state in _LIVE:
            assert may_begin(run, step), f"{step.name} did not wait for what is to be undone before"
            assert undone is StepState.COMPLETED, f"{step.name} undoes what did not complete"
        if state is StepState.COMPLETED:
            assert undone is StepState.ROLLED_BACK or run.unfinished, f"{step.name} has undone nothing"


def _check_frontier(run: Run) -> None:
    expected = {
        step.number
        for step in standing_steps(run)
        if run.state_of(step.number) is StepState.PENDING and _decidable(run, step)
    }
    assert set(run.frontier) == expected


def _check_rest(run: Run) -> None:
    if run.at_rest:
        assert not run.open_steps
        assert next_deadline(run) is None
        assert not run.demanded_lines()
    elif run.seq:
        assert run.open_steps or run.unfinished or run.held
    if run.held is not None:
        assert run.state in (RunState.PENDING, RunState.PAUSED)
        assert not run.demanded_lines()
        assert run.started_at is None
    for line in run.demanded_lines():
        assert run.demand(line) > 0


def _check_summary(run: Run, step_runs: StepRuns) -> None:
    summary = unpack(run.pack())
    assert summary.counts() == run.counts()
    for step, item, state in step_runs:
        assert summary.state_of(step.number, item) is state
        if step.depth > 1:  # else the place is the number
            assert place_of(run.plan, summary, step.number, item) == place_of(run.plan, run, step.number, item)


def _check_retired(run: Run) -> None:
    """Nothing is left of what the run's version does not have; all else is there."""
    assert len(run.states) == len(run.plan.steps)
    for step in run.plan.steps:
        assert step.retired == (run.states[step.number] == RETIRED)
        if step.retired:
            assert step.number not in run.maps.keys() | run.kept.keys() | run.active.keys()
            assert run.plan.numbers.get(step.name) is None
    for number, mapped in run.maps.items():
        step = run.plan.steps[number]
        assert step.map is not None
        assert mapped.watchers == watchers_of(run.plan, step)
        parts = len(step.kept_paths) + len(step.kept_lengths)
        assert all(len(kept) == parts for kept in mapped.kept.values())
    for number, kept in run.kept.items():
        step = run.plan.steps[number]
        assert len(kept) == len(step.kept_paths) + len(step.kept_lengths)


def fingerprint(run: Run) -> dict[str, Any]:
    """All that the events made of a run, in a form that two runs can be compared by."""
    state = {name: getattr(run, name) for name in (*Run.__slots__, *Run.__annotations__) if name not in _DERIVED}
    state["frontier"], state["opening"] = list(run.frontier), list(run.opening)
    state["finished_maps"] = list(run.finished_maps)
    state["undoing"] = None if run.undoing is None else _fields(run.undoing)
    state["spending"] = None if run.spending is None else _fields(run.spending)
    state["raised"] = None if run.raised is None else _fields(run.raised)
    state["active"] = {step: _fields(active) for step, active in run.active.items()}
    state["maps"] = {number: _fields(mapped) for number, mapped in run.maps.items()}
    state["queues"] = {line: queue.waiting() for line, queue in run.queues.items()}
    state["timers"] = standing_timers(run)
    return state


_DERIVED = {"__dict__", "plan", "plans", "queued_timers", "_parameter_values", "_keys"}


def _fields(thing: Any) -> dict[str, Any]:
    fields = {name: getattr(thing, name) for name in thing.__slots__ if name != "values"}
    fields |= {name: _fields(inner) for name, inner in fields.items() if isinstance(inner, Groups | Places | ItemQueue)}
    if "active" in fields:
        fields["active"] = {item: _fields(active) for item, active in fields["active"].items()}
    return fields
