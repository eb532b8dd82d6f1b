"""The HTTP port of an agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator
from tests.waiting import until

from penstock.dev.ports import take_port
from penstock_agent.runtime.metrics import AGENT
from penstock_agent.settings import AgentSettings

STEPS = """
import pathlib, time

def quick():
    return 1

def wrong():
    raise ValueError("no")

def waits(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
"""


async def asked(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


async def scrape(port: int) -> dict[tuple[str, str], float]:
    """By name and the value of the label that there is."""
    status, text = await asked(port, "metrics")
    assert status == 200
    samples = [sample for family in families(text) for sample in family.samples]
    return {(each.name.removeprefix("penstock_agent_"), "".join(each.labels.values())): each.value for each in samples}


def take_spool_away(folder: Path) -> None:
    (spool,) = folder.rglob("spool")
    spool.unlink()


async def test_an_agent_tells_what_it_does(agents: Agents, coordinator: Coordinator, tmp_path: Path) -> None:
    digest, go = coordinator.add_bundle({"steps.py": STEPS}), tmp_path / "go"
    port = take_port(0, "")
    await agents.start("--http-listen", f"127.0.0.1:{port}")
    assert await asked(port, "healthz") == (200, '{"status": "live"}')
    await coordinator.run(coordinator.function(digest, "steps:quick"))
    await coordinator.run(coordinator.function(digest, "steps:wrong"))
    (ref,) = await coordinator.grant(coordinator.function(digest, "steps:waits"), inputs={"path": str(go)})

    async def settled() -> bool:
        found = await scrape(port)
        return (found["slots_used", ""], found["leases", ""], found["attempts_total", "failed"]) == (1, 1, 1)

    await until(settled)
    found = await scrape(port)
    text = (await asked(port, "metrics"))[1]
    assert {metric.name.removesuffix("_total") for metric in AGENT} <= {family.name for family in families(text)}
    assert (found["connected", ""], found["draining", ""], found["slots", ""]) == (1, 0, 2)
    assert (found["attempts_total", "ok"], found["attempts_total", "cancelled"]) == (1, 0)
    assert found["attempt_duration_seconds_count", ""] == 2
    assert found["step_processes", ""] >= 1
    assert (found["spooled_results", ""], found["reconnects_total", ""], found["log_lines_waiting", ""]) == (0, 0, 0)
    assert found["disk_floor_bytes", ""] == AgentSettings().disk_floor_bytes
    assert 0 < found["disk_free_bytes", ""] < found["disk_size_bytes", ""]
    assert (found["environment_builds_total", "ok"], found["environment_builds_total", "failed"]) == (0, 0)
    take_spool_away(tmp_path)
    left = await scrape(port)
    assert found.keys() - left.keys() == {("spool_bytes", "")}, "what cannot be looked at costs its own figure alone"
    go.touch()
    await coordinator.result(ref)


async def test_readiness_follows_the_session_and_reconnects_are_counted(
    agents: Agents, coordinator: Coordinator
) -> None:
    port = take_port(0, "")
    await agents.start("--http-listen", f"127.0.0.1:{port}")

    async def ready() -> bool:
        return (await asked(port, "readyz"))[0] == 200

    await until(ready)
    known = coordinator.port
    await coordinator.stop()

    async def alone() -> bool:
        return await asked(port, "readyz") == (503, '{"status": "not ready", "reason": "no coordinator is there"}')

    await until(alone)
    assert (await asked(port, "healthz"))[0] == 200
    assert (await scrape(port))["connected", ""] == 0
    await coordinator.start(known)
    await until(ready)
    assert (await scrape(port))["reconnects_total", ""] >= 1


async def test_a_port_that_is_in_use_is_named_with_the_setting(agents: Agents, tmp_path: Path) -> None:
    async def nothing(_reader: Any, writer: Any) -> None:
        writer.close()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await agents.start("--http-listen", f"127.0.0.1:{port}", connected=False)
    assert process.stderr is not None
    said = await process.stderr.read()
    assert await process.wait() == 1
    assert b"PENSTOCK_AGENT_HTTP_LISTEN" in said
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("given", ["7490", "localhost:", ":7490", "localhost:99999"])
async def test_what_is_no_address_is_refused(agents: Agents, given: str) -> None:
    process = await agents.start("--http-listen", given, connected=False)
    assert process.stderr is not None
    assert f"http_listen={given!r}: use host:port" in (await process.stderr.read()).decode()
    assert await process.wait() == 2
