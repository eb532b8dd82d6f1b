"""From a specification to a plan.

The specification is one that `validate` has found no problem with: here nothing is checked again. Equal parts of
steps (lines, retries, timeouts, variables, conditions) become one object: pipelines of many steps repeat them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.budget import Amounts, CostBudget, OnExceeded, Per
from penstock_coordinator.core.plan.conditions import Condition, minimal
from penstock_coordinator.core.plan.constants import constant, plain_list
from penstock_coordinator.core.plan.environments import environment_name, environment_of
from penstock_coordinator.core.plan.keys import KeyExpression
from penstock_coordinator.core.plan.model import (
    CHILDREN,
    Action,
    CachePolicy,
    CommandAction,
    CommandOutput,
    Concurrency,
    Environment,
    FromItem,
    FromParameter,
    FromStep,
    FromUndone,
    FromValue,
    FunctionAction,
    InputSource,
    Line,
    MapForm,
    MapSource,
    Path,
    PipelineAction,
    Plan,
    Policy,
    Retry,
    SecretUse,
    Step,
    StepMap,
    Timeouts,
    TriggerRule,
)
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.shapes import followers_of, joiners_of, shapes_of
from penstock_coordinator.core.plan.slo_tiers import tier_of
from penstock_coordinator.core.plan.values import dump

STOP_GRACE = 10_000_000
INITIAL_BACKOFF = 1_000_000
MAX_BACKOFF = 300_000_000
QUEUE = "default"

_T = TypeVar("_T", bound=Hashable)
_M = TypeVar("_M", bound=Message)


def compile_plan(spec: pb.PipelineSpec, digest: str) -> Plan:
    """The plan of the version with that digest. The specification has been validated."""
    return _Compiler(digest, spec, list(spec.steps)).plan()


def compile_onto(former: Plan, spec: pb.PipelineSpec, digest: str) -> Plan:
    """The plan of another version for a run of `former`: steps of the same name keep their numbers, new ones are
    numbered on, and those that the version does not have are retired."""
    steps = {step.name: step for step in spec.steps}
    slots = [steps.pop(old.name, old) for old in former.steps]
    return _Compiler(digest, spec, [*slots, *steps.values()], (*former.lineage, former.digest)).plan()


def microseconds(span: Duration) -> int:
    """Cut to whole microseconds."""
    return span.seconds * 1_000_000 + span.nanos // 1_000


def _budget(budget: pb.CostBudget) -> CostBudget:
    limits = Amounts(*(round(each * 1e6) for each in (budget.slot_seconds, budget.cpu_seconds, budget.price)))
    return CostBudget(limits, Per(budget.per or Per.RUN), OnExceeded(budget.on_exceeded or OnExceeded.HOLD))


class _Compiler:
    def __init__(
        self, digest: str, spec: pb.PipelineSpec, slots: list[pb.StepSpec | Step], lineage: tuple[str, ...] = ()
    ) -> None:
        """`slots` are the steps in the order of their numbers, former ones where the specification has none."""
        self._digest = digest
        self._spec = spec
        self._slots = slots
        self._lineage = lineage
        self._numbers = {slot.name: number for number, slot in enumerate(slots) if not isinstance(slot, Step)}
        self._undoes = _undoes(slots, self._numbers)
        self._lines: dict[tuple[Line, int, Concurrency | None], int] = {}
        self._environments: dict[str, Environment] = {}
        self._known: dict[Hashable, Hashable] = {}
        self._read: dict[tuple[object, bytes], object] = {}
        self._defaults = _Defaults(spec.defaults)

    def plan(self) -> Plan:
        spec = self._spec
        nodes = [_NO_NODE if isinstance(slot, Step) else self._node(slot) for slot in self._slots]
        for number, undone in self._undoes.items():
            nodes[number] = self._undoing(nodes[number], undone, nodes[undone].over)
        graph = _Graph(nodes)
        outputs = self._outputs()
        kept = _kept(nodes, graph.depths, self._numbers, [source for _, source in outputs])
        steps = tuple(
            _retired(slot)
            if isinstance(slot, Step)
            else self._step(number, slot, nodes[number], graph, kept.get(number, _Kept()))
            for number, slot in enumerate(self._slots)
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
            outputs=outputs,
            pickling=frozenset(spec.allow_pickle),
            budget=_budget(spec.budget) if spec.HasField("budget") else None,
            rolls_back=spec.on_failure == pb.ON_FAILURE_ROLLBACK,
            environments=self._environments,
            limited={at: found for (_, _, found), at in self._lines.items() if found is not None},
            slo_tier=tier_of(spec.labels),
            lineage=self._lineage,
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

    def _outputs(self) -> tuple[tuple[str, FromStep], ...]:
        if self._spec.HasField("output"):
            return (("", self._from_step(self._spec.output)),)
        return tuple((name, self._from_step(self._spec.outputs[name])) for name in sorted(self._spec.outputs))

    # --- the graph

    def _node(self, step: pb.StepSpec) -> _Node:
        inputs = tuple((name, self._input(step.inputs[name])) for name in sorted(step.inputs))
        over = self._map(step.map) if step.HasField("map") else None
        joined = {self._numbers[name] for name in step.depends_on}
        joined.update(source.step for _, source in inputs if isinstance(source, FromStep))
        condition = self._same(Condition(step.when)) if step.when else None
        if condition is not None:
            joined.update(self._numbers[name] for name in condition.steps)
        upstream = set(joined)
        if over is not None:
            upstream.update(source.step for source in over.lists if isinstance(source, FromStep))
        return _Node(inputs, over, condition, tuple(sorted(upstream)), frozenset(joined))

    def _undoing(self, node: _Node, undone: int, over: StepMap | None) -> _Node:
        """A step that undoes another one has no edges, whatever its inputs read."""
        if over is not None:
            over = StepMap((FromStep(undone),), form=MapForm.UNDONE, max_parallel=over.max_parallel)
        inputs = tuple(
            (name, FromUndone(source.path) if isinstance(source, FromStep) and source.step == undone else source)
            for name, source in node.inputs
        )
        return _Node(inputs, over, None, (), frozenset())

    def _input(self, source: pb.Input) -> InputSource:
        match source.WhichOneof("source"):
            case "parameter":
                return self._same(FromParameter(source.parameter))
            case "step":
                return self._from_step(source.step)
            case "item":
                return self._same(FromItem(tuple(source.item.path)))
        return FromValue(constant(source.value))

    def _map(self, spec: pb.MapSpec) -> StepMap:
        if spec.lists:
            lists = tuple(self._list(each) for each in spec.lists)
            names = tuple(each.name for each in spec.lists)
            zipped = spec.combination == pb.MAP_COMBINATION_ZIP
            return StepMap(lists, names, zipped, max_parallel=spec.max_parallel)
        form = MapForm.LISTS
        if spec.HasField("nested"):
            form = MapForm.NESTED
        elif spec.WhichOneof("over") == "step" and self._follows(spec):
            form = MapForm.EACH
        source = self._list(spec)
        if form is MapForm.NESTED and isinstance(source, FromStep):
            source = self._same(FromStep(source.step, tuple(spec.nested.path)))
        return StepMap((source,), form=form, max_parallel=spec.max_parallel)

    def _follows(self, spec: pb.MapSpec) -> bool:
        followed = self._slots[self._numbers[spec.step.step]]
        assert not isinstance(followed, Step)
        return followed.HasField("map") and not spec.step.path and not spec.joined

    def _list(self, source: pb.MapSpec | pb.MapList) -> MapSource:
        match source.WhichOneof("over"):
            case "parameter":
                return self._same(FromParameter(source.parameter))
            case "step":
                return self._from_step(source.step)
        return FromValue(dump(plain_list(source.values)))

    def _from_step(self, reference: pb.OutputReference) -> FromStep:
        return self._same(FromStep(self._numbers[reference.step], tuple(reference.path)))

    # --- one step

    def _step(self, number: int, step: pb.StepSpec, node: _Node, graph: _Graph, kept: _Kept) -> Step:
        rule = step.trigger_rule or (pb.TRIGGER_RULE_ALL_DONE if step.cleanup else pb.TRIGGER_RULE_ALL_SUCCESS)
        concurrency = self._concurrency(step)
        return Step(
            number=number,
            name=step.name,
            action=self._same(_action(step)),
            upstream=node.upstream,
            downstream=graph.downstream[number],
            rule=TriggerRule(rule),
            condition=node.condition,
            map=node.over,
            inputs=node.inputs,
            retry=self._once(_retry, step.retry) if step.HasField("retry") else self._defaults.retry,
            timeouts=self._timeouts(step),
            line=self._line(step, concurrency),
            env=() if _is_pipeline(step) else self._same(_merged(self._defaults.env, step.env)),
            secrets=() if _is_pipeline(step) else self._secrets(step),
            allow_failure=step.allow_failure,
            cleanup=step.cleanup,
            kept_paths=self._same(minimal(kept.paths)) if kept.paths else (),
            kept_lengths=self._same(tuple(sorted(kept.lengths))) if kept.lengths else (),
            judged=kept.judged,
            depth=graph.depths[number],
            shape=graph.shapes[number],
            followers=graph.followers[number],
            joiners=joiners_of(graph.downstream[number], graph.followers[number]),
            compensate=self._numbers[step.compensate] if step.compensate else None,
            undoes=self._undoes.get(number),
            cache=self._cache(number, step),
            concurrency=concurrency,
        )

    def _concurrency(self, owner: pb.StepSpec | pb.PipelineSpec) -> Concurrency | None:
        return self._once(_concurrency, owner.concurrency) if owner.HasField("concurrency") else None

    def _cache(self, number: int, step: pb.StepSpec) -> CachePolicy | None:
        """The default is meant for steps that can have one."""
        if self._spec.no_cache:
            return None
        if step.HasField("cache"):
            return self._once(_cache, step.cache)
        if number in self._undoes or uncacheable(step) is not None:
            return None
        return self._defaults.cache

    def _secrets(self, step: pb.StepSpec) -> tuple[SecretUse, ...]:
        """By name."""
        if not step.secrets and not self._defaults.secrets:
            return ()
        used = self._defaults.secrets | _secrets(step.secrets)
        return self._same(tuple(use for _, use in sorted(used.items())))

    def _timeouts(self, step: pb.StepSpec) -> Timeouts:
        found = self._once(_timeouts, step.timeouts) if step.HasField("timeouts") else self._defaults.timeouts
        # No agent takes a step that is a run, so of the defaults only the span of the whole is meant for it.
        return self._same(Timeouts(overall=found.overall)) if _is_pipeline(step) else found

    def _line(self, step: pb.StepSpec, concurrency: Concurrency | None) -> int:
        if _is_pipeline(step):
            return CHILDREN
        line = Line(
            queue=step.queue or self._defaults.queue,
            labels=_merged(self._defaults.labels, step.labels),
            resources=self._once(_resources, step.resources)
            if step.HasField("resources")
            else self._defaults.resources,
            environment=self._environment(step),
        )
        key = (self._same(line), step.priority, concurrency)
        return self._lines.setdefault(key, len(self._lines))

    def _environment(self, step: pb.StepSpec) -> str:
        """Its name."""
        if step.HasField("environment"):
            found = self._once(_environment, step.environment)
        elif self._spec.defaults.HasField("environment"):
            found = self._once(_environment, self._spec.defaults.environment)
        else:
            return ""
        name, environment = found
        if environment is not None:
            self._environments[name] = environment
        return name


def _undoes(slots: list[pb.StepSpec | Step], numbers: dict[str, int]) -> dict[int, int]:
    """By the step that undoes it the step that is undone."""
    return {
        numbers[slot.compensate]: number
        for number, slot in enumerate(slots)
        if not isinstance(slot, Step) and slot.compensate
    }


@dataclass(frozen=True, slots=True)
class _Node:
    """What the graph needs of a step."""

    inputs: tuple[tuple[str, InputSource], ...]
    over: StepMap | None
    condition: Condition | None
    upstream: tuple[int, ...]
    joined: frozenset[int]
    """Those of the upstream that are named elsewhere than in the map."""


_NO_NODE = _Node((), None, None, (), frozenset())


class _Graph:
    """How the steps hang together."""

    def __init__(self, nodes: list[_Node]) -> None:
        downstream: list[list[int]] = [[] for _ in nodes]
        for number, node in enumerate(nodes):
            for upstream in node.upstream:
                downstream[upstream].append(number)
        self.downstream = [tuple(numbers) for numbers in downstream]
        maps = [node.over for node in nodes]
        self.depths, self.shapes = shapes_of(maps)
        self.followers = followers_of(maps, [node.joined for node in nodes])


@dataclass(slots=True)
class _Kept:
    """What runs keep of a step's output."""

    paths: set[Path] = field(default_factory=set)
    lengths: set[Path] = field(default_factory=set)
    judged: bool = False

    def judge(self, paths: Iterable[Path]) -> None:
        """Maps or conditions read these."""
        self.paths.update(paths)
        self.judged = True


def _kept(nodes: list[_Node], depths: list[int], numbers: dict[str, int], outputs: list[FromStep]) -> dict[int, _Kept]:
    """By step, what maps, conditions and the output of the run read of its output. Of a mapped step each
    item's output is kept by itself: its place is no part of the path."""
    kept: dict[int, _Kept] = defaultdict(_Kept)
    for source in outputs:
        kept[source.step].paths.add(source.path[depths[source.step] :])
    for node in nodes:
        if node.over is not None:
            _keep_for_map(node.over, node.condition, depths, kept)
        if node.condition is not None:
            for name, paths in node.condition.output_paths.items():
                number = numbers[name]
                kept[number].judge(path[depths[number] :] for path in paths)
    return kept


def _keep_for_map(over: StepMap, condition: Condition | None, depths: list[int], kept: dict[int, _Kept]) -> None:
    followed = over.followed
    if followed is None:
        for source in over.lists:
            if isinstance(source, FromStep):
                kept[source.step].judge([source.path[depths[source.step] :]])
        return
    if over.form is MapForm.NESTED:
        kept[followed].lengths.add(over.path)
    if condition is not None and condition.reads_item:
        kept[followed].judge([over.path] if over.form is MapForm.NESTED else condition.item_paths)


class _Defaults:
    """What steps get that do not say otherwise."""

    def __init__(self, spec: pb.StepDefaults) -> None:
        self.retry = _retry(spec.retry)
        self.timeouts = _timeouts(spec.timeouts)
        self.queue = spec.queue or QUEUE
        self.labels = dict(spec.labels)
        self.resources = _resources(spec.resources)
        self.env = dict(spec.env)
        self.cache = _cache(spec.cache) if spec.HasField("cache") else None
        self.secrets = _secrets(spec.secrets)


def _environment(spec: pb.Environment) -> tuple[str, Environment | None]:
    environment = environment_of(spec)
    return ("", None) if environment is None else (environment_name(environment), environment)


def _secrets(uses: Iterable[pb.SecretUse]) -> dict[str, SecretUse]:
    return {use.name: SecretUse(use.name, use.env, use.file) for use in uses}


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
        max_losses=policy.max_losses,
        memory_factor=policy.memory_factor or 1.0,
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


def uncacheable(step: pb.StepSpec) -> str | None:
    """Why no value stands for running the step, whatever its policy says."""
    if _is_pipeline(step):
        return f"the step is a run of a pipeline: give the steps of {quoted(step.pipeline.name)} itself a cache policy"
    if step.cleanup:
        return "a cleanup step has to clean up each time: remove the policy, or make it no cleanup step"
    if step.compensate:
        text = "a step that can be undone is there for what it does, which no earlier value stands for"
        return f"{text}: remove the policy, or `compensate`"
    return None


def _cache(policy: pb.CachePolicy) -> CachePolicy | None:
    if policy.disabled:
        return None
    counts = policy.WhichOneof("counts")
    return CachePolicy(
        expires=microseconds(policy.expires) if policy.HasField("expires") else None,
        version=policy.version,
        ignore=tuple(sorted(set(policy.ignore))),
        key=KeyExpression(policy.key_expression)
        if counts == "key_expression"
        else policy.key
        if counts == "key"
        else None,
    )


def _resources(spec: pb.Resources) -> tuple[tuple[str, float], ...]:
    """By name, without what is not asked for."""
    amounts = {"cpu": spec.cpu, "memory_bytes": float(spec.memory_bytes), "gpu": spec.gpu, **spec.custom}
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))


def _retired(step: Step) -> Step:
    """Nothing but what names it."""
    return Step(
        number=step.number,
        name=step.name,
        action=step.action,
        upstream=(),
        downstream=(),
        rule=TriggerRule.ALL_SUCCESS,
        condition=None,
        map=None,
        inputs=(),
        retry=Retry(),
        timeouts=Timeouts(),
        line=CHILDREN,
        env=(),
        allow_failure=False,
        cleanup=False,
        kept_paths=(),
        retired=True,
    )


def _is_pipeline(step: pb.StepSpec) -> bool:
    return step.WhichOneof("action") == "pipeline"


def _action(step: pb.StepSpec) -> Action:
    if step.WhichOneof("action") == "function":
        return FunctionAction(step.function.module, step.function.qualname, step.function.code_digest)
    if _is_pipeline(step):
        return PipelineAction(step.pipeline.name, step.pipeline.version_number)
    command = step.command
    return CommandAction(
        argv=tuple(command.argv),
        shell=command.shell,
        outputs=tuple(_output(output) for output in command.outputs),
        success_exit_codes=tuple(sorted(set(command.success_exit_codes))) or (0,),
        input_files=tuple(sorted(command.input_files.items())),
    )


def _output(output: pb.CommandOutput) -> CommandOutput:
    return CommandOutput(
        name=output.name,
        stdout=output.WhichOneof("source") == "stdout",
        file=output.file,
        json=output.format == pb.OUTPUT_FORMAT_JSON,
        artifact=output.artifact,
    )
