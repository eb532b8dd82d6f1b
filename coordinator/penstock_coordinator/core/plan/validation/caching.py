"""Cache policies: of the defaults, and of steps."""

from __future__ import annotations

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.cel.errors import InvalidCondition
from penstock_coordinator.core.plan.compile import uncacheable
from penstock_coordinator.core.plan.keys import check_expression
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted, suggestion
from penstock_coordinator.core.plan.validation.known import Known
from penstock_coordinator.core.plan.validation.numbers import check_span
from penstock_coordinator.core.plan.validation.report import Report
from penstock_coordinator.core.plan.validation.texts import check_bytes, has_control

VERSION_BYTES = 256
KEY_BYTES = 1024


def check_default_cache(report: Report, spec: pb.PipelineSpec, known: Known, limits: Limits) -> None:
    policy = spec.defaults.cache
    _check_policy(report, "defaults.cache", policy, known, limits)
    if policy.WhichOneof("counts") is not None:
        text = "one key for all steps: each of them counts its own inputs"
        report.add(f"defaults.cache.{policy.WhichOneof('counts')}", f"{text}; give steps a key of their own")
    inputs = {name for step in spec.steps for name in step.inputs} if policy.ignore else set()
    for at, name in enumerate(policy.ignore):
        if name not in known.parameters and name not in inputs:
            _add_unknown(report, f"defaults.cache.ignore[{at}]", name, {*known.parameters})


def check_step_cache(report: Report, known: Known, number: int, step: pb.StepSpec, limits: Limits) -> None:
    field, policy = f"steps[{number}].cache", step.cache
    _check_policy(report, field, policy, known, limits)
    if policy.disabled:
        return
    why = uncacheable(step)
    if why is not None:
        report.add(field, why)
    elif number in known.undoes:
        undone = quoted(known.spec.steps[known.undoes[number]].name)
        report.add(field, f"the step undoes {undone}, which no earlier value stands for: remove the policy")
    counts = policy.WhichOneof("counts")
    if counts is not None and step.HasField("map"):
        text = "every item of a mapped step would have the same key"
        report.add(f"{field}.{counts}", f"{text}: leave it out, the item counts then; `ignore` leaves inputs out")
    for at, name in enumerate(policy.ignore):
        if name not in known.parameters and name not in step.inputs:
            _add_unknown(report, f"{field}.ignore[{at}]", name, {*known.parameters, *step.inputs})


def _check_policy(report: Report, field: str, policy: pb.CachePolicy, known: Known, limits: Limits) -> None:
    if policy.disabled and len(policy.ListFields()) > 1:
        report.add(f"{field}.disabled", "the cache is not used: leave the other fields out")
    if policy.HasField("expires"):
        check_span(report, f"{field}.expires", policy.expires, 1_000_000, limits.span)
    check_bytes(report, f"{field}.version", policy.version, VERSION_BYTES, "the version")
    match policy.WhichOneof("counts"):
        case "key":
            _check_key(report, f"{field}.key", policy.key)
        case "key_expression":
            _check_expression(report, f"{field}.key_expression", policy.key_expression, known, limits)


def _check_key(report: Report, field: str, key: str) -> None:
    if not key:
        report.add(field, "the key is empty: give it a text, or leave it out so that inputs and parameters count")
    elif has_control(key):
        report.add(field, f"the key {quoted(key)} has a control character: use printable characters")
    check_bytes(report, field, key, KEY_BYTES, "the key")


def _check_expression(report: Report, field: str, source: str, known: Known, limits: Limits) -> None:
    if not check_bytes(report, field, source, limits.condition_bytes, "the expression"):
        return
    try:
        check_expression(source, known.parameters)
    except InvalidCondition as error:
        report.add(field, str(error))


def _add_unknown(report: Report, field: str, name: str, names: set[str]) -> None:
    report.add(field, f"{quoted(name)} is neither an input nor a parameter: {suggestion(name, sorted(names))}")
