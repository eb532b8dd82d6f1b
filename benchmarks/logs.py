"""What printing costs: 20 steps that print 1,000 lines a second each, one million lines in all, against the same steps
with standard output on the null device, in turn.

python -m benchmarks.logs [--steps 20] [--lines 50000] [--rate 1000] [--rounds 2] [--store s3]

Prints one JSON line per round and one for all. Each line has the time at which it was printed: the delay of one who
follows is the time until the client has it. Ends with an error if a line is lost or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from tests.seaweed import ACCESS_KEY, SECRET_KEY, running_seaweed

from benchmarks import log_flows
from benchmarks.penstock_cluster import Site, running_cluster
from benchmarks.process_use import MEBIBYTE
from penstock.client.client import Client
from penstock.client.handles import RunHandle
from penstock.v1 import run_service_pb2 as pb

MOST_DELAY_SECONDS = 1.0
MOST_RATIO = 1.1
QUOTA = 1_000_000_000
PACK_AFTER = "5s"


@dataclass(frozen=True, slots=True)
class Task:
    steps: int
    lines: int
    rate: int

    @property
    def all_lines(self) -> int:
        return self.steps * self.lines


@dataclass(slots=True)
class Heard:
    """What a reader was told, and how late."""

    newest: dict[int, int] = field(default_factory=dict)
    count: int = 0
    out_of_order: int = 0
    delays: list[float] = field(default_factory=list)

    def hear(self, line: pb.LogLine, now: float) -> None:
        if line.stream == pb.LOG_STREAM_SYSTEM:
            print(line.text, file=sys.stderr)
            return
        speaker = line.item[0]
        self.count += 1
        self.out_of_order += line.number != self.newest.get(speaker, 0) + 1
        self.newest[speaker] = line.number
        self.delays.append(now - float(line.text.partition(" ")[0]))

    def delay(self, part: float) -> float:
        """Quantile, in milliseconds."""
        ordered = sorted(self.delays)
        return 1_000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)]


async def listen(client: Client, run: RunHandle, heard: Heard, *, follow: bool) -> None:
    async for line in client.logs(run.id, follow=follow):
        heard.hear(line, time.time())


async def speak(client: Client, task: Task, *, null: bool, heard: Heard | None = None) -> tuple[RunHandle, float]:
    """The run, and the mean time of its steps in seconds."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        speakers = list(range(task.steps))
        arguments = {"speakers": speakers, "lines": task.lines, "rate": task.rate, "folder": folder, "null": null}
        run = await client.start(log_flows.chorus, arguments)
        while len(os.listdir(folder)) < task.steps:  # noqa: ASYNC110, PTH208  # of other processes
            await asyncio.sleep(0.05)
        following = None if heard is None else asyncio.create_task(listen(client, run, heard, follow=True))
        (Path(folder) / "go").touch()
        await run.wait(raise_on_failure=True)
        if following is not None:
            await following
    seconds: Any = await run.result("speak")
    return run, statistics.mean(seconds)


async def measure(site: Site, task: Task) -> dict[str, Any]:
    coordinator = site.coordinator()
    _, silent = await speak(site.client, task, null=True)
    heard = Heard()
    before = coordinator.memory
    async with coordinator.watched():
        run, loud = await speak(site.client, task, null=False, heard=heard)
    read = Heard()
    began = time.perf_counter()
    await listen(site.client, run, read, follow=False)
    return {
        "seconds_null": silent,
        "seconds": loud,
        "ratio": loud / silent,
        "lines": task.all_lines,
        "followed": heard.count,
        "lost": task.all_lines - read.count,
        "out_of_order": read.out_of_order + heard.out_of_order,
        "delay_p50_ms": heard.delay(0.5),
        "delay_p99_ms": heard.delay(0.99),
        "delay_max_ms": heard.delay(1.0),
        "read_lines_per_s": read.count / (time.perf_counter() - began),
        "coordinator_growth_mib": (coordinator.peak_memory - before) / MEBIBYTE,
    }


@contextlib.asynccontextmanager
async def running_site(task: Task, store: str) -> AsyncIterator[Site]:
    settings = {
        "PENSTOCK_AGENT_LOG_LINES": str(QUOTA),
        "PENSTOCK_AGENT_LOG_BYTES": str(QUOTA),
        "PENSTOCK_LOG_PACK_AFTER": PACK_AFTER,
    }
    with contextlib.ExitStack() as stack:
        if store == "s3":
            os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-bench-"))
            settings["PENSTOCK_ARTIFACTS_URL"] = stack.enter_context(running_seaweed(Path(folder))).url("logs")
        async with running_cluster(task.steps, settings) as site:
            await site.client.create_pipeline(log_flows.chorus)
            await speak(site.client, Task(task.steps, 100, 0), null=False)
            yield site


async def measure_all(task: Task, rounds: int, store: str) -> int:
    """The exit status."""
    found: list[dict[str, Any]] = []
    async with running_site(task, store) as site:
        for _ in range(rounds):
            found.append(await measure(site, task))
            _show({"workload": "logs", "store": store, **found[-1]})
    ratio = statistics.median(each["ratio"] for each in found)
    delay = max(each["delay_max_ms"] for each in found)
    wrong = sum(each["lost"] + each["out_of_order"] for each in found)
    held = {"ratio": ratio <= MOST_RATIO, "delay": delay < 1_000 * MOST_DELAY_SECONDS, "whole": wrong == 0}
    _show({"workload": "logs", "rounds": rounds, "ratio_median": ratio, "delay_max_ms": delay, "held": held})
    return 0 if all(held.values()) else 1


def _show(figures: dict[str, Any]) -> None:
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps(rounded), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs", description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lines", type=int, default=50_000, help="of each step")
    parser.add_argument("--rate", type=int, default=1_000, help="lines per second of each step; 0: as fast as it goes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--store", choices=("disk", "s3"), default="disk")
    given = parser.parse_args()
    return uvloop.run(measure_all(Task(given.steps, given.lines, given.rate), given.rounds, given.store))


if __name__ == "__main__":
    raise SystemExit(main())
