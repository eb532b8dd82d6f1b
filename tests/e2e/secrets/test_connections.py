"""Canary secrets wherever one can be given, every connection broken, all told at debug: they are in no log of any
process, in no answer, and not in the database."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from tests.clusters import prepared
from tests.e2e.secrets.canaries import dump, found_in
from tests.e2e.secrets.telling import connected_flows as flows
from tests.seaweed import running_seaweed
from tests.valkey import running_valkey
from tests.waiting import until

from penstock import Client
from penstock.dev.cluster import COORDINATOR, POSTGRES, DevCluster
from penstock.dev.ports import HOST, take_port
from penstock.errors import ServiceError

PATIENCE = 120.0
REDIS, S3 = "redis-C4nary/pass+word", "s3C4nary+secret/key+of+forty+letters"
OTLP, TORN, INDEX = "otlp-C4nary-token", "otlp-C4nary-torn", "index-C4nary-word"
API, KEPT, OWN = "api-C4nary-key", "kept-C4nary-secret", "own-C4nary-secret"
KEY = "c2VjcmV0c0M0bmFyeS1vZi0zMi1ieXRlcy1sb25nISE="
WRONG = "wrong-C4nary-word"
CANARIES = {name: value for name, value in vars().items() if name.isupper() and "4nary" in str(value)} | {"KEY": KEY}
MISTAKES = {
    "PENSTOCK_DATABASE_URL": f"mysql://user:{WRONG}@{HOST}/x",
    "PENSTOCK_REDIS_URL": f"http://:{WRONG}@{HOST}:1/0",
    "PENSTOCK_SECRETS_KEY": WRONG,
    "PENSTOCK_ARTIFACTS_URL": f"s3://key:{WRONG}@bucket/prefix",
    "PENSTOCK_HTTP_URL": f"ftp://user:{WRONG}@{HOST}",
}
"""What people write into the wrong place, or wrongly."""


class World:
    """A whole system, with what it needs besides; and all that was heard of it."""

    def __init__(self, folder: Path, needs: ExitStack) -> None:
        self.folder = folder
        self.needs = needs
        self.agent_http = f"{HOST}:{take_port(0, '')}"
        self.environment = self._environment()
        prepared(folder / "data" / "postgres")
        self.cluster = DevCluster(folder / "data", agents=1, slots=2, environment=self.environment)
        self.heard: dict[str, str] = {}

    def _environment(self) -> dict[str, str]:
        """Redis refuses the password that it is given, and the receiver of traces is not there at all."""
        valkey = self.needs.enter_context(running_valkey(self.folder / "valkey", "--requirepass", "another"))
        s3 = self.needs.enter_context(running_seaweed(self.folder / "s3", "key", S3))
        redis_url, key = self.folder / "redis-url", self.folder / "key"
        redis_url.write_text(f"redis://:{quote(REDIS, safe='')}@{HOST}:{valkey.port}/0\n")
        key.write_text(f"{KEY}\n")
        return {
            "PENSTOCK_REDIS_URL_FILE": str(redis_url),
            "PENSTOCK_SECRETS_KEY_FILE": str(key),
            "PENSTOCK_ARTIFACTS_URL": s3.url("canary"),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": S3,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:1",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{OTLP},{TORN}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "UV_INDEX_URL": f"http://user:{INDEX}@{HOST}:1/simple",
            "UV_HTTP_RETRIES": "0",
            "PENSTOCK_SECRET_CANARY_OWN": OWN,
            "PENSTOCK_AGENT_ARTIFACT_PATIENCE": "1",
            "PENSTOCK_AGENT_HTTP_LISTEN": self.agent_http,
            "PENSTOCK_COMMIT_PATIENCE": "500ms",
            "PENSTOCK_LOG_PACK_AFTER": "0s",
            "PENSTOCK_LOG_LEVEL": "debug",
            "PENSTOCK_AGENT_LOG_LEVEL": "debug",
        }

    @property
    def canaries(self) -> dict[str, str]:
        return {**CANARIES, "DATABASE": str(urlsplit(self.cluster.database_url).password)}

    def log(self, name: str) -> list[str]:
        """The events that a process has told."""
        lines = (self.folder / "data" / "logs" / f"{name}.log").read_text().splitlines()
        return [str(json.loads(line).get("event")) for line in lines if line.startswith("{")]

    async def says(self, name: str, event: str, times: int = 1) -> None:
        async def said() -> bool:
            return (await asyncio.to_thread(self.log, name)).count(event) >= times

        await until(said, PATIENCE)

    async def ask_all(self, when: str) -> None:
        """The HTTP ports."""
        async with aiohttp.ClientSession() as session:
            for address in (self.cluster.http_address, self.agent_http):
                for path in ("/metrics", "/healthz", "/readyz"):
                    async with session.get(f"http://{address}{path}") as answer:
                        self.heard[f"{when}: {address}{path}"] = await answer.text()

    async def type_all(self, when: str, *commands: str) -> None:
        """The command line, with the API key, as the system itself is set up."""
        mine = {"PENSTOCK_ADDRESS": self.cluster.address, "PENSTOCK_API_KEY": API}
        given = {**self.environment, **mine, "PENSTOCK_DATABASE_URL": self.cluster.database_url}
        said = await asyncio.gather(*(run("penstock", *command.split(), given=given) for command in commands))
        for command, (_, text) in zip(commands, said, strict=True):
            self.heard[f"{when}: penstock {command}"] = text


async def run(*arguments: str, given: Mapping[str, str]) -> tuple[int, str]:
    """Exit code, and all that it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with ExitStack() as needs:
        made = World(tmp_path, needs)
        async with made.cluster:
            yield made


async def test_no_secret_of_a_connection_is_told(world: World) -> None:
    async with Client(world.cluster.address, api_key=API) as client:
        await client.set_secret(flows.KEPT, KEPT)
        first = await client.start(flows.connected)
        await first.wait(PATIENCE)
        steps = {each.step: each.failure.reason async for each in client.list_step_runs(first.id)}
        assert steps == {"raises": "UserError", "gives_much": "", "asks_for_packages": "Environment"}
        looks = [f"{look} {first.id}" for look in ("get", "explain", "logs")]
        await world.ask_all("well")
        mistaken = f"--artifacts-url s3://bucket?endpoint=http://key:{WRONG}@{HOST}:1"
        settings = [
            "config",
            f"config server {mistaken}",
            f"config agent --address http://user:{WRONG}@{HOST}:7400",
        ]
        await world.type_all("well", *looks, *settings)
        world.needs.close()
        second = await client.start(flows.stores)
        await second.wait(PATIENCE)
    await world.cluster.stop_one(POSTGRES)
    await world.says(COORDINATOR, "not_ready")
    await world.ask_all("without a database")
    async with Client(world.cluster.address, api_key=API, deadline=2.0, retry_for=0.0) as client:
        with pytest.raises(ServiceError) as away:
            await client.start(flows.stores)
        world.heard["a call without a database"] = repr(away.value)
    await world.cluster.start_one(POSTGRES)
    await world.cluster.ready()
    await world.cluster.stop_one(COORDINATOR)
    await world.says("agent-1", "stream_ended")
    await world.cluster.start_one(COORDINATOR)
    await world.cluster.ready()
    await refuse_all(world)
    rows = await asyncio.to_thread(dump, world.cluster.database_url)
    assert_each_failed(world)
    assert found_in(rows, world.canaries) == []
    logs = {path.name: path.read_text() for path in (world.folder / "data" / "logs").iterdir()}
    said = {**world.heard, **logs, "postgres": postgres_log(world)}
    assert {name: found for name, text in said.items() if (found := found_in(text.encode(), world.canaries))} == {}


async def refuse_all(world: World) -> None:
    """Coordinators that cannot start, and say why."""
    url, name = world.folder / "wrong-url", "PENSTOCK_DATABASE_URL"
    url.write_text(world.cluster.database_url.replace(world.canaries["DATABASE"], WRONG))
    right = {**world.environment, "PENSTOCK_DATA_DIR": str(world.folder / "elsewhere"), "PENSTOCK_LISTEN": f"{HOST}:0"}
    no_files = {"PENSTOCK_REDIS_URL_FILE": "", "PENSTOCK_SECRETS_KEY_FILE": ""}
    refused = {
        "by a file": ({f"{name}_FILE": str(url)}, [name]),
        "nobody there": ({name: f"postgresql://user:{WRONG}@{HOST}:1/x"}, [name]),
        "mistaken": (MISTAKES | no_files, MISTAKES),
    }
    said = await asyncio.gather(*(run("penstock_coordinator", given=right | given) for given, _ in refused.values()))
    for (how, (_, names)), (code, text) in zip(refused.items(), said, strict=True):
        assert (code, [each for each in names if each not in text]) == (2, []), text
        world.heard[f"refused, {how}"] = text


def postgres_log(world: World) -> str:
    return "".join(path.read_text(errors="replace") for path in (world.folder / "data" / "postgres").glob("*log*"))


def assert_each_failed(world: World) -> None:
    """Or nothing would be told of it."""
    coordinator, agent = world.log(COORDINATOR), world.log("agent-1")
    assert {"hot_state_moved", "traces_postponed", "not_ready"} <= set(coordinator)
    assert {"output_not_stored", "environment_not_built", "stream_ended", "attempt_ended"} <= set(agent)
