"""Files, folders, frames and large values between two agents, on a local disk and on S3: `store_url` is both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.artifacts import artifact_flows as flows
from tests.e2e.protocol.conftest import Process, System
from tests.seaweed import SeaweedServer
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

from penstock import Client
from penstock.v1 import run_pb2

PATIENCE = 120.0


@asynccontextmanager
async def running(cluster: System, store_url: str, **settings: str) -> AsyncIterator[tuple[Client, dict[str, Process]]]:
    cluster.settings |= {"PENSTOCK_ARTIFACTS_URL": store_url, **settings}
    await cluster.coordinator()
    agents = {name: await agent(cluster, name) for name in ("first", "second")}
    async with cluster.client() as client:
        yield client, agents


async def agent(cluster: System, name: str) -> Process:
    return await cluster.agent(name, PENSTOCK_AGENT_LABELS=f"place={name}")


async def result(client: Client, pipeline: Any, parameters: dict[str, Any]) -> Any:
    run = await client.start(pipeline, parameters)
    async with asyncio.timeout(PATIENCE):
        ended = await run.wait()
    assert ended.state == run_pb2.RUN_STATE_COMPLETED, (ended.reason, [s async for s in client.list_step_runs(run.id)])
    return await run.output()


async def test_everything_travels(cluster: System, store_url: str) -> None:
    async with running(cluster, store_url) as (client, _):
        assert await result(client, flows.frames, {"rows": 10_000}) == {"sum": 99_990_000, "last": "row 9999"}
        seen = await result(client, flows.files, {"size": 64 << 20})
        assert seen == {"same": True, "size": 64 << 20, "metadata": {"epochs": 3}, "tree": "from afar"}
        assert await result(client, flows.large, {"count": 600}) == [179_700, 600 * 50_000, 0]
        said = await result(client, flows.commands, {"size": 100_000})
        digest, _, rest = said["said"].partition("\n")
        assert len(digest) == 64
        assert rest == '{"quality": 80}from afar'


async def test_values_of_all_codecs_are_decoded_for_who_asks_for_a_result(cluster: System, store_url: str) -> None:
    async with running(cluster, store_url) as (client, _):
        run = await client.start(flows.kinds, {"rows": 1_000})
        async with asyncio.timeout(PATIENCE):
            await run.wait(raise_on_failure=True)
        found = await run.result("kinds")
        assert list(found["frame"]["number"]) == list(range(1_000))
        assert found["arrays"][0].tolist() == list(range(1_000))
        assert found["arrays"][1].shape == (2, 2)
        assert (found["bytes"], found["text"], found["score"]) == (b"raw" * 1_000, "größe", 0.9)
        assert found["pickled"]["$artifact"]["codec"] == "pickle", "nobody said that it may run code here"
        assert (await run.result("kinds", allow_pickle=True))["pickled"] == {1, 2, 3}


async def test_an_agent_is_killed_while_it_uploads(cluster: System, store_url: str, tmp_path: Path) -> None:
    """The attempt is lost, another one brings all of it."""
    flag = tmp_path / "flag"
    size = 256 << 20
    async with running(cluster, store_url) as (client, agents):
        run = await client.start(flows.killed, {"size": size, "flag": str(flag)})

        async def uploading() -> bool:
            return flag.exists() and any((tmp_path / "first" / "work" / "outgoing").glob("*/*"))

        await until(uploading, PATIENCE)
        await agents["first"].kill()
        await agent(cluster, "first")
        async with asyncio.timeout(PATIENCE):
            ended = await run.wait()
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        assert await run.output() == size
        assert flag.read_text() == "1\n2\n"


async def test_a_store_that_is_away_for_some_time(
    cluster: System, seaweed: SeaweedServer, s3_credentials: None
) -> None:
    """What is sent to it is lost, until something was; then it is there again."""
    host, _, port = seaweed.endpoint.rpartition("/")[2].partition(":")
    async with TcpProxy(host, int(port)) as proxy:
        url = seaweed.url().replace(f"{host}:{port}", f"{host}:{proxy.port}")
        async with running(cluster, url) as (client, _):
            assert await result(client, flows.frames, {"rows": 10}) == {"sum": 90, "last": "row 9"}
            proxy.swallow_requests()
            run = await client.start(flows.files, {"size": 20 << 20})
            async with asyncio.timeout(PATIENCE):
                await proxy.lost.wait()
                proxy.heal()
                ended = await run.wait()
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
