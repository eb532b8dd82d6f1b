"""The servers as a whole: health, readiness, reflection, addresses, stopping."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec, start_edge, stop_edge

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.api.doorway import CannotListen
from penstock_coordinator.api.health import DATABASE, JOURNAL, DatabaseProbe, Readiness
from penstock_coordinator.api.server import SERVICES, EdgeOptions, build_server
from penstock_coordinator.ports import Unavailable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ANYWHERE = EdgeOptions("127.0.0.1:0", "127.0.0.1:0")
GRPCURL = Path(sys.executable).parent / "grpcurl"


def health_of(edge: Edge) -> Any:
    """The library's stub, which has no types."""
    return HealthStub(edge.channel)


async def check(edge: Edge, service: str = "") -> int:
    return int((await health_of(edge).Check(health_pb2.HealthCheckRequest(service=service))).status)


async def http(edge: Edge, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{edge.server.http_address}{path}") as response:
        return response.status, await response.json()


async def test_health_follows_what_is_in_the_way(edge: Edge) -> None:
    for service in ("", *SERVICES):
        assert await check(edge, service) == SERVING
    status, body = await http(edge, "/readyz")
    assert (status, body["status"]) == (200, "ready")
    edge.backend.readiness.journal_available(False)
    for service in ("", *SERVICES):
        assert await check(edge, service) == NOT_SERVING
    status, body = await http(edge, "/readyz")
    assert (status, body["status"], list(body["reasons"])) == (503, "not ready", [JOURNAL])
    assert await http(edge, "/healthz") == (200, {"status": "live"})
    edge.backend.readiness.journal_available(True)
    assert await check(edge) == SERVING
    unknown = await refused(health_of(edge).Check(health_pb2.HealthCheckRequest(service="nope")))
    assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_of_each_change(edge: Edge) -> None:
    watch = health_of(edge).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    seen = [(await watch.read()).status]
    edge.backend.readiness.block(DATABASE, "away")
    seen.append((await watch.read()).status)
    edge.backend.readiness.block(JOURNAL, "away too")
    edge.backend.readiness.clear(DATABASE)
    edge.backend.readiness.clear(JOURNAL)
    seen.append((await watch.read()).status)
    assert seen == [SERVING, NOT_SERVING, SERVING]
    unknown = health_of(edge).Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=PATIENCE)
    assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    for call in (watch, unknown):
        call.cancel()


async def test_a_coordinator_is_not_ready_before_it_has_recovered() -> None:
    readiness = Readiness()
    assert not readiness.ready
    assert list(readiness.reasons) == ["recovery"]


class _Bundles:
    """A database that answers when it is told to."""

    def __init__(self) -> None:
        self.away = False
        self.answer = asyncio.Event()
        self.answer.set()

    async def present(self, digests: object) -> set[str]:
        await self.answer.wait()
        if self.away:
            raise Unavailable
        return set()


class _Stores:
    def __init__(self) -> None:
        self.bundles = _Bundles()


async def test_the_probe_notices_a_database_that_is_away_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    readiness, stores = Readiness(), _Stores()
    readiness.clear("recovery")
    probe = DatabaseProbe(lambda: stores.bundles.present([]), readiness)
    stores.bundles.away = True
    await probe.run_once()
    assert list(readiness.reasons) == [DATABASE]
    stores.bundles.away = False
    await probe.run_once()
    assert readiness.ready
    stores.bundles.answer.clear()
    with monkeypatch.context() as impatient:
        impatient.setattr("penstock_coordinator.api.health.ANSWER_SECONDS", 0.01)
        await probe.run_once()
    assert "has not answered" in readiness.reasons[DATABASE]
    stores.bundles.answer.set()
    await probe.run_once()
    assert readiness.ready


# --- reflection -------------------------------------------------------------------------------------------------------


async def _services(edge: Edge) -> set[str]:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub: Any = ServerReflectionStub
    responses = stub(edge.channel).ServerReflectionInfo(requests(), timeout=PATIENCE)
    return {service.name async for response in responses for service in response.list_services_response.service}


async def test_reflection_tells_every_service(edge: Edge) -> None:
    expected = {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert await _services(edge) == expected


async def test_reflection_can_be_switched_off() -> None:
    edge = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1), reflection=False)
    try:
        assert (await refused(_services(edge))).code is grpc.StatusCode.UNIMPLEMENTED
        assert (await edge.create()).created
    finally:
        await stop_edge(edge)


async def grpcurl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(GRPCURL), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_grpcurl_finds_its_way(edge: Edge) -> None:
    address = edge.server.address
    listed = (await grpcurl("-plaintext", address, "list")).split()
    assert set(SERVICES) <= set(listed)
    for service in SERVICES:
        assert "is a service" in await grpcurl("-plaintext", address, "describe", service)
    described = await grpcurl("-plaintext", address, "describe", "penstock.v1.PipelineSpec")
    assert "repeated .penstock.v1.StepSpec steps" in described
    made = {"spec": {"name": "curled", "steps": [{"name": "a", "command": {"argv": ["true"]}}]}}
    create = ("-plaintext", "-d", json.dumps(made), address, "penstock.v1.PipelineService/Create")
    assert json.loads(await grpcurl(*create))["created"] is True
    health = await grpcurl("-plaintext", address, "grpc.health.v1.Health/Check")
    assert json.loads(health) == {"status": "SERVING"}


# --- addresses and stopping -------------------------------------------------------------------------------------------


def _at(taken: str, address: str) -> EdgeOptions:
    return replace(ANYWHERE, listen=address) if taken == "listen" else replace(ANYWHERE, http_listen=address)


@pytest.mark.parametrize(("taken", "setting"), [("listen", "PENSTOCK_LISTEN"), ("http_listen", "PENSTOCK_HTTP_LISTEN")])
async def test_an_address_that_is_taken_names_its_setting(edge: Edge, taken: str, setting: str) -> None:
    used = edge.server.address if taken == "listen" else edge.server.http_address
    second = build_server(edge.backend, _at(taken, used))
    with pytest.raises(CannotListen, match=setting) as caught:
        await second.start()
    assert used in str(caught.value)
    assert await check(edge) == SERVING


async def test_an_address_of_another_machine_is_refused(edge: Edge) -> None:
    for taken in ("listen", "http_listen"):
        second = build_server(edge.backend, _at(taken, "203.0.113.1:7400"))
        with pytest.raises(CannotListen):
            await second.start()


async def test_a_stop_says_so_first_and_ends_every_call() -> None:
    edge = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1))
    run = await edge.start(spec({"name": "a"}))
    watch = edge.runs.Watch(pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE)
    await watch.read()
    health: list[int] = []

    async def look() -> None:
        health.append(await check(edge))

    async def fail() -> None:
        raise RuntimeError("a step that fails does not keep the others from being taken")

    await edge.server.stop(look, fail, edge.backend.supervisor.stop)
    assert health == [NOT_SERVING]
    assert (await refused(watch.read())).code is grpc.StatusCode.UNAVAILABLE
    await edge.channel.close()
    await edge.backend.hub.close(1.0)


async def test_messages_up_to_the_limit_pass_and_larger_ones_are_refused(edge: Edge) -> None:
    made = spec({"name": "a"}, description="x" * (39 << 20))
    answer = await refused(edge.create(made))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.violations
    made.description = "x" * (40 << 20)
    assert (await refused(edge.create(made))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await edge.create()).created
