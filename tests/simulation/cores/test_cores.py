"""Random schedules of the real cores: fixed ones, and fresh ones for a while.

What schedules found before has tests of its own, and mutants that undo what mended it: a seed is another schedule as
soon as a plan or a fault is drawn in another way.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from tests.simulation.cores.schedules import cluster, members, scenario

from penstock.testing.cluster import simulation_of
from penstock.testing.faults import OF_MEMBERS, OF_SEVERAL
from penstock.testing.simulation import Outcome, Scenario, Simulation

FIXED = 2000
SHORT_OF_MEMORY = 100
OF_THREE = 100
"""Schedules with three coordinators."""
WITH_MEMBERS = 30
"""Those with a head and two members, which take longer each."""
SECONDS = float(os.environ.get("PENSTOCK_SIMULATE_SECONDS", "20"))
"""Of processor time, for the fresh schedules."""


def holds(seed: int) -> Outcome:
    outcome = Simulation(scenario(seed)).play()
    if outcome.violation is not None:
        raise AssertionError(f"seed {seed}: {outcome.violation}") from outcome.violation
    return outcome


@pytest.mark.timeout(900)
def test_fixed_schedules() -> None:
    for seed in range(FIXED):
        holds(seed)


@pytest.mark.timeout(900)
def test_fresh_schedules() -> None:
    """The seeds are printed: each can be played again."""
    first = secrets.randbelow(1 << 40)
    print(f"seeds from {first}")
    began, seed = time.process_time(), first
    while time.process_time() - began < SECONDS:
        holds(seed)
        seed += 1
    print(f"{seed - first} schedules")


@pytest.mark.timeout(900)
def test_schedules_that_run_out_of_memory() -> None:
    raised = 0
    for seed in range(10_000, 10_000 + SHORT_OF_MEMORY):
        simulation = Simulation(scenario(seed, memory=True))
        outcome = simulation.play()
        assert outcome.violation is None, f"seed {seed}: {outcome.violation}"
        raised += sum("MemoryRaised" in happened for happened in outcome.trace)
    assert raised, "none of them did"


@pytest.mark.timeout(900)
def test_a_seed_is_the_same_schedule_in_every_process() -> None:
    told = {trace_hashes(hash_seed) for hash_seed in ("0", "1", "4242")}
    assert len(told) == 1


def played(draw: Callable[[int], Scenario], option: str, fixed: int) -> tuple[Counter[str], Counter[str]]:
    """Fixed schedules; then fresh ones, whose first seed is printed. What happened: faults, and of ownership."""
    first = secrets.randbelow(1 << 40)
    print(f"seeds from {first}")
    faults: Counter[str] = Counter()
    ownership: Counter[str] = Counter()
    for seed in (*range(fixed), *range(first, first + fixed // 2)):
        outcome = simulation_of(draw(seed)).play()
        assert outcome.violation is None, (
            f"python -m tests.simulation.cores {option} --seed {seed}: {outcome.violation}"
        )
        faults.update(outcome.faults)
        ownership.update(outcome.ownership)
    return faults, ownership


@pytest.mark.timeout(900)
def test_several_coordinators() -> None:
    faults, ownership = played(cluster, "--several", OF_THREE)
    assert faults.keys() == {kind.value for kind in OF_SEVERAL}
    seen = ("taken over", "handed over", "with runs read before", "redirected", "relayed")
    assert min(ownership[what] for what in seen) > 2


@pytest.mark.timeout(900)
def test_a_head_and_its_members() -> None:
    faults, ownership = played(members, "--members", WITH_MEMBERS)
    assert faults.keys() & {kind.value for kind in OF_MEMBERS}
    seen = ("joined", "started by members", "buried", "runs adopted", "orphans adopted", "left a head that was over")
    assert min(ownership[what] for what in seen) > 2


@pytest.mark.timeout(900)
def test_a_seed_of_several_is_the_same_schedule_in_every_process() -> None:
    for draw in ("cluster", "members"):
        told = {trace_hashes(hash_seed, f"simulation_of({draw}(seed))", 8) for hash_seed in ("0", "4242")}
        assert len(told) == 1


def trace_hashes(hash_seed: str, simulation: str = "simulation_of(scenario(seed))", schedules: int = 30) -> str:
    program = (
        "from tests.simulation.cores.schedules import cluster, members, scenario\n"
        "from penstock.testing.cluster import simulation_of\n"
        f"print([{simulation}.play().trace_hash for seed in range(40, {40 + schedules})])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=240
    )
    return done.stdout
