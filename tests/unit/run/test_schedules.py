"""Random histories of random plans: after every turn the invariants hold and a replay of the journal gives the same
run; once everything goes well, the run ends."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.run.schedules import Schedule

BLOCK = 500
SCHEDULES = int(os.environ.get("PENSTOCK_SCHEDULES", "10000"))


@pytest.mark.parametrize("block", range(SCHEDULES // BLOCK))
def test_seeded_schedules(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        try:
            Schedule(Random(seed)).play()
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_found_schedules(random: Random) -> None:
    """Hypothesis looks for short ones."""
    Schedule(random).play()
