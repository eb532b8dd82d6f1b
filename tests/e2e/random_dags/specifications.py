"""From our form to the specification that the system takes."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.e2e.random_dags.conditions import written
from tests.e2e.random_dags.dags import Behaviour, Dag, Json, Map, Source, Step

from penstock.v1 import pipeline_pb2 as pb
from penstock.wire_values import to_list_value, to_value

BACKOFF = timedelta(milliseconds=10)
STOP_GRACE = timedelta(seconds=1)


def specification(dag: Dag, bundle_digest: str) -> pb.PipelineSpec:
    spec = pb.PipelineSpec(name=dag.name, bundle_digest=bundle_digest, fail_fast=dag.fail_fast)
    spec.max_parallel = dag.max_parallel
    spec.stop_grace.FromTimedelta(STOP_GRACE)
    for name, value in dag.parameters.items():
        made = spec.parameters.add(name=name, type=pb.PARAMETER_TYPE_ANY)
        made.default.CopyFrom(to_value(value))
    for step in dag.steps:
        spec.steps.append(_step(step))
    if dag.output is not None:
        spec.output.step, spec.output.path[:] = dag.output.name, dag.output.path
    for name, source in dag.outputs.items():
        spec.outputs[name].step = source.name
        spec.outputs[name].path.extend(source.path)
    return spec


def _step(said: Step) -> pb.StepSpec:
    step = pb.StepSpec(name=said.name, depends_on=said.depends_on)
    step.allow_failure, step.cleanup = said.allow_failure, said.cleanup
    step.trigger_rule = pb.TriggerRule.Value(f"TRIGGER_RULE_{said.rule.upper()}")
    step.when = "" if said.when is None else written(said.when)
    _add_action(step, said.action)
    for name, source in said.inputs.items():
        _add_source(step.inputs[name], source)
    if said.map is not None:
        _add_map(step.map, said.map)
    step.retry.max_attempts = said.retry.max_attempts
    step.retry.initial_backoff.FromTimedelta(BACKOFF)
    step.retry.backoff_multiplier = 1
    step.retry.jitter = 0.0
    step.retry.retry_on.extend(said.retry.retry_on)
    step.retry.never_retry_on.extend(said.retry.never_retry_on)
    if said.attempt_timeout is not None:
        step.timeouts.attempt.FromTimedelta(timedelta(seconds=said.attempt_timeout))
    return step


def _add_action(step: pb.StepSpec, action: Behaviour | str) -> None:
    if isinstance(action, str):
        step.pipeline.name = action
    elif action.command:
        step.command.shell = _shell(action)
        step.command.outputs.add(name="given", stdout=True, format=pb.OUTPUT_FORMAT_JSON)
    else:
        step.function.module, step.function.qualname = "behaving", "behave"
        by_place: list[Json] = [list(each) for each in action.by_place]
        script: Json = {"by_place": by_place, "gives": action.gives, "constant": action.constant}
        step.inputs["script"].value.CopyFrom(to_value(script))


def _shell(action: Behaviour) -> str:
    """The outcomes of a command are exit codes, `exit:3`, and `ok`."""
    *first, last = [each.removeprefix("exit:").replace("ok", "0") for each in action.by_place[0]]
    cases = "".join(f"{number}) code={code};; " for number, code in enumerate(first, 1))
    given = json.dumps(action.constant)
    return f"case $PENSTOCK_ATTEMPT in {cases}*) code={last};; esac; echo '{given}'; exit $code"


def _add_source(made: pb.Input, source: Source) -> None:
    match source.kind:
        case "value":
            made.value.CopyFrom(to_value(source.value))
        case "parameter":
            made.parameter = source.name
        case "step":
            made.step.step = source.name
            made.step.path.extend(source.path)
        case "item":
            made.item.SetInParent()
            made.item.path.extend(source.path)


def _add_map(made: pb.MapSpec, said: Map) -> None:
    made.max_parallel = said.max_parallel
    if said.names:
        made.combination = pb.MapCombination.Value(f"MAP_COMBINATION_{said.kind.upper()}")
        for name, source in zip(said.names, said.sources, strict=True):
            _add_list(made.lists.add(name=name), source)
        return
    source = said.sources[0]
    made.joined = said.kind == "joined"
    if said.kind == "nested":
        made.step.step = source.name
        made.nested.SetInParent()
        made.nested.path.extend(source.path)
    else:
        _add_list(made, source)


def _add_list(made: pb.MapSpec | pb.MapList, source: Source) -> None:
    if source.kind == "value":
        made.values.CopyFrom(to_list_value(source.value))
    elif source.kind == "parameter":
        made.parameter = source.name
    else:
        made.step.step = source.name
        made.step.path.extend(source.path)
