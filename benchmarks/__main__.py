"""Run the workloads on a cluster of this machine, and print a JSON line for each.

python -m benchmarks [--repeat N] [WORKLOAD ...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.step_log import StepLog
from benchmarks.workloads import PIPELINES, WORKLOADS, Figures
from penstock.client.client import Client
from penstock.dev.cluster import DevCluster

SLOTS = 2
"""Step processes: as many as the machine that the figures are quoted for has cores."""


async def measure(names: list[str], repeat: int) -> None:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        log = StepLog(Path(folder) / "steps.log")
        environment = {"BENCHMARK_LOG": str(log.path), "PENSTOCK_LOG_LEVEL": "warning"}
        cluster = DevCluster(Path(folder) / "data", agents=1, slots=SLOTS, environment=environment)
        async with cluster, Client(cluster.address) as client:
            for pipeline in PIPELINES:
                await client.create_pipeline(pipeline)
            await warm_up(client)
            for name in names:
                report(name, [await once(name, client, log) for _ in range(repeat)])


async def warm_up(client: Client) -> None:
    """Start the step processes, and let the database see every table once."""
    run = await client.start("single")
    await run.wait(raise_on_failure=True)
    run = await client.start("fan1000", {"items": list(range(200))})
    await run.wait(raise_on_failure=True)


async def once(name: str, client: Client, log: StepLog) -> Figures:
    log.clear()
    return await WORKLOADS[name](client, log)


def report(name: str, runs: list[Figures]) -> None:
    """The median of each figure, and its range."""
    figures = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
    spread = {
        key: [round(min(run[key] for run in runs), 3), round(max(run[key] for run in runs), 3)] for key in runs[0]
    }
    line = {"workload": name, "system": "penstock", "repeat": len(runs), "median": figures, "range": spread}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)} (all)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the median is printed (5)")
    parsed = parser.parse_args()
    unknown = [name for name in parsed.workloads if name not in WORKLOADS]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    asyncio.run(measure(parsed.workloads or list(WORKLOADS), parsed.repeat))


main()
