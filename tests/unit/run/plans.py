"""Plans for tests, built by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock_coordinator.core.plan.conditions import Condition
from penstock_coordinator.core.plan.model import (
    Concurrency,
    FromParameter,
    FromStep,
    FromValue,
    FunctionAction,
    Line,
    MapSource,
    Plan,
    Retry,
    Step,
    Timeouts,
    TriggerRule,
)

SECOND = 1_000_000


@dataclass
class Node:
    """A step as a test names it."""

    name: str
    after: Sequence[str] = ()
    rule: TriggerRule | None = None
    when: Condition | None = None
    over: MapSource | str | None = None
    """A source, or "step" for its whole output, or "step.member" for a part."""
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    queue: str = "default"
    allow_failure: bool = False
    cleanup: bool = False
    concurrency: Concurrency | None = None


def build(
    nodes: Iterable[Node],
    *,
    timeout: int | None = None,
    max_parallel: int = 0,
    fail_fast: bool = False,
    stop_grace: int = 10 * SECOND,
    concurrency: Concurrency | None = None,
    max_active_runs: int = 0,
) -> Plan:
    nodes = list(nodes)
    numbers = {node.name: number for number, node in enumerate(nodes)}
    upstream = [_upstream(node, numbers) for node in nodes]
    read = {source for node in nodes for source in _read(node)}
    lines = list(dict.fromkeys((node.queue, node.concurrency) for node in nodes))
    steps = tuple(
        Step(
            number=number,
            name=node.name,
            action=FunctionAction("tests", node.name),
            upstream=upstream[number],
            downstream=tuple(d for d in range(len(nodes)) if number in upstream[d]),
            rule=node.rule or (TriggerRule.ALL_DONE if node.cleanup else TriggerRule.ALL_SUCCESS),
            condition=node.when,
            map=_source(node.over, numbers),
            inputs=(),
            retry=node.retry,
            timeouts=node.timeouts,
            line=lines.index((node.queue, node.concurrency)),
            env=(),
            allow_failure=node.allow_failure,
            cleanup=node.cleanup,
            kept_paths=((),) if node.name in read else (),
            concurrency=node.concurrency,
        )
        for number, node in enumerate(nodes)
    )
    return Plan(
        digest="0" * 64,
        pipeline="tests",
        bundle_digest="",
        steps=steps,
        lines=tuple(Line(queue) for queue, _ in lines),
        priorities=(0,) * len(lines),
        numbers=numbers,
        timeout=timeout,
        max_parallel=max_parallel,
        fail_fast=fail_fast,
        stop_grace=stop_grace,
        cleanup_roots=tuple(s.number for s in steps if s.cleanup and not s.upstream),
        concurrency=concurrency,
        max_active_runs=max_active_runs,
        limited={at: found for at, (_, found) in enumerate(lines) if found is not None},
    )


def _source(over: MapSource | str | None, numbers: dict[str, int]) -> MapSource | None:
    if not isinstance(over, str):
        return over
    name, *path = over.split(".")
    return FromStep(numbers[name], tuple(path))


def _read(node: Node) -> set[str]:
    """The steps whose output the core needs for this one."""
    read = set(node.when.steps) if node.when is not None else set()
    if isinstance(node.over, str):
        read.add(node.over.partition(".")[0])
    return read


def _upstream(node: Node, numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({numbers[name] for name in (*node.after, *_read(node))}))


def values(*items: Any) -> FromValue:
    return FromValue(json.dumps(items).encode())


def parameter(name: str) -> FromParameter:
    return FromParameter(name)


def when(source: str) -> Condition:
    return Condition(source)
