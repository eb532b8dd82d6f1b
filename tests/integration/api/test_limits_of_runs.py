"""How large runs may become: at each limit goes well, one past it fails with the limit and the remedy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec, start_edge, stop_edge
from tests.integration.api.test_logs_over_the_wire import batch, push, tail
from tests.waiting import until

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.core.plan.limits import Limits, RunLimits
from penstock_coordinator.runtime.supervisor import Timing

RUN_LIMITS = RunLimits(items=3, inputs_bytes=60, output_bytes=40, sub_pipeline_depth=2)
TIMING = Timing(max_output_bytes=50, run_limits=RUN_LIMITS)
LIMITS = Limits(nesting=3, map_levels=2, name_length=12)
ANY = "PARAMETER_TYPE_ANY"
COMPLETED, FAILED = run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED


@pytest.fixture
async def small() -> AsyncIterator[Edge]:
    edge = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1), timing=TIMING, limits=LIMITS)
    yield edge
    await stop_edge(edge)


def text(size: int) -> bytes:
    """JSON of so many bytes."""
    return json.dumps("x" * (size - 2)).encode()


def reading(*steps: str) -> dict[str, Any]:
    return {"name": "reader", "inputs": {name: {"step": {"step": name}} for name in steps}}


async def ended(edge: Edge, made: PipelineSpec, *outputs: bytes, **fields: Any) -> run_pb2.Run:
    """The run when it is at rest; its attempts give these outputs, in the order in which they are leased."""
    agent = edge.agents[0] if edge.agents else await edge.agent()
    run = await edge.start(made, **fields)
    for output in outputs:
        await agent.succeed(await agent.grant(), output)
    await edge.watch(run)
    return await edge.get(run)


async def failure(edge: Edge, run: run_pb2.Run, step: str) -> run_pb2.Failure:
    request = pb.GetStepRunRequest(run_id=run.id, step=step)
    return (await edge.runs.GetStepRun(request, timeout=PATIENCE)).step_run.failure


async def test_the_output_of_a_step(small: Edge) -> None:
    assert (await ended(small, spec({"name": "a"}), text(50))).state == COMPLETED
    run = await ended(small, spec({"name": "a"}), text(51))
    found = await failure(small, run, "a")
    assert (run.state, found.reason) == (FAILED, "OutputTooLarge")
    assert "51 bytes" in found.message
    assert "50" in found.message


async def test_the_inputs_of_an_attempt(small: Edge) -> None:
    made = spec({"name": "a"}, {"name": "b"}, reading("a", "b"))
    assert (await ended(small, made, text(30), text(30), b"1")).state == COMPLETED
    run = await ended(small, made, text(30), text(31))
    found = await failure(small, run, "reader")
    assert (run.state, found.reason) == (FAILED, "Input")
    assert "the inputs have more than the 60 bytes of PENSTOCK_MAX_INPUTS_SIZE" in found.message
    assert "write large values to files or a store" in found.message


async def test_a_joined_input(small: Edge) -> None:
    made = spec({"name": "a", "map": {"values": [1, 2]}}, reading("a"))
    assert (await ended(small, made, text(28), text(29), b"1")).state == COMPLETED, "[,] and 57 bytes"
    run = await ended(small, made, text(29), text(29))
    found = await failure(small, run, "reader")
    assert (run.state, found.reason) == (FAILED, "Input")
    assert "more than the 60 bytes of PENSTOCK_MAX_INPUTS_SIZE" in found.message


async def test_the_items_of_a_map_over_an_output(small: Edge) -> None:
    made = spec({"name": "a"}, {"name": "m", "map": {"step": {"step": "a"}}})
    assert (await ended(small, made, b"[1,2,3]", b"1", b"2", b"3")).state == COMPLETED
    run = await ended(small, made, b"[1,2,3,4]")
    found = await failure(small, run, "m")
    assert (run.state, found.reason) == (FAILED, "Map")
    assert "it has 4 items and the limit is 3" in found.message
    assert "PENSTOCK_MAX_ITEMS_OF_STEP" in found.message


async def test_the_items_of_all_levels_of_a_map(small: Edge) -> None:
    made = spec(
        {"name": "a", "map": {"values": [1, 2]}},
        {"name": "m", "map": {"step": {"step": "a"}, "nested": {}}},
    )
    assert (await ended(small, made, b"[1,2]", b"[3]", b"1", b"2", b"3")).state == COMPLETED
    run = await ended(small, made, b"[1,2]", b"[3,4]", b"1", b"2")
    assert run.state == FAILED
    assert "more than the limit of 3" in run.reason
    assert "PENSTOCK_MAX_ITEMS_OF_STEP" in run.reason


async def test_the_output_of_a_run(small: Edge) -> None:
    made = spec({"name": "a"}, output={"step": "a"})
    run = await ended(small, made, text(40))
    assert (run.state, len(run.output_json)) == (COMPLETED, 40)
    run = await ended(small, made, text(41))
    assert (run.state, run.output_json) == (FAILED, "")
    assert "OutputTooLarge: the output of the run has more than 40 bytes" in run.reason
    assert "write large values to files or a store" in run.reason
    assert "PENSTOCK_MAX_RUN_OUTPUT_SIZE" in run.reason
    (step_run,) = (await small.runs.ListStepRuns(pb.ListStepRunsRequest(run_id=run.id), timeout=PATIENCE)).step_runs
    assert step_run.state == run_pb2.STEP_RUN_STATE_COMPLETED


async def test_a_run_below_whose_output_is_too_large_fails_its_step(small: Edge) -> None:
    await small.create(spec({"name": "a"}, name="leaf", output={"step": "a"}))
    run = await ended(small, spec({"name": "below", "pipeline": {"name": "leaf"}}), text(41))
    found = await failure(small, run, "below")
    assert (run.state, found.reason) == (FAILED, "SubPipeline")
    assert "OutputTooLarge" in found.message
    assert "PENSTOCK_MAX_RUN_OUTPUT_SIZE" in found.message


async def test_the_depth_of_sub_pipelines(small: Edge) -> None:
    await small.create(spec({"name": "a"}, name="p0"))
    for level in (1, 2, 3):
        await small.create(spec({"name": "below", "pipeline": {"name": f"p{level - 1}"}}, name=f"p{level}"))
    assert (await ended(small, spec({"name": "below", "pipeline": {"name": "p1"}}), b"1")).state == COMPLETED
    run = await ended(small, spec({"name": "below", "pipeline": {"name": "p2"}}))
    assert run.state == FAILED
    assert "would have 3 runs above it, and the limit is 2" in run.reason
    assert "PENSTOCK_MAX_SUB_PIPELINE_DEPTH" in run.reason


def nested(depth: int) -> Value:
    value = made = Value()
    for _ in range(depth):
        value = value.list_value.values.add()
    value.bool_value = True
    return made


async def test_the_nesting_of_a_parameter(small: Edge) -> None:
    await small.create(spec({"name": "a"}, parameters=[{"name": "p", "type": ANY}]))

    def request(depth: int) -> pb.StartRunRequest:
        return pb.StartRunRequest(pipeline="p", parameters={"p": nested(depth)})

    past = await refused(small.runs.Start(request(4), timeout=PATIENCE))
    assert past.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "3" in past.violations["parameters.p"]
    assert not (await small.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs
    assert (await small.runs.Start(request(3), timeout=PATIENCE)).run.id


def levels(count: int) -> PipelineSpec:
    steps: list[dict[str, Any]] = [{"name": "m1", "map": {"values": [1]}}]
    for level in range(2, count + 1):
        steps.append({"name": f"m{level}", "map": {"step": {"step": f"m{level - 1}"}, "nested": {}}})
    return spec(*steps)


async def test_the_levels_of_maps(small: Edge) -> None:
    past = await refused(small.create(levels(3)))
    assert past.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "2" in past.violations["steps[2].map.nested"]
    assert (await small.create(levels(2))).created


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda name: spec({"name": "a"}, name=name), "name"),
        (lambda name: spec({"name": name}), "steps[0].name"),
        (lambda name: spec({"name": "a", "queue": name}), "steps[0].queue"),
        (lambda name: spec({"name": "a"}, parameters=[{"name": name, "type": ANY}]), "parameters[0].name"),
    ],
    ids=["pipeline", "step", "queue", "parameter"],
)  # fmt: skip
async def test_the_length_of_names(small: Edge, make: Any, field: str) -> None:
    past = await refused(small.create(make("x" * 13)))
    assert past.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "the name has 13 characters, past the limit of 12: use 1 to 12 letters" in past.violations[field]
    assert (await small.create(make("x" * 12))).created


async def test_the_stored_bytes_of_an_attempts_log(small: Edge) -> None:
    hub = small.backend.hub
    hub._attempt_bytes = 2 * (10 + 32)  # a line costs 32 bytes beside its text
    agent = await small.agent()
    run = await small.start(spec({"name": "a"}))
    grant = await agent.grant()
    await push(small, batch(grant, "x" * 10, "y" * 10))
    await until(lambda: _lines(small, run, 2))
    await push(small, batch(grant, "z", first=3))
    await until(lambda: _lines(small, run, 3))
    last = (await tail(small, run))[-1]
    assert "more than 84 bytes: the rest is cut off" in last.text


async def _lines(edge: Edge, run: run_pb2.Run, count: int) -> bool:
    lines = await tail(edge, run)
    return len(lines) == count and ("cut off" in lines[-1].text) == (count == 3)
