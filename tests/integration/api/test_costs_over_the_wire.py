"""What is refused of questions about costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.v1 import cost_service_pb2 as pb
from penstock.v1.cost_service_pb2_grpc import CostServiceStub

if TYPE_CHECKING:
    from tests.integration.api.conftest import Edge


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"group_by": pb.COST_GROUPING_STEP}, "pipeline"),
        ({"group_by": pb.COST_GROUPING_STEP, "pipeline": "p", "label": "team"}, "label"),
        ({"group_by": pb.COST_GROUPING_LABEL}, "label"),
        ({"group_by": 99}, "group_by"),
        ({"limit": -1}, "limit"),
        ({"since": Timestamp(seconds=-1)}, "since: is no valid instant"),
        ({"since": Timestamp(seconds=2), "until": Timestamp(seconds=2)}, "since: must be before until"),
    ],
)
async def test_what_cannot_be_put_together_is_refused(edge: Edge, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await CostServiceStub(edge.channel).List(pb.ListCostsRequest(**fields), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(field)


async def test_a_pipeline_without_runs_has_no_steps_that_cost(edge: Edge) -> None:
    request = pb.ListCostsRequest(pipeline="nobody", group_by=pb.COST_GROUPING_STEP)
    answer = await CostServiceStub(edge.channel).List(request, timeout=60)
    assert (len(answer.groups), answer.costs.total.attempts) == (0, 0)
