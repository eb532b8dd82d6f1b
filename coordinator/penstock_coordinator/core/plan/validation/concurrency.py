"""Limits on concurrency: of a pipeline's runs, and of steps."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.keys import check_expression, key_fault
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.report import Report
from penstock_coordinator.core.plan.validation.texts import check_bytes

_POLICIES = frozenset(pb.ConcurrencyPolicy.values())


def check_active_runs(report: Report, spec: pb.PipelineSpec, limits: Limits) -> None:
    if not 0 <= spec.max_active_runs <= limits.concurrency:
        form = f"use 1 to {limits.concurrency:,}, or 0 for no limit"
        report.add("max_active_runs", f"{spec.max_active_runs:,} is out of range: {form}")


def check_concurrency(
    report: Report, field: str, concurrency: pb.Concurrency, parameters: Mapping[str, int], limits: Limits
) -> None:
    """`parameters` are types by name."""
    _check_key(report, field, concurrency, parameters, limits)
    if not 0 <= concurrency.limit <= limits.concurrency:
        form = f"use 1 to {limits.concurrency:,} (0 means 1)"
        report.add(f"{field}.limit", f"{concurrency.limit:,} is out of range: {form}")
    if concurrency.policy not in _POLICIES:
        remedy = "use one of the ConcurrencyPolicy enum"
        report.add(f"{field}.policy", f"{concurrency.policy} is no concurrency policy: {remedy}")


def check_step_concurrency(
    report: Report, field: str, step: pb.StepSpec, parameters: Mapping[str, int], limits: Limits
) -> None:
    """`parameters` are types by name."""
    check_concurrency(report, f"{field}.concurrency", step.concurrency, parameters, limits)
    if step.WhichOneof("action") == "pipeline":
        remedy = f"give the pipeline {quoted(step.pipeline.name)} itself a concurrency or max_active_runs"
        report.add(f"{field}.concurrency", f"the step is a run of a pipeline, which holds no place of a step: {remedy}")


def _check_key(
    report: Report, field: str, concurrency: pb.Concurrency, parameters: Mapping[str, int], limits: Limits
) -> None:
    match concurrency.WhichOneof("name"):
        case "key":
            fault = key_fault(concurrency.key)
            if fault is not None:
                report.add(f"{field}.key", fault)
        case "key_expression":
            _check_expression(report, f"{field}.key_expression", concurrency.key_expression, parameters, limits)
        case _:
            report.add(field, "there is no key: give it `key`, or `key_expression` over the parameters")


def _check_expression(report: Report, field: str, source: str, parameters: Mapping[str, int], limits: Limits) -> None:
    if not check_bytes(report, field, source, limits.condition_bytes, "the expression"):
        return
    try:
        check_expression(source, parameters)
    except InvalidCondition as error:
        report.add(field, str(error))
