"""Priority and weight of runs: the pipeline's, or those of the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from penstock.v1 import run_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec

if TYPE_CHECKING:
    from tests.integration.api.conftest import Edge

from tests.integration.api.conftest import ONE_STEP, on_both_kinds_of_stores


def ranked() -> PipelineSpec:
    made = PipelineSpec()
    made.CopyFrom(ONE_STEP)
    made.priority, made.weight = 7, 2.5
    return made


@on_both_kinds_of_stores
async def test_a_run_has_those_of_its_pipeline_unless_the_start_says_others(edge: Edge) -> None:
    plain = await edge.start()
    assert (plain.priority, plain.weight) == (0, 1.0)
    inherited = await edge.start(ranked())
    assert (inherited.priority, inherited.weight) == (7, 2.5)
    own = await edge.start(ranked(), priority=0, weight=0.01)
    assert (own.priority, own.weight) == (0, 0.01)
    found = await edge.get(own)
    assert (found.priority, found.weight) == (0, 0.01)
    listed = (await edge.runs.List(pb.ListRunsRequest())).runs
    assert [(run.priority, run.weight) for run in listed] == [(0, 0.01), (7, 2.5), (0, 1.0)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"priority": 1_001}, "priority"),
        ({"priority": -1_001}, "priority"),
        ({"weight": 0.001}, "weight"),
        ({"weight": 101.0}, "weight"),
        ({"weight": -1.0}, "weight"),
        ({"weight": float("nan")}, "weight"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(edge: Edge, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.start(**fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")
