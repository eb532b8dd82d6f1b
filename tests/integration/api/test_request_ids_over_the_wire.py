"""The same request id with the same content is the same call; with other content it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Value
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, on_both_kinds_of_stores, spec

from penstock.v1 import agent_admin_service_pb2 as admin_pb
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb

SPEC = spec({"name": "a"}, parameters=[{"name": "n", "type": "PARAMETER_TYPE_INT", "default": 3}])


@dataclass
class Case:
    """One method: a call, and the same call with something else in it."""

    prepare: Callable[[Edge], Awaitable[dict[str, Any]]]
    call: Callable[[Edge, Any], Awaitable[Any]]
    request: Callable[[dict[str, Any]], Any]
    other: Callable[[dict[str, Any]], Any]


async def _nothing(edge: Edge) -> dict[str, Any]:
    return {}


async def _a_pipeline(edge: Edge) -> dict[str, Any]:
    await edge.create(SPEC)
    return {}


async def _two_pipelines(edge: Edge) -> dict[str, Any]:
    await edge.create(SPEC)
    await edge.create(spec({"name": "a"}, name="q"))
    return {}


async def _a_live_run(edge: Edge) -> dict[str, Any]:
    return {"run_id": (await edge.start(SPEC)).id}


async def _an_ended_run(edge: Edge) -> dict[str, Any]:
    run = await edge.start(SPEC)
    await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=run.id))
    await edge.watch(run)
    return {"run_id": run.id}


async def _an_agent(edge: Edge) -> dict[str, Any]:
    await edge.agent()
    return {}


CASES = {
    "Create": Case(
        _nothing,
        lambda edge, request: edge.pipelines.Create(request, timeout=PATIENCE),
        lambda _: pipelines_pb.CreatePipelineRequest(spec=SPEC),
        lambda _: pipelines_pb.CreatePipelineRequest(spec=spec({"name": "b"})),
    ),
    "Delete": Case(
        _two_pipelines,
        lambda edge, request: edge.pipelines.Delete(request, timeout=PATIENCE),
        lambda _: pipelines_pb.DeletePipelineRequest(name="p"),
        lambda _: pipelines_pb.DeletePipelineRequest(name="q"),
    ),
    "Start": Case(
        _a_pipeline,
        lambda edge, request: edge.runs.Start(request, timeout=PATIENCE),
        lambda _: runs_pb.StartRunRequest(pipeline="p"),
        lambda _: runs_pb.StartRunRequest(pipeline="p", parameters={"n": Value(number_value=4)}),
    ),
    "Cancel": Case(
        _a_live_run,
        lambda edge, request: edge.runs.Cancel(request, timeout=PATIENCE),
        lambda found: runs_pb.CancelRunRequest(run_id=found["run_id"], reason="one"),
        lambda found: runs_pb.CancelRunRequest(run_id=found["run_id"], reason="two"),
    ),
    "Cancel at rest": Case(
        _an_ended_run,
        lambda edge, request: edge.runs.Cancel(request, timeout=PATIENCE),
        lambda found: runs_pb.CancelRunRequest(run_id=found["run_id"], reason="one"),
        lambda found: runs_pb.CancelRunRequest(run_id=found["run_id"], reason="two"),
    ),
    "Drain": Case(
        _an_agent,
        lambda edge, request: edge.admin.Drain(request, timeout=PATIENCE),
        lambda _: admin_pb.DrainAgentRequest(agent_id="agent-1"),
        lambda _: admin_pb.DrainAgentRequest(agent_id="agent-1", deadline=Duration(seconds=1)),
    ),
}


def _with_id(request: Any, request_id: str) -> Any:
    request.request_id = request_id
    return request


def _identity(response: Any) -> Any:
    """What must be the same in both answers: a run goes on meanwhile."""
    return response.run.id if hasattr(response, "run") else response


@on_both_kinds_of_stores
@pytest.mark.parametrize("name", CASES)
async def test_the_same_content_answers_the_same_and_other_content_is_refused(edge: Edge, name: str) -> None:
    case = CASES[name]
    found = await case.prepare(edge)
    first = await case.call(edge, _with_id(case.request(found), "id-1"))
    for _ in range(2):
        again = await case.call(edge, _with_id(case.request(found), "id-1"))
        if name != "Drain":
            assert _identity(again) == _identity(first)
    answer = await refused(case.call(edge, _with_id(case.other(found), "id-1")))
    assert answer.code is grpc.StatusCode.ALREADY_EXISTS
    assert answer.reason == "REQUEST_ID_REUSED"
    assert list(answer.violations) == ["request_id"]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("request_id", ["a" * 129, "new\nline", "ümlaut", "nul\0"])
async def test_what_is_no_request_id_is_refused(edge: Edge, name: str, request_id: str) -> None:
    case = CASES[name]
    found = await case.prepare(edge)
    answer = await refused(case.call(edge, _with_id(case.request(found), request_id)))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(answer.violations) == ["request_id"]


async def test_without_an_id_each_start_is_a_run_of_its_own(edge: Edge) -> None:
    first, second = await edge.start(SPEC), await edge.start(SPEC)
    assert first.id != second.id


async def test_a_run_that_was_accepted_stays_so_when_its_pipeline_is_gone(edge: Edge) -> None:
    await edge.create(SPEC)
    request = runs_pb.StartRunRequest(pipeline="p", request_id="id-1")
    run = (await edge.runs.Start(request)).run
    await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=run.id, mode=runs_pb.CANCEL_MODE_NOW))
    await edge.watch(run)
    await edge.pipelines.Delete(pipelines_pb.DeletePipelineRequest(name="p"))
    assert (await edge.runs.Start(request)).run.id == run.id
    other = runs_pb.StartRunRequest(pipeline="p", version_number=1, request_id="id-1")
    assert (await refused(edge.runs.Start(other))).code is grpc.StatusCode.ALREADY_EXISTS


async def test_ids_of_start_and_start_many_are_the_same_ids(edge: Edge) -> None:
    await edge.create(SPEC)
    one = runs_pb.StartRunRequest(pipeline="p", request_id="id-1")
    two = runs_pb.StartRunRequest(pipeline="p", request_id="id-2")
    run = (await edge.runs.Start(one)).run
    many = await edge.runs.StartMany(runs_pb.StartManyRunsRequest(requests=[one, two, two]))
    assert many.run_ids[0] == run.id
    assert many.run_ids[1] == many.run_ids[2] != run.id
    other = runs_pb.StartRunRequest(pipeline="p", version_number=1, request_id="id-2")
    answer = await refused(edge.runs.StartMany(runs_pb.StartManyRunsRequest(requests=[one, other])))
    assert answer.code is grpc.StatusCode.ALREADY_EXISTS
    assert list(answer.violations) == ["requests[1].request_id"]
    fresh, clash = runs_pb.StartRunRequest(), runs_pb.StartRunRequest()
    fresh.CopyFrom(one)
    clash.CopyFrom(other)
    fresh.request_id = clash.request_id = "id-3"
    both = await refused(edge.runs.StartMany(runs_pb.StartManyRunsRequest(requests=[fresh, clash])))
    assert both.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(both.violations) == ["requests[1].request_id"]


async def test_a_deletion_that_was_answered_is_not_done_again(edge: Edge) -> None:
    """Between the two calls the pipeline came back, with a live run."""
    await edge.create(SPEC)
    request = pipelines_pb.DeletePipelineRequest(name="p", request_id="id-1")
    await edge.pipelines.Delete(request)
    run = await edge.start(SPEC)
    await edge.pipelines.Delete(request)
    assert (await edge.get(run)).pipeline == "p"
    assert (await edge.pipelines.Get(pipelines_pb.GetPipelineRequest(name="p"))).version.number == 1
