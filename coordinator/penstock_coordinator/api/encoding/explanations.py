"""Why steps are not running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.encoding.values import wire_value
from penstock_coordinator.core.run.places import place_of

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.explain.situations import Reason, StepExplanation
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.runtime.explaining import RunExplanation


def explained(run: run_pb2.Run, explanation: RunExplanation) -> pb.ExplainRunResponse:
    return pb.ExplainRunResponse(
        run=run,
        reasons=[_reason(each) for each in explanation.reasons],
        steps=[_step(explanation.plan, explanation.shape, each) for each in explanation.steps],
        omitted_steps=explanation.omitted,
    )


def _step(plan: Plan, shape: Shaped, each: StepExplanation) -> pb.StepExplanation:
    return pb.StepExplanation(
        step=plan.steps[each.step].name,
        item=place_of(plan, shape, each.step, each.item),
        item_count=0 if each.count == 1 else each.count,
        state=run_pb2.StepRunState.ValueType(each.state),
        reasons=[_reason(reason) for reason in each.reasons],
    )


def _reason(reason: Reason) -> pb.Reason:
    message = pb.Reason(kind=reason.kind, message=reason.message)
    message.details.CopyFrom(wire_value(reason.details).struct_value)
    return message
