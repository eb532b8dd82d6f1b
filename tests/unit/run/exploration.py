"""All that can happen to runs of some small plans, found by trying every message in every state.

A plan has a world of messages of its own, so that the search is short; what is rare needs a world that leads to it.
Two runs are taken for the same when they differ only in instants, tokens and the numbers of events and attempts. So
the search ends, and it finds the same on every machine. `check_invariants` is asked of each run that it comes to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from tests.unit.run.driver import failed_step_runs
from tests.unit.run.plans import SECOND, Node, build, values, when
from tests.unit.run.transitions import Observations, Watcher

from penstock_coordinator.core.plan.budget import Amounts, CostBudget, OnExceeded
from penstock_coordinator.core.plan.model import Plan, Retry, Timeouts
from penstock_coordinator.core.run.deadlines import next_deadline, standing_timers
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import WHOLE, CacheSource, Charge, Event, Failure, Outcome
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.invariants import check_invariants
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import (
    AdmitRun,
    AttemptEnded,
    AttemptReport,
    CancelRun,
    ChildRefused,
    ChildReported,
    ClockTick,
    Continue,
    DisplaceReady,
    DisplaceStep,
    InputsUnresolved,
    LeaseGone,
    Message,
    PauseRun,
    RaiseBudget,
    RequeueSteps,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
    SlotsOffered,
    StartRun,
    ValueAwaited,
    ValueFound,
    ValueMissing,
)
from penstock_coordinator.core.run.state import ActiveStep, Run
from penstock_coordinator.core.run.states import RunState

MAX_GENERATIONS = 2
LISTS = (b"[1]", b"[2, 1]", b"[]", b"3")
RAN = AttemptReport(SECOND)
BOOM = Failure("UserError", "boom", "app.Boom")


@dataclass(frozen=True)
class World:
    """A plan, and what happens to runs of it."""

    plan: Plan
    deals: frozenset[str]
    """Names of the kinds of messages that come, below."""
    limit: int = 2_000
    """Of what one turn may change."""
    outputs: tuple[bytes, ...] = (b"[1]",)


class Reached(NamedTuple):
    """A run, by how it came about."""

    events: tuple[Event, ...]
    now: int


@cache
def explored() -> Observations:
    """What happens in all worlds."""
    found = Observations()
    for world in WORLDS:
        explore(world, found)
    return found


def explore(world: World, found: Observations) -> int:
    """How many runs that are not the same were come to."""
    seen: set[Hashable] = {_signature(_folded(world, Reached((), 0)))}
    ahead = deque([Reached((), 0)])
    while ahead:
        reached = ahead.popleft()
        for message in _messages(world, _folded(world, reached), reached.now):
            run = _folded(world, reached)
            events = _take(run, message, world, found)
            if events and run.generation <= MAX_GENERATIONS and (signature := _signature(run)) not in seen:
                check_invariants(run)
                seen.add(signature)
                ahead.append(Reached(reached.events + events, message.now))
    return len(seen)


def _folded(world: World, reached: Reached) -> Run:
    run = Run(world.plan, b"explored")
    for seq, event in enumerate(reached.events, 1):
        evolve(run, seq, event)
    return run


def _take(run: Run, message: Message, world: World, found: Observations) -> tuple[Event, ...]:
    """One turn."""
    watcher = Watcher(run, found)
    ledger = Ledger(run, watcher.note, world.limit)
    decide(run, message, ledger)
    watcher.finish(message, ledger)
    return tuple(event for _, event in ledger.events)


# --- which runs are the same


def _signature(run: Run) -> Hashable:
    """But for instants and numbers."""
    return (
        (run.state, run.verdict, run.immediate, run.paused is None, run.held is None, run.generation, bool(run.seq)),
        (bytes(run.states), run.stayed, tuple(sorted(run.frontier)), tuple(sorted(run.kept.items()))),
        tuple(_map_signature(run, number) for number in sorted(run.maps)),
        tuple(_active_signature(active) for _, active in sorted(run.active.items())),
        tuple((key, lookup.key, lookup.reserved) for key, lookup in sorted(run.lookups.items())),
        (_where(run.first_failure), _where(run.earlier_failure), _undoing_signature(run)),
        tuple((timer.kind, timer.step, timer.first, timer.stop) for timer in standing_timers(run)),
        None if run.spending is None else (run.spending.since is None, run.spending.over, run.spending.limits),
    )


def _undoing_signature(run: Run) -> Hashable:
    undoing = run.undoing
    if undoing is None:
        return None
    return undoing.begun, tuple(undoing.undone), tuple(undoing.stuck), bytes(undoing.blocked), bytes(undoing.passed)


def _map_signature(run: Run, number: int) -> Hashable:
    mapped = run.maps[number]
    return (
        number,
        bytes(mapped.states),
        None if mapped.groups is None else bytes(mapped.groups.states),
        tuple(sorted(mapped.kept.items())),
        tuple((item, _active_signature(active)) for item, active in sorted(mapped.active.items())),
    )


def _active_signature(active: ActiveStep) -> Hashable:
    wait = None if active.wait is None else active.wait.reason
    budgets = active.failures, active.losses, len(active.deaths)
    return active.step, budgets, active.displaced is None, bool(active.token), wait


def _where(failure: tuple[int, int, Failure] | None) -> Hashable:
    return None if failure is None else failure[:2]


# --- what may come


def _messages(world: World, run: Run, now: int) -> Iterator[Message]:
    for deal in _DEALS:
        if deal == "start" or deal in world.deals:
            yield from _DEALS[deal](world, run, now)


def _start(_world: World, run: Run, now: int) -> Iterator[Message]:
    """What comes to every run."""
    if not run.seq:
        yield StartRun(now, b"{}")
    for line in run.demanded_lines():
        yield SlotsOffered(now, line, 1, "agent", 1)
    due = next_deadline(run)
    if due is not None:
        yield ClockTick(max(now, due))
    yield Continue(now)


def _results(world: World, run: Run, now: int) -> Iterator[Message]:
    for active in run.leased():
        lease = active.step, active.item, active.token
        for output in world.outputs:
            yield AttemptEnded(now, *lease, b"", 1, None, output, report=RAN)
        yield AttemptEnded(now, *lease, b"", 1, Outcome.FAILED, failure=BOOM, report=RAN)


def _losses(_world: World, run: Run, now: int) -> Iterator[Message]:
    for active in run.leased():
        lease = active.step, active.item, active.token
        yield AttemptEnded(now, *lease, b"", 1, Outcome.CANCELLED, failure=BOOM)
        for charge in Charge:
            yield LeaseGone(now, *lease, "expired", charge, boot=f"boot-{len(active.deaths)}")
        yield InputsUnresolved(now, *lease, BOOM)


def _children(_world: World, run: Run, now: int) -> Iterator[Message]:
    for (step, item), run_id in run.children.items():
        yield ChildReported(now, step, item, run_id, RunState.COMPLETED, b"[1]")
        yield ChildReported(now, step, item, run_id, RunState.FAILED)
        yield ChildReported(now, step, item, run_id, RunState.CANCELLED)
        yield ChildRefused(now, step, item, run_id, BOOM)


def _answers(_world: World, run: Run, now: int) -> Iterator[Message]:
    for (step, item), lookup in run.lookups.items():
        question = step, item, lookup.token
        yield ValueFound(now, *question, b"[1]", CacheSource(b"r" * 16, "s", 1, 0, b"k"))
        yield ValueMissing(now, *question, b"k", True)
        yield ValueMissing(now, *question, b"", False, "the cache does not answer")
        yield ValueAwaited(now, *question, b"r" * 16, "s")


def _cancel(_world: World, _run: Run, now: int) -> Iterator[Message]:
    yield CancelRun(now, False, "enough")
    yield CancelRun(now, True, "enough")


def _pause(_world: World, _run: Run, now: int) -> Iterator[Message]:
    yield PauseRun(now)
    yield ResumeRun(now)


def _limits(_world: World, run: Run, now: int) -> Iterator[Message]:
    if not run.seq:
        yield StartRun(now, b"{}", held=("k", 1))
        yield StartRun(now, b"{}", refused="another has the key")
    yield AdmitRun(now)
    yield RetryRun(now, held=("k", 1))


def _displacing(_world: World, run: Run, now: int) -> Iterator[Message]:
    for active in run.leased():
        yield DisplaceStep(now, active.step, active.item, "k", "r")
    for line in run.demanded_lines():
        yield DisplaceReady(now, line, "k", "r")


def _budget(_world: World, run: Run, now: int) -> Iterator[Message]:
    if not run.seq:
        yield StartRun(now, b"{}", over="nothing is left of the budget")
    yield AdmitRun(now, ("k", 1))
    yield AdmitRun(now, refused="another has the key")
    yield RaiseBudget(now, 2 * SECOND)
    yield RaiseBudget(now, 9 * SECOND)


def _again(_world: World, run: Run, now: int) -> Iterator[Message]:
    yield RetryRun(now)
    for step in run.plan.steps:
        yield RerunStep(now, step.number, WHOLE)
        for item in range(len(run.items_of(step.number) or b"")):
            yield RerunStep(now, step.number, item)
    failed = failed_step_runs(run)
    yield from (RequeueSteps(now, (key,)) for key in failed)
    if len(failed) > 1:
        yield RequeueSteps(now, tuple(failed))


def _undo(_world: World, _run: Run, now: int) -> Iterator[Message]:
    yield RollbackRun(now)


_DEALS: dict[str, Callable[[World, Run, int], Iterator[Message]]] = {
    "start": _start,
    "results": _results,
    "losses": _losses,
    "children": _children,
    "answers": _answers,
    "cancel": _cancel,
    "pause": _pause,
    "limits": _limits,
    "displacing": _displacing,
    "budget": _budget,
    "again": _again,
    "undo": _undo,
}


# --- the worlds


def _world(
    *nodes: Node, deals: str, turn: int = 2_000, outputs: tuple[bytes, ...] = (b"[1]",), **settings: Any
) -> World:
    return World(build(nodes, **settings), frozenset(deals.split()), turn, outputs)


def _budget_of(action: OnExceeded = OnExceeded.HOLD) -> CostBudget:
    return CostBudget(Amounts(SECOND), on_exceeded=action)


TWICE = Retry(max_attempts=2, initial_backoff=SECOND, max_losses=2)
TWICE_AT_ONCE = Retry(max_attempts=2, initial_backoff=0, max_losses=2)
CLOCKS = Timeouts(queued=5 * SECOND, overall=8 * SECOND)
TWO = values(1, 2)
ALL = "results losses cancel pause limits displacing again"

WORLDS = (
    # One step, and everything that can happen to it.
    _world(Node("a", retry=TWICE, timeouts=CLOCKS), deals=ALL, timeout=40 * SECOND),
    _world(Node("a", retry=TWICE_AT_ONCE, allow_failure=True), deals=ALL),
    _world(Node("a", over=TWO, retry=TWICE, timeouts=CLOCKS), deals="results cancel pause"),
    _world(Node("a", over=values(1), retry=TWICE_AT_ONCE, timeouts=CLOCKS), deals=ALL, timeout=40 * SECOND),
    _world(Node("a", over=values(1), retry=TWICE, allow_failure=True), deals=ALL),
    _world(Node("a", child="c", retry=TWICE, timeouts=CLOCKS), deals=ALL + " children", timeout=40 * SECOND),
    _world(Node("a", over=TWO, child="c", retry=TWICE_AT_ONCE, timeouts=CLOCKS), deals="children cancel pause again"),
    _world(Node("a", over=values(1), child="c", retry=TWICE, timeouts=CLOCKS), deals="children cancel pause again"),
    # What it may cost.
    _world(
        Node("a", retry=TWICE, timeouts=CLOCKS),
        Node("b"),
        deals="results cancel pause limits budget",
        budget=_budget_of(),
    ),
    _world(Node("a"), Node("b", ["a"]), deals="results losses cancel again budget", budget=_budget_of()),
    _world(Node("a", over=TWO), deals="results cancel budget", budget=_budget_of()),
    _world(Node("a", over=TWO), deals="results cancel budget", budget=_budget_of(OnExceeded.STOP)),
    _world(
        Node("a"),
        Node("b", ["a"]),
        Node("c", ["a"], cleanup=True),
        deals="results cancel pause again budget",
        budget=_budget_of(OnExceeded.STOP),
    ),
    _world(Node("a", retry=TWICE_AT_ONCE), Node("b", child="c"), deals="results children budget", budget=_budget_of()),
    # What may be known already.
    _world(Node("a", cache=True, retry=TWICE, timeouts=CLOCKS), deals=ALL + " answers", timeout=40 * SECOND),
    _world(Node("a", over=TWO, parallel=1, cache=True, timeouts=CLOCKS), deals="results answers cancel pause"),
    _world(Node("a", over=values(1), cache=True), deals="results losses answers cancel pause again displacing"),
    # What follows from one step for another.
    _world(
        Node("a"), Node("b", ["a"]), Node("c", ["a"], cleanup=True), deals="results cancel pause again", fail_fast=True
    ),
    _world(
        Node("a"), Node("b", ["a"], when=when("steps.a.output[0] == 1")), deals="results cancel again", outputs=LISTS
    ),
    _world(Node("a"), Node("b", over=values(1, "x"), when=when("1 / item == 1")), deals="results cancel again"),
    _world(Node("a"), Node("b", ["a"], over=TWO, when=when("steps.a.output[0] == 1")), deals="results", outputs=LISTS),
    _world(Node("a", child="c", retry=TWICE_AT_ONCE), deals="children cancel pause again"),
    _world(Node("a"), Node("b", over="a", when=when("item == 1")), deals="results cancel again", outputs=LISTS),
    _world(Node("a", over=TWO), Node("b", over="a"), deals="results cancel again", turn=1),
    _world(Node("a", over=values(1)), Node("b", over="a", when=when("item == 1")), deals=ALL, outputs=LISTS, turn=1),
    _world(Node("a", over=values(1)), Node("b", over="nested:a"), deals="results cancel again", outputs=LISTS),
    _world(Node("a", over=TWO), Node("b", over="nested:a"), deals="results cancel", outputs=(b"[1]", b"[]")),
    _world(
        Node("a", over=values(1)), Node("b", over="nested:a", when=when("item == 1")), deals="results", outputs=LISTS
    ),
    # What was done is undone.
    _world(Node("a"), Node("u", undoes="a", retry=TWICE, timeouts=CLOCKS), deals=ALL + " undo"),
    _world(Node("a"), Node("u", undoes="a", child="c"), deals="results children cancel pause again undo"),
    _world(
        Node("a"),
        Node("b", ["a"]),
        Node("ua", undoes="a"),
        Node("ub", undoes="b"),
        deals="results cancel pause undo",
        rolls_back=True,
        timeout=40 * SECOND,
    ),
    _world(Node("a", over=TWO), Node("u", undoes="a"), deals="results cancel undo"),
    _world(
        Node("a", over=values(1)),
        Node("u", undoes="a", retry=TWICE_AT_ONCE, timeouts=CLOCKS),
        deals="results losses cancel pause displacing again undo",
    ),
    _world(
        Node("a", over=values(1)),
        Node("b", ["a"]),
        Node("ua", undoes="a"),
        Node("ub", undoes="b"),
        deals="results cancel again undo",
    ),
)
