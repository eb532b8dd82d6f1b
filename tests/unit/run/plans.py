"""Plans for tests, built by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock_coordinator.core.plan.budget import CostBudget
from penstock_coordinator.core.plan.conditions import Condition
from penstock_coordinator.core.plan.model import (
    CHILDREN,
    CachePolicy,
    Concurrency,
    FromParameter,
    FromStep,
    FromValue,
    FunctionAction,
    Line,
    MapForm,
    MapSource,
    PipelineAction,
    Plan,
    Retry,
    Step,
    StepMap,
    Timeouts,
    TriggerRule,
)
from penstock_coordinator.core.plan.shapes import followers_of, joiners_of, shapes_of

SECOND = 1_000_000


@dataclass
class Node:
    """A step as a test names it."""

    name: str
    after: Sequence[str] = ()
    rule: TriggerRule | None = None
    when: Condition | None = None
    over: MapSource | str | StepMap | None = None
    """A source, or "step" for its whole output, or "step.member" for a part. Over a mapped step: "step" goes along with
    it, "joined:step" waits for all of it, "nested:step.member" goes into the lists of its items. As a StepMap the
    steps of its lists have been found already."""
    parallel: int = 0
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    queue: str = "default"
    memory_bytes: int = 0
    environment: str = ""
    """The name of it."""
    allow_failure: bool = False
    cleanup: bool = False
    concurrency: Concurrency | None = None
    child: str = ""
    """The pipeline that the step is a run of."""
    code: str = "1"
    """The digest of its code."""
    retired: bool = False
    cache: bool = False
    undoes: str = ""
    """The step that this one undoes, when the run is rolled back."""


def build(
    nodes: Iterable[Node],
    *,
    timeout: int | None = None,
    max_parallel: int = 0,
    fail_fast: bool = False,
    stop_grace: int = 10 * SECOND,
    concurrency: Concurrency | None = None,
    max_active_runs: int = 0,
    digest: str = "0" * 64,
    onto: Plan | None = None,
    outputs: Sequence[str] = (),
    rolls_back: bool = False,
    budget: CostBudget | None = None,
) -> Plan:
    """`onto`: as another version, for runs of that plan. `outputs` are the steps whose outputs the run gives, by their
    names."""
    nodes = list(nodes) if onto is None else numbered_on(nodes, onto)
    numbers = {node.name: number for number, node in enumerate(nodes)}
    upstream = [_upstream(node, nodes, numbers) for node in nodes]
    maps = [_map(node, nodes, numbers) for node in nodes]
    joined = [{numbers[name] for name in (*node.after, *(node.when.steps if node.when else ()))} for node in nodes]
    depths, shapes = shapes_of(maps)
    followers = followers_of(maps, joined)
    downstream = [tuple(d for d in range(len(nodes)) if number in upstream[d]) for number in range(len(nodes))]
    read = {number for number, node in enumerate(nodes) for number in _read(node, maps[number], numbers)}
    read |= {numbers[name] for name in outputs}
    lengths: list[set[tuple[str, ...]]] = [set() for _ in nodes]
    for over in maps:
        if over is not None and over.form is MapForm.NESTED:
            lengths[over.followed or 0].add(over.path)
    lines = list(dict.fromkeys(_line(node) for node in nodes if not node.retired))
    steps = tuple(
        Step(
            number=number,
            name=node.name,
            action=PipelineAction(node.child) if node.child else FunctionAction("tests", node.name, node.code),
            upstream=upstream[number],
            downstream=downstream[number],
            rule=node.rule or (TriggerRule.ALL_DONE if node.cleanup else TriggerRule.ALL_SUCCESS),
            condition=node.when,
            map=maps[number],
            inputs=(),
            retry=node.retry,
            timeouts=node.timeouts,
            line=CHILDREN if node.child or node.retired else lines.index(_line(node)),
            env=(),
            allow_failure=node.allow_failure,
            cleanup=node.cleanup,
            kept_paths=((),) if number in read else (),
            kept_lengths=tuple(sorted(lengths[number])),
            depth=depths[number],
            shape=shapes[number],
            followers=followers[number],
            joiners=joiners_of(downstream[number], followers[number]),
            concurrency=node.concurrency,
            cache=CachePolicy() if node.cache else None,
            retired=node.retired,
            compensate=next((at for at, other in enumerate(nodes) if other.undoes == node.name), None),
            undoes=numbers[node.undoes] if node.undoes else None,
        )
        for number, node in enumerate(nodes)
    )
    return Plan(
        digest=digest,
        pipeline="tests",
        bundle_digest="",
        steps=steps,
        lines=tuple(line for line, _ in lines),
        priorities=(0,) * len(lines),
        numbers={name: number for name, number in numbers.items() if not nodes[number].retired},
        timeout=timeout,
        max_parallel=max_parallel,
        fail_fast=fail_fast,
        stop_grace=stop_grace,
        cleanup_roots=tuple(s.number for s in steps if s.cleanup and not s.upstream),
        concurrency=concurrency,
        max_active_runs=max_active_runs,
        outputs=tuple((name, FromStep(numbers[name], ())) for name in outputs),
        limited={at: found for at, (_, found) in enumerate(lines) if found is not None},
        rolls_back=rolls_back,
        budget=budget,
        lineage=() if onto is None else (*onto.lineage, onto.digest),
    )


def _line(node: Node) -> tuple[Line, Concurrency | None]:
    resources = (("memory_bytes", float(node.memory_bytes)),) if node.memory_bytes else ()
    return Line(node.queue, resources=resources, environment=node.environment), node.concurrency


def numbered_on(nodes: Iterable[Node], former: Plan) -> list[Node]:
    """As a version for a run of `former` numbers its steps."""
    left = {node.name: node for node in nodes}
    slots = [left.pop(step.name, Node(step.name, retired=True)) for step in former.steps]
    return [*slots, *left.values()]


def _map(node: Node, nodes: list[Node], numbers: dict[str, int]) -> StepMap | None:
    over = node.over
    if node.undoes:
        undone = _map(nodes[numbers[node.undoes]], nodes, numbers)
        source = FromStep(numbers[node.undoes])
        return undone and StepMap((source,), form=MapForm.UNDONE, max_parallel=undone.max_parallel)
    if over is None or isinstance(over, StepMap):
        return over
    if not isinstance(over, str):
        return StepMap((over,), max_parallel=node.parallel)
    kind, _, reference = over.rpartition(":")
    name, *path = reference.split(".")
    form = MapForm.LISTS
    if kind == "nested":
        form = MapForm.NESTED
    elif not kind and not path and nodes[numbers[name]].over is not None:
        form = MapForm.EACH
    return StepMap((FromStep(numbers[name], tuple(path)),), form=form, max_parallel=node.parallel)


def several(numbers: dict[str, int], *, zipped: bool = False, parallel: int = 0, **lists: MapSource | str) -> StepMap:
    """Several lists, by the members of the item; a text is the name of a step."""
    sources = tuple(FromStep(numbers[each]) if isinstance(each, str) else each for each in lists.values())
    return StepMap(sources, tuple(lists), zipped, max_parallel=parallel)


def _read(node: Node, over: StepMap | None, numbers: dict[str, int]) -> set[int]:
    """The steps whose output the core needs for this one."""
    read = {numbers[name] for name in node.when.steps} if node.when is not None else set()
    if over is not None and (over.form is MapForm.LISTS or (node.when is not None and node.when.reads_item)):
        read |= {source.step for source in over.lists if isinstance(source, FromStep)}
    return read


def _upstream(node: Node, nodes: list[Node], numbers: dict[str, int]) -> tuple[int, ...]:
    if node.undoes:
        return ()
    over = _map(node, nodes, numbers)
    sources = over.lists if over is not None else ()
    named = {numbers[name] for name in (*node.after, *(node.when.steps if node.when is not None else ()))}
    return tuple(sorted(named | {source.step for source in sources if isinstance(source, FromStep)}))


def values(*items: Any) -> FromValue:
    return FromValue(json.dumps(items).encode())


def parameter(name: str) -> FromParameter:
    return FromParameter(name)


def when(source: str) -> Condition:
    return Condition(source)
