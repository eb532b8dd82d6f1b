"""Random schedules for the simulator: plans as tests/unit/run makes them, agents, faults."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from random import Random

from tests.unit.run.plans import Node
from tests.unit.run.schedules import PARAMETERS, _random_node, _random_undoing, random_plan

from penstock.testing.agents import AgentSpec
from penstock.testing.coordinator import Timing
from penstock.testing.executions import Behave, Behaviour
from penstock.testing.faults import FaultKind, draw_faults
from penstock.testing.simulation import RunSpec, Scenario
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.plan.model import Plan

LEAST_STEPS = 10
PLANS = 600
"""So many plans are made; schedules share them."""
UNDONE = 4
"""Of so many schedules one is of a plan that can be undone."""
TIMING = Timing(
    heartbeat_interval=5 * SECOND, lease_ttl=15 * SECOND, expiry_margin=3 * SECOND, result_resend_interval=5 * SECOND
)
OUTPUTS = [b"[1, 2]", b"[3]", b"[1, 2, 3]", b"3", b""]


@cache
def plan_number(number: int, *, undone: bool = False) -> Plan:
    """`undone`: with steps that undo others."""
    random = Random(f"plan {number}")
    nodes: list[Node] = []
    for step in range(random.randint(LEAST_STEPS, LEAST_STEPS + 3)):
        nodes.append(_random_node(random, f"s{step}", nodes))
    if undone:
        nodes += _random_undoing(random, nodes)
    return random_plan(random, nodes, digest=f"plan {number}")


@cache
def plan_below() -> Plan:
    random = Random("below")
    return random_plan(random, [Node("a"), Node("b", ["a"])], digest="below")


def behaviour(seed: int) -> Behave:
    def behave(key: tuple[bytes, int, int], attempt: int) -> Behaviour:
        chance = zlib.crc32(b"%d %b %d %d %d" % (seed, key[0], key[1], key[2], attempt)) / (1 << 32)
        kind, rest = int(chance * 100), chance * 100 % 1
        if kind < 50:
            duration = int(5 * MILLISECOND + rest * 200 * MILLISECOND)
        elif kind < 85:
            duration = int(rest * 3 * SECOND)
        else:
            duration = int(rest * 25 * SECOND)
        return Behaviour(duration, OUTPUTS[int(rest * 1000) % 5], int(rest * 10_000) % 5 == 0, kind % 7 == 0)

    return behave


def scenario(seed: int, kinds: Sequence[FaultKind] = tuple(FaultKind)) -> Scenario:
    random = Random(f"schedule {seed}")
    agents = tuple(
        AgentSpec(
            f"agent-{number}",
            random.choice([1, 1, 2, 4]),
            ("default", "gpu"),
            random.choice([1.0, 1.0, 0.9995, 1.0005]),
        )
        for number in range(random.choice([2, 2, 3]))
    )
    plan = plan_number(random.randrange(PLANS), undone=seed % UNDONE == 2)
    runs = tuple(RunSpec(plan, PARAMETERS, int(random.random() * SECOND)) for _ in range(random.choice([1, 1, 1, 2])))
    enabled = random.sample(kinds, min(len(kinds), random.randint(2, 8)))
    faults = draw_faults(random, len(agents), len(runs), enabled, 3, 8, 15 * SECOND)
    return Scenario(
        seed,
        agents,
        runs,
        faults,
        behaviour(seed),
        {"below": plan_below()},
        TIMING,
        chaos=15 * SECOND,
        coordinator_rate=random.choice([1.0, 1.0, 0.9995, 1.0005]),
    )
