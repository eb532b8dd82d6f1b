"""Random pipelines end as the evaluator predicts, on a coordinator, PostgreSQL and two agents.

A failure names its seed: PENSTOCK_RANDOM_DAGS_SEED=17 PENSTOCK_RANDOM_DAGS=1 runs that one alone.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.random_dags.campaign import Campaign
from tests.e2e.system.conftest import system

from penstock.client.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.system.conftest import DevSystem

__all__ = ["system"]

FIRST_SEED = int(os.environ.get("PENSTOCK_RANDOM_DAGS_SEED", "0"))
COUNT = int(os.environ.get("PENSTOCK_RANDOM_DAGS", "300"))
SECONDS_PER_DAG = 2


@pytest.mark.timeout(120 + SECONDS_PER_DAG * COUNT)
async def test_random_dags_end_as_predicted(system: DevSystem, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    async with Client(system.address) as client:
        campaign = Campaign(client)
        await campaign.run(range(FIRST_SEED, FIRST_SEED + COUNT))
    say(f"random pipelines: {campaign.summary()} in {time.monotonic() - began:.1f} s")
    assert not campaign.failures, report(campaign)


def report(campaign: Campaign) -> str:
    lines = [f"{len(campaign.failures)} of {COUNT} ended otherwise than predicted"]
    for seed, found in sorted(campaign.failures.items())[:20]:
        lines.append(f"seed {seed} (PENSTOCK_RANDOM_DAGS_SEED={seed} PENSTOCK_RANDOM_DAGS=1):")
        lines += [f"  {each}" for each in found[:10]]
    return "\n".join(lines)
