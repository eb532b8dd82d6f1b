"""penstock.v1.CostService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import cost_service_pb2 as pb
from penstock.v1.cost_service_pb2_grpc import CostServiceServicer
from penstock_coordinator.api.encoding import costs as encode
from penstock_coordinator.api.errors import invalid
from penstock_coordinator.api.fields import instant_of, labels_of, name_of, run_id_of
from penstock_coordinator.ports import CostFilter, Costs
from penstock_coordinator.runtime.views import UnknownRun

if TYPE_CHECKING:
    from penstock_coordinator.api.encoding.costs import Prices
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import CostStore, Grouping, StepCost
    from penstock_coordinator.runtime.engine import Engine

GROUPS = 100
MAX_GROUPS = 1_000
_GROUPINGS: dict[int, Grouping] = {
    pb.COST_GROUPING_UNSPECIFIED: "pipeline",
    pb.COST_GROUPING_PIPELINE: "pipeline",
    pb.COST_GROUPING_LABEL: "label",
    pb.COST_GROUPING_DAY: "day",
    pb.COST_GROUPING_STEP: "pipeline",
}


class CostService(CostServiceServicer):
    def __init__(self, engine: Engine, costs: CostStore, prices: Prices, limits: Limits) -> None:
        self._engine = engine
        self._costs = costs
        self._prices = prices
        self._limits = limits

    async def Get(self, request: pb.GetCostsRequest, context: Context) -> pb.GetCostsResponse:
        run_id = run_id_of(request.run_id)
        plan = (await self._engine.run(run_id)).plan
        found = await self._costs.of_run(run_id)
        steps = [
            pb.StepCosts(step=plan.steps[step].name, costs=encode.costs(costs, self._prices)) for step, costs in found
        ]
        total = sum((costs for _, costs in found), Costs())
        return pb.GetCostsResponse(costs=encode.costs(total, self._prices), steps=steps, currency=self._prices.currency)

    async def List(self, request: pb.ListCostsRequest, context: Context) -> pb.ListCostsResponse:
        by = _GROUPINGS.get(request.group_by)
        if by is None:
            raise invalid("group_by", f"{request.group_by} is no grouping: use one of the CostGrouping enum")
        if request.group_by == pb.COST_GROUPING_STEP and not request.pipeline:
            raise invalid("pipeline", "steps are those of one pipeline: name it")
        if (by == "label") is not bool(request.label):
            raise invalid("label", "is the key of a label: it goes with group_by LABEL, and LABEL with it")
        if not 0 <= request.limit <= MAX_GROUPS:
            raise invalid("limit", f"must be between 0 (for {GROUPS}) and {MAX_GROUPS:,}")
        since, until = instant_of(request, "since", ""), instant_of(request, "until", "")
        if since is not None and until is not None and since >= until:
            raise invalid("since", "must be before until")
        where = CostFilter(
            pipeline=name_of(request.pipeline, "pipeline", "a pipeline") if request.pipeline else "",
            labels=tuple(sorted(labels_of(request.labels, "labels", self._limits).items())),
            since=since,
            until=until,
        )
        if request.group_by == pb.COST_GROUPING_STEP:
            groups = await self._by_step(where)
            total = sum((costs for _, costs in groups), Costs())
            groups = groups[: request.limit or GROUPS]
        else:
            groups = await self._costs.of_runs(where, by, request.label, request.limit or GROUPS)
            total = sum((costs for _, costs in await self._costs.of_runs(where, "")), Costs())
        return pb.ListCostsResponse(
            costs=encode.costs(total, self._prices),
            groups=[pb.CostGroup(name=name, costs=encode.costs(costs, self._prices)) for name, costs in groups],
            currency=self._prices.currency,
        )

    async def _by_step(self, where: CostFilter) -> list[tuple[str, Costs]]:
        """By name, over the versions; those that took most slots first."""
        found: dict[str, Costs] = {}
        for each in await self._costs.of_steps(where):
            plan = await self._plan_of(each)
            if plan is not None:
                name = plan.steps[each.step].name
                found[name] = found.get(name, Costs()) + each.costs
        return sorted(found.items(), key=lambda named: (-named[1].total.slot_time, named[0]))

    async def _plan_of(self, step: StepCost) -> Plan | None:
        """None: its run was removed meanwhile."""
        if step.run_id is None:
            return await self._engine.plan(step.version_digest)
        try:
            return (await self._engine.run(step.run_id)).plan
        except UnknownRun:
            return None
