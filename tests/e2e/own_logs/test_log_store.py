"""The example that ships logs, from the files of real processes to its store: each line, once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
from examples.chain import chain
from tests.clusters import prepared
from tests.e2e.own_logs.shipping import DEPLOY, shipping
from tests.waiting import until

from penstock import Client
from penstock.dev.cluster import DevCluster

PATIENCE = 120.0
STORE, SHIPPER = "logs", "shipper"
TOLD = {"PENSTOCK_LOG_LEVEL": "debug", "PENSTOCK_AGENT_LOG_LEVEL": "debug"}
NO_JSON = "Fatal Python error: it's \\ no 'JSON', in\tähnlichen words"


OF_GRPC = "I1122 08:09:53.147706   30250 fork_posix.cc:71] Other threads are currently calling into gRPC"


def of_store(cluster: DevCluster, name: str = STORE) -> str:
    return f"{cluster.database_url.rpartition('/')[0]}/{name}"


def for_shipper(cluster: DevCluster) -> str:
    return f"postgresql://{SHIPPER}:{SHIPPER}@{of_store(cluster).rpartition('@')[2]}"


async def make_store(cluster: DevCluster) -> None:
    """It is there at once, with its table: what is said to a store without one is gone."""
    server = await asyncpg.connect(cluster.database_url)
    try:
        await server.execute("create database prepared")
        store = await asyncpg.connect(of_store(cluster, "prepared"))
        await store.execute((DEPLOY / "store.sql").read_text())  # a moment
        await store.execute(
            f"create role {SHIPPER} login password '{SHIPPER}'; grant insert on penstock_logs to {SHIPPER}"
        )
        await store.close()
        await server.execute(f"alter database prepared rename to {STORE}")
    finally:
        await server.close()


async def run_chain(cluster: DevCluster) -> str:
    async with Client(cluster.address) as client:
        run = await client.start(chain, {"n": 7})
        await run.wait(PATIENCE, raise_on_failure=True)
        return run.id


def written(logs: Path) -> Counter[str]:
    """All lines by service, as objects or as they are."""
    lines = [(path.stem, line) for path in logs.glob("*.log") for line in path.read_text().splitlines()]
    return Counter(f"{service} {normal(line)}" for service, line in lines)


def normal(line: str) -> str:
    return json.dumps(json.loads(line), sort_keys=True) if line.startswith("{") else line


async def asked(cluster: DevCluster, query: str, *arguments: object) -> list[Any]:
    store = await asyncpg.connect(of_store(cluster))
    try:
        return list(await store.fetch(query, *arguments))
    finally:
        await store.close()


async def kept(cluster: DevCluster) -> Counter[str]:
    rows = await asked(cluster, "select service, coalesce(fields::text, line) as line from penstock_logs")
    return Counter(f"{row['service']} {normal(row['line'])}" for row in rows)


async def test_each_line_comes_to_the_store_once(tmp_path: Path) -> None:
    logs, state = tmp_path / "data" / "logs", tmp_path / "state"
    prepared(tmp_path / "data" / "postgres")
    async with DevCluster(tmp_path / "data", agents=1, slots=1, environment=TOLD) as cluster:
        with shipping(logs, state, for_shipper(cluster)):
            first = await run_chain(cluster)
            (logs / "agent-9.log").write_text(f"{NO_JSON}\n{OF_GRPC}\n")
            await make_store(cluster)

            async def has_come() -> bool:
                found = await asked(
                    cluster, "select from penstock_logs where run = $1 and event = 'attempt_ended'", first
                )
                return len(found) == 3

            await until(has_come, PATIENCE)
        second = await run_chain(cluster)
        with shipping(logs, state, for_shipper(cluster)):

            async def all_are_there() -> bool:
                return await kept(cluster) == await asyncio.to_thread(written, logs)

            await until(all_are_there, PATIENCE)
        attempts = await asked(
            cluster,
            "select run, step, attempt, agent, session > 0 as connected from penstock_logs"
            " where event = 'attempt_ended' order by at",
        )
        session = await asked(
            cluster,
            "select distinct service from penstock_logs"
            " where session = (select max(session) from penstock_logs where agent = 'agent-1')",
        )
        others = await asked(
            cluster, "select service, level, line from penstock_logs where fields is null order by line"
        )
    steps = ("add", "multiply", "subtract")
    assert [tuple(row) for row in attempts] == [
        (run, step, 1, "agent-1", True) for run in (first, second) for step in steps
    ]
    assert {row["service"] for row in session} == {"coordinator", "agent-1"}, "a session is followed on both sides"
    told = [tuple(row)[1:] for row in others if row["service"] == "agent-9"]
    assert told == [("error", NO_JSON), ("info", OF_GRPC)]
