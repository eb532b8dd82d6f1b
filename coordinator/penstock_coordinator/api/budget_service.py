"""penstock.v1.BudgetService."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.v1 import budget_service_pb2 as pb
from penstock.v1.budget_service_pb2_grpc import BudgetServiceServicer
from penstock_coordinator.api.encoding.budgets import budget_use
from penstock_coordinator.api.errors import failed_precondition, invalid
from penstock_coordinator.api.fields import name_of, run_id_of
from penstock_coordinator.api.run_control import reason_of, requested_by_of
from penstock_coordinator.api.versions import unknown_pipeline
from penstock_coordinator.core.plan.budget import FIELDS, Amounts, exceeded, limits_fault
from penstock_coordinator.core.plan.validation.budget import amount_fault
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from penstock_coordinator.api.encoding.costs import Prices
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import PipelineStore, RunId
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.views import BudgetView


class BudgetService(BudgetServiceServicer):
    def __init__(self, engine: Engine, pipelines: PipelineStore, prices: Prices) -> None:
        self._engine = engine
        self._pipelines = pipelines
        self._currency = prices.currency

    async def Get(self, request: pb.GetBudgetRequest, context: Context) -> pb.GetBudgetResponse:
        if _of_run(request):
            view = await self._of_run(run_id_of(request.run_id))
        else:
            view = await self._of_pipeline(await self._plan(request.pipeline))
        return pb.GetBudgetResponse(use=budget_use(view), currency=self._currency)

    async def Raise(self, request: pb.RaiseBudgetRequest, context: Context) -> pb.RaiseBudgetResponse:
        of_run = _of_run(request)
        limits = _limits_of(request)
        reason, by = reason_of(request.reason), requested_by_of(request.requested_by)
        if not of_run:
            view = await self._raise_of_pipeline(await self._plan(request.pipeline), limits, by)
        else:
            run_id = run_id_of(request.run_id)
            before = await self._of_run(run_id, to_raise=True)
            try:
                await self._engine.raise_budget(run_id, limits, by, reason)
            except NotPossible as refused:
                raise failed_precondition("run_id", "NOT_POSSIBLE", str(refused)) from None
            # It may have come to rest since.
            view = (await self._engine.run(run_id)).budget or _raised(before, limits)
        return pb.RaiseBudgetResponse(use=budget_use(view), currency=self._currency)

    async def _of_run(self, run_id: RunId, *, to_raise: bool = False) -> BudgetView:
        view = await self._engine.run(run_id)
        if view.budget is not None:
            return view.budget
        state = RunState(view.row.state)
        if state.at_rest:
            why = f"the run is {state.name}: it is at rest, and a new generation (penstock retry) has its whole budget"
            raise failed_precondition("run_id", state.name, why)
        if view.plan.window_budget is not None:
            if not to_raise:
                return await self._of_pipeline(view.plan)
            name = view.plan.pipeline
            why = f"the budget is not the run's but the pipeline's: penstock budget raise --pipeline {name}"
            raise failed_precondition("run_id", "BUDGET_OF_PIPELINE", why)
        raise failed_precondition(
            "run_id", "NO_BUDGET", "the run has no budget: its version of the pipeline gives none"
        )

    async def _plan(self, name: str) -> Plan:
        version = await self._pipelines.get_version(name_of(name, "pipeline", "a pipeline"), 0)
        if version is None:
            raise unknown_pipeline(name, "pipeline")
        return await self._engine.plan(version.digest)

    async def _of_pipeline(self, plan: Plan) -> BudgetView:
        if plan.window_budget is None:
            why = "the newest version of the pipeline has no budget for a day, a week or a month"
            if plan.budget is not None:
                why += ", but one for each run: name the run"
            raise failed_precondition("pipeline", "NO_BUDGET", why)
        return await self._engine.window_budget(plan)

    async def _raise_of_pipeline(self, plan: Plan, limits: Amounts, by: str) -> BudgetView:
        fault = limits_fault((await self._of_pipeline(plan)).budget.limits, limits)
        if fault:
            raise failed_precondition("pipeline", "NOT_POSSIBLE", fault)
        await self._engine.raise_window_budget(plan, limits, by)
        return await self._of_pipeline(plan)


def _of_run(request: pb.GetBudgetRequest | pb.RaiseBudgetRequest) -> bool:
    whose = request.WhichOneof("whose")
    if whose is None:
        raise invalid("run_id", "is required, or pipeline: whose budget it is")
    return whose == "run_id"


def _raised(view: BudgetView, limits: Amounts) -> BudgetView:
    higher = view.budget.limits.most(limits)
    return replace(view, budget=replace(view.budget, limits=higher), exceeded=exceeded(view.used, higher))


def _limits_of(request: pb.RaiseBudgetRequest) -> Amounts:
    given = [getattr(request, name) for name in FIELDS.values()]
    for name, number in zip(FIELDS.values(), given, strict=True):
        fault = amount_fault(number)
        if fault is not None:
            raise invalid(name, fault)
    if not any(given):
        raise invalid("slot_seconds", "is required, or cpu_seconds, or price: to what the budget is raised")
    return Amounts(*(round(number * 1e6) for number in given))
