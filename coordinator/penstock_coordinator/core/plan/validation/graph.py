"""The graph of steps: names that exist, no cycles, cleanup steps last. No recursion: pipelines are long."""

from __future__ import annotations

from collections import deque

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.validation.known import Known, mapped_outputs
from penstock_coordinator.core.plan.validation.report import Report, member
from penstock_coordinator.core.plan.validation.sources import unknown_step

_SHOWN = 8


def check_names_and_cycles(report: Report, known: Known) -> None:
    upstream = [_dependencies(report, known, number) for number in range(len(known.mapped))]
    downstream: list[list[int]] = [[] for _ in upstream]
    for number, others in enumerate(upstream):
        for other in others:
            downstream[other].append(number)
    left = _never_ready(upstream, downstream)
    for cycle in _cycles(left, upstream):
        _report_cycle(report, known, cycle)
    _check_cleanup(report, known, upstream, downstream)


def _dependencies(report: Report, known: Known, number: int) -> set[int]:
    """The step's upstream as far as it exists. What `inputs` and `map` name is reported where they are checked."""
    step = known.spec.steps[number]
    found: set[int] = set()
    for at, name in enumerate(step.depends_on):
        other = known.numbers.get(name)
        if other is None:
            report.add(f"steps[{number}].depends_on[{at}]", unknown_step(name, known))
        elif other == number:
            text = f"the step {quoted(name)} depends on itself, and would wait for ever: remove it"
            report.add(f"steps[{number}].depends_on[{at}]", text)
        else:
            found.add(other)
    for source in step.inputs.values():
        if source.WhichOneof("source") == "step":
            found.add(known.numbers.get(source.step.step, number))
    found.update(known.numbers.get(reference.step, number) for _, reference in mapped_outputs(step))
    found.discard(number)
    return found


def _never_ready(upstream: list[set[int]], downstream: list[list[int]]) -> set[int]:
    """The steps that are on a cycle, or behind one."""
    waits = [len(others) for others in upstream]
    ready = deque(number for number, count in enumerate(waits) if count == 0)
    left = set(range(len(upstream)))
    while ready:
        number = ready.popleft()
        left.discard(number)
        for other in downstream[number]:
            waits[other] -= 1
            if waits[other] == 0:
                ready.append(other)
    return left


def _cycles(left: set[int], upstream: list[set[int]]) -> list[list[int]]:
    """Cycles without a step in common, in the order of dependency: each step waits for the one before it."""
    cycles: list[list[int]] = []
    seen: set[int] = set()
    for start in sorted(left):
        walk: dict[int, None] = {}
        number = start
        while number not in seen:
            seen.add(number)
            walk[number] = None
            # A step that is never ready waits for another one that is not.
            number = min(other for other in upstream[number] if other in left)
        if number in walk:
            way = list(walk)
            cycle = way[way.index(number) :][::-1]
            first = cycle.index(min(cycle))
            cycles.append(cycle[first:] + cycle[:first])
    return cycles


def _report_cycle(report: Report, known: Known, cycle: list[int]) -> None:
    names = [quoted(known.spec.steps[number].name) for number in cycle]
    if len(names) > _SHOWN:
        names = [*names[: _SHOWN - 2], f"... ({len(names) - _SHOWN + 1:,} more) ...", names[-1]]
    around = " -> ".join([*names, names[0]])
    field = _edge(known, cycle[0], cycle[-1])
    report.add(field, f"the steps wait for each other in a cycle: {around}; remove one of these dependencies")


def _edge(known: Known, number: int, upstream: int) -> str:
    """Where the step says that it depends on the other."""
    step = known.spec.steps[number]
    for at, name in enumerate(step.depends_on):
        if known.numbers.get(name) == upstream:
            return f"steps[{number}].depends_on[{at}]"
    for name in sorted(step.inputs):
        source = step.inputs[name]
        if source.WhichOneof("source") == "step" and known.numbers.get(source.step.step) == upstream:
            return f"steps[{number}].inputs[{member(name)}].step.step"
    fields = (field for field, reference in mapped_outputs(step) if known.numbers.get(reference.step) == upstream)
    return f"steps[{number}].{next(fields)}.step"


def _check_cleanup(report: Report, known: Known, upstream: list[set[int]], downstream: list[list[int]]) -> None:
    """A cleanup step without an upstream waits for all other steps: none of these may wait for it."""
    steps = known.spec.steps
    reached = {number for number, step in enumerate(steps) if step.cleanup and not upstream[number]}
    stack = sorted(reached)
    while stack:
        number = stack.pop()
        for other in downstream[number]:
            if not steps[other].cleanup:
                text = f"{quoted(steps[number].name)} is a cleanup step, and waits for this step, which is none"
                report.add(_edge(known, other, number), f"{text}: make this a cleanup step too, or remove this")
            elif other not in reached:
                reached.add(other)
                stack.append(other)
