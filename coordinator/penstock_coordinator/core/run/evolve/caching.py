"""Step runs whose value may be in the cache."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import LOOKUPS
from penstock_coordinator.core.plan.naming import run_id_text
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve.attempts import active_or_new, trim
from penstock_coordinator.core.run.evolve.counters import active_of, keep, move
from penstock_coordinator.core.run.evolve.resting import rest
from penstock_coordinator.core.run.evolve.steps import again_ready
from penstock_coordinator.core.run.state import Lookup, Run, Wait
from penstock_coordinator.core.run.states import RunState, StepState


def cache_asked(run: Run, seq: int, event: e.CacheAsked) -> None:
    if run.state is RunState.PENDING:
        run.state = RunState.RUNNING
    if run.started_at is None:
        run.started_at = event.at
    if not run.lookups:
        run.lookups = {}
    for number, item in event.step_runs:
        active_or_new(run, number, item).wait = Wait(e.WaitReason.CACHE, None, "")
        # It leaves the line that it is in before it is known as one that has asked.
        move(run, run.plan.steps[number], item, StepState.WAITING)
        run.lookups[number, item] = Lookup(seq)
    trim(run, LOOKUPS)


def step_cached(run: Run, _seq: int, event: e.StepCached) -> None:
    if event.kept:
        keep(run, event.step, event.item, event.kept)
    rest(run, event.step, event.item, StepState.COMPLETED)


def cache_missed(run: Run, _seq: int, event: e.CacheMissed) -> None:
    lookup = run.lookups[event.step, event.item]
    run.lookups[event.step, event.item] = lookup._replace(key=event.key, reserved=event.reserved, why=event.why)
    again_ready(run, event.step, event.item, event.at)


def cache_awaited(run: Run, _seq: int, event: e.CacheAwaited) -> None:
    key = f"{run_id_text(event.run_id)} {event.display_name}"
    active_of(run, event.step, event.item).wait = Wait(e.WaitReason.CACHE, None, key)
