"""A large file from one agent to the store and from there to another agent: python -m benchmarks.artifact_transfer

On a disk and on S3 (SeaweedFS), with the ratio to what curl with sha256sum, and aioboto3 with sha256, take for the same
bytes; how much the memory of the coordinator and of both agents grows; and once more with all connections to the store
cut in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop
from tests.seaweed import ACCESS_KEY, SECRET_KEY, running_seaweed
from tests.tcp_proxy import TcpProxy

from benchmarks import artifact_flows
from benchmarks.artifact_peers import aioboto3_seconds, curl_seconds
from benchmarks.process_use import MEBIBYTE, ProcessUse
from penstock.client.client import Client
from penstock.dev.cluster import DevCluster

SIZE = 2 << 30
SMALL = 64 << 20
"""Moved first, so that what is loaded once is no growth."""
BUCKET = "penstock"
CHECKOUT = Path(__file__).parents[1]


class Site:
    def __init__(self, client: Client, processes: dict[str, ProcessUse]) -> None:
        self.client = client
        self.processes = processes

    async def travel(self, size: int) -> dict[str, Any]:
        run = await self.client.start(artifact_flows.travel.name, {"size": size})
        await run.wait(raise_on_failure=True)
        output = await run.output()
        assert isinstance(output, dict)
        assert output["size"] == size
        return dict(output)


@contextlib.asynccontextmanager
async def running_site(folder: Path, settings: dict[str, str]) -> AsyncIterator[Site]:
    """A coordinator and two agents; `settings` are in the environment of all."""
    environment = {
        "PENSTOCK_LOG_LEVEL": "warning",
        "PENSTOCK_AGENT_LABELS": "place=first",
        **settings,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])),
    }
    cluster = DevCluster(folder / "data", agents=1, slots=1, environment=environment)
    async with cluster, Client(cluster.address) as client:
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock_agent", "--address", cluster.address, "--id", "second", "--slots", "1"),
            *("--data-dir", str(folder / "second")),
            env={**os.environ, **environment, "PENSTOCK_AGENT_LABELS": "place=second"},
        )
        try:
            await client.create_pipeline(artifact_flows.travel)
            pids = {**cluster.pids, "second": second.pid}
            watched = {name: pids[name] for name in pids if name in ("coordinator", "second") or "agent" in name}
            yield Site(client, {name: ProcessUse(pid) for name, pid in watched.items()})
        finally:
            second.terminate()
            await second.wait()


async def measure(site: Site, size: int) -> dict[str, Any]:
    await site.travel(SMALL)
    before = {name: process.memory for name, process in site.processes.items()}
    async with contextlib.AsyncExitStack() as stack:
        for process in site.processes.values():
            await stack.enter_async_context(process.watched())
        seconds = (await site.travel(size))["seconds"]
    growth = {
        f"{name}_growth_mib": (process.peak_memory - before[name]) / MEBIBYTE
        for name, process in site.processes.items()
    }
    return {"seconds": seconds, **growth}


async def measure_cut(site: Site, size: int, proxy: TcpProxy, folder: Path) -> dict[str, Any]:
    """Connections are cut while the file is on its way, in both directions."""
    traffic = asyncio.create_task(site.travel(size))
    cuts = 0
    for name in ("work/outgoing", "artifacts"):
        where = (folder / "data" / "agents" / "agent-1" if name != "artifacts" else folder / "second") / name
        while not traffic.done() and not any(where.glob("*/*" if name != "artifacts" else "*.part")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        proxy.cut()
        cuts += 1
    began = time.perf_counter()
    found = await traffic
    return {"cuts": cuts, "seconds": found["seconds"], "after_last_cut_s": time.perf_counter() - began}


async def on_disk(size: int, folder: Path) -> dict[str, Any]:
    async with running_site(folder, {"PENSTOCK_ARTIFACTS_URL": (folder / "store").as_uri()}) as site:
        figures = await measure(site, size)
    reference = await curl_seconds(_file(folder, size))
    return {"store": "disk", "peer": "curl with sha256sum", **figures, **_against(reference, figures)}


async def on_s3(size: int, folder: Path) -> dict[str, Any]:
    os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with running_seaweed(folder / "seaweed") as server:
        host, _, port = server.endpoint.rpartition("/")[2].partition(":")
        async with TcpProxy(host, int(port)) as proxy:
            url = f"s3://{BUCKET}/bench?endpoint={server.endpoint}&region=us-east-1"
            async with running_site(folder, {"PENSTOCK_ARTIFACTS_URL": url}) as site:
                figures = await measure(site, size)
            reference = await aioboto3_seconds(_file(folder, size), server.endpoint, BUCKET)
            cut_folder = folder / "cut"
            through = url.replace(f"{host}:{port}", f"{host}:{proxy.port}")
            async with running_site(cut_folder, {"PENSTOCK_ARTIFACTS_URL": through}) as site:
                cut = await measure_cut(site, size, proxy, cut_folder)
    named = {f"cut_{name}" if name != "cuts" else name: value for name, value in cut.items()}
    return {"store": "s3", "peer": "aioboto3 with sha256", **figures, **_against(reference, figures), **named}


def _against(reference: float, figures: dict[str, Any]) -> dict[str, float]:
    return {"peer_seconds": reference, "ratio": reference / figures["seconds"]}


def _file(folder: Path, size: int) -> Path:
    path = folder / "reference.bin"
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    return path


async def measure_all(size: int) -> None:
    for run in (on_disk, on_s3):
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
            figures = await run(size, Path(name))
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}
        print(json.dumps({"workload": "artifact", "mib": size >> 20, **rounded}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.artifact_transfer", description=__doc__)
    parser.add_argument("--mib", type=int, default=SIZE >> 20, help="size of the file (2048)")
    uvloop.run(measure_all(parser.parse_args().mib << 20))


if __name__ == "__main__":
    main()
