"""From the cases' pipelines to specifications of ours, and from nothing that is not understood."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.e2e.cases.neutral_conditions import UnknownInCase, argo_expression, condition, reads

from penstock.v1 import pipeline_pb2 as pb
from penstock.wire_values import to_list_value, to_value

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK_BACKOFF_SECONDS = 0.01
"""Where a case does not say how long to wait."""

_STEP_FIELDS = {
    "id", "deps", "do", "join", "run_if", "scatter", "allow_failure", "cleanup", "retry",
    "timeout_s", "queue_timeout_s", "total_timeout_s", "queue",
}  # fmt: skip
_RUN_FIELDS = {"fail_fast", "timeout_s", "max_parallel", "idempotency_key", "stop_grace_s"}
_RETRY_FIELDS = {"max_attempts", "interval_s", "backoff", "max_interval_s", "on", "not_on"}
_IN_TEXT = re.compile(r"\{(param|output|step):([^{}]*)\}")


def specification(
    name: str, given: dict[str, Any], ledger: str, bundle_digest: str, meet: Sequence[Sequence[str]] = ()
) -> pb.PipelineSpec:
    _known(given, {"run", "steps", "inputs", "events"}, "the case")
    run = given.get("run", {})
    _known(run, _RUN_FIELDS, "run")
    spec = pb.PipelineSpec(name=name, bundle_digest=bundle_digest, fail_fast=run.get("fail_fast", False))
    spec.max_parallel = run.get("max_parallel", 0)
    if "timeout_s" in run:
        spec.timeout.FromTimedelta(timedelta(seconds=run["timeout_s"]))
    spec.stop_grace.FromTimedelta(timedelta(seconds=run.get("stop_grace_s", 1)))
    for parameter in given.get("inputs", {}):
        spec.parameters.add(name=parameter, type=pb.PARAMETER_TYPE_ANY)
    for step in given["steps"]:
        met = [each for pair in meet if step["id"] in pair for each in pair if each != step["id"]]
        spec.steps.append(_step(step, list(given.get("inputs", {})), ledger, met))
    return spec


def _known(said: dict[str, Any], fields: set[str], where: str) -> None:
    strange = said.keys() - fields
    if strange:
        raise UnknownInCase(f"{where} says {sorted(strange)}")


def _step(said: dict[str, Any], parameters: list[str], ledger: str, met: list[str]) -> pb.StepSpec:
    _known(said, _STEP_FIELDS, f"the step {said.get('id')}")
    step = pb.StepSpec(name=said["id"], depends_on=said.get("deps", []), queue=said.get("queue", ""))
    step.function.module, step.function.qualname = "scripted", "perform"
    step.allow_failure = said.get("allow_failure", False)
    step.cleanup = said.get("cleanup", False)
    _add_script(step, {"meet": met, "then": said["do"]} if met else said["do"], parameters, ledger)
    _add_condition(step, said)
    if "scatter" in said:
        _add_map(step, said["scatter"])
    _add_retry(step.retry, said.get("retry", {}))
    for field, limit in (("timeout_s", "attempt"), ("queue_timeout_s", "queued"), ("total_timeout_s", "overall")):
        if field in said:
            getattr(step.timeouts, limit).FromTimedelta(timedelta(seconds=said[field]))
    return step


def _add_script(step: pb.StepSpec, do: Any, parameters: list[str], ledger: str) -> None:
    """Everything that the script refers to is an input. The names of steps need not be names of inputs."""
    sources = sorted(_outputs_of(do))
    script = {
        "do": do,
        "parameters": {name: f"parameter_{number}" for number, name in enumerate(parameters)},
        "outputs": {name: f"output_{number}" for number, name in enumerate(sources)},
    }
    step.inputs["script"].value.CopyFrom(to_value(script))
    step.inputs["ledger"].value.CopyFrom(to_value(ledger))
    for name, key in script["parameters"].items():
        step.inputs[key].parameter = name
    for name, key in script["outputs"].items():
        step.inputs[key].step.step = name


def _outputs_of(do: Any) -> set[str]:
    found = reads(do, "len") | reads(do, "sum") | reads(do, "from")
    if isinstance(do, dict):
        for name, each in do.items():
            if name == "from" and isinstance(each, list):
                found |= {source for source in each if isinstance(source, str)}
            elif name == "format":
                found |= {step for kind, step in _IN_TEXT.findall(each) if kind != "param"}
            else:
                found |= _outputs_of(each)
    elif isinstance(do, list):
        found = found.union(*(_outputs_of(each) for each in do))
    return found


def _add_condition(step: pb.StepSpec, said: dict[str, Any]) -> None:
    conditions = []
    match said.get("join", ""):
        case str(rule):
            if rule:
                step.trigger_rule = _rule(rule)
        case {"expr": str(text), **rest} if not rest:
            conditions.append(argo_expression(text))
        case {"expr": dict(inner), **rest} if not rest:
            conditions.append(condition(inner))
        case strange:
            raise UnknownInCase(f"the join {strange!r}")
    if conditions:
        step.trigger_rule = pb.TRIGGER_RULE_ALL_DONE
    if "run_if" in said:
        conditions.append(condition(said["run_if"]))
    step.when = " && ".join(f"({each})" for each in conditions) if len(conditions) > 1 else "".join(conditions)


def _rule(name: str) -> pb.TriggerRule.ValueType:
    known = {each.removeprefix("TRIGGER_RULE_").lower(): each for each in pb.TriggerRule.keys()[1:]}
    if name not in known:
        raise UnknownInCase(f"the join {name!r}")
    return pb.TriggerRule.Value(known[name])


def _add_map(step: pb.StepSpec, said: dict[str, Any]) -> None:
    match said:
        case {"over": {"param": str(name), **more}, **rest} if not rest and not more:
            step.map.parameter = name
        case {"over": {"output": str(name), **more}, **rest} if not rest and more.keys() <= {"path"}:
            step.map.step.step = name
            step.map.step.path.extend(said["over"].get("path", []))
        case {"over": [*values], **rest} if not rest:
            step.map.values.CopyFrom(to_list_value(values))
        case _:
            raise UnknownInCase(f"the scatter {said!r}")
    step.inputs["item"].item.SetInParent()


def _add_retry(retry: pb.RetryPolicy, said: dict[str, Any]) -> None:
    _known(said, _RETRY_FIELDS, "retry")
    retry.max_attempts = said.get("max_attempts", 1)
    retry.initial_backoff.FromTimedelta(timedelta(seconds=said.get("interval_s", QUICK_BACKOFF_SECONDS)))
    retry.backoff_multiplier = said.get("backoff", 1)
    if "max_interval_s" in said:
        retry.max_backoff.FromTimedelta(timedelta(seconds=said["max_interval_s"]))
    retry.jitter = 0.0
    retry.retry_on.extend(said.get("on", []))
    retry.never_retry_on.extend(said.get("not_on", []))
