"""What the pipelines of the seed have left behind: runs, artifacts in S3, figures in Prometheus."""

from __future__ import annotations

import asyncio
import hashlib
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

import aioboto3
from tests.e2e.compose_without_docker.system import System
from tests.waiting import until

from penstock import Client
from penstock.v1 import run_pb2
from penstock.v1.coordinator_service_pb2 import COORDINATOR_ROLE_FOLLOWER, COORDINATOR_ROLE_OWNER

PATIENCE = 60.0
TARGETS = 7
FIGURES = {
    'sum(penstock_runs_ended_total{state="COMPLETED"})': 5 + 3,
    'sum(penstock_agent_attempts_total{result="ok"})': 30,
    "sum(penstock_artifact_bytes_total)": 1,
}
"""The least that the seed makes of each: five runs, and those of three regions below one of them."""
PIPELINES = {"chain", "chain-commands", "regions", "late-flights", "digits-training"}


async def find_runs(system: System, say: Callable[[str], None]) -> list[run_pb2.Run]:
    """Those that the seed has started; all must be COMPLETED."""
    both = ",".join(system.places.address(f"coordinator-{number}", 7400) for number in (1, 2))
    async with Client(both) as client:
        runs = [run async for run in client.list_runs(top_level=True)]
        assert {run.pipeline for run in runs} == PIPELINES
        assert {run.state for run in runs} == {run_pb2.RUN_STATE_COMPLETED}
        say(f"{len(runs)} runs, all COMPLETED")
        await _find_artifacts(system, client, runs, say)
        await asyncio.to_thread(_find_traces, system, runs)
        say("spans of every run's trace have come to what stands for Jaeger")
        agents = [agent.id async for agent in client.list_agents()]
        assert sorted(agents) == ["agent-1", "agent-2", "agent-3"]
        roles = {coordinator.role for coordinator in await client.list_coordinators()}
        assert roles == {COORDINATOR_ROLE_OWNER, COORDINATOR_ROLE_FOLLOWER}
    return runs


async def _find_artifacts(system: System, client: Client, runs: list[run_pb2.Run], say: Callable[[str], None]) -> None:
    """Of the training, in the bucket, with the bytes that their digests say."""
    (training,) = (run for run in runs if run.pipeline == "digits-training")
    artifacts = [artifact async for artifact in client.artifacts.list(run_id=training.id)]
    assert artifacts
    for artifact in artifacts:
        content = await _read_from_s3(system, artifact.digest)
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == artifact.digest
    say(f"{len(artifacts)} artifacts of digits-training, found in S3 with the bytes of their digests")


def _find_traces(system: System, runs: list[run_pb2.Run]) -> None:
    (receiver,) = system.places.spans
    receiver.wait(lambda: all(receiver.of_trace(run.trace_id) for run in runs), PATIENCE)


async def _read_from_s3(system: System, digest: str) -> bytes:
    """With the coordinators' own credentials, and not by way of them."""
    given = system.services["coordinator-1"].environment
    url = urllib.parse.urlsplit(given["PENSTOCK_ARTIFACTS_URL"])
    name = digest.removeprefix("sha256:")
    session = aioboto3.Session(
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"], aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"]
    )
    endpoint = f"http://{system.places.address('minio', 9000)}"
    async with session.client("s3", endpoint_url=endpoint, region_name="us-east-1") as s3:
        found = await s3.get_object(Bucket=url.netloc, Key=f"{url.path[1:]}/sha256/{name[:2]}/{name[2:4]}/{name}")
        return await found["Body"].read()


async def find_figures(system: System, say: Callable[[str], None]) -> None:
    """Prometheus has them from every target of its file, and knows where alerts go."""

    async def all_are_up() -> bool:
        answered = (await _ask(system, "query", query="up"))["result"]
        return len(answered) == TARGETS and all(each["value"][1] == "1" for each in answered)

    await until(all_are_up, PATIENCE)
    say(f"Prometheus has figures of all its {TARGETS} targets")
    for query, least in FIGURES.items():

        async def is_there(query: str = query, least: int = least) -> bool:
            answered = (await _ask(system, "query", query=query))["result"]
            return bool(answered) and float(answered[0]["value"][1]) >= least

        await until(is_there, PATIENCE)
        say(f"Prometheus: {query} is {least} or more")

    async def alertmanagers() -> list[Any]:
        found: list[Any] = (await _ask(system, "alertmanagers"))["activeAlertmanagers"]
        return found

    (found,) = await until(alertmanagers, PATIENCE)
    assert system.places.address("alertmanager", 9093) in found["url"]
    say("Prometheus knows Alertmanager")


async def _ask(system: System, path: str, **query: str) -> Any:
    """Of the HTTP interface of Prometheus."""
    url = f"http://{system.places.address('prometheus', 9090)}/api/v1/{path}?{urllib.parse.urlencode(query)}"

    def answer() -> Any:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return json.load(response)["data"]

    return await asyncio.to_thread(answer)
