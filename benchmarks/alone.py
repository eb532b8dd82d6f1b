"""Workloads that only Penstock does: each on a cluster of its own, once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import flows
from benchmarks.large import OTHERS, large_cancel, large_map, layered, long_chain
from benchmarks.large_outputs import large_outputs
from benchmarks.penstock_cluster import SLOTS, Site, running_cluster
from benchmarks.standing import idle_sessions, recovery, waiting_runs
from benchmarks.turns import PENSTOCK
from benchmarks.workloads import Figures


@dataclass(frozen=True, slots=True)
class Alone:
    measure: Callable[[Site], Awaitable[Figures]]
    slots: int = SLOTS
    is_long: bool = False
    """Only measured if it is asked for by name."""


ALONE: dict[str, Alone] = {
    "map50000": Alone(large_map),
    "chain10000": Alone(long_chain),
    "idle1000": Alone(idle_sessions),
    "waiting10000": Alone(waiting_runs),
    "recovery10000": Alone(recovery),
    "layered": Alone(layered, is_long=True),
    "outputs100k": Alone(large_outputs, is_long=True),
    "cancel50000": Alone(large_cancel, slots=OTHERS, is_long=True),
}


async def measure_alone(name: str) -> dict[str, Any]:
    """The line that tells of it."""
    workload = ALONE[name]
    async with running_cluster(workload.slots) as site:
        await site.client.create_pipeline(flows.single)
        await (await site.client.start(flows.single.name)).wait(raise_on_failure=True)
        site.log.clear()
        figures = await workload.measure(site)
    return {"workload": name, "system": PENSTOCK, "figures": {key: round(value, 3) for key, value in figures.items()}}
