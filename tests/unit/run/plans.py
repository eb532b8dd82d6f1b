"""Plans for tests, built by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock_coordinator.core.plan.model import (
    FromParameter,
    FromStep,
    FromValue,
    FunctionAction,
    Line,
    MapSource,
    Path,
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
    when: Any = None
    over: MapSource | str | None = None
    """A source, or the name of the step whose whole output is mapped over."""
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    queue: str = "default"
    allow_failure: bool = False
    cleanup: bool = False
    kept: tuple[Path, ...] | None = None


def build(
    nodes: Iterable[Node],
    *,
    timeout: int | None = None,
    max_parallel: int = 0,
    fail_fast: bool = False,
    stop_grace: int = 10 * SECOND,
) -> Plan:
    nodes = list(nodes)
    numbers = {node.name: number for number, node in enumerate(nodes)}
    upstream = [_upstream(node, numbers) for node in nodes]
    read = {source for node in nodes for source in _read(node)}
    lines = list(dict.fromkeys(node.queue for node in nodes))
    steps = tuple(
        Step(
            number=number,
            name=node.name,
            action=FunctionAction("tests", node.name),
            upstream=upstream[number],
            downstream=tuple(d for d in range(len(nodes)) if number in upstream[d]),
            rule=node.rule or (TriggerRule.ALL_DONE if node.cleanup else TriggerRule.ALL_SUCCESS),
            condition=node.when,
            map=FromStep(numbers[node.over]) if isinstance(node.over, str) else node.over,
            inputs=(),
            retry=node.retry,
            timeouts=node.timeouts,
            line=lines.index(node.queue),
            env=(),
            allow_failure=node.allow_failure,
            cleanup=node.cleanup,
            kept_paths=node.kept if node.kept is not None else ((),) if node.name in read else (),
        )
        for number, node in enumerate(nodes)
    )
    return Plan(
        digest="0" * 64,
        pipeline="tests",
        bundle_digest="",
        steps=steps,
        lines=tuple(Line(queue) for queue in lines),
        numbers=numbers,
        timeout=timeout,
        max_parallel=max_parallel,
        fail_fast=fail_fast,
        stop_grace=stop_grace,
        cleanup_roots=tuple(s.number for s in steps if s.cleanup and not s.upstream),
    )


def _read(node: Node) -> set[str]:
    """The steps whose output the core needs for this one."""
    read = set(node.when.steps) if node.when is not None else set()
    if isinstance(node.over, str):
        read.add(node.over)
    return read


def _upstream(node: Node, numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(sorted({numbers[name] for name in (*node.after, *_read(node))}))


def values(*items: Any) -> FromValue:
    return FromValue(json.dumps(items).encode())


def parameter(name: str) -> FromParameter:
    return FromParameter(name)
