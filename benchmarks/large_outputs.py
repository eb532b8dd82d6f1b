"""What many outputs that are not inline do to the coordinator's memory."""

from __future__ import annotations

import time

from benchmarks import artifact_flows
from benchmarks.penstock_cluster import Site
from benchmarks.process_use import MEBIBYTE
from benchmarks.workloads import Figures

STEPS = 10_000
WARM_UP = 200


async def large_outputs(site: Site) -> Figures:
    """10,000 steps with 100 KB outputs each, after 200 of them."""
    await site.client.create_pipeline(artifact_flows.large_texts)
    name = artifact_flows.large_texts.name
    await (await site.client.start(name, {"items": list(range(WARM_UP))})).wait(raise_on_failure=True)
    coordinator = site.coordinator()
    before, began = coordinator.memory, time.perf_counter()
    async with coordinator.watched():
        run = await site.client.start(name, {"items": list(range(WARM_UP, WARM_UP + STEPS))})
        await run.wait(raise_on_failure=True)
    return {
        "steps_per_s": STEPS / (time.perf_counter() - began),
        "memory_growth_mib": (coordinator.memory - before) / MEBIBYTE,
        "peak_memory_growth_mib": (coordinator.peak_memory - before) / MEBIBYTE,
    }
