"""Random histories of random plans: after every turn the invariants hold and a replay of the journal gives the same
run; once everything goes well, the run ends. Nothing happens that docs/states.md does not name."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripts.describe_states import PAGE, documented
from tests.unit.run.schedules import Schedule

BLOCK = 500
DOCUMENTED = documented(PAGE.read_text(encoding="utf-8"))
SCHEDULES = int(os.environ.get("PENSTOCK_SCHEDULES", "10000"))


@pytest.mark.parametrize("block", range(SCHEDULES // BLOCK))
def test_seeded_schedules(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        try:
            play(Random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_found_schedules(random: Random) -> None:
    """Hypothesis looks for short ones."""
    play(random)


def play(random: Random) -> None:
    schedule = Schedule(random)
    schedule.play()
    unknown = schedule.driver.observations.transitions - DOCUMENTED
    assert not unknown, f"docs/states.md does not name {unknown}"
