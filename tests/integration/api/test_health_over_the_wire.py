"""How a coordinator says that it fares: over gRPC, HTTP, and to the standard health client."""

from __future__ import annotations

from typing import Any

import aiohttp
from grpc_health.v1 import health_pb2
from tests.integration.api.conftest import PATIENCE, Edge, on_both_kinds_of_stores

from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from penstock_coordinator.api.health import JOURNAL
from penstock_coordinator.api.server import SERVICES
from penstock_coordinator.runtime.admission import Strain


async def _health(edge: Edge) -> pb.CoordinatorHealth:
    return (await CoordinatorServiceStub(edge.channel).GetHealth(pb.GetHealthRequest(), timeout=PATIENCE)).health


@on_both_kinds_of_stores
async def test_the_load_and_the_dependencies_are_told_also_when_it_is_not_ready(edge: Edge) -> None:
    await edge.start()
    told = await _health(edge)
    assert told.ready
    assert (told.coordinator_id, dict(told.reasons)) == ("c1", {})
    assert (told.load.live_runs, told.load.waiting_runs, told.load.max_backlog) == (1, 1, 100_000)
    assert all(each.state == pb.DEPENDENCY_STATE_CLOSED for each in told.dependencies)
    assert "journal" in [each.name for each in told.dependencies]

    edge.backend.supervisor.admission.measure(Strain(lag=0.25, memory=2.0), "")
    edge.backend.readiness.block(JOURNAL, "commits wait for the database")
    told = await _health(edge)
    assert not told.ready
    assert dict(told.reasons) == {JOURNAL: "commits wait for the database"}
    assert (told.load.lag, told.load.memory, told.load.pressure) == (0.25, 2.0, 2.0)


async def test_over_http_the_same_comes_with_the_probe(edge: Edge) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{edge.server.http_address}/readyz") as answer,
    ):
        told: dict[str, Any] = await answer.json()
    assert told["status"] == "ready"
    assert told["load"]["waiting_runs"] == 0
    assert [each["name"] for each in told["dependencies"]] == ["journal"]
    assert told["dependencies"][0]["state"] == "closed"


async def test_the_standard_list_of_services_is_answered(edge: Edge) -> None:
    listed: Any = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["List"]
    assert listed.output_type.name == "HealthListResponse"
    call: Any = edge.channel.unary_unary(
        "/grpc.health.v1.Health/List",
        response_deserializer=health_pb2.HealthListResponse.FromString,  # type: ignore[attr-defined]  # as above
    )
    answer: Any = await call(b"", timeout=PATIENCE)
    assert set(answer.statuses) == {"", *SERVICES}
    assert {each.status for each in answer.statuses.values()} == {health_pb2.HealthCheckResponse.SERVING}
