"""At a limit is accepted, one past it is refused, and then nothing of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from tests.integration.api.answers import Answer, refused
from tests.integration.api.conftest import ONE_STEP, PATIENCE, Edge, spec, start_edge, stop_edge
from tests.waiting import until

from penstock import errors
from penstock.client.channel import ANNOUNCED
from penstock.client.client import Client
from penstock.v1 import bundle_service_pb2 as bundles_pb
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.api.sizes import BESIDE
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.runtime.supervisor import Timing
from penstock_coordinator.runtime.watching import Seats

if TYPE_CHECKING:
    from grpc.aio import UnaryStreamCall

SMALL = Limits(
    steps=4, edges=5, parameters=2, parameters_bytes=200, labels=2, map_items=3, inputs=2, env=2, nesting=3,
    spec_bytes=5_000, condition_bytes=40, message_bytes=1 << 20,
)  # fmt: skip
TIMING = Timing(max_live_runs=3, max_watchers=3, max_watchers_of_run=2)


@pytest.fixture
async def small() -> AsyncIterator[Edge]:
    edge = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1), timing=TIMING, limits=SMALL)
    yield edge
    await stop_edge(edge)


def steps(count: int) -> PipelineSpec:
    return spec(*({"name": f"s{number}"} for number in range(count)))


def edges(count: int) -> PipelineSpec:
    return spec({"name": "a"}, {"name": "b"}, {"name": "c"}, _joined(count))


def _joined(count: int) -> dict[str, Any]:
    inputs = {f"i{number}": {"value": number} for number in range(min(count - 3, 2))}
    return {"name": "d", "depends_on": ["a", "b", "c"], "inputs": inputs} | (
        {"map": {"values": [1]}} if count > 5 else {}
    )


def parameters(count: int) -> PipelineSpec:
    return spec(
        {"name": "a"}, parameters=[{"name": f"p{n}", "type": "PARAMETER_TYPE_ANY", "default": 1} for n in range(count)]
    )


def nested(depth: int) -> PipelineSpec:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return spec({"name": "a", "inputs": {"x": {"value": value}}})


def sized(count: int) -> PipelineSpec:
    made = spec({"name": "a"}, description="")
    made.description = "x" * (count - made.ByteSize() - 3)
    assert made.ByteSize() == count
    return made


@pytest.mark.parametrize(
    ("make", "limit", "field", "setting"),
    [
        (steps, 4, "steps", "PENSTOCK_MAX_STEPS"),
        (edges, 5, "steps", "PENSTOCK_MAX_EDGES"),
        (parameters, 2, "parameters", "PENSTOCK_MAX_PARAMETERS"),
        (sized, 5_000, "spec", "PENSTOCK_MAX_SPEC_SIZE"),
        (nested, 3, "steps[0].inputs[x].value", ""),
        (lambda n: spec({"name": "a"}, labels={f"l{i}": "" for i in range(n)}), 2, "labels", "PENSTOCK_MAX_LABELS"),
        (lambda n: spec({"name": "a", "env": {f"E{i}": "" for i in range(n)}}), 2, "steps[0].env", "PENSTOCK_MAX_ENV"),
        (
            lambda n: spec({"name": "a", "map": {"values": [1] * n}}),
            3,
            "steps[0].map.values",
            "PENSTOCK_MAX_MAP_ITEMS",
        ),
        (
            lambda n: spec({"name": "a", "when": "true".ljust(n)}),
            40,
            "steps[0].when",
            "PENSTOCK_MAX_CONDITION_SIZE",
        ),
        (lambda n: spec({"name": "a" * n}), 128, "steps[0].name", ""),
    ],
    ids=["steps", "edges", "parameters", "spec", "nesting", "labels", "env", "map", "condition", "name"],
)  # fmt: skip
async def test_a_specification(
    small: Edge, make: Callable[[int], PipelineSpec], limit: int, field: str, setting: str
) -> None:
    past = await refused(small.create(make(limit + 1)))
    assert past.code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"limit of {limit:,}" in past.violations[field], past
    assert setting in past.violations[field]
    listed = await small.pipelines.List(pipelines_pb.ListPipelinesRequest(), timeout=PATIENCE)
    assert not listed.pipelines, "nothing of it is stored"
    assert (await small.create(make(limit))).created


async def test_the_parameters_of_a_run(small: Edge) -> None:
    made = spec({"name": "a"}, parameters=[{"name": "p", "type": "PARAMETER_TYPE_STRING"}])
    await small.create(made)

    def request(size: int) -> pb.StartRunRequest:
        return pb.StartRunRequest(pipeline="p", parameters={"p": Value(string_value="x" * size)})

    most = 200 - len('{"p":""}')
    past = await refused(small.runs.Start(request(most + 1), timeout=PATIENCE))
    assert "201 bytes, past the limit of 200" in past.violations["parameters"]
    assert not (await small.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs
    assert (await small.runs.Start(request(most), timeout=PATIENCE)).run.id


async def test_live_runs_are_started_all_or_none(small: Edge) -> None:
    await small.start()
    four = pb.StartManyRunsRequest(requests=[pb.StartRunRequest(pipeline="p")] * 3)
    past = await refused(small.runs.StartMany(four, timeout=PATIENCE))
    assert (past.code, past.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert past.retry_seconds is not None
    assert "limit is 3" in past.message
    assert "PENSTOCK_MAX_LIVE_RUNS" in past.message
    assert len((await small.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs) == 1
    two = pb.StartManyRunsRequest(requests=four.requests[:2])
    assert len((await small.runs.StartMany(two, timeout=PATIENCE)).run_ids) == 2


async def test_watchers_of_a_run_and_in_all(small: Edge) -> None:
    one, other = await small.start(), await small.start()
    calls: list[Any] = [await _watching(small, one.id), small.runs.TailLogs(_tail(one.id), timeout=PATIENCE)]
    seats = small.backend.engine.seats
    await until(lambda: _taken(seats, 2))
    for more in (_watching(small, one.id), small.runs.TailLogs(_tail(one.id), timeout=PATIENCE).read()):
        past = await refused(more)
        assert (past.code, past.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
        assert past.retry_seconds is not None
        assert "2 already follow the run, and the limit is 2" in past.message
        assert "PENSTOCK_MAX_WATCHERS_OF_RUN" in past.message
    calls.append(await _watching(small, other.id))
    past = await refused(_watching(small, other.id))
    assert "3 already follow runs, and the limit is 3" in past.message
    not_following = small.runs.TailLogs(pb.TailLogsRequest(run_id=one.id), timeout=PATIENCE)
    assert [response async for response in not_following] == []
    for call in calls:
        call.cancel()
    await until(lambda: _taken(seats, 0))
    calls = [await _watching(small, other.id), await _watching(small, other.id)]


def _tail(run_id: str) -> pb.TailLogsRequest:
    return pb.TailLogsRequest(run_id=run_id, follow=True)


async def _watching(edge: Edge, run_id: str) -> UnaryStreamCall[pb.WatchRunRequest, pb.WatchRunResponse]:
    call = edge.runs.Watch(pb.WatchRunRequest(run_id=run_id), timeout=PATIENCE)
    await call.read()
    return call


async def _taken(seats: Seats, count: int) -> bool:
    return seats._count == count


async def test_a_message_past_the_limit_is_told_in_words(small: Edge) -> None:
    async with Client(small.server.address) as client:
        made = spec({"name": "a"})
        made.description = "x" * (2 << 20)
        with pytest.raises(errors.ResourceExhaustedError) as caught:
            await client.create_pipeline(made)
    text = str(caught.value)
    assert "the request has 2,097,2" in text
    assert "past the limit of 1,048,576 bytes of PENSTOCK_MAX_MESSAGE_SIZE" in text
    assert "split it" in text
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    assert (await small.create(ONE_STEP)).created


@pytest.mark.parametrize("announced", [False, True])
async def test_the_bytes_of_a_message(small: Edge, announced: bool) -> None:
    def request(size: int) -> pb.StartManyRunsRequest:
        made = pb.StartManyRunsRequest(requests=[pb.StartRunRequest(pipeline="x" * size)])
        made.requests[0].pipeline = "x" * (2 * size - made.ByteSize())
        assert made.ByteSize() == size
        return made

    async def answer(size: int) -> Answer:
        metadata = ((ANNOUNCED, str(size)),) if announced else ()
        return await refused(small.runs.StartMany(request(size), timeout=PATIENCE, metadata=metadata))

    past = await answer((1 << 20) + 1)
    assert (past.code, past.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert "1,048,577 bytes, past the limit of 1,048,576" in past.violations["request"]
    assert list((await answer(1 << 20)).violations) == ["requests[0].pipeline"], "it is read, and wrong otherwise"


async def test_a_large_request_is_refused_before_it_is_sent(small: Edge) -> None:
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        await go_on.wait()
        yield b""

    call: Any = small.channel.stream_unary("/penstock.v1.PipelineService/Create")
    past = await refused(call(requests(), timeout=PATIENCE, metadata=((ANNOUNCED, str(5_001 + BESIDE)),)))
    assert past.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "past the limit of 5,000" in past.violations["spec"]


async def test_a_message_of_a_stream_past_the_limit(small: Edge) -> None:
    async def requests() -> AsyncIterator[bundles_pb.UploadBundleRequest]:
        yield bundles_pb.UploadBundleRequest(digest="0" * 64, size_bytes=10)
        yield bundles_pb.UploadBundleRequest(chunk=bytes(1 << 20))

    past = await refused(small.bundles.Upload(requests(), timeout=PATIENCE))
    assert (past.code, past.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
