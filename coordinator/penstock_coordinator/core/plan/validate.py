"""Whether a specification can be run: all problems at once, so that one round of corrections is enough."""

from __future__ import annotations

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.conditions import InvalidCondition, Scope, check
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS, Limits, or_raise
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.actions import check_action, check_allow_pickle, check_bundle
from penstock_coordinator.core.plan.validation.budget import check_budget
from penstock_coordinator.core.plan.validation.caching import check_default_cache, check_step_cache
from penstock_coordinator.core.plan.validation.compensation import check_compensation, check_on_failure
from penstock_coordinator.core.plan.validation.concurrency import (
    check_active_runs,
    check_concurrency,
    check_step_concurrency,
)
from penstock_coordinator.core.plan.validation.declarations import check_parameters, check_template
from penstock_coordinator.core.plan.validation.environment import check_environment
from penstock_coordinator.core.plan.validation.environments import check_environments
from penstock_coordinator.core.plan.validation.graph import check_names_and_cycles
from penstock_coordinator.core.plan.validation.known import Known
from penstock_coordinator.core.plan.validation.numbers import (
    check_memory_factor,
    check_priority,
    check_resources,
    check_retry,
    check_span,
    check_timeouts,
    check_weight,
)
from penstock_coordinator.core.plan.validation.report import Enough, Problem, Report
from penstock_coordinator.core.plan.validation.secrets import check_secrets
from penstock_coordinator.core.plan.validation.slo_tier import check_slo_tier
from penstock_coordinator.core.plan.validation.sources import Sources, path_fault
from penstock_coordinator.core.plan.validation.texts import check_bytes, check_description, check_labels, check_name

__all__ = ["Problem", "oversize", "problems", "too_many_bytes"]

_RULES = frozenset(pb.TriggerRule.values())


def problems(spec: pb.PipelineSpec, limits: Limits = DEFAULT_LIMITS) -> list[Problem]:
    """Everything that is wrong with the specification, in its order; empty if it can be compiled.

    At most 50 problems and 4 KB of text. A specification past a limit on its size gets that one answer at once.
    """
    report = Report()
    try:
        _check_size(report, spec, limits)
        if not report.problems:
            _check(report, spec, limits)
    except Enough:
        pass
    return report.problems


def oversize(spec: pb.PipelineSpec, limits: Limits) -> list[Problem]:
    """The limits on its size that the specification is past: quick, whatever its size."""
    report = Report()
    _check_size(report, spec, limits)
    return report.problems


def _check_size(report: Report, spec: pb.PipelineSpec, limits: Limits) -> None:
    """What the time of all other checks depends on."""
    for field, count, limit in (
        ("steps", len(spec.steps), limits.steps),
        ("parameters", len(spec.parameters), limits.parameters),
    ):
        if count > limit:
            report.add(field, f"there are {count:,}, past the limit of {limit:,}: split the pipeline{or_raise(field)}")
    if report.problems:
        return
    size = spec.ByteSize()
    if size > limits.spec_bytes:
        report.add("spec", too_many_bytes(size, limits))
        return
    edges = sum(len(step.depends_on) + len(step.inputs) + _lists(step) for step in spec.steps)
    if edges > limits.edges:
        text = f"there are {edges:,} dependencies and inputs, past the limit of {limits.edges:,}"
        report.add("steps", f"{text}: put a step between that joins{or_raise('edges')}")
    conditions = sum(
        len(step.when) + len(step.concurrency.key_expression) + len(step.cache.key_expression) for step in spec.steps
    )
    if conditions > limits.conditions_bytes:
        text = f"the conditions have {conditions:,} characters in all, past the limit of {limits.conditions_bytes:,}"
        report.add("steps", f"{text}: decide in a step, and read its answer{or_raise('conditions_bytes')}")


def too_many_bytes(size: int, limits: Limits, about: str = "") -> str:
    """What is wrong with a specification of so many bytes, or `about` so many, and the remedy."""
    text = f"the specification has {about}{size:,} bytes, past the limit of {limits.spec_bytes:,}"
    return f"{text}: split the pipeline, keep constants elsewhere{or_raise('spec_bytes')}"


def _lists(step: pb.StepSpec) -> int:
    """What the step is mapped over."""
    return max(len(step.map.lists), 1) if step.HasField("map") else 0


def _check(report: Report, spec: pb.PipelineSpec, limits: Limits) -> None:
    known = Known.of(spec)
    sources = Sources(report, known, limits)
    _check_pipeline(report, spec, known, limits)
    check_parameters(report, spec, sources, limits)
    if spec.HasField("defaults"):
        _check_shared(report, "defaults", spec.defaults, limits)
        if spec.defaults.HasField("cache"):
            check_default_cache(report, spec, known, limits)
    if not spec.steps:
        report.add("steps", "the pipeline has no steps: give it at least one")
    for number, step in enumerate(spec.steps):
        _check_step(report, known, sources, number, step, limits)
    check_environments(report, spec)
    sources.check_run_outputs(spec)
    check_names_and_cycles(report, known)
    check_compensation(report, known)


def _check_pipeline(report: Report, spec: pb.PipelineSpec, known: Known, limits: Limits) -> None:
    check_name(report, "name", spec.name, limits)
    check_description(report, "description", spec.description, limits)
    if spec.HasField("timeout"):
        check_span(report, "timeout", spec.timeout, limits.shortest_timeout, limits.span)
    if spec.max_parallel < 0:
        report.add("max_parallel", f"{spec.max_parallel} is negative: use a number from 1 up, or 0 for no limit")
    check_priority(report, "priority", spec.priority, limits)
    check_weight(report, "weight", spec.weight, limits)
    check_labels(report, "labels", spec.labels, limits)
    check_slo_tier(report, "labels", spec.labels)
    if spec.HasField("stop_grace"):
        check_span(report, "stop_grace", spec.stop_grace, 0, limits.stop_grace)
    check_bundle(report, spec)
    check_allow_pickle(report, spec)
    check_active_runs(report, spec, limits)
    check_on_failure(report, spec)
    if spec.HasField("budget"):
        check_budget(report, spec.budget)
    if spec.HasField("template"):
        check_template(report, spec.template, limits)
    if spec.HasField("concurrency"):
        check_concurrency(report, "concurrency", spec.concurrency, known.parameters, limits)


def _check_shared(report: Report, field: str, shared: pb.StepSpec | pb.StepDefaults, limits: Limits) -> None:
    """What a step and the defaults for all steps have in common."""
    if shared.HasField("retry"):
        check_retry(report, f"{field}.retry", shared.retry, limits)
    if shared.HasField("timeouts"):
        check_timeouts(report, f"{field}.timeouts", shared.timeouts, limits)
    if shared.queue:
        check_name(report, f"{field}.queue", shared.queue, limits)
    check_labels(report, f"{field}.labels", shared.labels, limits)
    if shared.HasField("resources"):
        check_resources(report, f"{field}.resources", shared.resources, limits)
    check_environment(report, f"{field}.env", shared.env, limits)
    if shared.secrets:
        check_secrets(report, f"{field}.secrets", shared.secrets, shared.env, limits)


def _check_step(report: Report, known: Known, sources: Sources, number: int, step: pb.StepSpec, limits: Limits) -> None:
    field = f"steps[{number}]"
    check_name(report, f"{field}.name", step.name, limits)
    first = known.numbers[step.name]
    if first != number and step.name:
        report.add(f"{field}.name", f"{quoted(step.name)} is the name of steps[{first}] too: choose another")
    check_description(report, f"{field}.description", step.description, limits)
    check_action(report, field, step, limits)
    if step.inputs:
        sources.check_inputs(number, step)
    if step.trigger_rule not in _RULES:
        report.add(f"{field}.trigger_rule", f"{step.trigger_rule} is no trigger rule: use one of the TriggerRule enum")
    if step.HasField("map"):
        sources.check_map(number, step)
    check_priority(report, f"{field}.priority", step.priority, limits)
    if step.when:
        _check_condition(report, known, number, step, limits)
    if step.HasField("concurrency"):
        check_step_concurrency(report, field, step, known.parameters, limits)
    if step.HasField("cache"):
        check_step_cache(report, known, number, step, limits)
    _check_shared(report, field, step, limits)
    check_memory_factor(report, f"{field}.retry", step, known.spec.defaults)


def _check_condition(report: Report, known: Known, number: int, step: pb.StepSpec, limits: Limits) -> None:
    field = f"steps[{number}].when"
    if not check_bytes(report, field, step.when, limits.condition_bytes, "the condition", or_raise("condition_bytes")):
        return
    members = [each.name for each in step.map.lists[: limits.map_lists]]
    upstream = known.upstream(number)
    scope = Scope(known.parameters, upstream, known.numbers, known.mapped[number], step.name, members)
    try:
        reads = check(step.when, scope)
    except InvalidCondition as error:
        report.add(field, str(error))
        return
    # A name that depends_on gives to no step is reported there.
    for name in sorted(reads.keys() & known.numbers.keys()):
        for path in sorted(reads[name]):
            fault = path_fault(known, known.numbers[name], path)
            if fault is not None:
                report.add(field, fault[1])
