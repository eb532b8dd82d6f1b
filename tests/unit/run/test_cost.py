"""What a step costs does not grow with the run. Counted in calls, not in time: a busy machine changes nothing."""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from tests.unit.run.plans import Node, build, values

from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import StepsLeased
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import AttemptEnded, SlotsOffered, StartRun
from penstock_coordinator.core.run.state import Run

WIDTH = 20


def layers(count: int) -> Plan:
    """Every step depends on the step above it, and on its neighbour."""
    plan = build([Node("a")])
    steps = []
    for number in range(count * WIDTH):
        layer, column = divmod(number, WIDTH)
        beside = (column + 1) % WIDTH
        before, after = (layer - 1) * WIDTH, (layer + 1) * WIDTH
        upstream = tuple(sorted((before + column, before + beside))) if layer else ()
        downstream = tuple(sorted((after + column, after + (column - 1) % WIDTH))) if layer < count - 1 else ()
        steps.append(replace(plan.steps[0], number=number, name=f"s{number}", upstream=upstream, downstream=downstream))
    return replace(plan, steps=tuple(steps), numbers={step.name: step.number for step in steps})


def play(plan: Plan) -> int:
    """From the start to the end; how many step runs there were."""
    run = Run(plan)
    decide(run, StartRun(0, b"{}"), Ledger(run))
    while not run.at_rest:
        ledger = Ledger(run)
        decide(run, SlotsOffered(1, 0, 1, "agent", 8), ledger)
        seq, leased = ledger.events[-1]
        assert isinstance(leased, StepsLeased)
        for step, item, _ in leased.leases:
            decide(run, AttemptEnded(2, step, item, seq, b"", 1, None), ledger)
    return sum(run.counts())


def calls_per_step(plan: Plan) -> float:
    calls = 0

    def count(_frame: FrameType, _event: str, _argument: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        steps = play(plan)
    finally:
        sys.setprofile(None)
    return calls / steps


def test_deep_plan_costs_as_much_per_step_as_a_shallow_one() -> None:
    assert calls_per_step(layers(200)) == pytest.approx(calls_per_step(layers(20)), rel=0.1)


def test_large_map_costs_as_much_per_item_as_a_small_one() -> None:
    small, large = (build([Node("a", over=values(*range(count)))]) for count in (200, 5_000))
    assert calls_per_step(large) == pytest.approx(calls_per_step(small), rel=0.1)


def test_idle_run_is_a_few_bytes_per_step() -> None:
    plan = layers(1_000)
    tracemalloc.start()
    try:
        run = Run(plan)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size / len(run.plan.steps) < 6
