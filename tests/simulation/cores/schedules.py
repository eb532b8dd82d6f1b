"""Random schedules for the simulator: plans as tests/unit/run makes them, agents, faults."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

from tests.unit.run.plans import Node, build, values, when
from tests.unit.run.schedules import PARAMETERS, _random_node, _random_undoing, give_memory

from penstock.testing.agents import AgentSpec
from penstock.testing.coordinator import Timing
from penstock.testing.executions import Behave, Behaviour
from penstock.testing.faults import OF_ALL, OF_MEMBERS, OF_ONE, OF_SEVERAL, PEOPLE, SEVERAL, FaultKind, draw_faults
from penstock.testing.simulation import RunSpec, Scenario
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.plan.budget import Amounts, CostBudget, OnExceeded, Per
from penstock_coordinator.core.plan.freedom import bound_by
from penstock_coordinator.core.plan.model import Concurrency, Plan, Policy

MEMORY = (("memory_bytes", 400.0),)
"""Some steps ask for 100, and for more of it after they ran out of it."""
LEAST_STEPS = 10
LEAST_FAULTS = 3
PLANS = 1_000
"""So many plans are made; schedules share them."""
SHORT_OF_MEMORY = 5
"""In one of so many plans some steps run out of memory."""
UNDONE = 2
"""One of so many plans can be undone."""
MARGIN = 3 * SECOND
TIMINGS = tuple(
    Timing(heartbeat_interval=beat, lease_ttl=3 * beat, expiry_margin=MARGIN, result_resend_interval=beat)
    for beat in (2 * SECOND, 5 * SECOND)
)
"""Shorter than usual, so that leases run out while something is wrong."""
OUTPUTS = [b"[1, 2]", b"[3]", b"[1, 2, 3]", b"3", b""]
CHAOS = 12 * SECOND
CLUSTER_CHAOS = 16 * SECOND
BOUND = 0.25
"""Of runs where there are members: they stay with the head."""
OWNERSHIP_LEASES = (2 * SECOND, 3 * SECOND, 5 * SECOND)


@cache
def plan_number(number: int, *, memory: bool = False) -> Plan:
    random = Random(f"plan {number}")
    nodes: list[Node] = []
    for step in range(random.randint(LEAST_STEPS, LEAST_STEPS + 3)):
        nodes.append(_random_node(random, f"s{step}", nodes))
    if number % UNDONE == 0:
        nodes += _random_undoing(random, nodes)
    shared = Concurrency("s", random.choice([1, 2]), random.choice(list(Policy)))
    for node in nodes if random.random() < 0.2 else ():
        if not node.child and random.random() < 0.4:
            node.concurrency = shared
    for node in nodes:
        if node.child and random.random() < 0.2:
            node.child = "nothing"
        if random.random() < 0.1:
            node.timeouts = type(node.timeouts)(node.timeouts.queued, 2 * SECOND, node.timeouts.overall)
    if memory:
        give_memory(nodes, random)
    return build(
        nodes,
        timeout=random.choice([None, None, None, 40 * SECOND]),
        max_parallel=random.choice([0, 0, 0, 1, 2]),
        fail_fast=random.random() < 0.1,
        rolls_back=random.random() < 0.3,
        digest=f"plan {number}",
        concurrency=Concurrency("k", 1, random.choice(list(Policy))) if random.random() < 0.15 else None,
        max_active_runs=random.choice([0] * 9 + [1]),
        budget=budget(Random(f"budget {number}")),
    )


def budget(random: Random) -> CostBudget | None:
    """Of one in six plans; a few of these have one for a day, which their runs wait for."""
    if random.random() > 1 / 6:
        return None
    action = random.choice([OnExceeded.HOLD, OnExceeded.HOLD, OnExceeded.STOP])
    per = Per.DAY if random.random() < 0.3 else Per.RUN
    return CostBudget(Amounts(slot_time=random.randint(1, 20) * SECOND), per, action)


@cache
def plans_below() -> dict[str, Plan]:
    """What steps that are runs are runs of."""
    below = build([Node("a"), Node("b", ["a"])], digest="below")
    nothing = build([Node("a", over=values()), Node("b", ["a"], when=when("params.word == 'x'"))], digest="nothing")
    return {"below": below, "nothing": nothing}


def behaviour(seed: int) -> Behave:
    """Chance by the step run and the number of its attempt, so that it does not depend on what else happens."""

    def behave(key: tuple[bytes, int, int], attempt: int) -> Behaviour:
        chance = zlib.crc32(b"%d %b %d %d %d" % (seed, key[0], key[1], key[2], attempt)) / (1 << 32)
        kind, rest = int(chance * 100), chance * 100 % 1
        if kind < 40:
            duration = int(5 * MILLISECOND + rest * 300 * MILLISECOND)
        elif kind < 85:
            duration = int(rest * 4 * SECOND)
        elif kind < 99:
            duration = int(rest * 12 * SECOND)
        else:
            duration = 60 * SECOND
        return Behaviour(
            duration,
            OUTPUTS[int(rest * 1000) % 5],
            fails=int(rest * 10_000) % 8 == 0,
            stubborn=kind % 7 == 0,
            unresolvable=int(rest * 100_000) % 100 == 0,
        )

    return behave


def _enabled(random: Random, kinds: Sequence[FaultKind]) -> list[FaultKind]:
    """A few kinds for each schedule, so that some have room to come often."""
    wrong = [kind for kind in kinds if kind not in PEOPLE]
    people = [kind for kind in kinds if kind in PEOPLE]
    enabled = random.sample(wrong, min(len(wrong), random.randint(1, 6)))
    return enabled + random.sample(people, min(len(people), random.choice([0, 1, 1, 2, 3])))


def scenario(seed: int, kinds: Sequence[FaultKind] = OF_ONE, *, memory: bool = False) -> Scenario:
    """At least two agents, ten steps and three faults. `memory`: some steps run out of it."""
    random = Random(f"schedule {seed}")
    rates = [1.0, 1.0, 0.9995, 1.0005]
    agents = tuple(
        AgentSpec(
            f"agent-{number}", random.choice([1, 1, 2, 4]), ("default", "gpu"), random.choice(rates), resources=MEMORY
        )
        for number in range(random.choice([2, 2, 3]))
    )
    number = random.randrange(PLANS)
    plan = plan_number(number, memory=memory or number % SHORT_OF_MEMORY == 0)
    several = plan.concurrency is not None or plan.max_active_runs or random.random() < 0.2
    runs = tuple(RunSpec(plan, PARAMETERS, int(random.random() * SECOND)) for _ in range(2 if several else 1))
    faults = draw_faults(random, len(agents), len(runs), _enabled(random, kinds), LEAST_FAULTS, 7, CHAOS - 2 * SECOND)
    return Scenario(
        seed,
        agents,
        runs,
        faults,
        behaviour(seed),
        plans_below() if random.random() < 0.95 else {},
        random.choice(TIMINGS),
        chaos=CHAOS,
        coordinator_rate=random.choice(rates),
    )


def cluster(seed: int, kinds: Sequence[FaultKind] = OF_SEVERAL, seats: int = 3) -> Scenario:
    """The same with several coordinators: some of what goes wrong is theirs."""
    random = Random(f"cluster {seed}")
    alone = scenario(seed)
    enabled = _enabled(random, [kind for kind in kinds if kind not in SEVERAL])
    theirs = [kind for kind in kinds if kind in SEVERAL]
    enabled += random.sample(theirs, min(len(theirs), random.randint(1, 4)))
    rates = [1.0, 0.9991, 1.0009]
    return replace(
        alone,
        faults=draw_faults(
            random, len(alone.agents), len(alone.runs), enabled, LEAST_FAULTS, 9, CLUSTER_CHAOS - 2 * SECOND
        ),
        several=tuple(random.choice(rates) for _ in range(seats)),
        ownership_lease=random.choice(OWNERSHIP_LEASES),
        chaos=CLUSTER_CHAOS,
    )


def members(seed: int, kinds: Sequence[FaultKind] = OF_ALL) -> Scenario:
    """The same with a head and two members, and with more runs, of which most are free."""
    random = Random(f"members {seed}")
    alone = cluster(seed)
    enabled = _enabled(random, [kind for kind in kinds if kind not in SEVERAL | OF_MEMBERS])
    for group, most in ((SEVERAL, 2), (OF_MEMBERS, 4)):
        theirs = [kind for kind in kinds if kind in group]
        enabled += random.sample(theirs, min(len(theirs), random.randint(1, most)))
    runs = tuple(
        RunSpec(_some_plan(random), PARAMETERS, int(random.random() ** 0.5 * 4 * SECOND))
        for _ in range(random.choice([2, 3, 4]))
    )
    faults = draw_faults(random, len(alone.agents), len(runs), enabled, LEAST_FAULTS, 9, CLUSTER_CHAOS - 2 * SECOND)
    return replace(alone, runs=runs, faults=faults, join=True)


def _some_plan(random: Random) -> Plan:
    """Most are free."""
    number = random.randrange(PLANS)
    wanted = random.random() < BOUND
    while bool(bound_by(plan_number(number, memory=number % SHORT_OF_MEMORY == 0))) is not wanted:
        number = (number + 1) % PLANS
    return plan_number(number, memory=number % SHORT_OF_MEMORY == 0)
