"""Calls about what runs cost, and may cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from penstock.client.connection import Connection
from penstock.client.identity import caller_name
from penstock.v1 import (
    budget_service_pb2,
    budget_service_pb2_grpc,
    cost_service_pb2,
    cost_service_pb2_grpc,
)


class CostCalls(Connection):
    """The part of `Client` that is about costs and budgets."""

    async def get_costs(self, run_id: str) -> cost_service_pb2.GetCostsResponse:
        """What a run has cost, by step, with what was wasted apart."""
        stub = self._stub(cost_service_pb2_grpc.CostServiceStub)
        response: cost_service_pb2.GetCostsResponse = await self._call(
            stub.Get, cost_service_pb2.GetCostsRequest(run_id=run_id)
        )
        return response

    async def list_costs(
        self,
        *,
        group_by: str = "pipeline",
        label: str = "",
        pipeline: str = "",
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 0,
    ) -> cost_service_pb2.ListCostsResponse:
        """What runs have cost, also those that were removed: by "pipeline", "day", or "label" (`label` is its key); or
        by "step" of one pipeline, without those that were removed. `since` and `until` are of the runs' creation."""
        grouping = cost_service_pb2.CostGrouping.Value(f"COST_GROUPING_{group_by.upper()}")
        request = cost_service_pb2.ListCostsRequest(
            pipeline=pipeline, labels=labels or {}, group_by=grouping, label=label, limit=limit
        )
        for field, instant in ((request.since, since), (request.until, until)):
            if instant is not None:
                field.FromDatetime(instant)
        stub = self._stub(cost_service_pb2_grpc.CostServiceStub)
        response: cost_service_pb2.ListCostsResponse = await self._call(stub.List, request)
        return response

    async def get_budget(self, run_id: str = "", *, pipeline: str = "") -> budget_service_pb2.GetBudgetResponse:
        """What a run that is not at rest, or a pipeline in its present day, week or month, has used of its budget."""
        request = budget_service_pb2.GetBudgetRequest(**_whose(run_id, pipeline))
        stub = self._stub(budget_service_pb2_grpc.BudgetServiceStub)
        response: budget_service_pb2.GetBudgetResponse = await self._call(stub.Get, request)
        return response

    async def raise_budget(
        self,
        run_id: str = "",
        *,
        pipeline: str = "",
        slot_seconds: float = 0,
        cpu_seconds: float = 0,
        price: float = 0,
        reason: str = "",
        requested_by: str | None = None,
    ) -> budget_service_pb2.RaiseBudgetResponse:
        """To higher limits: of a run, or of a pipeline in its present day, week or month. What waits goes on by itself.
        The same again changes nothing."""
        request = budget_service_pb2.RaiseBudgetRequest(
            slot_seconds=slot_seconds,
            cpu_seconds=cpu_seconds,
            price=price,
            reason=reason,
            requested_by=caller_name() if requested_by is None else requested_by,
            **_whose(run_id, pipeline),
        )
        stub = self._stub(budget_service_pb2_grpc.BudgetServiceStub)
        response: budget_service_pb2.RaiseBudgetResponse = await self._call(stub.Raise, request)
        return response


def _whose(run_id: str, pipeline: str) -> dict[str, str]:
    if bool(run_id) == bool(pipeline):
        raise ValueError("whose budget it is: give a run_id or a pipeline, one of them")
    return {"run_id": run_id} if run_id else {"pipeline": pipeline}
