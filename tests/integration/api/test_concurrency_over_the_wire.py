"""Run keys and held runs, as clients meet them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from tests.integration.api.answers import refused
from tests.integration.api.conftest import ONE_STEP, PATIENCE, Edge, on_both_kinds_of_stores, spec

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb

USE = pb.RUN_KEY_CONFLICT_USE_EXISTING


async def _start(edge: Edge, **fields: Any) -> pb.StartRunResponse:
    return await edge.runs.Start(pb.StartRunRequest(pipeline="p", **fields), timeout=PATIENCE)


async def _end(edge: Edge, run: run_pb2.Run) -> None:
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)
    await edge.watch(run)


@on_both_kinds_of_stores
async def test_a_run_key_is_of_one_live_run(edge: Edge) -> None:
    await edge.create()
    first = await _start(edge, run_key="2026-11-21")
    assert first.run.run_key == "2026-11-21"
    assert not first.existing
    error = await refused(_start(edge, run_key="2026-11-21"))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    assert error.reason == "RUN_KEY_TAKEN"
    assert error.metadata == {"run_id": first.run.id, "state": "PENDING"}
    assert "run_key" in error.violations
    again = await _start(edge, run_key="2026-11-21", run_key_conflict=USE)
    assert again.existing
    assert again.run.id == first.run.id
    assert not (await _start(edge, run_key="another")).existing
    listed = await edge.runs.List(pb.ListRunsRequest(run_key="2026-11-21"), timeout=PATIENCE)
    assert [run.id for run in listed.runs] == [first.run.id]


@on_both_kinds_of_stores
async def test_two_clients_at_once_are_one_run(edge: Edge) -> None:
    await edge.create()
    answers = await asyncio.gather(*(_start(edge, run_key="k", run_key_conflict=USE) for _ in range(10)))
    assert len({answer.run.id for answer in answers}) == 1
    assert [answer.existing for answer in answers].count(False) == 1


@pytest.mark.parametrize("reuse", [0, pb.RUN_KEY_REUSE_ALLOW, pb.RUN_KEY_REUSE_AFTER_FAILURE])
async def test_a_key_of_a_cancelled_run_is_free(edge: Edge, reuse: int) -> None:
    await edge.create()
    first = await _start(edge, run_key="k")
    await _end(edge, first.run)
    second = await _start(edge, run_key="k", run_key_conflict=USE, run_key_reuse=reuse)
    assert not second.existing
    assert second.run.id != first.run.id


async def test_a_key_that_is_never_to_be_used_again(edge: Edge) -> None:
    await edge.create()
    first = await _start(edge, run_key="k")
    await _end(edge, first.run)
    error = await refused(_start(edge, run_key="k", run_key_conflict=USE, run_key_reuse=pb.RUN_KEY_REUSE_REJECT))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    assert error.metadata == {"run_id": first.run.id, "state": "CANCELLED"}
    assert "RUN_KEY_REUSE_AFTER_FAILURE" in error.message


async def test_a_completed_run_keeps_its_key_after_failure_only(edge: Edge) -> None:
    agent = await edge.agent()
    await edge.create()
    first = await _start(edge, run_key="k")
    await agent.succeed(await agent.grant())
    await edge.watch(first.run)
    error = await refused(_start(edge, run_key="k", run_key_reuse=pb.RUN_KEY_REUSE_AFTER_FAILURE))
    assert error.metadata["state"] == "COMPLETED"
    assert "RUN_KEY_REUSE_ALLOW" in error.message


async def test_a_repeated_request_answers_as_the_first_time(edge: Edge) -> None:
    await edge.create()
    first = await _start(edge, run_key="k", request_id="one")
    assert (await _start(edge, run_key="k", request_id="one")).run.id == first.run.id
    existing = await _start(edge, run_key="k", request_id="two", run_key_conflict=USE)
    assert existing.existing
    await _end(edge, first.run)
    for request_id, was_there in (("one", False), ("two", True)):
        fields = {"run_key_conflict": USE} if was_there else {}
        again = await _start(edge, run_key="k", request_id=request_id, **fields)
        assert (again.run.id, again.existing) == (first.run.id, was_there)


async def test_start_many_honours_run_keys(edge: Edge) -> None:
    await edge.create()
    requests = [pb.StartRunRequest(pipeline="p", run_key=key, run_key_conflict=USE) for key in ("a", "b", "a")]
    requests += [pb.StartRunRequest(pipeline="p")] * 2
    answer = await edge.runs.StartMany(pb.StartManyRunsRequest(requests=requests), timeout=PATIENCE)
    assert answer.run_ids[0] == answer.run_ids[2]
    assert len(set(answer.run_ids)) == 4
    rejecting = [pb.StartRunRequest(pipeline="p"), pb.StartRunRequest(pipeline="p", run_key="a")]
    error = await refused(edge.runs.StartMany(pb.StartManyRunsRequest(requests=rejecting), timeout=PATIENCE))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    assert "requests[1].run_key" in error.violations


async def _refused_batch(edge: Edge, requests: list[pb.StartRunRequest]) -> list[str]:
    """The fields of the refusal; nothing was started."""
    before = await edge.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)
    error = await refused(edge.runs.StartMany(pb.StartManyRunsRequest(requests=requests), timeout=PATIENCE))
    assert error.code is grpc.StatusCode.ALREADY_EXISTS
    assert await edge.runs.List(pb.ListRunsRequest(), timeout=PATIENCE) == before
    return list(error.violations)


@on_both_kinds_of_stores
@pytest.mark.parametrize("keys", [["", "k", "k", ""], ["", "held", ""]])
async def test_of_a_refused_batch_nothing_is_started(edge: Edge, keys: list[str]) -> None:
    await edge.create()
    await _start(edge, run_key="held")
    requests = [pb.StartRunRequest(pipeline="p", run_key=key) for key in keys]
    assert await _refused_batch(edge, requests) == [f"requests[{len(keys) - 2}].run_key"]


@on_both_kinds_of_stores
async def test_of_a_batch_with_a_request_id_of_another_nothing_is_started(edge: Edge) -> None:
    await edge.create()
    await _start(edge, request_id="one")
    requests = [pb.StartRunRequest(pipeline="p"), pb.StartRunRequest(pipeline="p", request_id="one", run_key="k")]
    assert await _refused_batch(edge, requests) == ["requests[1].request_id"]


@on_both_kinds_of_stores
async def test_a_repeated_batch_is_answered_as_the_first_time(edge: Edge) -> None:
    await edge.create()
    fields: list[dict[str, Any]] = [{"run_key": "k"}, {"run_key": "k", "run_key_conflict": USE}, {}]
    requests = [pb.StartRunRequest(pipeline="p", request_id=f"r{n}", **each) for n, each in enumerate(fields)]
    asked = pb.StartManyRunsRequest(requests=requests)
    first = await edge.runs.StartMany(asked, timeout=PATIENCE)
    assert first.run_ids[0] == first.run_ids[1] != first.run_ids[2]
    assert await edge.runs.StartMany(asked, timeout=PATIENCE) == first


async def test_of_two_batches_at_once_one_is_started(edge: Edge) -> None:
    await edge.create()
    keys = [f"k{number}" for number in range(20)]
    batches = [[pb.StartRunRequest(pipeline="p", run_key=key) for key in order] for order in (keys, keys[::-1])]
    calls = (edge.runs.StartMany(pb.StartManyRunsRequest(requests=each), timeout=PATIENCE) for each in batches)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, grpc.aio.AioRpcError) for answer in answers].count(True) == 1
    assert len((await edge.runs.List(pb.ListRunsRequest(page_size=100), timeout=PATIENCE)).runs) == 20


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"run_key": "k" * 257}, "run_key"),
        ({"run_key": " k"}, "run_key"),
        ({"run_key": "a\nb"}, "run_key"),
        ({"run_key": "k", "run_key_conflict": 9}, "run_key_conflict"),
        ({"run_key": "k", "run_key_reuse": 9}, "run_key_reuse"),
        ({"run_key_conflict": USE}, "run_key_conflict"),
        ({"run_key_reuse": pb.RUN_KEY_REUSE_REJECT}, "run_key_reuse"),
    ],
)
async def test_wrong_run_keys_are_refused(edge: Edge, fields: dict[str, Any], field: str) -> None:
    await edge.create()
    error = await refused(_start(edge, **fields))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(error.violations) == [field]


async def test_the_longest_run_key(edge: Edge) -> None:
    await edge.create()
    assert (await _start(edge, run_key="k" * 256)).run.run_key == "k" * 256


async def test_a_held_run_says_what_it_waits_for(edge: Edge) -> None:
    limited = spec({"name": "a"}, max_active_runs=1)
    first, second = await edge.start(limited), await edge.start(limited)
    assert (first.held_by_key, second.held_by_key) == ("", "pipeline:p")
    assert second.state == run_pb2.RUN_STATE_PENDING
    listed = (await edge.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs
    assert [run.held_by_key for run in listed] == ["pipeline:p", ""]
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=first.id), timeout=PATIENCE)
    await edge.watch(first)
    agent = await edge.agent()
    await agent.succeed(await agent.grant())
    types = [event.type for event in await edge.watch(second)]
    assert types == [
        "RunStarted", "RunHeld", "RunAdmitted", "StepsReadied", "StepsLeased", "StepCompleted", "RunEnded",
    ]  # fmt: skip
    assert (await edge.get(second)).held_by_key == ""


async def test_parameters_that_make_no_key_are_refused(edge: Edge) -> None:
    tenant = [{"name": "tenant", "type": "PARAMETER_TYPE_STRING"}]
    made = spec({"name": "a"}, {"name": "b", "concurrency": {"key_expression": "params.tenant"}}, parameters=tenant)
    await edge.create(made)
    error = await refused(_start(edge, parameters={"tenant": Value(string_value="")}))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(error.violations) == ["parameters"]
    assert "steps[1].concurrency.key_expression" in error.message
    assert (await _start(edge, parameters={"tenant": Value(string_value="x")})).run.id


async def test_one_step_stays_one_step(edge: Edge) -> None:
    """A pipeline without limits has no key."""
    assert (await edge.start(ONE_STEP)).held_by_key == ""
