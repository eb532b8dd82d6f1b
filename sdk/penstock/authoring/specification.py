"""From the graph of a pipeline to its `PipelineSpec`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2

from penstock.authoring.budget import Budget, BudgetPer, OnExceeded
from penstock.authoring.caching import CachePolicy
from penstock.authoring.commands import ArtifactFile, File
from penstock.authoring.concurrency import Concurrency, ConcurrencyPolicy
from penstock.authoring.containers import ContainerUse
from penstock.authoring.graph import (
    CommandTarget,
    Constant,
    FunctionTarget,
    Item,
    MapOver,
    Node,
    PipelineTarget,
    Source,
)
from penstock.authoring.options import ErrorName, Retry, StepOptions
from penstock.authoring.pipelines import PipelineParameter, first_paragraph
from penstock.authoring.references import NodeOutput, ParameterReference
from penstock.authoring.sources import module_name, needs_bundle, pipeline_code, pipeline_file, pipeline_layout
from penstock.bundle.layout import Layout
from penstock.code_digest import set_code_digests
from penstock.environments.script_block import requirements_in
from penstock.environments.writing import set_requirements
from penstock.errors import DefinitionError
from penstock.quantities import nanoseconds
from penstock.v1 import pipeline_pb2
from penstock.wire_values import to_list_value, to_value

if TYPE_CHECKING:
    from penstock.authoring.pipelines import Pipeline

# Reasons that the wire gives these names, whatever classes are called.
_RESERVED = frozenset({"Timeout", "Crash", "OutOfMemory"})


def build_spec(pipeline: Pipeline, bundle_digest: str) -> pipeline_pb2.PipelineSpec:
    options = pipeline.penstock_options
    layout = pipeline_layout(pipeline) if needs_bundle(pipeline) else None
    spec = pipeline_pb2.PipelineSpec(
        name=options.name,
        description=options.description,
        max_parallel=options.max_parallel,
        fail_fast=options.fail_fast,
        on_failure=_on_failure(options.on_failure),
        priority=options.priority,
        weight=options.weight or 0,
        max_active_runs=options.max_active_runs,
        no_cache=not options.cache,
        labels=options.labels,
        bundle_digest=bundle_digest,
        allow_pickle=options.allow_pickle,
        parameters=[_parameter(parameter) for parameter in pipeline.parameters.values()],
        steps=[_step(node, layout) for node in pipeline.graph().nodes.values()],
    )
    if layout is not None and bundle_digest:
        set_code_digests(spec, pipeline_code(pipeline, bundle_digest))
    _set_output(spec, pipeline.graph().output)
    _set_concurrency(spec, options.concurrency)
    _set_budget(spec, options.budget)
    _set_span(spec.timeout, options.timeout)
    _set_span(spec.stop_grace, options.stop_grace)
    if options.defaults != StepOptions():
        _set_shared(spec.defaults, options.defaults)
        spec.defaults.SetInParent()
    _set_requirements(spec, pipeline)
    if pipeline.template is not None:
        spec.template.name = pipeline.template.name
        for name, value in pipeline.template.arguments.items():
            spec.template.arguments[name].CopyFrom(to_value(value))
    return spec


def _set_budget(spec: pipeline_pb2.PipelineSpec, budget: Budget | None) -> None:
    """What is not said is the same version as what is said in so many words."""
    if budget is None:
        return
    made = spec.budget
    made.slot_seconds, made.cpu_seconds, made.price = budget.slot_seconds, budget.cpu_seconds, budget.price
    if budget.per != BudgetPer.RUN:
        made.per = pipeline_pb2.CostBudgetPer.Value(f"COST_BUDGET_PER_{budget.per.upper()}")
    if budget.on_exceeded != OnExceeded.HOLD:
        made.on_exceeded = pipeline_pb2.OnExceeded.Value(f"ON_EXCEEDED_{budget.on_exceeded.upper()}")


def _set_requirements(spec: pipeline_pb2.PipelineSpec, pipeline: Pipeline) -> None:
    """What is said in the options counts more than what the file says in a block."""
    file = pipeline_file(pipeline)
    folder = None if file is None else file.parent
    given = pipeline.penstock_options.defaults.requirements
    if given is None and file is not None and not spec.defaults.HasField("environment"):
        given = requirements_in(file)
    if given is not None:
        set_requirements(spec.defaults.environment, given, folder, "requirements.lock")
    for step, node in zip(spec.steps, pipeline.graph().nodes.values(), strict=True):
        own = node.options.requirements
        if own is not None:
            if step.HasField("environment"):
                problem, remedy = "a step has requirements and something else that it runs in", "give it one of them"
                raise DefinitionError(problem, field=f"steps.{step.name}.requirements", remedy=remedy)
            set_requirements(step.environment, own, folder, f"steps.{step.name}.requirements.lock")


def _on_failure(name: str) -> pipeline_pb2.OnFailure.ValueType:
    """What is not said is the same version as what is said in so many words."""
    return pipeline_pb2.ON_FAILURE_ROLLBACK if name == "rollback" else pipeline_pb2.ON_FAILURE_UNSPECIFIED


def _set_output(spec: pipeline_pb2.PipelineSpec, given: NodeOutput | dict[str, NodeOutput] | None) -> None:
    if isinstance(given, NodeOutput):
        spec.output.CopyFrom(_output(given))
    for name, output in given.items() if isinstance(given, dict) else ():
        spec.outputs[name].CopyFrom(_output(output))


def _parameter(parameter: PipelineParameter) -> pipeline_pb2.Parameter:
    message = pipeline_pb2.Parameter(
        name=parameter.name,
        type=pipeline_pb2.ParameterType.Value(f"PARAMETER_TYPE_{parameter.type.name}"),
    )
    if not parameter.required:
        message.default.CopyFrom(to_value(parameter.default))
    return message


def _step(node: Node, layout: Layout | None) -> pipeline_pb2.StepSpec:
    options = node.options
    message = pipeline_pb2.StepSpec(
        name=node.name,
        description=_description(node),
        when=options.when or "",
        allow_failure=bool(options.allow_failure),
        cleanup=bool(options.cleanup),
        priority=options.priority or 0,
        depends_on=_depends_on(node),
        compensate="" if node.compensate is None else node.compensate.name,
    )
    if options.trigger_rule is not None:
        message.trigger_rule = pipeline_pb2.TriggerRule.Value(f"TRIGGER_RULE_{options.trigger_rule.name}")
    _set_action(message, node, layout)
    for name, source in node.inputs.items():
        message.inputs[name].CopyFrom(_input(source))
    if node.over is not None:
        message.map.CopyFrom(_map(node.over))
    _set_concurrency(message, options.concurrency)
    _set_shared(message, options)
    return message


def _description(node: Node) -> str:
    if node.options.description is not None:
        return node.options.description
    return first_paragraph(node.target.function) if isinstance(node.target, FunctionTarget) else ""


def _depends_on(node: Node) -> list[str]:
    """Each name once, in the order given."""
    names = [other if isinstance(other, str) else other.name for other in node.upstream]
    return list(dict.fromkeys(names))


def _set_action(message: pipeline_pb2.StepSpec, node: Node, layout: Layout | None) -> None:
    match node.target:
        case FunctionTarget(function):
            if layout is None:
                raise DefinitionError(
                    "a step is a Python function, and the pipeline says bundle=False",
                    field=f"steps.{node.name}",
                    remedy="leave bundle out",
                )
            message.function.module = module_name(function, layout)
            message.function.qualname = function.__qualname__
        case CommandTarget() as command:
            message.command.CopyFrom(_command(command))
        case PipelineTarget(name, version):
            message.pipeline.name = name
            message.pipeline.version_number = version


def _command(command: CommandTarget) -> pipeline_pb2.CommandAction:
    return pipeline_pb2.CommandAction(
        argv=command.argv,
        shell=command.shell,
        outputs=[_command_output(name, output) for name, output in command.outputs.items()],
        success_exit_codes=command.success_exit_codes,
        input_files=command.input_files,
    )


def _command_output(name: str, output: Any) -> pipeline_pb2.CommandOutput:
    if isinstance(output, ArtifactFile):
        return pipeline_pb2.CommandOutput(name=name, file=output.path, artifact=True)
    chosen = pipeline_pb2.OUTPUT_FORMAT_JSON if output.json else pipeline_pb2.OUTPUT_FORMAT_TEXT
    message = pipeline_pb2.CommandOutput(name=name, format=chosen)
    if isinstance(output, File):
        message.file = output.path
    else:
        message.stdout = True
    return message


def _input(source: Source) -> pipeline_pb2.Input:
    match source:
        case Constant(value):
            return pipeline_pb2.Input(value=to_value(value))
        case Item(path):
            return pipeline_pb2.Input(item=pipeline_pb2.ItemReference(path=path))
        case ParameterReference():
            return pipeline_pb2.Input(parameter=source.name)
        case NodeOutput():
            return pipeline_pb2.Input(step=_output(source))


def _output(output: NodeOutput) -> pipeline_pb2.OutputReference:
    return pipeline_pb2.OutputReference(step=output.penstock_node.name, path=output.path)


def _map(over: MapOver) -> pipeline_pb2.MapSpec:
    message = pipeline_pb2.MapSpec(joined=over.joined, max_parallel=over.max_parallel)
    if over.nested is not None:
        message.nested.path.extend(over.nested)
        message.nested.SetInParent()
    if len(over.lists) == 1:
        _set_list(message, *over.lists.values())
        return message
    for name, source in over.lists.items():
        _set_list(message.lists.add(name=name), source)
    if over.zipped:
        message.combination = pipeline_pb2.MAP_COMBINATION_ZIP
    return message


def _set_list(message: pipeline_pb2.MapSpec | pipeline_pb2.MapList, source: Source) -> None:
    match source:
        case ParameterReference():
            message.parameter = source.name
        case NodeOutput():
            message.step.CopyFrom(_output(source))
        case Constant(list() as values):
            message.values.CopyFrom(to_list_value(values))
        case _:
            raise AssertionError(f"no list to map over: {source}")


def _set_concurrency(message: pipeline_pb2.PipelineSpec | pipeline_pb2.StepSpec, given: Concurrency | None) -> None:
    if given is None:
        return
    limited = message.concurrency
    if given.expression:
        limited.key_expression = given.expression
    else:
        limited.key = given.key
    # What is not said is the same version as what is said in so many words.
    limited.limit = given.limit if given.limit > 1 else 0
    policy = ConcurrencyPolicy(given.policy)
    if policy is not ConcurrencyPolicy.QUEUE:
        limited.policy = pipeline_pb2.ConcurrencyPolicy.Value(f"CONCURRENCY_POLICY_{policy.name}")


def _set_shared(message: pipeline_pb2.StepSpec | pipeline_pb2.StepDefaults, options: StepOptions) -> None:
    """What a step and the defaults for all steps have in common."""
    if options.retry is not None:
        message.retry.CopyFrom(_retry(options.retry))
    _set_span(message.timeouts.queued if options.queued_timeout else None, options.queued_timeout)
    _set_span(message.timeouts.attempt if options.timeout else None, options.timeout)
    _set_span(message.timeouts.overall if options.overall_timeout else None, options.overall_timeout)
    message.queue = options.queue or ""
    message.labels.update(options.labels or {})
    message.env.update(options.env or {})
    _set_cache(message, options.cache)
    for use in options.secrets or ():
        message.secrets.add(name=use.name, env=use.env, file=use.file)
    if options.container is not None:
        _set_container(message.environment, options.container)
    resources = pipeline_pb2.Resources(
        cpu=options.cpu or 0,
        memory_bytes=options.memory or 0,
        gpu=options.gpu or 0,
        custom=options.resources or {},
    )
    if resources != pipeline_pb2.Resources():
        message.resources.CopyFrom(resources)


def _set_container(message: pipeline_pb2.Environment, given: ContainerUse) -> None:
    message.SetInParent()
    if given.image:
        message.container.image = given.image
        message.container.pull = pipeline_pb2.PullPolicy.Value(f"PULL_POLICY_{given.pull.upper()}")


def _set_cache(message: pipeline_pb2.StepSpec | pipeline_pb2.StepDefaults, given: Any) -> None:
    if given is None:
        return
    policy = message.cache
    policy.SetInParent()
    if not isinstance(given, CachePolicy):
        policy.disabled = True
        return
    policy.version = given.version
    policy.ignore.extend(given.ignore)
    if given.expression:
        policy.key_expression = given.expression
    elif given.key:
        policy.key = given.key
    if given.expires is not None:
        _set_span(policy.expires, nanoseconds(given.expires))


def _retry(retry: Retry) -> pipeline_pb2.RetryPolicy:
    message = pipeline_pb2.RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff_multiplier=retry.multiplier or 0,
        retry_on=_error_names(retry.retry_on),
        never_retry_on=_error_names(retry.never_retry_on),
        max_losses=retry.max_losses or 0,
        memory_factor=retry.memory_factor or 0,
    )
    if retry.initial_backoff is not None:
        _set_span(message.initial_backoff, nanoseconds(retry.initial_backoff))
    if retry.max_backoff is not None:
        _set_span(message.max_backoff, nanoseconds(retry.max_backoff))
    if retry.jitter is not None:
        message.jitter = retry.jitter
    return message


def _error_names(entries: Any) -> list[str]:
    """Of the tuple that `Retry` makes of what it was given."""
    return [_error_name(entry) for entry in entries]


def _error_name(entry: ErrorName) -> str:
    """A class counts by its bare name, as its subclasses report their bases; not where the name means more."""
    if isinstance(entry, str):
        return entry
    return f"{entry.__module__}.{entry.__qualname__}" if entry.__name__ in _RESERVED else entry.__name__


def _set_span(message: duration_pb2.Duration | None, span: int | None) -> None:
    if message is not None and span is not None:
        message.seconds, message.nanos = divmod(span, 10**9)
        message.SetInParent()
