"""From a specification to a plan.

The specification is one that `validate` has found no problem with: here nothing is checked again. Equal parts of
steps (lines, retries, timeouts, variables, conditions) become one object: pipelines of many steps repeat them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.conditions import Condition, minimal
from penstock_coordinator.core.plan.constants import constant, plain_list
from penstock_coordinator.core.plan.keys import KeyExpression
from penstock_coordinator.core.plan.model import (
    Action,
    CommandAction,
    CommandOutput,
    Concurrency,
    FromItem,
    FromParameter,
    FromStep,
    FromValue,
    FunctionAction,
    InputSource,
    Line,
    MapSource,
    Path,
    Plan,
    Policy,
    Retry,
    Step,
    Timeouts,
    TriggerRule,
)
from penstock_coordinator.core.plan.values import dump

STOP_GRACE = 10_000_000
INITIAL_BACKOFF = 1_000_000
MAX_BACKOFF = 300_000_000
QUEUE = "default"

_T = TypeVar("_T", bound=Hashable)
_M = TypeVar("_M", bound=Message)


def compile_plan(spec: pb.PipelineSpec, digest: str) -> Plan:
    """The plan of the version with that digest. The specification has been validated."""
    return _Compiler(spec, digest).plan()


def microseconds(span: Duration) -> int:
    """Cut to whole microseconds."""
    return span.seconds * 1_000_000 + span.nanos // 1_000


class _Compiler:
    def __init__(self, spec: pb.PipelineSpec, digest: str) -> None:
        self._spec = spec
        self._digest = digest
        self._numbers = {step.name: number for number, step in enumerate(spec.steps)}
        self._mapped = [step.HasField("map") for step in spec.steps]
        self._lines: dict[tuple[Line, int, Concurrency | None], int] = {}
        self._known: dict[Hashable, Hashable] = {}
        self._read: dict[tuple[object, bytes], object] = {}
        self._defaults = _Defaults(spec.defaults)

    def plan(self) -> Plan:
        spec = self._spec
        nodes = [self._node(step) for step in spec.steps]
        downstream: list[list[int]] = [[] for _ in nodes]
        kept: dict[int, set[Path]] = {}
        for number, node in enumerate(nodes):
            for upstream in node.upstream:
                downstream[upstream].append(number)
            self._keep(node, kept)
        steps = tuple(
            self._step(number, step, nodes[number], downstream[number], kept.get(number))
            for number, step in enumerate(spec.steps)
        )
        return Plan(
            digest=self._digest,
            pipeline=spec.name,
            bundle_digest=spec.bundle_digest,
            steps=steps,
            lines=tuple(line for line, _, _ in self._lines),
            priorities=tuple(priority for _, priority, _ in self._lines),
            numbers=self._numbers,
            timeout=microseconds(spec.timeout) if spec.HasField("timeout") else None,
            max_parallel=spec.max_parallel,
            fail_fast=spec.fail_fast,
            stop_grace=microseconds(spec.stop_grace) if spec.HasField("stop_grace") else STOP_GRACE,
            cleanup_roots=tuple(step.number for step in steps if step.cleanup and not step.upstream),
            concurrency=self._concurrency(spec),
            max_active_runs=spec.max_active_runs,
            limited={at: found for (_, _, found), at in self._lines.items() if found is not None},
        )

    def _same(self, value: _T) -> _T:
        """The first value that is equal to this one."""
        return self._known.setdefault(value, value)  # type: ignore[return-value]  # a value is filed under itself

    def _once(self, read: Callable[[_M], _T], message: _M) -> _T:
        """`read(message)`, read once of messages that are written alike."""
        key = (read, message.SerializeToString())
        found = self._read.get(key)
        if found is None:
            found = self._read[key] = self._same(read(message))
        return found  # type: ignore[return-value]  # filed under the function that made it

    # --- the graph

    def _node(self, step: pb.StepSpec) -> _Node:
        inputs = tuple((name, self._input(step.inputs[name])) for name in sorted(step.inputs))
        over = self._over(step.map) if step.HasField("map") else None
        upstream = {self._numbers[name] for name in step.depends_on}
        upstream.update(source.step for _, source in inputs if isinstance(source, FromStep))
        if isinstance(over, FromStep):
            upstream.add(over.step)
        condition = self._same(Condition(step.when)) if step.when else None
        return _Node(inputs, over, condition, tuple(sorted(upstream)))

    def _input(self, source: pb.Input) -> InputSource:
        match source.WhichOneof("source"):
            case "parameter":
                return self._same(FromParameter(source.parameter))
            case "step":
                return self._from_step(source.step)
            case "item":
                return self._same(FromItem(tuple(source.item.path)))
        return FromValue(constant(source.value))

    def _over(self, source: pb.MapSpec) -> MapSource:
        match source.WhichOneof("over"):
            case "parameter":
                return self._same(FromParameter(source.parameter))
            case "step":
                return self._from_step(source.step)
        return FromValue(dump(plain_list(source.values)))

    def _from_step(self, reference: pb.OutputReference) -> FromStep:
        return self._same(FromStep(self._numbers[reference.step], tuple(reference.path)))

    def _keep(self, node: _Node, kept: dict[int, set[Path]]) -> None:
        """Note what the step's map and condition read of outputs."""
        if isinstance(node.over, FromStep):
            kept.setdefault(node.over.step, set()).add(self._inside(node.over.step, node.over.path))
        if node.condition is not None:
            for name, paths in node.condition.output_paths.items():
                number = self._numbers[name]
                kept.setdefault(number, set()).update(self._inside(number, path) for path in paths)

    def _inside(self, number: int, path: Path) -> Path:
        """Of a mapped step each item's output is kept by itself: its position is no part of the path."""
        return path[1:] if self._mapped[number] else path

    # --- one step

    def _step(self, number: int, step: pb.StepSpec, node: _Node, downstream: list[int], kept: set[Path] | None) -> Step:
        rule = step.trigger_rule or (pb.TRIGGER_RULE_ALL_DONE if step.cleanup else pb.TRIGGER_RULE_ALL_SUCCESS)
        concurrency = self._concurrency(step)
        return Step(
            number=number,
            name=step.name,
            action=self._same(_action(step)),
            upstream=node.upstream,
            downstream=tuple(downstream),
            rule=TriggerRule(rule),
            condition=node.condition,
            map=node.over,
            inputs=node.inputs,
            retry=self._once(_retry, step.retry) if step.HasField("retry") else self._defaults.retry,
            timeouts=self._once(_timeouts, step.timeouts) if step.HasField("timeouts") else self._defaults.timeouts,
            line=self._line(step, concurrency),
            env=self._same(_merged(self._defaults.env, step.env)),
            allow_failure=step.allow_failure,
            cleanup=step.cleanup,
            kept_paths=self._same(minimal(kept)) if kept else (),
            concurrency=concurrency,
        )

    def _concurrency(self, owner: pb.StepSpec | pb.PipelineSpec) -> Concurrency | None:
        return self._once(_concurrency, owner.concurrency) if owner.HasField("concurrency") else None

    def _line(self, step: pb.StepSpec, concurrency: Concurrency | None) -> int:
        line = Line(
            queue=step.queue or self._defaults.queue,
            labels=_merged(self._defaults.labels, step.labels),
            resources=self._once(_resources, step.resources)
            if step.HasField("resources")
            else self._defaults.resources,
        )
        key = (self._same(line), step.priority, concurrency)
        return self._lines.setdefault(key, len(self._lines))


@dataclass(frozen=True, slots=True)
class _Node:
    """What the graph needs of a step."""

    inputs: tuple[tuple[str, InputSource], ...]
    over: MapSource | None
    condition: Condition | None
    upstream: tuple[int, ...]


class _Defaults:
    """What steps get that do not say otherwise."""

    def __init__(self, spec: pb.StepDefaults) -> None:
        self.retry = _retry(spec.retry)
        self.timeouts = _timeouts(spec.timeouts)
        self.queue = spec.queue or QUEUE
        self.labels = dict(spec.labels)
        self.resources = _resources(spec.resources)
        self.env = dict(spec.env)


def _merged(defaults: dict[str, str], own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if not own and not defaults:
        return ()
    return tuple(sorted((defaults | dict(own)).items()))


def _retry(policy: pb.RetryPolicy) -> Retry:
    initial = microseconds(policy.initial_backoff) if policy.HasField("initial_backoff") else INITIAL_BACKOFF
    longest = microseconds(policy.max_backoff) if policy.HasField("max_backoff") else max(MAX_BACKOFF, initial)
    return Retry(
        max_attempts=policy.max_attempts or 1,
        initial_backoff=initial,
        multiplier=policy.backoff_multiplier or 2.0,
        max_backoff=longest,
        jitter=policy.jitter if policy.HasField("jitter") else 0.1,
        retry_on=tuple(policy.retry_on),
        never_retry_on=tuple(policy.never_retry_on),
    )


def _timeouts(spec: pb.Timeouts) -> Timeouts:
    return Timeouts(
        queued=microseconds(spec.queued) if spec.HasField("queued") else None,
        attempt=microseconds(spec.attempt) if spec.HasField("attempt") else None,
        overall=microseconds(spec.overall) if spec.HasField("overall") else None,
    )


def _concurrency(spec: pb.Concurrency) -> Concurrency:
    by_expression = spec.WhichOneof("name") == "key_expression"
    return Concurrency(
        key=KeyExpression(spec.key_expression) if by_expression else spec.key,
        limit=spec.limit or 1,
        policy=Policy(spec.policy or Policy.QUEUE),
    )


def _resources(spec: pb.Resources) -> tuple[tuple[str, float], ...]:
    """By name, without what is not asked for."""
    amounts = {"cpu": spec.cpu, "memory_bytes": float(spec.memory_bytes), "gpu": spec.gpu, **spec.custom}
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def _action(step: pb.StepSpec) -> Action:
    if step.WhichOneof("action") == "function":
        return FunctionAction(step.function.module, step.function.qualname)
    command = step.command
    return CommandAction(
        argv=tuple(command.argv),
        shell=command.shell,
        outputs=tuple(_output(output) for output in command.outputs),
        success_exit_codes=tuple(sorted(set(command.success_exit_codes))) or (0,),
    )


def _output(output: pb.CommandOutput) -> CommandOutput:
    return CommandOutput(
        name=output.name,
        stdout=output.WhichOneof("source") == "stdout",
        file=output.file,
        json=output.format == pb.OUTPUT_FORMAT_JSON,
    )
